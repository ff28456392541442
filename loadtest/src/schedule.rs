//! When messages are sent: at a rate, from intended times (open loop), or as answers come (closed loop). Knows neither
//! sockets nor the real clock: times are nanoseconds passed in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How sends are triggered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Messages per second over all senders, whatever the server does.
    Open {
        /// Above 0.
        rate: f64,
    },
    /// Each sender keeps this many messages unanswered.
    Closed {
        /// Above 0.
        in_flight: u32,
    },
}

impl Load {
    /// `open` or `closed`, as reports label it.
    pub fn label(self) -> &'static str {
        match self {
            Load::Open { .. } => "open",
            Load::Closed { .. } => "closed",
        }
    }
}

/// Intended times of an open loop: evenly spaced from its start, never adjusted to what the server manages.
#[derive(Debug)]
pub struct Arrivals {
    start_ns: u64,
    rate: f64,
    taken: u64,
}

impl Arrivals {
    /// `rate` messages a second from `start_ns` on.
    pub fn new(start_ns: u64, rate: f64) -> Arrivals {
        Arrivals { start_ns, rate, taken: 0 }
    }

    /// The intended time of the next message.
    pub fn next_ns(&self) -> u64 {
        // Computed from the count, so that rounding does not add up.
        Arrivals::due_ns(self.start_ns, self.rate, self.taken)
    }

    /// The intended time of message `number` of an open loop that starts at `start_ns`.
    pub(crate) fn due_ns(start_ns: u64, rate: f64, number: u64) -> u64 {
        start_ns + (number as f64 * 1e9 / rate) as u64
    }

    /// Takes the next message if its time has come: its number and intended time.
    pub fn take(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let intended = self.next_ns();
        if intended > now_ns {
            return None;
        }
        self.taken += 1;
        Some((self.taken - 1, intended))
    }
}

/// Senders of a closed loop that wait before their next message because the server told them to.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Pauses {
    /// `client` may send again at `at_ns`.
    pub(crate) fn add(&mut self, at_ns: u64, client: u32) {
        self.waiting.push(Reverse((at_ns, client)));
    }

    /// A client whose pause is over.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u32> {
        let &Reverse((at_ns, client)) = self.waiting.peek()?;
        (at_ns <= now_ns).then(|| {
            self.waiting.pop();
            client
        })
    }

    /// When the next pause ends.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse((at_ns, _))| *at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intended_times_do_not_drift_or_wait() {
        let mut arrivals = Arrivals::new(1000, 3.0);
        assert_eq!(arrivals.take(999), None);
        assert_eq!(arrivals.take(1000), Some((0, 1000)));
        assert_eq!(arrivals.take(1000), None);
        // A stall of a million seconds: every message of that time is due, each with the time it was meant for.
        let late = 1_000_000_000_000_000;
        let mut last = (0, 0);
        for _ in 0..2_999_999 {
            last = arrivals.take(late).unwrap_or(last);
        }
        assert_eq!(last, (2_999_999, 1000 + 999_999_666_666_666));
    }

    #[test]
    fn pauses_end_in_order() {
        let mut pauses = Pauses::default();
        pauses.add(30, 3);
        pauses.add(10, 1);
        pauses.add(20, 2);
        assert_eq!((pauses.take(9), pauses.next_ns()), (None, Some(10)));
        assert_eq!([pauses.take(25), pauses.take(25), pauses.take(25)], [Some(1), Some(2), None]);
    }
}
