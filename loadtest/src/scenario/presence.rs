//! Users come and go at one moment, others are told of it: who is told, when, and who is not. Owns the account of presence
//! frames; coming back is [`Reopening`]'s.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::Idle;
use super::reopening::{Backoff, Reopened, Reopening};
use crate::driver::{Driver, Ended, Incoming, UpgradeRequest};
use crate::outbound::Outbound;
use crate::percentiles::Latencies;
use crate::report::{Part, Treatment};
use crate::timeline::Interval;
use crate::tokens::User;
use crate::traffic::Window;

/// GoChat tells that a user went once they stayed away for 30 s; by this time it has.
pub(crate) const GONE_NS: u64 = 40_000_000_000;
/// Before this nobody is to be told; the server counts in whole seconds.
const HELD_NS: u64 = 29_000_000_000;

/// Who is in the run and how they move.
#[derive(Debug)]
pub(crate) struct PresenceSetup {
    /// First those who watch, then those who come and go.
    pub(crate) users: Vec<User>,
    /// Those who come and go.
    pub(crate) flappers: u32,
    /// How many watch each of them.
    pub(crate) watchers: u32,
    pub(crate) pace: Pace,
    pub(crate) backoff: Backoff,
}

impl PresenceSetup {
    /// Pairs that share a single chat: one who comes and goes, one who watches.
    pub(crate) fn pairs(&self) -> Vec<User> {
        let first = self.users.len() as u32 - self.flappers;
        let pairs = (0..self.flappers).flat_map(|flapper| {
            watchers_of(flapper, self.watchers, first).flat_map(move |watcher| [first + flapper, watcher])
        });
        pairs.filter_map(|client| self.users.get(client as usize).cloned()).collect()
    }
}

/// When those who come and go do, all of them at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Over which time they connect.
    pub(crate) spread_ns: u64,
    /// After which they leave, if they do.
    pub(crate) stay_ns: Option<u64>,
    /// After which they come again, if they do.
    pub(crate) away_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Come,
    Leave,
}

/// One who comes and goes.
#[derive(Debug, Clone, Copy, Default)]
struct Flapper {
    came_ns: u64,
    left_ns: u64,
    is_here: bool,
}

/// What watchers were told.
#[derive(Debug, Default)]
struct Tally {
    expected: u64,
    told: u64,
    online: Latencies,
    offline: Latencies,
    /// Told again what was known.
    repeated: u64,
    /// Told that somebody went who is connected, or who may still come back.
    wrong: u64,
    interval: Interval,
}

/// The `presence-storm` scenario.
#[derive(Debug)]
pub(crate) struct Presence {
    talk: Idle,
    /// The number of each who comes and goes, by user.
    by_id: HashMap<String, u32>,
    /// The client of the first of them.
    first: u32,
    watchers: u32,
    pace: Pace,
    window: Window,
    next: Option<(u64, Step)>,
    flappers: Vec<Flapper>,
    /// Who believes whom to be online: flapper and watcher.
    believed: HashSet<(u32, u32)>,
    tally: Tally,
    reopening: Reopening,
    lag: Latencies,
}

/// The frame that this is about; others have other data.
#[derive(Debug, Deserialize)]
struct StatusFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: Status<'a>,
}

#[derive(Debug, Deserialize)]
struct Status<'a> {
    #[serde(rename = "userId", borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

/// The clients that watch a flapper, of the `first` that watch at all.
fn watchers_of(flapper: u32, watchers: u32, first: u32) -> impl Iterator<Item = u32> {
    (0..watchers).map(move |at| ((u64::from(flapper) * u64::from(watchers) + u64::from(at)) % u64::from(first)) as u32)
}

impl Presence {
    /// Of users of whom some watch.
    pub(crate) fn new(setup: PresenceSetup, seed: u64) -> Presence {
        let first = setup.users.len() as u32 - setup.flappers;
        let by_id = setup.users.iter().skip(first as usize).map(|user| user.id.clone()).zip(0..).collect();
        Presence {
            by_id,
            talk: Idle::new(Some(setup.users.into_iter().map(|user| user.access_token).collect())),
            first,
            watchers: setup.watchers,
            pace: setup.pace,
            window: Window::default(),
            next: None,
            flappers: vec![Flapper::default(); setup.flappers as usize],
            believed: HashSet::new(),
            tally: Tally::default(),
            reopening: Reopening::new(setup.backoff, seed),
            lag: Latencies::new(),
        }
    }

    pub(crate) fn finish(self) -> (Part, Reopened) {
        let Tally { expected, told, online, offline, repeated, wrong, .. } = self.tally;
        let (away, refused) = (self.reopening.away(), self.reopening.refusals());
        let missing = expected.saturating_sub(told);
        let failures = [
            (missing, "presence frames did not come"),
            (wrong, "presence frames said that somebody went who was connected or might have come back"),
            (away, "users were not connected at the end who should have been"),
        ];
        let remarks =
            [(repeated, "presence frames told what was known"), (refused, "attempts to connect again failed")];
        let say = |counts: &[(u64, &str)]| -> Vec<String> {
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
        };
        let rows = [("online", online), ("offline", offline)];
        let errors = [("missing", missing), ("repeated", repeated), ("wrong", wrong)];
        let part = Part {
            name: "presence",
            sent: expected,
            done: told,
            errors: errors.iter().filter(|(_, n)| *n > 0).map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            messages: None,
            latency_us: rows
                .into_iter()
                .filter_map(|(name, row)| Some((name, row.percentiles()?)))
                .collect::<BTreeMap<_, _>>(),
            treatment: Treatment::default(),
        };
        let lag = self.lag.percentiles();
        let of_connections = self.reopening.finish("back", Vec::new());
        (part, Reopened { failures: say(&failures), remarks: say(&remarks), lag, part: of_connections })
    }

    fn come(&mut self, out: &mut Outbound, at_ns: u64) {
        let count = self.flappers.len() as u64;
        for (number, flapper) in (0..).zip(&mut self.flappers).filter(|(_, flapper)| !flapper.is_here) {
            let client = self.first + number;
            let at_ns = at_ns + self.pace.spread_ns * u64::from(number) / count.max(1);
            (flapper.is_here, flapper.came_ns) = (true, at_ns);
            let watchers = watchers_of(number, self.watchers, self.first);
            self.tally.expected +=
                watchers.filter(|watcher| !self.believed.contains(&(number, *watcher))).count() as u64;
            self.reopening.leaves(client, at_ns, true);
            self.reopening.dial(out, client, at_ns);
        }
    }

    fn leave(&mut self, out: &mut Outbound, at_ns: u64) {
        let is_long = self.pace.away_ns.is_none_or(|away_ns| away_ns >= GONE_NS);
        let is_told = is_long && self.window.end_ns.saturating_sub(at_ns) >= GONE_NS;
        for (number, flapper) in (0..).zip(&mut self.flappers) {
            let client = self.first + number;
            // Who is not connected yet stays until the next time.
            if !flapper.is_here || !out.is_ready(client) {
                continue;
            }
            (flapper.is_here, flapper.left_ns) = (false, at_ns);
            if is_told {
                let watchers = watchers_of(number, self.watchers, self.first);
                self.tally.expected +=
                    watchers.filter(|watcher| self.believed.contains(&(number, *watcher))).count() as u64;
            }
            out.close(client);
        }
    }

    fn told(&mut self, watcher: u32, number: u32, online: bool, now_ns: u64) {
        let Some(flapper) = self.flappers.get(number as usize) else { return };
        let tally = &mut self.tally;
        if !online && (flapper.is_here || now_ns < flapper.left_ns + HELD_NS) {
            tally.wrong += 1;
            return;
        }
        let is_news = match online {
            true => self.believed.insert((number, watcher)),
            false => self.believed.remove(&(number, watcher)),
        };
        if !is_news {
            tally.repeated += 1;
            return;
        }
        let since_ns = if online { flapper.came_ns } else { flapper.left_ns };
        let latency_ns = now_ns.saturating_sub(since_ns);
        let row = if online { &mut tally.online } else { &mut tally.offline };
        row.record(latency_ns);
        tally.told += 1;
        tally.interval.delivered += 1;
        tally.interval.deliver.record(latency_ns);
    }
}

impl Driver for Presence {
    fn upgrade_request(&self, client: u32) -> UpgradeRequest {
        self.talk.upgrade_request(client)
    }

    fn awaits_greeting(&self) -> bool {
        self.talk.awaits_greeting()
    }

    fn ready(&mut self, _out: &mut Outbound, client: u32, now_ns: u64) {
        self.reopening.ready(client, now_ns);
    }

    fn ended(&mut self, out: &mut Outbound, client: u32, how: Ended<'_>, now_ns: u64) -> bool {
        if let Ended::Refused(why) = how {
            self.reopening.refused(out, client, why, now_ns);
        }
        false
    }

    fn begin(&mut self, window: Window) {
        self.window = window;
        self.next = Some((window.start_ns, Step::Come));
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        loop {
            let (at_ns, step) = self.next.filter(|(at_ns, _)| *at_ns < self.window.end_ns)?;
            if at_ns > now_ns {
                return Some(at_ns);
            }
            self.lag.record(now_ns - at_ns);
            self.next = match step {
                Step::Come => {
                    self.come(out, at_ns);
                    self.pace.stay_ns.map(|stay_ns| (at_ns + self.pace.spread_ns + stay_ns, Step::Leave))
                }
                Step::Leave => {
                    self.leave(out, at_ns);
                    self.pace.away_ns.map(|away_ns| (at_ns + away_ns, Step::Come))
                }
            };
        }
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        self.talk.received(out, client, message, now_ns);
        if client >= self.first {
            return;
        }
        let frame: Option<StatusFrame<'_>> = serde_json::from_slice(message.bytes()).ok();
        let Some(frame) = frame.filter(|frame| frame.kind == "online-status") else { return };
        // Users of other runs are not this run's business.
        let Some(number) = self.by_id.get(frame.data.user_id.as_ref()).copied() else { return };
        self.told(client, number, frame.data.status == "online", now_ns);
    }

    fn end(&mut self) {
        self.next = None;
    }

    fn interval(&mut self) -> Interval {
        std::mem::take(&mut self.tally.interval)
    }

    fn outstanding(&self) -> u64 {
        self.tally.expected.saturating_sub(self.tally.told) + self.reopening.away()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outbound::{Command, State};

    const SECOND: u64 = 1_000_000_000;

    /// Four watch, two come and go; each of those is watched by three.
    fn storm(stay_s: u64, away_s: u64) -> Presence {
        let user = |at: u32| User { id: format!("u{at}"), name: String::new(), access_token: String::new() };
        let pace = Pace { spread_ns: 0, stay_ns: Some(stay_s * SECOND), away_ns: Some(away_s * SECOND) };
        let backoff = Backoff { first: Duration::ZERO, longest: Duration::ZERO };
        let setup = PresenceSetup { users: (0..6).map(user).collect(), flappers: 2, watchers: 3, pace, backoff };
        let ids: Vec<String> = setup.pairs().into_iter().map(|user| user.id).collect();
        assert_eq!(ids.join(" "), "u4 u0 u4 u1 u4 u2 u5 u3 u5 u0 u5 u1");
        let mut presence = Presence::new(setup, 1);
        presence.begin(Window { begin_ns: 0, start_ns: SECOND, end_ns: 300 * SECOND });
        presence
    }

    fn tell(presence: &mut Presence, out: &mut Outbound, watcher: u32, user: &str, status: &str, now_ns: u64) {
        let frame =
            format!(r#"{{"type":"online-status","data":{{"userId":"{user}","status":"{status}"}},"timestamp":1}}"#);
        presence.received(out, watcher, Incoming::Text(&frame), now_ns);
    }

    /// Lets both come, and everybody be told of it.
    fn everybody_is_online(presence: &mut Presence, out: &mut Outbound) {
        assert_eq!(presence.send_due(out, SECOND), Some(3 * SECOND));
        for client in [4, 5] {
            assert_eq!(out.take_command(), Some(Command::Reopen { client, at_ns: SECOND }));
            out.set_state(client, State::Ready);
            presence.ready(out, client, SECOND + 500);
        }
        assert_eq!(presence.outstanding(), 6);
        for (watcher, user) in [(0, "u4"), (1, "u4"), (2, "u4"), (3, "u5"), (0, "u5"), (1, "u5")] {
            tell(presence, out, watcher, user, "online", SECOND + 2000);
        }
        assert_eq!(presence.outstanding(), 0);
    }

    #[test]
    fn watchers_are_told_once_and_everything_else_is_counted() {
        let (mut presence, mut out) = (storm(2, 50), Outbound::new(6, 0));
        everybody_is_online(&mut presence, &mut out);
        tell(&mut presence, &mut out, 0, "u4", "online", SECOND + 3000);
        tell(&mut presence, &mut out, 0, "u4", "offline", SECOND + 3000);
        tell(&mut presence, &mut out, 0, "somebody", "online", SECOND + 3000);
        assert_eq!(presence.send_due(&mut out, 3 * SECOND), Some(53 * SECOND));
        assert_eq!((out.take_command(), presence.outstanding()), (Some(Command::Close(4)), 6));
        for watcher in 0..3 {
            tell(&mut presence, &mut out, watcher, "u4", "offline", 34 * SECOND);
        }
        let (part, reopened) = presence.finish();
        assert_eq!((part.sent, part.done), (12, 9));
        let wanted = [("missing", 3), ("repeated", 1), ("wrong", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(part.errors, wanted.into());
        assert_eq!((part.latency_us["online"].max, part.latency_us["offline"].count), (2.0, 3));
        assert_eq!((reopened.failures.len(), reopened.remarks.len(), reopened.part.done), (2, 1, 2));
    }

    #[test]
    fn who_is_soon_back_was_never_away() {
        let (mut presence, mut out) = (storm(2, 5), Outbound::new(6, 0));
        everybody_is_online(&mut presence, &mut out);
        assert_eq!(presence.send_due(&mut out, 3 * SECOND), Some(8 * SECOND));
        assert_eq!(presence.outstanding(), 0, "nobody is told that they went");
        for client in [4, 5] {
            assert_eq!(out.take_command(), Some(Command::Close(client)));
            out.set_state(client, State::Idle);
        }
        presence.send_due(&mut out, 8 * SECOND);
        assert_eq!(presence.outstanding(), 2, "nor that they came; they are to connect");
    }
}
