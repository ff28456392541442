//! Greedy clients among polite ones: the polite send at a rate; the greedy, who begin only with the measured phase, as fast as
//! they are answered or at a rate that is more than their share. Owns who is who; what either says is a scenario of its own.

use std::collections::BTreeMap;

use super::{Chat, Echo};
use crate::driver::{Driver, Ended, Incoming};
use crate::outbound::Outbound;
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

/// What greedy clients send at a rate gathers for so long: to be punctual with each message would use up the generator.
const GATHER_NS: u64 = 500_000;

/// A scenario that can be one of the two sides.
pub(crate) trait Side: Driver {
    /// What it came to.
    fn finish(self) -> Measured;
}

impl Side for Echo {
    fn finish(self) -> Measured {
        Echo::finish(self)
    }
}

impl Side for Chat {
    fn finish(self) -> Measured {
        Chat::finish(self)
    }
}

/// The `greedy` scenario.
#[derive(Debug)]
pub(crate) struct Greedy<S> {
    polite: S,
    greedy: S,
    /// Clients from here on are greedy.
    first_greedy: u32,
    /// How the server ended greedy connections, which it may.
    closed: BTreeMap<String, u64>,
    /// When the greedy send next.
    rush_ns: u64,
}

/// What both sides came to.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) polite: Measured,
    pub(crate) greedy: Measured,
    /// How the server ended greedy connections.
    pub(crate) closed: BTreeMap<String, u64>,
}

impl<S: Side> Greedy<S> {
    /// Each side knows only the clients that are its own as senders; messages stay within a side.
    pub(crate) fn new(polite: S, greedy: S, first_greedy: u32) -> Greedy<S> {
        Greedy { polite, greedy, first_greedy, closed: BTreeMap::new(), rush_ns: u64::MAX }
    }

    pub(crate) fn finish(self) -> Sides {
        Sides { polite: self.polite.finish(), greedy: self.greedy.finish(), closed: self.closed }
    }

    fn side(&mut self, client: u32) -> &mut S {
        if client < self.first_greedy { &mut self.polite } else { &mut self.greedy }
    }
}

impl<S: Side> Driver for Greedy<S> {
    fn authorization(&self, client: u32) -> Option<String> {
        self.polite.authorization(client)
    }

    fn awaits_greeting(&self) -> bool {
        self.polite.awaits_greeting()
    }

    fn ended(&mut self, _out: &mut Outbound, client: u32, how: Ended<'_>, _now_ns: u64) -> bool {
        let Ended::Dropped(why) = how else { return false };
        let greedy = client >= self.first_greedy;
        if greedy {
            *self.closed.entry(why.to_owned()).or_default() += 1;
        }
        greedy
    }

    fn begin(&mut self, window: Window) {
        self.polite.begin(window);
        self.rush_ns = window.start_ns;
        self.greedy.begin(Window { begin_ns: window.start_ns, ..window });
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        // The polite first: they have times to keep.
        let polite_ns = self.polite.send_due(out, now_ns);
        if now_ns >= self.rush_ns {
            self.rush_ns = now_ns + GATHER_NS;
            self.greedy.send_due(out, now_ns);
        }
        Some(polite_ns.map_or(self.rush_ns, |due_ns| due_ns.min(self.rush_ns)))
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        self.side(client).received(out, client, message, now_ns);
    }

    fn end(&mut self) {
        self.rush_ns = u64::MAX;
        self.polite.end();
        self.greedy.end();
    }

    fn interval(&mut self) -> Interval {
        self.greedy.interval();
        self.polite.interval()
    }

    fn outstanding(&self) -> u64 {
        // What a closed connection was owed never comes.
        let greedy = if self.closed.is_empty() { self.greedy.outstanding() } else { 0 };
        self.polite.outstanding() + greedy
    }
}
