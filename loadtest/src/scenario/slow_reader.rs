//! A room in which some receivers stop reading for a while: what the others notice of it, and what becomes of the slow ones.
//! Owns the slow clients and their account; those that keep reading are a [`Publish`] of their own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::publish::Publish;
use crate::driver::{Driver, Ended, Incoming};
use crate::guests::Guests;
use crate::ledger::{Delivery, Messages};
use crate::outbound::{Outbound, State};
use crate::percentiles::Latencies;
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

/// One slow client.
#[derive(Debug, Clone, Copy, Default)]
struct Laggard {
    /// Messages that reached it, each once.
    arrived: u64,
    /// It stood when reading stopped.
    began: bool,
    closed: bool,
}

/// How far the slow clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    Stalled,
    /// They read again, and have caught up with as many messages as had been sent by then.
    Resumed {
        since_ns: u64,
        wanted: u64,
    },
}

/// The `slow-reader` scenario.
#[derive(Debug)]
pub(crate) struct SlowReader {
    healthy: Publish,
    /// Clients from here on are slow.
    first_slow: u32,
    laggards: Vec<Laggard>,
    account: Guests,
    /// How long they do not read; without it until nothing is sent any more.
    stall: Option<Duration>,
    stall_ns: Range<u64>,
    phase: Phase,
    catch_up: Latencies,
    /// How the server ended slow connections, which it may.
    closed: BTreeMap<String, u64>,
}

/// What the slow clients came to.
#[derive(Debug)]
pub(crate) struct Slow {
    /// `sent`: messages that each of them should have; `lost`: what those miss whose connections stand.
    pub(crate) messages: Messages,
    /// From reading again to having everything that had been sent by then.
    pub(crate) catch_up: Latencies,
    pub(crate) caught_up: u64,
    pub(crate) behind: u64,
    /// How the server ended their connections.
    pub(crate) closed: BTreeMap<String, u64>,
}

impl SlowReader {
    /// `healthy` has clients 0 to `first_slow - 1` and all senders; up to `clients` the others are slow.
    pub(crate) fn new(healthy: Publish, first_slow: u32, clients: u32, stall: Option<Duration>) -> SlowReader {
        let slow = clients - first_slow;
        SlowReader {
            healthy,
            first_slow,
            laggards: vec![Laggard::default(); slow as usize],
            account: Guests::new(slow),
            stall,
            stall_ns: u64::MAX..u64::MAX,
            phase: Phase::Reading,
            catch_up: Latencies::new(),
            closed: BTreeMap::new(),
        }
    }

    /// What those came to that kept reading, and the slow ones.
    pub(crate) fn finish(self) -> (Measured, Slow) {
        let healthy = self.healthy.finish();
        let wanted = healthy.messages.sent.saturating_sub(healthy.messages.refused + healthy.messages.unacked);
        let standing = || self.laggards.iter().filter(|it| it.began && !it.closed);
        let behind = standing().filter(|it| it.arrived < wanted).count() as u64;
        let lost = standing().map(|it| wanted.saturating_sub(it.arrived)).sum();
        let slow = Slow {
            messages: Messages { sent: wanted, lost, ..self.account.close() },
            catch_up: self.catch_up,
            caught_up: standing().count() as u64 - behind,
            behind,
            closed: self.closed,
        };
        (healthy, slow)
    }

    /// Stops reading, or reads again, when it is time; says when it will be.
    fn stall_or_resume(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        match self.phase {
            Phase::Reading if now_ns >= self.stall_ns.start => {
                self.phase = Phase::Stalled;
                for (client, laggard) in (self.first_slow..).zip(&mut self.laggards) {
                    laggard.began = out.is_ready(client);
                    out.set_reading(client, false);
                }
            }
            Phase::Stalled if now_ns >= self.stall_ns.end => {
                let wanted = self.healthy.for_everybody();
                self.phase = Phase::Resumed { since_ns: now_ns, wanted };
                for (client, laggard) in (self.first_slow..).zip(&self.laggards) {
                    out.set_reading(client, true);
                    if laggard.began && !laggard.closed && laggard.arrived >= wanted {
                        self.catch_up.record(0);
                    }
                }
            }
            Phase::Reading | Phase::Stalled | Phase::Resumed { .. } => {}
        }
        match self.phase {
            Phase::Reading => Some(self.stall_ns.start),
            Phase::Stalled => Some(self.stall_ns.end),
            Phase::Resumed { .. } => None,
        }
    }

    fn delivered(&mut self, client: u32, delivery: Delivery, now_ns: u64) {
        let at = client - self.first_slow;
        if !self.account.delivered(Delivery { client: at, ..delivery }) {
            return;
        }
        let Some(laggard) = self.laggards.get_mut(at as usize) else { return };
        laggard.arrived += 1;
        match self.phase {
            Phase::Resumed { since_ns, wanted } if laggard.arrived == wanted => {
                self.catch_up.record(now_ns.saturating_sub(since_ns));
            }
            Phase::Reading | Phase::Stalled | Phase::Resumed { .. } => {}
        }
    }
}

impl Driver for SlowReader {
    fn authorization(&self, client: u32) -> Option<String> {
        self.healthy.authorization(client)
    }

    fn awaits_greeting(&self) -> bool {
        self.healthy.awaits_greeting()
    }

    fn ended(&mut self, _out: &mut Outbound, client: u32, how: Ended<'_>, _now_ns: u64) -> bool {
        let Ended::Dropped(why) = how else { return false };
        let slow = client.checked_sub(self.first_slow).and_then(|at| self.laggards.get_mut(at as usize));
        // Who ends before it was slow ended for no reason of its own.
        let Some(laggard) = slow.filter(|it| it.began) else { return false };
        laggard.closed = true;
        *self.closed.entry(why.to_owned()).or_default() += 1;
        true
    }

    fn keep_alive(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        self.stall_or_resume(out, now_ns)
    }

    fn begin(&mut self, window: Window) {
        let end_ns = self.stall.map_or(window.end_ns, |stall| window.start_ns + stall.as_nanos() as u64);
        self.stall_ns = window.start_ns..end_ns.min(window.end_ns);
        self.healthy.begin(window);
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        self.healthy.send_due(out, now_ns)
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        if client < self.first_slow || out.state(client) == State::Greeting {
            return self.healthy.received(out, client, message, now_ns);
        }
        if let Some(delivery) = self.healthy.delivery(client, message) {
            self.delivered(client, delivery, now_ns);
        }
    }

    fn end(&mut self) {
        // Even where it came early.
        self.stall_ns.end = self.stall_ns.start;
        self.healthy.end();
    }

    fn interval(&mut self) -> Interval {
        self.healthy.interval()
    }

    fn outstanding(&self) -> u64 {
        let wanted = self.healthy.for_everybody();
        let standing = self.laggards.iter().filter(|it| it.began && !it.closed);
        self.healthy.outstanding() + standing.map(|it| wanted.saturating_sub(it.arrived)).sum::<u64>()
    }
}
