//! What clients of the second generator say and what they make of what they hear. Opens no sockets and reads no clock.

use tungstenite::{Bytes, Message};

use crate::ledger::{Delivery, Ledger};
use crate::message::{KEY_DIGITS, Key, Pattern};
use crate::rooms::Rooms;
use crate::spread::Sizes;
use crate::traffic::{Account, Measured, Traffic};

/// An account that judges deliveries of raw messages.
pub(crate) trait Judge: Account + Sized {
    /// Counts a delivery. Whether it answers a message of its receiver, whose turn it then is in a closed loop.
    fn arrived(traffic: &mut Traffic<Self>, delivery: Delivery, now_ns: u64) -> bool;

    /// Something arrived at `client` that cannot be read.
    fn unreadable(&mut self, client: u32);

    /// Messages whose fate is not known yet.
    fn unfinished(&self) -> u64;
}

impl Judge for Ledger {
    fn arrived(traffic: &mut Traffic<Ledger>, delivery: Delivery, now_ns: u64) -> bool {
        let before = traffic.ledger.unfinished();
        if let Some(first) = traffic.ledger.delivered(delivery) {
            traffic.delivered(first, now_ns);
        }
        traffic.ledger.unfinished() < before
    }

    fn unreadable(&mut self, _client: u32) {
        Ledger::unreadable(self);
    }

    fn unfinished(&self) -> u64 {
        Ledger::unfinished(self)
    }
}

impl Judge for Rooms {
    fn arrived(traffic: &mut Traffic<Rooms>, delivery: Delivery, now_ns: u64) -> bool {
        let Some(arrival) = traffic.ledger.delivered(delivery) else { return false };
        traffic.delivered(arrival.sent, now_ns);
        if arrival.is_last {
            traffic.completed(arrival.sent.intended_ns, now_ns);
        }
        delivery.key.client() == delivery.client
    }

    fn unreadable(&mut self, client: u32) {
        Rooms::unreadable(self, client);
    }

    fn unfinished(&self) -> u64 {
        Rooms::unfinished(self)
    }
}

/// Load, account and contents of one run.
pub(crate) struct Talk<A> {
    pub(super) traffic: Traffic<A>,
    pattern: Pattern,
    binary: bool,
}

impl<A: Judge> Talk<A> {
    /// Messages of these sizes, which are at least a key.
    pub(crate) fn new(traffic: Traffic<A>, sizes: &Sizes, binary: bool) -> Talk<A> {
        Talk { traffic, pattern: Pattern::new(sizes.less(KEY_DIGITS)), binary }
    }

    pub(crate) fn finish(self) -> Measured {
        self.traffic.finish(Vec::new())
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.traffic.ledger.unfinished()
    }

    /// The next message of `client`, which is sent now.
    pub(super) fn message(&mut self, client: u32, intended_ns: u64, now_ns: u64) -> Message {
        let key = self.traffic.sending(client, intended_ns, now_ns);
        let payload = [&key.digits(), self.pattern.content(key)].concat();
        match String::from_utf8(payload) {
            Ok(text) if !self.binary => Message::text(text),
            Ok(text) => Message::binary(text.into_bytes()),
            // Keys and patterns are ASCII; bytes that are not would be sent as bytes.
            Err(error) => Message::binary(Bytes::from(error.into_bytes())),
        }
    }

    pub(super) fn heard(&mut self, client: u32, message: &Message, now_ns: u64) {
        let bytes: &[u8] = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return,
        };
        let Some(key) = Key::parse(bytes) else { return self.traffic.ledger.unreadable(client) };
        let intact = message.is_binary() == self.binary && bytes.get(KEY_DIGITS..) == Some(self.pattern.content(key));
        let delivery = Delivery { client, key, seq: None, intact, redelivered: false };
        if A::arrived(&mut self.traffic, delivery, now_ns) && self.traffic.answered(client, now_ns) {
            self.traffic.pause(client, now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::Reach;
    use crate::ledger::{Messages, Route};
    use crate::schedule::Load;
    use crate::traffic::Window;

    const WINDOW: Window = Window { begin_ns: 0, start_ns: 0, end_ns: 1000 };

    #[test]
    fn an_echo_is_judged_and_answered_with_the_next() {
        let traffic = Traffic::new(Ledger::new(Route::Echo, 2), Load::closed(1), vec![0, 1]);
        let mut talk = Talk::new(traffic, &Sizes::from(40), false);
        talk.traffic.begin(WINDOW);
        let due: Vec<_> = std::iter::from_fn(|| talk.traffic.take_due(1)).collect();
        assert_eq!(due, [(0, 1), (1, 1)]);
        let [a, b] = [talk.message(0, 1, 1), talk.message(1, 1, 1)];
        assert!(a.is_text() && a.len() == 40 && a != b);
        talk.heard(0, &a, 5);
        assert_eq!((talk.traffic.take_due(5), talk.outstanding()), (Some((0, 5)), 1));
        talk.heard(0, &a, 6);
        talk.heard(1, &Message::binary(b.into_data()), 6);
        talk.heard(1, &Message::text("nothing"), 6);
        let wanted = Messages { sent: 2, delivered: 1, duplicated: 1, corrupted: 2, ..Messages::default() };
        let seen = talk.finish().messages;
        assert_eq!(Messages { lost: 0, ..seen }, wanted);
    }

    #[test]
    fn a_room_hears_every_message_once() {
        let rooms = Rooms::new(Reach::ALL, 3, 3, 1);
        let mut talk = Talk::new(Traffic::new(rooms, Load::closed(1), vec![0]), &Sizes::from(16), true);
        talk.traffic.begin(WINDOW);
        assert_eq!(talk.traffic.take_due(0), Some((0, 0)));
        let message = talk.message(0, 0, 0);
        (1..3).for_each(|client| talk.heard(client, &message, 9));
        assert_eq!((talk.traffic.take_due(9), talk.outstanding()), (None, 1), "its sender misses it");
        talk.heard(0, &message, 10);
        assert_eq!((talk.traffic.take_due(10), talk.outstanding()), (Some((0, 10)), 0));
        assert_eq!(talk.finish().messages, Messages { sent: 1, delivered: 3, ..Messages::default() });
    }
}
