//! The account of messages that clients of other agents sent into a shared room: which of this agent's clients have each, and
//! what was wrong with it. How many there should be only their senders know. Knows no sockets and no clock.

use std::collections::{BTreeMap, HashMap};

use crate::ledger::{Delivery, Messages};
use crate::message::Key;

/// Messages remembered of one sender, those included that everybody has.
const REMEMBERED_MAX: usize = 1 << 16;
const WORD_BITS: usize = u64::BITS as usize;

/// Who has a message.
#[derive(Debug)]
struct Seen {
    /// A bit for each client; empty once all have it.
    have: Box<[u64]>,
    missing: u32,
}

/// The account of one agent.
#[derive(Debug)]
pub(crate) struct Guests {
    clients: u32,
    /// By sender and number.
    messages: HashMap<u32, BTreeMap<u64, Seen>>,
    /// The highest number seen, plus one, by receiver and, where the room has no numbers, by sender.
    positions: HashMap<(u32, Option<u32>), u64>,
    counts: Messages,
}

impl Guests {
    /// For clients 0 to `clients - 1` of this agent.
    pub(crate) fn new(clients: u32) -> Guests {
        Guests { clients, messages: HashMap::new(), positions: HashMap::new(), counts: Messages::default() }
    }

    /// A message arrived; its key names the sender among all agents' clients. Whether it is this client's first delivery
    /// of it, intact.
    pub(crate) fn delivered(&mut self, delivery: Delivery) -> bool {
        let Delivery { client, key, seq, intact, redelivered } = delivery;
        match self.take(client, key) {
            Some(true) => {}
            Some(false) if redelivered => {
                self.counts.redelivered += 1;
                return false;
            }
            Some(false) => {
                self.counts.duplicated += 1;
                return false;
            }
            None => return false,
        }
        if !intact {
            self.counts.corrupted += 1;
            return false;
        }
        self.counts.delivered += 1;
        let (line, number) = match seq {
            Some(seq) => ((client, None), u64::from(seq)),
            None => ((client, Some(key.client())), key.number()),
        };
        let next = self.positions.entry(line).or_default();
        self.counts.reordered += u64::from(number < *next);
        *next = (*next).max(number + 1);
        true
    }

    /// How many deliveries there were that a sender counts on, damaged ones too.
    pub(crate) fn arrived(&self) -> u64 {
        self.counts.delivered + self.counts.corrupted
    }

    /// Deliveries there should be when others sent so many messages.
    pub(crate) fn expected(&self, messages: u64) -> u64 {
        messages.saturating_mul(u64::from(self.clients))
    }

    /// The counts; nothing in them says what is lost.
    pub(crate) fn close(self) -> Messages {
        self.counts
    }

    /// Whether the message is new to `client`; `None` when it has no such client.
    fn take(&mut self, client: u32, key: Key) -> Option<bool> {
        if client >= self.clients {
            return None;
        }
        let of_sender = self.messages.entry(key.client()).or_default();
        let words = (self.clients as usize).div_ceil(WORD_BITS);
        let fresh = || Seen { have: vec![0; words].into_boxed_slice(), missing: self.clients };
        let seen = of_sender.entry(key.number()).or_insert_with(fresh);
        let Some(word) = seen.have.get_mut(client as usize / WORD_BITS) else { return Some(false) };
        let bit = 1_u64 << (client as usize % WORD_BITS);
        if *word & bit != 0 {
            return Some(false);
        }
        *word |= bit;
        seen.missing -= 1;
        if seen.missing == 0 {
            seen.have = Box::default();
        }
        if of_sender.len() > REMEMBERED_MAX {
            of_sender.pop_first();
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_counted_as_what_it_is() {
        let mut guests = Guests::new(70);
        let key = |number| Key::new(900, number);
        let mut deliver = |client, key, intact, redelivered| {
            guests.delivered(Delivery { client, key, seq: None, intact, redelivered })
        };
        assert!((0..70).all(|client| deliver(client, key(0), true, false)));
        assert!(!deliver(69, key(0), true, false), "twice, after all have it");
        assert!(deliver(3, key(5), true, false) && deliver(3, key(4), true, false), "out of order");
        assert!(deliver(3, Key::new(901, 1), true, false), "of another sender: in order");
        assert!(!deliver(3, key(5), true, false) && !deliver(3, key(5), true, true), "twice, and marked so");
        assert!(!deliver(4, key(5), false, false), "damaged");
        assert_eq!((guests.arrived(), guests.expected(4)), (74, 280));
        let wanted = Messages {
            delivered: 73,
            duplicated: 2,
            redelivered: 1,
            reordered: 1,
            corrupted: 1,
            ..Messages::default()
        };
        assert_eq!(guests.close(), wanted);
    }

    #[test]
    fn a_room_that_counts_has_one_order_for_all_senders() {
        let mut guests = Guests::new(1);
        let mut deliver = |sender, seq| {
            let key = Key::new(sender, u64::from(seq));
            guests.delivered(Delivery { client: 0, key, seq: Some(seq), intact: true, redelivered: false })
        };
        assert!(deliver(7, 1) && deliver(8, 3) && deliver(7, 2));
        assert_eq!(guests.close(), Messages { delivered: 3, reordered: 1, ..Messages::default() });
    }
}
