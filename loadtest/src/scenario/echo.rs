//! Messages to a server that sends each back to its sender. Every message begins with its key in hex digits.

use std::ops::Range;

use gochat_ws::Opcode;

use crate::contrast::Contrast;
use crate::driver::{Driver, Incoming};
use crate::ledger::{Delivery, Ledger, Route};
use crate::message::{KEY_DIGITS, Key, Pattern};
use crate::outbound::Outbound;
use crate::schedule::Load;
use crate::spread::Sizes;
use crate::timeline::Interval;
use crate::traffic::{Measured, Traffic, Window};

/// The shortest message: a key.
pub(crate) const SIZE_MIN: usize = KEY_DIGITS;

/// The `echo` scenario.
#[derive(Debug)]
pub(crate) struct Echo {
    traffic: Traffic<Ledger>,
    pattern: Pattern,
    opcode: Opcode,
    payload: Vec<u8>,
}

impl Echo {
    /// Of these clients. Sizes are at least [`SIZE_MIN`].
    pub(crate) fn new(clients: Range<u32>, load: Load, sizes: &Sizes, opcode: Opcode) -> Echo {
        Echo {
            traffic: Traffic::new(Ledger::new(Route::Echo, clients.end), load, clients.collect()),
            pattern: Pattern::new(sizes.less(KEY_DIGITS)),
            opcode,
            payload: Vec::with_capacity(sizes.max()),
        }
    }

    /// The same with the load set against itself.
    pub(crate) fn against(mut self, contrast: Contrast) -> Echo {
        self.traffic.contrast(contrast);
        self
    }

    pub(crate) fn finish(self) -> Measured {
        self.traffic.finish(Vec::new())
    }

    /// One message beyond those of the load.
    pub(super) fn say(&mut self, out: &mut Outbound, client: u32, now_ns: u64) {
        self.send(out, client, now_ns, now_ns);
    }

    /// Gives up the messages of clients that are not connected; how many.
    pub(super) fn abandon(&mut self, out: &Outbound) -> u64 {
        self.traffic.ledger.abandon(|client| !out.is_ready(client))
    }

    fn send(&mut self, out: &mut Outbound, client: u32, intended_ns: u64, now_ns: u64) {
        if !out.is_ready(client) {
            return;
        }
        let key = self.traffic.sending(client, intended_ns, now_ns);
        self.payload.clear();
        self.payload.extend_from_slice(&key.digits());
        self.payload.extend_from_slice(self.pattern.content(key));
        out.frame(client, self.opcode, &self.payload);
    }
}

impl Driver for Echo {
    fn begin(&mut self, window: Window) {
        self.traffic.begin(window);
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        while let Some((client, intended_ns)) = self.traffic.take_due(now_ns) {
            self.send(out, client, intended_ns, now_ns);
        }
        self.traffic.next_due_ns()
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        let opcode = match message {
            Incoming::Text(_) => Opcode::Text,
            Incoming::Binary(_) => Opcode::Binary,
        };
        let bytes = message.bytes();
        let Some(key) = Key::parse(bytes) else { return self.traffic.ledger.unreadable() };
        let intact = opcode == self.opcode && bytes.get(KEY_DIGITS..) == Some(self.pattern.content(key));
        let delivery = Delivery { client, key, seq: None, intact, redelivered: false };
        let answers_before = self.traffic.ledger.unfinished();
        if let Some(first) = self.traffic.ledger.delivered(delivery) {
            self.traffic.delivered(first, now_ns);
        }
        if self.traffic.ledger.unfinished() < answers_before && self.traffic.answered(client, now_ns) {
            self.send(out, client, now_ns, now_ns);
        }
    }

    fn end(&mut self) {
        self.traffic.end();
    }

    fn interval(&mut self) -> Interval {
        self.traffic.interval()
    }

    fn outstanding(&self) -> u64 {
        self.traffic.ledger.unfinished()
    }
}
