//! A second generator, to check the engine against: tungstenite's frames over sockets of the standard library,
//! with clock reads of its own. Shares the schedule, the account and the report with the engine, and no socket or frame.

use std::time::{Duration, Instant};

use crate::driver::Plan;
use crate::engine::{HOLD_STEP, Moments, Outcome, samples};
use crate::error::LoadError;
use crate::observer::Observer;
use crate::sample;
use crate::timeline::{Both, Timeline};
use crate::traffic::Window;
use crate::view::Stage;

mod sockets;
mod talk;

use sockets::Sockets;
pub(crate) use talk::{Judge, Talk};

/// Connections it can hold: they are opened one after another.
pub(crate) const CONNECTIONS_MAX: u32 = 2000;
/// What is still waited for when every message is accounted for: late duplicates.
const SETTLE: Duration = Duration::from_millis(200);
/// How long closing handshakes may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Carries `talk` over connections as `plan` says. `observer` is told of phases and seconds.
pub(crate) fn run<A: Judge>(
    plan: &Plan,
    talk: &mut Talk<A>,
    observer: &mut dyn Observer,
) -> Result<Outcome, LoadError> {
    // Without this the kernel may wake the thread 50 µs late, to save power: every message would be sent late by that.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let epoch = Instant::now();
    let before = samples(plan, 0)?;
    observer.stage(Stage::Connecting, &format!("connecting {} tungstenite clients to {}", plan.clients, plan.url.text));
    let sockets = Sockets::connect(plan, epoch)?;
    let mut run =
        Run { plan, epoch, sockets, talk, timeline: Timeline::new(before, 0..0), observer, interrupted: false };
    run.hold()?;
    let begin_ns = run.now_ns();
    let connected = samples(plan, begin_ns)?;
    let start_ns = begin_ns + plan.warmup.as_nanos() as u64;
    let window = Window { begin_ns, start_ns, end_ns: start_ns + plan.duration.as_nanos() as u64 };
    run.timeline = Timeline::new(connected, window.start_ns..window.end_ns);
    run.observer.stage(Stage::Running, &format!("{} connected; running", run.sockets.alive()));
    run.talk.traffic.begin(window);
    run.run_until(window.start_ns)?;
    let from = samples(plan, run.now_ns())?;
    run.run_until(window.end_ns)?;
    // A server that died takes its figures with it; the connections it dropped fail the run.
    let to = match samples(plan, run.now_ns()) {
        Ok(to) if from.at_ns >= window.start_ns || !run.interrupted => to,
        // Interrupted in the warm-up: nothing was measured.
        Ok(_) => from,
        Err(_) => Both { at_ns: run.now_ns(), ..from },
    };
    run.end_interval();
    run.talk.traffic.end();
    run.observer.stage(Stage::Draining, "waiting for stragglers");
    run.drain()?;
    run.close()?;
    let census = run.sockets.census;
    let (generator, server) = Moments { before, idle: connected, from, to }.usage(census.connections.established);
    let steady_s = (to.at_ns - from.at_ns) as f64 / 1e9;
    Ok(Outcome { census, steady_s, generator, server, timeline: run.timeline.finish(), interrupted: run.interrupted })
}

fn elapsed_ns(epoch: Instant) -> u64 {
    epoch.elapsed().as_nanos() as u64
}

struct Run<'a, A> {
    plan: &'a Plan,
    epoch: Instant,
    sockets: Sockets,
    talk: &'a mut Talk<A>,
    timeline: Timeline,
    observer: &'a mut dyn Observer,
    interrupted: bool,
}

impl<A: Judge> Run<'_, A> {
    fn now_ns(&self) -> u64 {
        elapsed_ns(self.epoch)
    }

    /// Holds the connections until sending is to begin.
    fn hold(&mut self) -> Result<(), LoadError> {
        loop {
            let begin = self.observer.begin_at(self.sockets.alive())?;
            let now_ns = self.now_ns();
            let begin_ns = begin.map(|at| at.saturating_duration_since(self.epoch).as_nanos() as u64);
            if begin_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                return Ok(());
            }
            self.turn(begin_ns.unwrap_or(u64::MAX).min(now_ns + HOLD_STEP.as_nanos() as u64))?;
        }
    }

    /// Sends and receives until `end_ns`, or until nobody is connected or the run is to end early.
    fn run_until(&mut self, end_ns: u64) -> Result<(), LoadError> {
        loop {
            let now_ns = self.now_ns();
            if now_ns >= end_ns || self.sockets.alive() == 0 {
                return Ok(());
            }
            self.interrupted = self.observer.interrupted();
            if self.interrupted {
                return Ok(());
            }
            if now_ns >= self.timeline.next_ns() {
                self.end_interval();
                self.observer.go_on()?;
            }
            self.turn(end_ns.min(self.timeline.next_ns()))?;
        }
    }

    fn end_interval(&mut self) {
        // A server that died has no figures any more; the run goes on to say so.
        let server = self.plan.server_pid.and_then(|pid| sample::server_brief(pid).ok());
        let now = Both { at_ns: self.now_ns(), own: sample::own(), server };
        let seen = self.talk.traffic.interval();
        self.timeline.end_interval(now, self.sockets.alive(), &seen);
        self.observer.connections(self.sockets.census.connections, 0);
        if let Some(point) = self.timeline.newest() {
            self.observer.interval(point, &seen);
        }
    }

    /// Waits until every message is accounted for, or `drain_max` has passed.
    fn drain(&mut self) -> Result<(), LoadError> {
        let give_up_ns = self.now_ns() + self.plan.drain_max.as_nanos() as u64;
        let settle_ns = SETTLE.as_nanos() as u64;
        while self.talk.outstanding() > 0 && self.now_ns() < give_up_ns && self.sockets.alive() > 0 {
            self.turn(self.now_ns() + settle_ns / 10)?;
        }
        let settled_ns = self.now_ns() + settle_ns;
        while self.now_ns() < settled_ns && self.sockets.alive() > 0 {
            self.turn(settled_ns)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), LoadError> {
        let give_up_ns = self.now_ns() + CLOSE_MAX.as_nanos() as u64;
        self.sockets.say_goodbye();
        while self.sockets.open() > 0 && self.now_ns() < give_up_ns {
            self.turn(give_up_ns)?;
        }
        Ok(())
    }

    /// Sends what is due, waits until something arrives, something is due or `until_ns`, and hears it.
    fn turn(&mut self, until_ns: u64) -> Result<(), LoadError> {
        let mut now_ns = self.now_ns();
        while let Some((client, intended_ns)) = self.talk.traffic.take_due(now_ns) {
            if self.sockets.is_ready(client) {
                let message = self.talk.message(client, intended_ns, now_ns);
                self.sockets.queue(client, message);
            }
            now_ns = self.now_ns();
        }
        self.sockets.flush();
        let until_ns = self.talk.traffic.next_due_ns().map_or(until_ns, |due_ns| due_ns.min(until_ns));
        let wait = Duration::from_nanos(until_ns.saturating_sub(self.now_ns()));
        for client in self.sockets.wait(wait)? {
            while let Some(heard) = self.sockets.read(client) {
                self.talk.heard(client, &heard, elapsed_ns(self.epoch));
            }
        }
        Ok(())
    }
}
