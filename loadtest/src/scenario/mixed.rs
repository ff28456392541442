//! Single chats, groups and the world room at once over the same connections, each part with its own rate and account.
//! Owns the dispatch; each part is a [`Publish`] whose messages are told from the others' by its run number.

use crate::driver::{Driver, Incoming};
use crate::outbound::{Outbound, State};
use crate::report::Part;
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

use super::frames::Frame;
use super::publish::Publish;

/// The `mixed` scenario.
#[derive(Debug)]
pub(crate) struct Mixed {
    parts: Vec<(&'static str, Publish)>,
}

impl Mixed {
    /// At least one part; all have the same users and different run numbers.
    pub(crate) fn new(parts: Vec<(&'static str, Publish)>) -> Mixed {
        Mixed { parts }
    }

    /// The sums of all parts, and each.
    pub(crate) fn finish(self) -> (Measured, Vec<Part>) {
        let mut all = Measured::default();
        let mut parts = Vec::new();
        for (name, publish) in self.parts {
            let measured = publish.finish();
            parts.push(Part::of(name, &measured, "deliver"));
            all.messages = all.messages.plus(&measured.messages);
            all.in_window.sent += measured.in_window.sent;
            all.in_window.acked += measured.in_window.acked;
            all.in_window.delivered += measured.in_window.delivered;
            all.ack.add(&measured.ack);
            all.deliver.add(&measured.deliver);
            all.last.add(&measured.last);
            all.service.add(&measured.service);
            all.lag.add(&measured.lag);
            all.remarks.extend(measured.remarks.into_iter().map(|remark| format!("{name}: {remark}")));
        }
        (all, parts)
    }
}

impl Driver for Mixed {
    fn authorization(&self, client: u32) -> Option<String> {
        self.parts.first().and_then(|(_, part)| part.authorization(client))
    }

    fn awaits_greeting(&self) -> bool {
        true
    }

    fn begin(&mut self, window: Window) {
        self.parts.iter_mut().for_each(|(_, part)| part.begin(window));
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        self.parts.iter_mut().filter_map(|(_, part)| part.send_due(out, now_ns)).min()
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        let Some(frame) = Frame::parse(message.bytes()) else {
            // It belongs to no part for certain; the first counts it.
            return self.parts.iter_mut().take(1).for_each(|(_, part)| part.unreadable(client));
        };
        if frame.is("connected") && out.state(client) == State::Greeting {
            return out.set_state(client, State::Ready);
        }
        // Each part knows its own messages by their run number and passes over the others'.
        self.parts.iter_mut().for_each(|(_, part)| part.heard(out, client, &frame, now_ns));
    }

    fn end(&mut self) {
        self.parts.iter_mut().for_each(|(_, part)| part.end());
    }

    fn interval(&mut self) -> Interval {
        let mut all = Interval::default();
        for (_, part) in &mut self.parts {
            let seen = part.interval();
            all.sent += seen.sent;
            all.acked += seen.acked;
            all.delivered += seen.delivered;
            all.ack.add(&seen.ack);
            all.deliver.add(&seen.deliver);
        }
        all
    }

    fn outstanding(&self) -> u64 {
        self.parts.iter().map(|(_, part)| part.outstanding()).sum()
    }
}
