//! Clients on their way back: since when, how often they tried, what came of it. Closes nothing and decides on nobody.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::message::mix;
use crate::outbound::Outbound;
use crate::percentiles::{Latencies, Percentiles};
use crate::report::{Part, Treatment};

/// How long a client waits before it tries again: a random part of a bound that doubles with each attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    fn delay_ns(&self, failures: u32, chance: u64) -> u64 {
        let bound = self.first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.longest);
        chance % (bound.as_nanos() as u64).max(1)
    }
}

/// One client without a connection.
#[derive(Debug)]
struct Trip {
    since_ns: u64,
    dialled_ns: u64,
    failures: u32,
    measured: bool,
}

/// All of them, and what is known of those that are back.
#[derive(Debug)]
pub(super) struct Reopening {
    backoff: Backoff,
    chance: u64,
    trips: HashMap<u32, Trip>,
    attempts: u64,
    back: u64,
    refusals: BTreeMap<String, u64>,
    /// From the beginning of the attempt that succeeded.
    connect: Latencies,
    /// From the time that the client lost its connection.
    whole: Latencies,
    /// How late attempts began.
    lag: Latencies,
}

/// What a run with closed and opened connections adds to its report.
#[derive(Debug)]
pub(crate) struct Reopened {
    pub(crate) part: Part,
    /// What makes the run a failed one.
    pub(crate) failures: Vec<String>,
    pub(crate) remarks: Vec<String>,
    /// How late connections were closed.
    pub(crate) lag: Option<Percentiles>,
}

impl Reopening {
    pub(super) fn new(backoff: Backoff, seed: u64) -> Reopening {
        Reopening {
            backoff,
            chance: seed,
            trips: HashMap::new(),
            attempts: 0,
            back: 0,
            refusals: BTreeMap::new(),
            connect: Latencies::new(),
            whole: Latencies::new(),
            lag: Latencies::new(),
        }
    }

    /// The client's connection is over, or about to be.
    pub(super) fn leaves(&mut self, client: u32, since_ns: u64, measured: bool) {
        self.trips.entry(client).or_insert(Trip { since_ns, dialled_ns: since_ns, failures: 0, measured });
    }

    pub(super) fn is_away(&self, client: u32) -> bool {
        self.trips.contains_key(&client)
    }

    /// Since when the client is on its way, if that is of the measured phase.
    pub(super) fn since_ns(&self, client: u32) -> Option<u64> {
        self.trips.get(&client).filter(|trip| trip.measured).map(|trip| trip.since_ns)
    }

    /// Clients without a connection.
    pub(super) fn away(&self) -> u64 {
        self.trips.len() as u64
    }

    /// Has the client connected at once.
    pub(super) fn dial(&mut self, out: &mut Outbound, client: u32, at_ns: u64) {
        let Some(trip) = self.trips.get_mut(&client) else { return };
        trip.dialled_ns = at_ns;
        self.attempts += 1;
        out.reopen(client, at_ns);
    }

    /// Has the client connected after a wait, the longer the more attempts have failed.
    pub(super) fn dial_later(&mut self, out: &mut Outbound, client: u32, now_ns: u64) {
        let Some(trip) = self.trips.get(&client) else { return };
        self.chance = mix(self.chance);
        let at_ns = now_ns + self.backoff.delay_ns(trip.failures, self.chance);
        self.dial(out, client, at_ns);
    }

    /// An attempt begins.
    pub(super) fn dialled(&mut self, client: u32, now_ns: u64) {
        if let Some(trip) = self.trips.get(&client) {
            self.lag.record(now_ns.saturating_sub(trip.dialled_ns));
        }
    }

    /// How late attempts began, where that is more than a tenth of the time it took to be back.
    pub(super) fn own_lag(&self) -> Option<Percentiles> {
        let back = self.whole.percentiles()?;
        self.lag.percentiles().filter(|lag| lag.p99 > back.p99 / 10.0)
    }

    /// An attempt failed; the next follows later.
    pub(super) fn refused(&mut self, out: &mut Outbound, client: u32, why: &str, now_ns: u64) {
        *self.refusals.entry(why.to_owned()).or_default() += 1;
        if let Some(trip) = self.trips.get_mut(&client) {
            trip.failures += 1;
        }
        self.dial_later(out, client, now_ns);
    }

    /// The client is ready; whether it was away.
    pub(super) fn ready(&mut self, client: u32, now_ns: u64) -> bool {
        let Some(trip) = self.trips.remove(&client) else { return false };
        self.back += 1;
        if trip.measured {
            self.connect.record(now_ns.saturating_sub(trip.dialled_ns));
            self.whole.record(now_ns.saturating_sub(trip.since_ns));
        }
        true
    }

    /// Attempts that failed.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.values().sum()
    }

    /// The figures; those from losing a connection to having another stand under the name `whole`.
    pub(super) fn finish(self, whole: &'static str, further: Vec<(&'static str, Latencies)>) -> Part {
        let rows = [("connect", self.connect), (whole, self.whole)].into_iter().chain(further);
        let latency_us = rows.filter_map(|(name, row)| Some((name, row.percentiles()?))).collect();
        Part {
            name: "reopen",
            sent: self.attempts,
            done: self.back,
            errors: self.refusals,
            messages: None,
            latency_us,
            treatment: Treatment::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Command;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

    #[test]
    fn bounds_double_up_to_the_longest_and_waits_are_spread_below_them() {
        let longest = |failures| (0..1000).map(|n| BACKOFF.delay_ns(failures, mix(n))).max().unwrap_or(0);
        for (failures, bound) in [(0, 1), (1, 2), (4, 16), (5, 30), (40, 30)] {
            let seen = longest(failures);
            assert!((bound * 900_000_000..bound * 1_000_000_000).contains(&seen), "{failures}: {seen}");
        }
    }

    #[test]
    fn a_client_comes_back_once_and_its_whole_way_counts() {
        let (mut out, mut reopening) = (Outbound::new(2, 0), Reopening::new(BACKOFF, 7));
        reopening.leaves(1, 100, true);
        reopening.dial(&mut out, 1, 150);
        assert_eq!(out.take_command(), Some(Command::Reopen { client: 1, at_ns: 150 }));
        reopening.refused(&mut out, 1, "full", 200);
        let Some(Command::Reopen { client: 1, at_ns }) = out.take_command() else { panic!("no second attempt") };
        reopening.dialled(1, at_ns + 1000);
        assert!(at_ns >= 200 && reopening.is_away(1) && reopening.away() == 1);
        assert!(reopening.ready(1, at_ns + 3000) && !reopening.ready(1, at_ns + 4000));
        let late = reopening.own_lag().map(|lag| (lag.count, lag.max));
        assert!(late == Some((1, 1.0)) || at_ns > 7000, "{late:?}");
        let part = reopening.finish("back", Vec::new());
        assert_eq!((part.sent, part.done, part.errors.get("full")), (2, 1, Some(&1)));
        assert_eq!(part.latency_us["connect"].max, 3.0);
        assert!(part.latency_us["back"].max >= 3.1);
    }
}
