//! What a run measures to set a load against itself and its senders against each other: latencies before other clients
//! interfere, and demand and throughput of each sender. Knows no sockets and no clock.

use std::ops::Range;
use std::time::Duration;

use crate::percentiles::Latencies;

/// A sender in the measured phase.
#[derive(Debug, Clone, Copy, Default)]
struct Sender {
    due: u32,
    answered: u32,
}

/// The baseline of one load, and the fairness among its senders.
#[derive(Debug)]
pub(crate) struct Contrast {
    /// From the begin of sending to the baseline.
    skip: Duration,
    length: Duration,
    baseline_ns: Range<u64>,
    /// Messages meant to be sent in the baseline.
    pub(crate) sent: u64,
    pub(crate) ack: Latencies,
    pub(crate) deliver: Latencies,
    pub(crate) last: Latencies,
    senders: Vec<Sender>,
}

impl Contrast {
    /// For clients 0 to `clients - 1`, with a baseline of `length` that begins `skip` after sending does.
    pub(crate) fn new(clients: u32, skip: Duration, length: Duration) -> Contrast {
        Contrast {
            skip,
            length,
            baseline_ns: 0..0,
            sent: 0,
            ack: Latencies::new(),
            deliver: Latencies::new(),
            last: Latencies::new(),
            senders: vec![Sender::default(); clients as usize],
        }
    }

    /// Sending begins.
    pub(crate) fn begin(&mut self, begin_ns: u64) {
        let start_ns = begin_ns + self.skip.as_nanos() as u64;
        self.baseline_ns = start_ns..start_ns + self.length.as_nanos() as u64;
    }

    /// `client` sends a message that was meant for `intended_ns`, which is in the measured phase or not.
    pub(crate) fn sending(&mut self, client: u32, intended_ns: u64, measured: bool) {
        self.sent += u64::from(self.baseline_ns.contains(&intended_ns));
        if let Some(sender) = self.senders.get_mut(client as usize).filter(|_| measured) {
            sender.due += 1;
        }
    }

    /// A message of `client` was answered in the measured phase.
    pub(crate) fn answered(&mut self, client: u32) {
        if let Some(sender) = self.senders.get_mut(client as usize) {
            sender.answered += 1;
        }
    }

    /// A message was acknowledged.
    pub(crate) fn acked(&mut self, intended_ns: u64, now_ns: u64) {
        if self.baseline_ns.contains(&intended_ns) {
            self.ack.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// A message was delivered.
    pub(crate) fn delivered(&mut self, intended_ns: u64, now_ns: u64) {
        if self.baseline_ns.contains(&intended_ns) {
            self.deliver.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// The last receiver of a message has it.
    pub(crate) fn completed(&mut self, intended_ns: u64, now_ns: u64) {
        if self.baseline_ns.contains(&intended_ns) {
            self.last.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Jain's index over the senders' answered messages as shares of those due: (Σx)² / (n Σx²), 1 where all get the same
    /// and 1/n where one gets everything. `None` where nothing was due or nothing was answered.
    pub(crate) fn fairness(&self) -> Option<f64> {
        let shares = || {
            let due = self.senders.iter().filter(|sender| sender.due > 0);
            due.map(|sender| f64::from(sender.answered) / f64::from(sender.due))
        };
        let squares: f64 = shares().map(|share| share * share).sum();
        let sum: f64 = shares().sum();
        (squares > 0.0).then(|| sum * sum / (shares().count() as f64 * squares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of senders with (due, answered).
    fn fairness(senders: &[(u32, u32)]) -> Option<f64> {
        let mut contrast = Contrast::new(senders.len() as u32, Duration::ZERO, Duration::ZERO);
        for (client, (due, answered)) in (0..).zip(senders) {
            (0..*due).for_each(|_| contrast.sending(client, 0, true));
            (0..*answered).for_each(|_| contrast.answered(client));
        }
        contrast.fairness()
    }

    #[test]
    fn fairness_is_that_of_jain() {
        assert_eq!(fairness(&[(4, 4), (4, 4), (4, 4)]), Some(1.0));
        assert_eq!(fairness(&[(4, 4), (4, 0), (4, 0), (4, 0)]), Some(0.25), "one of four gets everything");
        // (1 + 0.5)² / (2 (1 + 0.25)).
        assert_eq!(fairness(&[(10, 10), (10, 5)]), Some(0.9));
        assert_eq!(fairness(&[(10, 5), (2, 1)]), Some(1.0), "who asks for less is not wronged");
        assert_eq!(fairness(&[(10, 5), (0, 0)]), Some(1.0), "who asks for nothing does not count");
        assert_eq!((fairness(&[(3, 0)]), fairness(&[])), (None, None));
    }

    #[test]
    fn the_baseline_holds_what_was_meant_for_it() {
        let mut contrast = Contrast::new(1, Duration::from_nanos(10), Duration::from_nanos(20));
        contrast.begin(100);
        for intended_ns in [109, 110, 129, 130] {
            contrast.sending(0, intended_ns, false);
            contrast.acked(intended_ns, 1000);
            contrast.delivered(intended_ns, 2000);
            contrast.completed(intended_ns, 3000);
        }
        let counts = [contrast.ack.count(), contrast.deliver.count(), contrast.last.count(), contrast.sent];
        assert_eq!(counts, [2, 2, 2, 2]);
        assert_eq!(contrast.fairness(), None, "nothing was in the measured phase");
    }
}
