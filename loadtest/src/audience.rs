//! The account of messages that everybody in a room receives: who has which, when the last one had it, and
//! what went wrong. Knows no sockets, no JSON and no clock.

use std::collections::VecDeque;

use crate::ledger::{Delivery, Messages, Sent};
use crate::message::Key;

/// Messages remembered while somebody still misses them. The oldest beyond that are judged as they stand.
const OPEN_MAX: usize = 4096;
const WORD_BITS: usize = u64::BITS as usize;

/// One message on its way: a bit for each client.
#[derive(Debug)]
struct Open {
    sent: Sent,
    sender: u32,
    /// As acknowledged or delivered first; 0: not known.
    seq: u32,
    acked: bool,
    refused: bool,
    /// Clients that have it.
    have: Box<[u64]>,
    missing: u32,
}

/// Whom messages reach, and what is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The sender receives its own messages.
    pub(crate) sender: bool,
    /// The sender gets an acknowledgement.
    pub(crate) acked: bool,
    /// Deliveries carry a number of the room; without it order is judged for each sender.
    pub(crate) numbered: bool,
}

impl Reach {
    /// Everybody but the sender, who gets an acknowledgement; the room counts.
    pub(crate) const OTHERS: Reach = Reach { sender: false, acked: true, numbered: true };
    /// Everybody; there are neither acknowledgements nor numbers.
    pub(crate) const ALL: Reach = Reach { sender: true, acked: false, numbered: false };
}

/// What a delivery was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When the message was sent.
    pub(crate) sent: Sent,
    /// Nobody misses it any more.
    pub(crate) is_last: bool,
}

/// The account of one room.
#[derive(Debug)]
pub(crate) struct Audience {
    reach: Reach,
    clients: u32,
    /// Number of the message at the front of `open`.
    base: u64,
    open: VecDeque<Open>,
    unfinished: u64,
    /// Clients that send: without numbers of the room, order is judged for each of them.
    senders: usize,
    /// For each client the highest number seen, plus one; without numbers of the room, of each sender.
    positions: Vec<u64>,
    messages: Messages,
}

impl Audience {
    /// Of clients 0 to `clients - 1`, the first `senders` of which send.
    pub(crate) fn new(reach: Reach, clients: u32, senders: u32) -> Audience {
        Audience {
            reach,
            clients,
            base: 0,
            open: VecDeque::new(),
            unfinished: 0,
            senders: senders as usize,
            positions: vec![0; clients as usize * if reach.numbered { 1 } else { senders as usize }],
            messages: Messages::default(),
        }
    }

    /// Opens the account of the next message.
    pub(crate) fn send(&mut self, client: u32, sent: impl Into<Sent>) -> Key {
        if self.open.len() == OPEN_MAX {
            self.judge_oldest();
        }
        let number = self.base + self.open.len() as u64;
        let have = vec![0; (self.clients as usize).div_ceil(WORD_BITS)].into_boxed_slice();
        let acked = !self.reach.acked;
        let missing = self.clients - u32::from(!self.reach.sender);
        self.open.push_back(Open { sent: sent.into(), sender: client, seq: 0, acked, refused: false, have, missing });
        self.unfinished += 1;
        self.messages.sent += 1;
        Key::new(client, number)
    }

    /// An acknowledgement reached `client`. `Some` when it is the first of its message.
    /// `seq` is its number in the room, where the acknowledgement says it.
    pub(crate) fn acked(&mut self, client: u32, key: Key, seq: impl Into<Option<u32>>) -> Option<Sent> {
        let seq = seq.into();
        let open = self.entry(key)?;
        if open.sender != client || open.acked || open.refused {
            return None;
        }
        open.acked = true;
        let first = open.sent;
        let contradicts = seq.is_some_and(|seq| open.seq != 0 && open.seq != seq);
        open.seq = seq.unwrap_or(open.seq);
        self.messages.acked += 1;
        self.messages.corrupted += u64::from(contradicts);
        self.forget_finished();
        Some(first)
    }

    /// The server refused a message of `client`. Whether it was open.
    pub(crate) fn refused(&mut self, client: u32, key: Key) -> bool {
        let Some(open) = self.entry(key).filter(|open| open.sender == client && !open.acked && !open.refused) else {
            return false;
        };
        open.refused = true;
        self.messages.refused += 1;
        self.forget_finished();
        true
    }

    /// A message was delivered. `Some` when it is this client's first delivery of it, intact.
    pub(crate) fn delivered(&mut self, delivery: Delivery) -> Option<Arrival> {
        let Delivery { client, key, seq, intact, redelivered } = delivery;
        if key.number() >= self.base + self.open.len() as u64 {
            self.messages.corrupted += 1;
            return None;
        }
        if client == key.client() && !self.reach.sender {
            self.messages.foreign += 1;
            return None;
        }
        let (word, bit) = (client as usize / WORD_BITS, 1_u64 << (client as usize % WORD_BITS));
        let known = self.entry(key).and_then(|open| open.have.get_mut(word).map(|have| (*have & bit != 0, have)));
        let Some((false, have)) = known else {
            let count = if redelivered { &mut self.messages.redelivered } else { &mut self.messages.duplicated };
            *count += 1;
            return None;
        };
        *have |= bit;
        let open = self.entry(key)?;
        open.missing = open.missing.saturating_sub(1);
        let arrival = Arrival { sent: open.sent, is_last: open.missing == 0 };
        let contradicts = seq.is_some_and(|seq| open.seq != 0 && open.seq != seq);
        open.seq = seq.unwrap_or(0);
        self.forget_finished();
        if !intact || contradicts {
            self.messages.corrupted += 1;
            return None;
        }
        self.messages.delivered += 1;
        let (line, number) = match seq.filter(|_| self.reach.numbered) {
            Some(seq) => (client as usize, u64::from(seq)),
            None => (client as usize * self.senders + key.client() as usize, key.number()),
        };
        if let Some(next) = self.positions.get_mut(line) {
            self.messages.reordered += u64::from(number < *next);
            *next = (*next).max(number + 1);
        }
        Some(arrival)
    }

    /// Something arrived that should have been a message and cannot be read.
    pub(crate) fn unreadable(&mut self) {
        self.messages.corrupted += 1;
    }

    /// A message of another room arrived.
    pub(crate) fn foreign(&mut self) {
        self.messages.foreign += 1;
    }

    /// Messages sent that somebody still misses, or that were not answered.
    pub(crate) fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Judges what is still open and gives the final counts: `lost` counts deliveries that are missing.
    pub(crate) fn close(mut self) -> Messages {
        while !self.open.is_empty() {
            self.judge_oldest();
        }
        self.messages
    }

    fn entry(&mut self, key: Key) -> Option<&mut Open> {
        let at = usize::try_from(key.number().checked_sub(self.base)?).ok()?;
        self.open.get_mut(at)
    }

    fn forget_finished(&mut self) {
        while self.open.front().is_some_and(|open| open.refused || (open.acked && open.missing == 0)) {
            self.open.pop_front();
            self.base += 1;
            self.unfinished = self.unfinished.saturating_sub(1);
        }
    }

    fn judge_oldest(&mut self) {
        let Some(open) = self.open.pop_front() else { return };
        self.base += 1;
        self.unfinished = self.unfinished.saturating_sub(1);
        match (open.refused, open.acked) {
            (true, _) => {}
            (false, true) => self.messages.lost += u64::from(open.missing),
            (false, false) => self.messages.unacked += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(audience: &mut Audience, client: u32, key: Key, seq: u32) -> Option<bool> {
        let delivery = Delivery { client, key, seq: Some(seq), intact: true, redelivered: false };
        audience.delivered(delivery).map(|arrival| arrival.is_last)
    }

    #[test]
    fn the_last_of_a_room_is_told_apart() {
        let mut audience = Audience::new(Reach::OTHERS, 4, 2);
        let key = audience.send(1, 7);
        assert_eq!(deliver(&mut audience, 0, key, 1), Some(false));
        assert_eq!(audience.acked(1, key, 1), Some(Sent::from(7)));
        assert_eq!(deliver(&mut audience, 3, key, 1), Some(false));
        assert_eq!(deliver(&mut audience, 2, key, 1), Some(true));
        assert_eq!(audience.unfinished(), 0);
        let wanted = Messages { sent: 1, acked: 1, delivered: 3, ..Messages::default() };
        assert_eq!(audience.close(), wanted);
    }

    #[test]
    fn who_hears_itself_needs_no_acknowledgement() {
        let mut audience = Audience::new(Reach::ALL, 2, 2);
        let deliver = |audience: &mut Audience, client, key| {
            let delivery = Delivery { client, key, seq: None, intact: true, redelivered: false };
            audience.delivered(delivery).map(|arrival| arrival.is_last)
        };
        let [a, b, c] = [audience.send(1, 7), audience.send(0, 8), audience.send(1, 9)];
        assert_eq!(deliver(&mut audience, 1, a), Some(false));
        assert_eq!(deliver(&mut audience, 0, b), Some(false));
        assert_eq!(deliver(&mut audience, 1, c), Some(false));
        // Another sender's older message is in order, the same sender's is not.
        assert_eq!(deliver(&mut audience, 1, b), Some(true));
        assert_eq!((deliver(&mut audience, 0, c), deliver(&mut audience, 0, a)), (Some(true), Some(true)));
        assert_eq!(audience.unfinished(), 0);
        assert_eq!(audience.close(), Messages { sent: 3, delivered: 6, reordered: 1, ..Messages::default() });
    }

    #[test]
    fn who_hears_itself_may_be_acknowledged_and_numbered_too() {
        let mut audience = Audience::new(Reach { sender: true, acked: true, numbered: true }, 2, 2);
        let keys: Vec<Key> = [0, 1, 0].map(|client| audience.send(client, 0)).to_vec();
        assert_eq!(deliver(&mut audience, 0, keys[0], 5), Some(false), "to its sender");
        assert_eq!(deliver(&mut audience, 1, keys[0], 5), Some(true));
        assert_eq!(audience.unfinished(), 3, "it is not acknowledged");
        assert!(audience.acked(0, keys[0], None).is_some(), "an acknowledgement need not say the number");
        assert_eq!(audience.unfinished(), 2);
        // The room numbered another sender's message lower, and nobody acknowledged the last.
        deliver(&mut audience, 0, keys[1], 4);
        audience.acked(1, keys[1], 4);
        deliver(&mut audience, 1, keys[2], 6);
        let wanted =
            Messages { sent: 3, acked: 2, delivered: 4, lost: 1, unacked: 1, reordered: 1, ..Messages::default() };
        assert_eq!(audience.close(), wanted);
    }

    #[test]
    fn every_fault_is_counted_as_what_it_is() {
        let mut audience = Audience::new(Reach::OTHERS, 3, 1);
        let keys: Vec<Key> = (0..4).map(|_| audience.send(0, 0)).collect();
        for (at, key) in keys.iter().enumerate().take(3) {
            audience.acked(0, *key, at as u32 + 1);
        }
        assert_eq!(deliver(&mut audience, 1, keys[1], 2), Some(false));
        assert_eq!(deliver(&mut audience, 1, keys[0], 1), Some(false), "out of order");
        assert_eq!(deliver(&mut audience, 1, keys[0], 1), None, "twice");
        assert_eq!(deliver(&mut audience, 0, keys[0], 1), None, "to its sender");
        assert_eq!(deliver(&mut audience, 2, keys[0], 9), None, "under another number");
        assert_eq!(deliver(&mut audience, 2, Key::new(0, 77), 3), None, "never sent");
        // keys[1] misses client 2, keys[2] misses both, keys[3] was never answered.
        let wanted = Messages {
            sent: 4,
            acked: 3,
            delivered: 2,
            lost: 3,
            unacked: 1,
            duplicated: 1,
            reordered: 1,
            corrupted: 2,
            foreign: 1,
            ..Messages::default()
        };
        assert_eq!(audience.close(), wanted);
    }
}
