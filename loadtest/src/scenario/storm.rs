//! Many connections are lost at one moment and come back as good clients do. Owns the moment and who loses; what clients say
//! is [`Talk`]'s.

use std::collections::BTreeMap;

use super::Talk;
use super::reopening::{Backoff, Reopened, Reopening};
use crate::driver::{Driver, Ended, Incoming, UpgradeRequest};
use crate::outbound::Outbound;
use crate::percentiles::Latencies;
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

/// What ends the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The clients cut that many percent of them, so long after the measured phase began.
    Cut { percent: u32, after_ns: u64 },
    /// The server, which somebody restarts.
    Restart,
}

/// The `reconnect-storm` scenario.
#[derive(Debug)]
pub(crate) struct Storm {
    talk: Talk,
    clients: u32,
    loss: Loss,
    /// When the clients cut, until they did.
    cut_ns: Option<u64>,
    window: Window,
    reopening: Reopening,
    /// When the first connection was lost of those that are not all back yet.
    since_ns: Option<u64>,
    ended: u64,
    /// How the server ended connections, where that is expected.
    endings: BTreeMap<String, u64>,
    /// Whether messages are to be given up.
    sweep: bool,
    undeliverable: u64,
    stopped: bool,
}

impl Storm {
    pub(crate) fn new(talk: Talk, clients: u32, loss: Loss, backoff: Backoff, seed: u64) -> Storm {
        Storm {
            talk,
            clients,
            loss,
            cut_ns: None,
            window: Window::default(),
            reopening: Reopening::new(backoff, seed),
            since_ns: None,
            ended: 0,
            endings: BTreeMap::new(),
            sweep: false,
            undeliverable: 0,
            stopped: false,
        }
    }

    pub(crate) fn finish(self) -> (Option<Measured>, Reopened) {
        let (ended, away) = (self.ended, self.reopening.away());
        let mut failures = Vec::new();
        if ended == 0 {
            let what = match self.loss {
                Loss::Cut { .. } => "raise --duration above --after",
                Loss::Restart => "restart the server in the measured phase",
            };
            failures.push(format!("no connection was lost, so none came back: {what}"));
        }
        if away > 0 {
            failures.push(format!("{away} of {ended} connections were not back at the end; raise --duration"));
        }
        let mut remarks: Vec<_> = self.endings.iter().map(|(why, count)| format!("{count} × {why}")).collect();
        if self.undeliverable > 0 {
            let count = self.undeliverable;
            remarks.push(format!("{count} messages were on connections that ended: not delivered, and not lost"));
        }
        let refused = self.reopening.refusals();
        if refused > 0 {
            remarks.push(format!("{refused} attempts to connect again failed"));
        }
        let lag = self.reopening.own_lag();
        if lag.is_some() {
            let what = "attempts began so late that their delay is a good part of `back`: raise --backoff or lower --connections";
            remarks.push(what.to_owned());
        }
        let part = self.reopening.finish("back", Vec::<(&'static str, Latencies)>::new());
        (self.talk.finish(), Reopened { failures, remarks, lag, part })
    }

    /// Whether a client is among those that many percent, spread evenly.
    fn is_picked(client: u32, percent: u32) -> bool {
        let before = |count: u32| u64::from(count) * u64::from(percent) / 100;
        before(client + 1) > before(client)
    }

    fn cut_due(&mut self, out: &mut Outbound, now_ns: u64) {
        let Loss::Cut { percent, .. } = self.loss else { return };
        if self.stopped || self.cut_ns.is_none_or(|at_ns| at_ns > now_ns) {
            return;
        }
        self.cut_ns = None;
        for client in (0..self.clients).filter(|client| Self::is_picked(*client, percent)) {
            out.cut(client);
        }
    }

    fn lost(&mut self, out: &mut Outbound, client: u32, now_ns: u64) {
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        self.ended += 1;
        self.sweep = true;
        self.reopening.leaves(client, since_ns, self.window.contains(since_ns));
        self.reopening.dial_later(out, client, now_ns);
    }
}

impl Driver for Storm {
    fn upgrade_request(&self, client: u32) -> UpgradeRequest {
        self.talk.driver().upgrade_request(client)
    }

    fn awaits_greeting(&self) -> bool {
        self.talk.driver().awaits_greeting()
    }

    fn ready(&mut self, _out: &mut Outbound, client: u32, now_ns: u64) {
        if self.reopening.ready(client, now_ns) && self.reopening.away() == 0 {
            self.since_ns = None;
        }
    }

    fn dialled(&mut self, client: u32, now_ns: u64) {
        self.reopening.dialled(client, now_ns);
    }

    fn ended(&mut self, out: &mut Outbound, client: u32, how: Ended<'_>, now_ns: u64) -> bool {
        let expected = self.loss == Loss::Restart;
        match how {
            Ended::Left => self.lost(out, client, now_ns),
            Ended::Dropped(why) => {
                if expected {
                    *self.endings.entry(why.to_owned()).or_default() += 1;
                }
                self.lost(out, client, now_ns);
            }
            Ended::Refused(why) => self.reopening.refused(out, client, why, now_ns),
        }
        expected
    }

    fn begin(&mut self, window: Window) {
        self.window = window;
        if let Loss::Cut { after_ns, .. } = self.loss {
            self.cut_ns = Some(window.start_ns + after_ns);
        }
        self.talk.driver_mut().begin(window);
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        if std::mem::take(&mut self.sweep) {
            self.undeliverable += self.talk.abandon(out);
        }
        let next_ns = self.talk.driver_mut().send_due(out, now_ns);
        self.cut_due(out, now_ns);
        next_ns.into_iter().chain(self.cut_ns).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_spread() {
        for (percent, wanted) in [(1, 2), (10, 20), (33, 66), (100, 200)] {
            assert_eq!((0..200).filter(|client| Storm::is_picked(*client, percent)).count(), wanted);
        }
        assert_eq!((0..10).filter(|client| Storm::is_picked(*client, 50)).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    }
}
