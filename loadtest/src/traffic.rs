//! What every scenario with messages shares: the ledger, the load, the measured window and its histograms. Writes no
//! frames and reads none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contrast::Contrast;
use crate::ledger::{Ledger, Messages, Sent};
use crate::message::{Key, mix};
use crate::percentiles::Latencies;
use crate::schedule::{Arrivals, Load, Pauses};
use crate::timeline::Interval;

/// The steady phase, in nanoseconds of the run's clock; only what was meant to be sent in it is measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    /// Sending begins here: the warm-up.
    pub(crate) begin_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

impl Window {
    pub(crate) fn contains(&self, at_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&at_ns)
    }
}

/// Events inside the window, by the time they happened.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct InWindow {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) delivered: u64,
}

/// Latencies from the time that a message was given to its connection, whenever it was due.
#[derive(Debug, Default)]
pub(crate) struct ServiceTimes {
    pub(crate) ack: Latencies,
    pub(crate) deliver: Latencies,
}

impl ServiceTimes {
    /// Counts what another counted.
    pub(crate) fn add(&mut self, other: &ServiceTimes) {
        self.ack.add(&other.ack);
        self.deliver.add(&other.deliver);
    }
}

/// What a scenario with messages comes to.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) messages: Messages,
    /// The same of each conversation, where they are kept apart.
    pub(crate) each: Vec<Messages>,
    /// Of messages that other agents sent into a shared room.
    pub(crate) guests: Option<Messages>,
    pub(crate) in_window: InWindow,
    pub(crate) ack: Latencies,
    pub(crate) deliver: Latencies,
    pub(crate) service: ServiceTimes,
    pub(crate) lag: Latencies,
    /// Of messages for many: to the last of them.
    pub(crate) last: Latencies,
    /// Error frames by code, where they are kept apart.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Where the load is set against itself.
    pub(crate) contrast: Option<Box<Contrast>>,
    /// Things worth a reason in the report, such as error codes, with their counts.
    pub(crate) remarks: Vec<String>,
}

/// An account of messages that a load keeps.
pub(crate) trait Account {
    /// Opens the account of the next message.
    fn send(&mut self, client: u32, sent: Sent) -> Key;

    /// Judges what is still open and gives the final counts, of each conversation where they are kept apart.
    fn close(self) -> Vec<Messages>;
}

impl Account for Ledger {
    fn send(&mut self, client: u32, sent: Sent) -> Key {
        Ledger::send(self, client, sent)
    }

    fn close(self) -> Vec<Messages> {
        vec![Ledger::close(self)]
    }
}

/// Load and account of one run.
#[derive(Debug)]
pub(crate) struct Traffic<A> {
    pub(crate) ledger: A,
    load: Load,
    senders: Vec<u32>,
    window: Window,
    arrivals: Option<Arrivals>,
    pauses: Pauses,
    stopped: bool,
    /// Random bits of think times.
    chance: u64,
    measured: Measured,
    interval: Interval,
}

impl<A: Account> Traffic<A> {
    pub(crate) fn new(ledger: A, load: Load, senders: Vec<u32>) -> Traffic<A> {
        Traffic {
            ledger,
            load,
            senders,
            window: Window::default(),
            arrivals: None,
            pauses: Pauses::default(),
            stopped: true,
            chance: 0,
            measured: Measured::default(),
            interval: Interval::default(),
        }
    }

    /// Sets the load against itself before the measured phase, and its senders against each other.
    pub(crate) fn contrast(&mut self, contrast: Contrast) {
        self.measured.contrast = Some(Box::new(contrast));
    }

    /// Sending begins. In a closed loop every sender's first messages are due at once.
    pub(crate) fn begin(&mut self, window: Window) {
        self.window = window;
        self.stopped = false;
        if let Some(contrast) = &mut self.measured.contrast {
            contrast.begin(window.begin_ns);
        }
        match &self.load {
            Load::Open { profile, arrivals } => {
                self.arrivals = Some(Arrivals::new(window.begin_ns, profile.clone(), *arrivals));
            }
            Load::Closed { in_flight, think } => {
                for client in (0..*in_flight).flat_map(|_| self.senders.iter()) {
                    self.chance = mix(self.chance);
                    let wait_ns = think.as_ref().map_or(0, |think| think.start_ns(self.chance));
                    self.pauses.add(window.begin_ns + wait_ns, *client);
                }
            }
        }
    }

    /// No further message is sent.
    pub(crate) fn end(&mut self) {
        self.stopped = true;
    }

    /// Whether what happens now is of the measured phase, which ends early when the run does.
    fn is_measured(&self, now_ns: u64) -> bool {
        !self.stopped && self.window.contains(now_ns)
    }

    /// The sender and intended time of a message that is due.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        if self.stopped {
            return None;
        }
        match &mut self.arrivals {
            Some(arrivals) => {
                if arrivals.next_ns() >= self.window.end_ns {
                    return None;
                }
                let (number, intended_ns) = arrivals.take(now_ns)?;
                let at = (number % self.senders.len().max(1) as u64) as usize;
                Some((*self.senders.get(at)?, intended_ns))
            }
            None => self.pauses.take(now_ns).map(|client| (client, now_ns)),
        }
    }

    /// When the next message will be due.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        match &self.arrivals {
            _ if self.stopped => None,
            Some(arrivals) => Some(arrivals.next_ns()).filter(|at| *at < self.window.end_ns),
            None => self.pauses.next_ns(),
        }
    }

    /// Opens the account of a message that goes out now.
    pub(crate) fn sending(&mut self, client: u32, intended_ns: u64, now_ns: u64) -> Key {
        if self.window.contains(intended_ns) {
            self.measured.lag.record(now_ns.saturating_sub(intended_ns));
        }
        if let Some(contrast) = &mut self.measured.contrast {
            contrast.sending(client, intended_ns, self.window.contains(intended_ns));
        }
        self.measured.in_window.sent += u64::from(self.is_measured(now_ns));
        self.interval.sent += 1;
        self.ledger.send(client, Sent { intended_ns, sent_ns: now_ns })
    }

    /// Counts an acknowledgement's latency and service time.
    pub(crate) fn acked(&mut self, sent: Sent, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(sent.intended_ns);
        self.measured.in_window.acked += u64::from(self.is_measured(now_ns));
        self.interval.acked += 1;
        self.interval.ack.record(latency_ns);
        if self.window.contains(sent.intended_ns) {
            self.measured.ack.record(latency_ns);
            self.measured.service.ack.record(now_ns.saturating_sub(sent.sent_ns));
        }
        if let Some(contrast) = &mut self.measured.contrast {
            contrast.acked(sent.intended_ns, now_ns);
        }
    }

    /// Counts a delivery's latency and service time.
    pub(crate) fn delivered(&mut self, sent: Sent, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(sent.intended_ns);
        self.measured.in_window.delivered += u64::from(self.is_measured(now_ns));
        self.interval.delivered += 1;
        self.interval.deliver.record(latency_ns);
        if self.window.contains(sent.intended_ns) {
            self.measured.deliver.record(latency_ns);
            self.measured.service.deliver.record(now_ns.saturating_sub(sent.sent_ns));
        }
        if let Some(contrast) = &mut self.measured.contrast {
            contrast.delivered(sent.intended_ns, now_ns);
        }
    }

    /// Counts a delivery of a message that another agent sent, which alone knows when it meant to.
    pub(crate) fn delivered_of_others(&mut self, now_ns: u64) {
        self.measured.in_window.delivered += u64::from(self.is_measured(now_ns));
        self.interval.delivered += 1;
    }

    /// The last receiver of a message has it.
    pub(crate) fn completed(&mut self, intended_ns: u64, now_ns: u64) {
        if self.window.contains(intended_ns) {
            self.measured.last.record(now_ns.saturating_sub(intended_ns));
        }
        if let Some(contrast) = &mut self.measured.contrast {
            contrast.completed(intended_ns, now_ns);
        }
    }

    /// A message of `client` was answered. Whether a closed loop sends the next now; one that thinks first has it due later.
    pub(crate) fn answered(&mut self, client: u32, now_ns: u64) -> bool {
        let measured = self.is_measured(now_ns);
        if let Some(contrast) = self.measured.contrast.as_mut().filter(|_| measured) {
            contrast.answered(client);
        }
        match &self.load {
            Load::Closed { think: Some(think), .. } => {
                self.chance = mix(self.chance);
                let wait_ns = think.pick_ns(self.chance);
                self.pause(client, now_ns + wait_ns);
                false
            }
            Load::Closed { think: None, .. } => !self.stopped,
            Load::Open { .. } => false,
        }
    }

    /// A message of `client` was refused: a closed loop tries another at `at_ns`.
    pub(crate) fn pause(&mut self, client: u32, at_ns: u64) {
        if !self.stopped && matches!(self.load, Load::Closed { .. }) {
            self.pauses.add(at_ns, client);
        }
    }

    /// What was counted since it was asked last.
    pub(crate) fn interval(&mut self) -> Interval {
        std::mem::take(&mut self.interval)
    }

    /// Judges what is still open.
    pub(crate) fn finish(self, remarks: Vec<String>) -> Measured {
        let each = self.ledger.close();
        let messages = each.iter().fold(Messages::default(), |sum, one| sum.plus(one));
        Measured { messages, each, remarks, ..self.measured }
    }
}

#[cfg(test)]
mod omission;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Route;

    const WINDOW: Window = Window { begin_ns: 100, start_ns: 200, end_ns: 300 };

    #[test]
    fn a_stall_counts_from_the_intended_time() {
        let mut traffic = Traffic::new(Ledger::new(Route::Echo, 2), Load::at(1e8), vec![0, 1]);
        assert_eq!(traffic.take_due(1000), None, "before it begins");
        traffic.begin(WINDOW);
        // The generator sleeps from 100 to 1000: all 20 messages of the window are sent then.
        let mut sent = Vec::new();
        while let Some((client, intended)) = traffic.take_due(1000) {
            sent.push((traffic.sending(client, intended, 1000), intended));
        }
        assert_eq!(sent.len(), 20);
        assert_eq!([sent[0].0.client(), sent[1].0.client(), sent[2].0.client()], [0, 1, 0]);
        assert_eq!(traffic.next_due_ns(), None);
        for (_, intended) in &sent {
            traffic.delivered(Sent { intended_ns: *intended, sent_ns: 1000 }, 1100);
        }
        let measured = traffic.finish(Vec::new());
        let deliver = measured.deliver.percentiles();
        assert_eq!(deliver.map(|p| (p.count, p.max)), Some((10, 0.9)), "the ten of the warm-up are not measured");
        assert_eq!(measured.lag.percentiles().map(|p| p.max), Some(0.8));
        let service = measured.service.deliver.percentiles();
        assert_eq!(service.map(|p| (p.count, p.max)), Some((10, 0.1)), "the server was not slow");
    }

    #[test]
    fn who_thinks_sends_later() {
        let think = "1ms..3ms".parse().ok();
        let load = Load::Closed { in_flight: 1, think };
        let mut traffic = Traffic::new(Ledger::new(Route::Echo, 100), load, (0..100).collect());
        traffic.begin(WINDOW);
        let starts = std::iter::from_fn(|| traffic.take_due(3_000_100)).count();
        assert_eq!(starts, 100, "nobody begins later than after one think time");
        assert!(!traffic.answered(7, 4_000_000), "not at once");
        assert_eq!(traffic.take_due(4_999_999), None);
        assert_eq!(traffic.take_due(7_000_000).map(|(client, _)| client), Some(7));
    }

    #[test]
    fn a_closed_loop_waits_for_answers() {
        let mut traffic = Traffic::new(Ledger::new(Route::Echo, 1), Load::closed(2), vec![0]);
        traffic.begin(WINDOW);
        assert_eq!(
            [traffic.take_due(100), traffic.take_due(101), traffic.take_due(102)],
            [Some((0, 100)), Some((0, 101)), None]
        );
        assert!(traffic.answered(0, 110));
        traffic.pause(0, 150);
        assert_eq!(
            (traffic.take_due(149), traffic.next_due_ns(), traffic.take_due(150)),
            (None, Some(150), Some((0, 150)))
        );
        traffic.end();
        assert!(!traffic.answered(0, 160));
    }

    #[test]
    fn what_arrives_once_a_run_was_ended_early_is_in_no_rate() {
        let mut traffic = Traffic::new(Ledger::new(Route::Echo, 1), Load::closed(2), vec![0]);
        traffic.begin(WINDOW);
        for at_ns in [210, 220] {
            traffic.sending(0, at_ns, at_ns);
        }
        traffic.delivered(210.into(), 230);
        traffic.end();
        traffic.delivered(220.into(), 240);
        let measured = traffic.finish(Vec::new());
        assert_eq!((measured.in_window.sent, measured.in_window.delivered), (2, 1));
        assert_eq!(measured.deliver.percentiles().map(|p| p.count), Some(2), "its latency counts");
    }
}
