//! Connections are closed and opened again at a rate while the others stand. Owns the choice of the next; what clients say
//! is [`Talk`]'s.

use super::Talk;
use super::reopening::{Backoff, Reopened, Reopening};
use crate::driver::{Driver, Ended, Incoming, UpgradeRequest};
use crate::outbound::Outbound;
use crate::percentiles::Latencies;
use crate::profile::Profile;
use crate::schedule::{ArrivalProcess, Arrivals};
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

/// How often connections are closed and opened again.
#[derive(Debug)]
pub(crate) struct Cycles {
    pub(crate) profile: Profile,
    pub(crate) arrivals: ArrivalProcess,
    /// After an attempt that failed.
    pub(crate) backoff: Backoff,
}

/// The `churn` scenario.
#[derive(Debug)]
pub(crate) struct Churn {
    talk: Talk,
    clients: u32,
    cycles: Cycles,
    arrivals: Option<Arrivals>,
    window: Window,
    reopening: Reopening,
    /// Where the search for the next begins.
    next: u32,
    /// Whether nobody stood whose turn it could be: what is late then is not the generator's fault.
    blocked: bool,
    closing: Latencies,
    lag: Latencies,
    stopped: bool,
}

impl Churn {
    pub(crate) fn new(talk: Talk, clients: u32, cycles: Cycles, seed: u64) -> Churn {
        let reopening = Reopening::new(cycles.backoff, seed);
        Churn {
            talk,
            clients,
            cycles,
            arrivals: None,
            window: Window::default(),
            reopening,
            next: 0,
            blocked: false,
            closing: Latencies::new(),
            lag: Latencies::new(),
            stopped: false,
        }
    }

    pub(crate) fn finish(self) -> (Option<Measured>, Reopened) {
        let (refused, away) = (self.reopening.refusals(), self.reopening.away());
        let failures = [
            (refused, "connections that were opened again were refused"),
            (away, "connections were closed and not back at the end"),
        ];
        let failures = failures.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let reopened = Reopened {
            failures: failures.collect(),
            remarks: Vec::new(),
            lag: self.lag.percentiles(),
            part: self.reopening.finish("cycle", vec![("close", self.closing)]),
        };
        (self.talk.finish(), reopened)
    }

    /// The next client that stands.
    fn standing(&mut self, out: &Outbound) -> Option<u32> {
        if self.reopening.away() >= u64::from(self.clients) {
            return None;
        }
        let turn = (0..self.clients).map(|step| (self.next + step) % self.clients);
        let client = turn.into_iter().find(|client| out.is_ready(*client) && !self.reopening.is_away(*client))?;
        self.next = (client + 1) % self.clients;
        Some(client)
    }

    /// Closes what is due; when more will be.
    fn close_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        loop {
            let due_ns = self.arrivals.as_ref().filter(|_| !self.stopped)?.next_ns();
            if due_ns >= self.window.end_ns {
                return None;
            }
            if due_ns > now_ns {
                self.blocked = false;
                return Some(due_ns);
            }
            let Some(client) = self.standing(out) else {
                self.blocked = true;
                return None;
            };
            self.arrivals.as_mut()?.take(now_ns);
            let measured = self.window.contains(due_ns);
            if measured && !self.blocked {
                self.lag.record(now_ns.saturating_sub(due_ns));
            }
            self.reopening.leaves(client, due_ns, measured);
            out.close(client);
        }
    }
}

impl Driver for Churn {
    fn upgrade_request(&self, client: u32) -> UpgradeRequest {
        self.talk.driver().upgrade_request(client)
    }

    fn awaits_greeting(&self) -> bool {
        self.talk.driver().awaits_greeting()
    }

    fn ready(&mut self, out: &mut Outbound, client: u32, now_ns: u64) {
        if self.reopening.ready(client, now_ns) {
            self.talk.say(out, client, now_ns);
        }
    }

    fn ended(&mut self, out: &mut Outbound, client: u32, how: Ended<'_>, now_ns: u64) -> bool {
        match how {
            Ended::Left => {
                if let Some(since_ns) = self.reopening.since_ns(client) {
                    self.closing.record(now_ns.saturating_sub(since_ns));
                }
                self.reopening.dial(out, client, now_ns);
            }
            Ended::Dropped(_) => {
                self.reopening.leaves(client, now_ns, false);
                self.reopening.dial_later(out, client, now_ns);
            }
            Ended::Refused(why) => self.reopening.refused(out, client, why, now_ns),
        }
        false
    }

    fn begin(&mut self, window: Window) {
        self.window = window;
        self.arrivals = Some(Arrivals::new(window.begin_ns, self.cycles.profile.clone(), self.cycles.arrivals));
        self.talk.driver_mut().begin(window);
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        self.close_due(out, now_ns)
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        self.talk.driver_mut().received(out, client, message, now_ns);
    }

    fn end(&mut self) {
        self.stopped = true;
        self.talk.driver_mut().end();
    }

    fn interval(&mut self) -> Interval {
        self.talk.driver_mut().interval()
    }

    fn outstanding(&self) -> u64 {
        self.talk.driver().outstanding() + self.reopening.away()
    }
}
