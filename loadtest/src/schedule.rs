//! When messages are sent: at a rate, from intended times (open loop), or as answers come (closed loop). Knows neither
//! sockets nor the real clock: times are nanoseconds passed in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use clap::ValueEnum;

use crate::message::mix;
use crate::profile::Profile;
use crate::spread::Think;

/// How sends are triggered.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Messages per second over all senders, whatever the server does.
    Open {
        /// How many by when.
        profile: Profile,
        /// How they lie around it.
        arrivals: ArrivalProcess,
    },
    /// Each sender keeps this many messages unanswered.
    Closed {
        /// Above 0.
        in_flight: u32,
        /// Between an answer and the next message.
        think: Option<Think>,
    },
}

/// How intended times lie around the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArrivalProcess {
    /// Evenly.
    Uniform,
    /// At random, independent of each other, as many users do; the same times in every run.
    Poisson,
}

impl Load {
    /// An open loop with evenly spaced messages.
    pub fn at(rate: f64) -> Load {
        Load::Open { profile: Profile::constant(rate), arrivals: ArrivalProcess::Uniform }
    }

    /// A closed loop without think time.
    pub fn closed(in_flight: u32) -> Load {
        Load::Closed { in_flight, think: None }
    }

    /// `open` or `closed`, as reports label it.
    pub fn label(&self) -> &'static str {
        match self {
            Load::Open { .. } => "open",
            Load::Closed { .. } => "closed",
        }
    }
}

/// Intended times of an open loop, never adjusted to what the server manages.
#[derive(Debug)]
pub struct Arrivals {
    start_ns: u64,
    profile: Profile,
    taken: u64,
    next_ns: u64,
    random: Option<Random>,
}

/// Where the next message of a Poisson process stands.
#[derive(Debug)]
struct Random {
    state: u64,
    /// Messages that an even process would have sent by then.
    count: f64,
}

impl Random {
    /// The count at the next message: gaps are exponential with mean 1.
    fn step(&mut self) -> f64 {
        self.state = mix(self.state);
        // 53 bits, above 0.
        let chance = ((self.state >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.count -= chance.ln();
        self.count
    }
}

impl Arrivals {
    /// Messages as the profile has them, from `start_ns` on.
    pub fn new(start_ns: u64, profile: Profile, process: ArrivalProcess) -> Arrivals {
        // Loads of different rates in one run are independent of each other.
        let random = || Random { state: profile.mean().to_bits(), count: 0.0 };
        let random = (process == ArrivalProcess::Poisson).then(random);
        let mut arrivals = Arrivals { start_ns, profile, taken: 0, next_ns: 0, random };
        arrivals.schedule();
        arrivals
    }

    /// The intended time of the next message; `u64::MAX` when there is none.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Takes the next message if its time has come: its number and intended time.
    pub fn take(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let intended_ns = self.next_ns;
        if intended_ns > now_ns {
            return None;
        }
        self.taken += 1;
        self.schedule();
        Some((self.taken - 1, intended_ns))
    }

    fn schedule(&mut self) {
        let count = self.random.as_mut().map_or(self.taken as f64, Random::step);
        self.next_ns = self.start_ns.saturating_add(self.profile.due_ns(count));
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
    fn poisson_arrivals_keep_the_rate_and_come_in_bursts() {
        let mut arrivals = Arrivals::new(0, Profile::constant(1000.0), ArrivalProcess::Poisson);
        let mut by_second = [0_u32; 100];
        let mut empty = [true; 100_000];
        while let Some((_, at_ns)) = arrivals.take(100_000_000_000 - 1) {
            by_second[(at_ns / 1_000_000_000) as usize] += 1;
            empty[(at_ns / 1_000_000) as usize] = false;
        }
        let total: u32 = by_second.iter().sum();
        assert!((99_000..101_000).contains(&total), "{total}");
        let squares: f64 = by_second.iter().map(|count| (f64::from(*count) - 1000.0).powi(2)).sum();
        assert!((500.0..2000.0).contains(&(squares / 100.0)), "its variance is its mean: {}", squares / 100.0);
        // One millisecond in e stays empty.
        let empty = empty.iter().filter(|it| **it).count();
        assert!((36_000..37_600).contains(&empty), "{empty}");
    }

    #[test]
    fn intended_times_do_not_drift_or_wait() {
        let mut arrivals = Arrivals::new(1000, Profile::constant(3.0), ArrivalProcess::Uniform);
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
