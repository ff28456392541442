//! Pings over all connections, evenly spread, once all stand, and the account of their answers. Holds nothing for a single connection: the
//! ping carries the time it was due.

use gochat_ws::Opcode;

use crate::ledger::Messages;
use crate::outbound::Outbound;
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

/// One ping of every connection in each `interval`.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval_ns: u64,
    clients: u32,
    /// `None`: connections are still being opened, or the run is over.
    window: Option<Window>,
    /// Pings that were due so far, also of connections that are not open.
    due: u64,
    messages: Messages,
    measured: Measured,
    seen: Interval,
}

impl Heartbeat {
    pub(crate) fn new(clients: u32, interval_ns: u64) -> Heartbeat {
        Heartbeat {
            interval_ns: interval_ns.max(1),
            clients: clients.max(1),
            window: None,
            due: 0,
            messages: Messages::default(),
            measured: Measured::default(),
            seen: Interval::default(),
        }
    }

    pub(crate) fn begin(&mut self, window: Window) {
        self.window = Some(window);
    }

    pub(crate) fn end(&mut self) {
        self.window = None;
    }

    /// Sends what is due and says when the next is.
    pub(crate) fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        let window = self.window?;
        loop {
            let after = u128::from(self.due) * u128::from(self.interval_ns) / u128::from(self.clients);
            let due_ns = window.begin_ns + after as u64;
            if due_ns > now_ns {
                return Some(due_ns);
            }
            let client = (self.due % u64::from(self.clients)) as u32;
            self.due += 1;
            if !out.is_ready(client) {
                continue;
            }
            out.frame(client, Opcode::Ping, &due_ns.to_be_bytes());
            self.messages.sent += 1;
            self.seen.sent += 1;
            self.measured.in_window.sent += u64::from(window.contains(now_ns));
            if window.contains(due_ns) {
                self.measured.lag.record(now_ns - due_ns);
            }
        }
    }

    /// A pong: the answer to the ping whose time it carries.
    pub(crate) fn answered(&mut self, payload: &[u8], now_ns: u64) {
        let due_ns = payload.try_into().map(u64::from_be_bytes).ok().filter(|due_ns| *due_ns <= now_ns);
        let Some(due_ns) = due_ns else {
            // RFC 6455 section 5.5.3 allows pongs that answer nothing; they are empty in practice.
            self.messages.corrupted += u64::from(!payload.is_empty());
            return;
        };
        self.messages.acked += 1;
        self.messages.delivered += 1;
        self.seen.delivered += 1;
        self.seen.deliver.record(now_ns - due_ns);
        self.measured.in_window.delivered += u64::from(self.window.is_some_and(|window| window.contains(now_ns)));
        // All were due while it ran; those answered after its end count too.
        self.measured.deliver.record(now_ns - due_ns);
    }

    pub(crate) fn interval(&mut self) -> Interval {
        std::mem::take(&mut self.seen)
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.messages.sent.saturating_sub(self.messages.delivered)
    }

    pub(crate) fn finish(mut self) -> Measured {
        self.messages.lost = self.outstanding();
        self.measured.messages = self.messages;
        self.measured
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::outbound::State;

    #[test]
    fn every_open_connection_is_asked_once_an_interval() {
        let mut out = Outbound::new(4, 1);
        [0, 1, 3].into_iter().for_each(|client| out.set_state(client, State::Ready));
        let mut beat = Heartbeat::new(4, 1000);
        beat.begin(Window { begin_ns: 100, start_ns: 100, end_ns: 10_000 });
        assert_eq!(beat.send_due(&mut out, 100), Some(350));
        assert_eq!(beat.send_due(&mut out, 1099), Some(1100));
        assert_eq!(beat.messages.sent, 3, "client 2 is not open");
        assert_eq!(beat.outstanding(), 3);
        beat.answered(&100_u64.to_be_bytes(), 200);
        beat.answered(b"", 200);
        beat.answered(b"other", 200);
        beat.answered(&u64::MAX.to_be_bytes(), 200);
        beat.end();
        assert_eq!(beat.send_due(&mut out, 5000), None);
        let measured = beat.finish();
        assert_eq!((measured.messages.delivered, measured.messages.lost, measured.messages.corrupted), (1, 2, 2));
        assert_eq!(measured.deliver.percentiles().unwrap().count, 1);
    }
}
