//! The account of every message: sent, acknowledged, delivered, and what went wrong with it. Owns correlation and
//! verdicts on single messages; knows no sockets, no JSON and no clock.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::message::{CLIENTS_MAX, Key};

/// Messages remembered while unanswered. The oldest beyond that are judged as they stand.
const OPEN_MAX: usize = 1 << 23;

const ACKED: u32 = 1;
const DELIVERED: u32 = 2;
const DAMAGED: u32 = 4;
const REFUSED: u32 = 8;
const ABANDONED: u32 = 16;
const FLAG_BITS: u32 = 8;

const _: () = assert!(CLIENTS_MAX as u64 <= 1 << (32 - FLAG_BITS));
const _: () = assert!(size_of::<Open>() <= 24, "one for each message that is not finished");

/// Who receives a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Its sender: an echo server. There are no acknowledgements.
    Echo,
    /// The sender's partner (clients 0 and 1, 2 and 3, …), and the sender gets an acknowledgement.
    Pair,
}

/// What happened, in messages over the whole run, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Given to the connection.
    pub sent: u64,
    /// Acknowledged, each counted once.
    pub acked: u64,
    /// First deliveries, intact, to whom they were meant for.
    pub delivered: u64,
    /// Never delivered although acknowledged (echo: never echoed).
    pub lost: u64,
    /// Never acknowledged nor refused.
    pub unacked: u64,
    /// Refused by the server with an error frame.
    pub refused: u64,
    /// Delivered again without being marked as redelivered.
    pub duplicated: u64,
    /// Delivered again, marked as redelivered, as the protocol allows.
    pub redelivered: u64,
    /// First deliveries that came after a later message of their conversation.
    pub reordered: u64,
    /// Delivered with other content or another sequence number than sent or acknowledged, or not readable.
    pub corrupted: u64,
    /// Delivered to a client they were not meant for.
    pub foreign: u64,
}

impl Messages {
    /// What went wrong, in words: `3 lost, 1 duplicated`; `None` when nothing did.
    pub(crate) fn faults(&self) -> Option<String> {
        let kinds = [
            (self.lost, "lost"),
            (self.unacked, "unacked"),
            (self.refused, "refused"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.corrupted, "corrupted"),
            (self.foreign, "foreign"),
        ];
        let wrong: Vec<String> =
            kinds.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }

    /// The sums of both.
    pub(crate) fn plus(mut self, other: &Messages) -> Messages {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.unacked += other.unacked;
        self.refused += other.refused;
        self.duplicated += other.duplicated;
        self.redelivered += other.redelivered;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.foreign += other.foreign;
        self
    }
}

/// One delivery as a receiver sees it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Who received it.
    pub client: u32,
    /// Which message it says it is.
    pub key: Key,
    /// The position in its conversation; `None` where the protocol has none, then messages keep the order of sending.
    pub seq: Option<u32>,
    /// Whether the content is what the key stands for.
    pub intact: bool,
    /// Whether the server marked it as redelivered.
    pub redelivered: bool,
}

/// When a message was sent. The ledger keeps it, and gives it back with the first answer and the first delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When it should have been: latencies count from here.
    pub intended_ns: u64,
    /// When it was given to its connection: service times count from here.
    pub sent_ns: u64,
}

impl From<u64> for Sent {
    /// Sent when it should have been.
    fn from(at_ns: u64) -> Sent {
        Sent { intended_ns: at_ns, sent_ns: at_ns }
    }
}

/// 24 bytes for each message that is not finished.
#[derive(Debug, Clone, Copy)]
struct Open {
    sent: Sent,
    sender_flags: u32,
    /// As acknowledged or delivered first; 0: not known.
    seq: u32,
}

/// The account.
#[derive(Debug)]
pub struct Ledger {
    route: Route,
    /// Number of the message at the front of `open`.
    base: u64,
    open: VecDeque<Open>,
    unfinished: u64,
    /// For each receiver the highest position seen, plus one.
    positions: Vec<u64>,
    /// Damaged beyond recognition: each explains one that never arrived.
    unreadable: u64,
    messages: Messages,
}

impl Ledger {
    /// For clients 0 to `clients - 1`.
    pub fn new(route: Route, clients: u32) -> Ledger {
        Ledger {
            route,
            base: 0,
            open: VecDeque::new(),
            unfinished: 0,
            positions: vec![0; clients as usize],
            unreadable: 0,
            messages: Messages::default(),
        }
    }

    /// Opens the account of the next message.
    pub fn send(&mut self, client: u32, sent: impl Into<Sent>) -> Key {
        let flags = if self.route == Route::Echo { ACKED } else { 0 };
        let number = self.base + self.open.len() as u64;
        if self.open.len() == OPEN_MAX {
            self.judge_oldest();
        }
        self.open.push_back(Open { sent: sent.into(), sender_flags: client << FLAG_BITS | flags, seq: 0 });
        self.unfinished += 1;
        self.messages.sent += 1;
        Key::new(client, number)
    }

    /// An acknowledgement reached `client`. `Some` when it is the first of its message.
    /// `seq` is its number in the conversation, where the acknowledgement says it.
    pub fn acked(&mut self, client: u32, key: Key, seq: impl Into<Option<u32>>) -> Option<Sent> {
        let seq = seq.into();
        if key.client() != client {
            self.messages.foreign += 1;
            return None;
        }
        let open = self.entry(key)?;
        if open.sender_flags & (ACKED | REFUSED) != 0 {
            return None;
        }
        open.sender_flags |= ACKED;
        let first = open.sent;
        let contradicts = seq.is_some_and(|seq| open.seq != 0 && open.seq != seq);
        open.seq = seq.unwrap_or(open.seq);
        self.messages.acked += 1;
        self.messages.corrupted += u64::from(contradicts);
        self.finish(key);
        Some(first)
    }

    /// The server refused a message of `client`. Whether it was open.
    pub fn refused(&mut self, client: u32, key: Key) -> bool {
        let Some(open) = self.entry(key) else { return false };
        if key.client() != client || open.sender_flags & (ACKED | REFUSED) != 0 {
            return false;
        }
        open.sender_flags |= REFUSED;
        self.messages.refused += 1;
        self.finish(key);
        true
    }

    /// A message was delivered. `Some` when it is the first delivery, intact and to the right client.
    pub fn delivered(&mut self, delivery: Delivery) -> Option<Sent> {
        let Delivery { client, key, seq, intact, redelivered } = delivery;
        if key.number() >= self.base + self.open.len() as u64 {
            self.unreadable();
            return None;
        }
        if client != self.receiver(key.client()) {
            self.messages.foreign += 1;
            return None;
        }
        let Some(open) = self.entry(key) else {
            self.again(redelivered);
            return None;
        };
        if open.sender_flags >> FLAG_BITS != key.client() {
            self.unreadable();
            return None;
        }
        if open.sender_flags & (DELIVERED | DAMAGED | ABANDONED) != 0 {
            self.again(redelivered);
            return None;
        }
        let contradicts = seq.is_some_and(|seq| open.seq != 0 && open.seq != seq);
        let first = open.sent;
        open.seq = seq.unwrap_or(0);
        open.sender_flags |= if intact && !contradicts { DELIVERED } else { DAMAGED };
        let position = seq.map_or(key.number(), u64::from);
        self.finish(key);
        if !intact || contradicts {
            self.messages.corrupted += 1;
            return None;
        }
        self.messages.delivered += 1;
        if let Some(next) = self.positions.get_mut(client as usize) {
            self.messages.reordered += u64::from(position < *next);
            *next = (*next).max(position + 1);
        }
        Some(first)
    }

    /// Something arrived that should have been a message and cannot be read.
    pub fn unreadable(&mut self) {
        self.messages.corrupted += 1;
        self.unreadable += 1;
    }

    /// Gives up what clients of whom `is_over` holds wait for: the connection it would come over is gone. How many
    /// messages; they are neither delivered nor lost.
    pub(crate) fn abandon(&mut self, is_over: impl Fn(u32) -> bool) -> u64 {
        let mut given_up = 0;
        for open in &mut self.open {
            if !is_finished(open.sender_flags) && is_over(open.sender_flags >> FLAG_BITS) {
                open.sender_flags |= ABANDONED;
                given_up += 1;
            }
        }
        self.unfinished = self.unfinished.saturating_sub(given_up);
        self.forget_finished();
        given_up
    }

    /// Messages sent and neither finished nor refused.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// The counts so far; `lost` and `unacked` only of messages judged early.
    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    /// Judges what is still open and gives the final counts.
    pub fn close(mut self) -> Messages {
        while !self.open.is_empty() {
            self.judge_oldest();
        }
        self.messages.lost = self.messages.lost.saturating_sub(self.unreadable);
        self.messages
    }

    fn receiver(&self, sender: u32) -> u32 {
        match self.route {
            Route::Echo => sender,
            Route::Pair => sender ^ 1,
        }
    }

    fn again(&mut self, redelivered: bool) {
        let count = if redelivered { &mut self.messages.redelivered } else { &mut self.messages.duplicated };
        *count += 1;
    }

    /// The open account of `key`; `None` when it is finished and forgotten, or was never sent.
    fn entry(&mut self, key: Key) -> Option<&mut Open> {
        let at = usize::try_from(key.number().checked_sub(self.base)?).ok()?;
        self.open.get_mut(at)
    }

    /// Forgets finished messages at the front, if `key` is one that just finished.
    fn finish(&mut self, key: Key) {
        if !self.entry(key).is_some_and(|open| is_finished(open.sender_flags)) {
            return;
        }
        self.unfinished = self.unfinished.saturating_sub(1);
        self.forget_finished();
    }

    fn forget_finished(&mut self) {
        while self.open.front().is_some_and(|open| is_finished(open.sender_flags)) {
            self.open.pop_front();
            self.base += 1;
        }
    }

    fn judge_oldest(&mut self) {
        let Some(open) = self.open.pop_front() else { return };
        self.base += 1;
        if is_finished(open.sender_flags) {
            return;
        }
        self.unfinished = self.unfinished.saturating_sub(1);
        match open.sender_flags & ACKED {
            0 => self.messages.unacked += 1,
            _ => self.messages.lost += 1,
        }
    }
}

fn is_finished(flags: u32) -> bool {
    flags & (REFUSED | ABANDONED) != 0 || (flags & ACKED != 0 && flags & (DELIVERED | DAMAGED) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(ledger: &mut Ledger, client: u32, key: Key, intact: bool) -> Option<u64> {
        let delivery = Delivery { client, key, seq: None, intact, redelivered: false };
        ledger.delivered(delivery).map(|first| first.intended_ns)
    }

    fn deliver(ledger: &mut Ledger, key: Key, seq: u32) -> bool {
        let client = key.client() ^ 1;
        ledger.delivered(Delivery { client, key, seq: Some(seq), intact: true, redelivered: false }).is_some()
    }

    #[test]
    fn a_good_echo_is_finished_and_forgotten() {
        let mut ledger = Ledger::new(Route::Echo, 2);
        let keys: Vec<_> = (0..4).map(|n| ledger.send(n % 2, u64::from(n))).collect();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(echo(&mut ledger, key.client(), *key, true), Some(at as u64));
        }
        assert_eq!((ledger.unfinished(), ledger.open.len()), (0, 0));
        assert_eq!(ledger.close(), Messages { sent: 4, delivered: 4, ..Messages::default() });
    }

    #[test]
    fn every_fault_of_an_echo_is_counted_as_what_it_is() {
        let mut ledger = Ledger::new(Route::Echo, 2);
        let keys: Vec<_> = (0..8).map(|n| ledger.send(0, n)).collect();
        echo(&mut ledger, 0, keys[1], true);
        echo(&mut ledger, 0, keys[0], true);
        assert_eq!(ledger.messages().reordered, 1);
        echo(&mut ledger, 0, keys[1], true);
        assert_eq!(ledger.messages().duplicated, 1, "after it was forgotten");
        echo(&mut ledger, 0, keys[3], true);
        echo(&mut ledger, 0, keys[3], true);
        assert_eq!(ledger.messages().duplicated, 2, "while an earlier one is open");
        assert_eq!(echo(&mut ledger, 0, keys[4], false), None);
        echo(&mut ledger, 1, keys[5], true);
        ledger.unreadable();
        echo(&mut ledger, 0, Key::new(0, 99), true);
        // 2, 5, 6 and 7 never came back intact; two of them as bytes that nobody can read.
        let wanted = Messages {
            sent: 8,
            delivered: 3,
            lost: 2,
            duplicated: 2,
            reordered: 1,
            corrupted: 3,
            foreign: 1,
            ..Messages::default()
        };
        assert_eq!(ledger.close(), wanted);
    }

    #[test]
    fn what_cannot_come_any_more_is_not_lost() {
        let mut ledger = Ledger::new(Route::Echo, 2);
        let keys: Vec<_> = (0..5).map(|n| ledger.send(n % 2, 0)).collect();
        echo(&mut ledger, 0, keys[2], true);
        assert_eq!((ledger.abandon(|client| client == 0), ledger.abandon(|client| client == 0)), (2, 0));
        assert_eq!((ledger.unfinished(), ledger.open.len()), (2, 4));
        echo(&mut ledger, 1, keys[1], true);
        // Back again, the client goes on with the same account.
        let next = ledger.send(0, 9);
        echo(&mut ledger, 0, next, true);
        assert_eq!(ledger.close(), Messages { sent: 6, delivered: 3, lost: 1, ..Messages::default() });
    }

    #[test]
    fn a_pair_needs_acknowledgement_and_delivery_in_any_order() {
        let mut ledger = Ledger::new(Route::Pair, 2);
        let [a, b, c] = [ledger.send(0, 5), ledger.send(0, 6), ledger.send(0, 7)];
        assert_eq!(ledger.acked(0, a, 1), Some(Sent::from(5)));
        assert_eq!(ledger.acked(0, a, 1), None, "a second time");
        assert!(deliver(&mut ledger, a, 1));
        assert!(deliver(&mut ledger, b, 2));
        assert_eq!(ledger.unfinished(), 2);
        assert!(ledger.acked(0, b, 2).is_some());
        assert_eq!(ledger.acked(1, c, 3), None, "to a stranger");
        assert!(ledger.refused(0, c));
        assert!(!ledger.refused(0, c));
        assert_eq!(ledger.unfinished(), 0);
        let wanted = Messages { sent: 3, acked: 2, delivered: 2, refused: 1, foreign: 1, ..Messages::default() };
        assert_eq!(ledger.close(), wanted);
    }

    #[test]
    fn every_fault_of_a_pair_is_counted_as_what_it_is() {
        let mut ledger = Ledger::new(Route::Pair, 4);
        let keys: Vec<_> = (0..6).map(|_| ledger.send(2, 0)).collect();
        // Acknowledged as 1, delivered as 2.
        ledger.acked(2, keys[0], 1);
        assert!(!deliver(&mut ledger, keys[0], 2));
        // Acknowledged and never delivered; delivered and never acknowledged.
        ledger.acked(2, keys[1], 3);
        assert!(deliver(&mut ledger, keys[2], 5));
        // Below the number delivered before.
        assert!(deliver(&mut ledger, keys[3], 4));
        ledger.acked(2, keys[3], 4);
        // To the sender itself.
        ledger.delivered(Delivery { client: 2, key: keys[4], seq: Some(6), intact: true, redelivered: false });
        // Again, and said to be so.
        ledger.delivered(Delivery { client: 3, key: keys[3], seq: Some(4), intact: true, redelivered: true });
        let wanted = Messages {
            sent: 6,
            acked: 3,
            delivered: 2,
            lost: 1,
            unacked: 3,
            redelivered: 1,
            reordered: 1,
            corrupted: 1,
            foreign: 1,
            ..Messages::default()
        };
        assert_eq!(ledger.close(), wanted);
    }
}
