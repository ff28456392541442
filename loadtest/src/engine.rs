//! The loop: one thread drives one reactor through connecting, warm-up, the steady phase and the drain. Owns connections
//! and phases; what is said over them is the [`Driver`]'s.

use std::time::{Duration, Instant};

use gochat_ring::{Completion, Completions, Reactor, RingConfig};

use crate::driver::{Driver, Plan};
use crate::error::LoadError;
use crate::observer::Observer;
use crate::sample::{self, Sample, Switches};
use crate::timeline::{Both, Point, Timeline};
use crate::traffic::Window;
use crate::view::{REDRAW, Stage};

mod clients;
mod dialer;
mod redials;

pub use crate::connections::Connections;
pub(crate) use clients::Census;
use clients::Clients;

/// How long nothing may happen while connecting.
const CONNECT_STALL: Duration = Duration::from_secs(10);
/// What is still waited for when every message is accounted for: late duplicates.
const SETTLE: Duration = Duration::from_millis(200);
/// How often it is asked whether sending may begin.
pub(crate) const HOLD_STEP: Duration = Duration::from_millis(2);
/// How long closing handshakes may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// What was used in the steady phase, and what the connections cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    pub(crate) rss_bytes: u64,
    /// Seconds spent waiting for a CPU.
    pub(crate) wait_s: f64,
    /// Growth of resident memory by the connections, before any message, per connection.
    pub(crate) bytes_per_connection: f64,
    pub(crate) switches: Option<Switches>,
    /// TCP buffers of the machine at the end.
    pub(crate) tcp_bytes: Option<u64>,
    /// Their growth by the connections, per connection.
    pub(crate) tcp_bytes_per_connection: Option<f64>,
}

/// What a run came to, apart from its messages.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) census: Census,
    pub(crate) steady_s: f64,
    pub(crate) generator: Usage,
    pub(crate) server: Option<Usage>,
    pub(crate) timeline: Vec<Point>,
    /// It was ended early.
    pub(crate) interrupted: bool,
}

/// Both sides before the first connection, with all of them idle, and at both ends of the measured phase.
pub(crate) struct Moments {
    pub(crate) before: Both,
    pub(crate) idle: Both,
    pub(crate) from: Both,
    pub(crate) to: Both,
}

impl Moments {
    /// What the generator used, and the server where it is observed.
    pub(crate) fn usage(self, established: u32) -> (Usage, Option<Usage>) {
        let Moments { before, idle, from, to } = self;
        let connections = f64::from(established.max(1));
        let growth = |from: u64, to: u64| (to as f64 - from as f64) / connections;
        let usage = |before: Sample, idle: Sample, from: Sample, to: Sample| Usage {
            cpu_s: to.cpu_s - from.cpu_s,
            rss_bytes: to.rss_bytes,
            wait_s: to.wait_s - from.wait_s,
            bytes_per_connection: growth(before.rss_bytes, idle.rss_bytes),
            switches: to.switches.zip(from.switches).map(|(to, from)| to.since(from)),
            tcp_bytes: to.tcp_bytes,
            tcp_bytes_per_connection: before.tcp_bytes.zip(idle.tcp_bytes).map(|(from, to)| growth(from, to)),
        };
        let server = match (before.server, idle.server, from.server, to.server) {
            (Some(before), Some(idle), Some(from), Some(to)) => Some(usage(before, idle, from, to)),
            _ => None,
        };
        (usage(before.own, idle.own, from.own, to.own), server)
    }
}

/// The run's clock: nanoseconds since its start.
#[derive(Debug, Clone, Copy)]
struct Clock {
    epoch: Instant,
}

impl Clock {
    fn now_ns(self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn instant(self, at_ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(at_ns)
    }
}

/// Clients from which on rings are so many that few buffers in each are enough.
const MANY: u32 = 250_000;

/// The limits of a reactor that carries `plan`.
pub(crate) fn ring_config(clients: u32, message_bytes: usize) -> RingConfig {
    RingConfig {
        connections_max: 1,
        outgoing_max: clients,
        buffers: 2048,
        buffer_bytes: if message_bytes > 2048 { 16 * 1024 } else { 4096 },
        ..RingConfig::default()
    }
}

/// The same in several rings, each of which has buffers and queues of its own.
pub(crate) fn rings_config(clients: u32, message_bytes: usize) -> RingConfig {
    let buffers = if clients > MANY { 64 } else { 256 };
    RingConfig { connections_max: 0, buffers, submissions: 512, ..ring_config(clients, message_bytes) }
}

/// Runs `driver` over `reactor` as `plan` says. `observer` is told of phases and seconds.
pub(crate) fn run<R: Reactor, D: Driver>(
    reactor: R,
    config: &RingConfig,
    plan: &Plan,
    driver: &mut D,
    observer: &mut dyn Observer,
) -> Result<Outcome, LoadError> {
    let clock = Clock { epoch: Instant::now() };
    let before = samples(plan, clock.now_ns())?;
    let mut engine = Engine {
        completions: Completions::new(config),
        clients: Clients::new(reactor, plan, driver),
        clock,
        plan,
        timeline: Timeline::new(before, 0..0),
        interrupted: false,
    };
    observer.stage(Stage::Connecting, &format!("connecting {} clients to {}", plan.clients, plan.url.text));
    engine.connect(observer)?;
    engine.hold(observer)?;
    let connected = samples(plan, clock.now_ns())?;
    let begin_ns = clock.now_ns();
    let start_ns = begin_ns + plan.warmup.as_nanos() as u64;
    let window = Window { begin_ns, start_ns, end_ns: start_ns + plan.duration.as_nanos() as u64 };
    let connected_now = engine.clients.alive();
    let what = format!("{connected_now} connected; running {:?} after {:?} of warm-up", plan.duration, plan.warmup);
    observer.stage(Stage::Running, &what);
    engine.timeline = Timeline::new(Both { at_ns: begin_ns, ..connected }, window.start_ns..window.end_ns);
    engine.clients.driver.begin(window);
    engine.run_until(window.start_ns, observer)?;
    let from = samples(plan, clock.now_ns())?;
    engine.run_until(window.end_ns, observer)?;
    // A server that died takes its figures with it; the connections it dropped fail the run.
    let to = match samples(plan, clock.now_ns()) {
        Ok(to) if from.at_ns >= window.start_ns || !engine.interrupted => to,
        // Interrupted in the warm-up: nothing was measured.
        Ok(_) => from,
        Err(_) => Both { at_ns: clock.now_ns(), ..from },
    };
    engine.end_interval(observer);
    engine.clients.driver.end();
    observer.stage(Stage::Draining, "waiting for stragglers");
    engine.drain(observer)?;
    engine.close()?;
    let census = std::mem::take(&mut engine.clients.census);
    let idle = if plan.messages { connected } else { to };
    let (generator, server) = Moments { before, idle, from, to }.usage(census.connections.established);
    Ok(Outcome {
        census,
        steady_s: (to.at_ns - from.at_ns) as f64 / 1e9,
        generator,
        server,
        timeline: engine.timeline.finish(),
        interrupted: engine.interrupted,
    })
}

/// Both sides now, which is `at_ns`.
pub(crate) fn samples(plan: &Plan, at_ns: u64) -> Result<Both, LoadError> {
    let server = plan.server_pid.map(sample::server).transpose()?;
    Ok(Both { at_ns, own: sample::own(), server })
}

struct Engine<'a, R: Reactor, D: Driver> {
    completions: Completions,
    clients: Clients<'a, R, D>,
    clock: Clock,
    plan: &'a Plan,
    timeline: Timeline,
    interrupted: bool,
}

impl<R: Reactor, D: Driver> Engine<'_, R, D> {
    /// Opens all connections, or as many as the server takes.
    fn connect(&mut self, observer: &mut dyn Observer) -> Result<(), LoadError> {
        let stall_ns = CONNECT_STALL.as_nanos() as u64;
        let (mut settled, mut progress_ns) = (0, self.clock.now_ns());
        let mut tell_ns = 0;
        while !self.clients.is_settled() {
            let now_ns = self.clock.now_ns();
            let next_ns = self.clients.dial(now_ns);
            self.go_on(observer)?;
            if now_ns >= tell_ns {
                observer.connections(self.clients.census.connections, self.clients.in_progress());
                tell_ns = now_ns + REDRAW.as_nanos() as u64;
            }
            if self.clients.hopeless() {
                return Err(self.clients.why_none());
            }
            if settled != self.clients.settled() || self.clients.in_progress() == 0 {
                (settled, progress_ns) = (self.clients.settled(), now_ns);
            }
            if now_ns > progress_ns + stall_ns {
                self.clients.give_up_connecting(now_ns);
                break;
            }
            self.turn(next_ns.unwrap_or(u64::MAX).min(now_ns + stall_ns / 10))?;
        }
        if self.clients.alive() == 0 { Err(self.clients.why_none()) } else { Ok(()) }
    }

    /// Holds the connections until sending is to begin.
    fn hold(&mut self, observer: &mut dyn Observer) -> Result<(), LoadError> {
        loop {
            self.go_on(observer)?;
            let begin = observer.begin_at(self.clients.alive())?;
            let now_ns = self.clock.now_ns();
            let begin_ns = begin.map(|at| at.saturating_duration_since(self.clock.epoch).as_nanos() as u64);
            if begin_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                return Ok(());
            }
            self.turn(begin_ns.unwrap_or(u64::MAX).min(now_ns + HOLD_STEP.as_nanos() as u64))?;
        }
    }

    /// Before anything was sent there is nothing to report on.
    fn go_on(&self, observer: &dyn Observer) -> Result<(), LoadError> {
        let (established, target) = (self.clients.alive(), self.plan.clients);
        if observer.interrupted() { Err(LoadError::Interrupted { established, target }) } else { Ok(()) }
    }

    /// Lets the driver send and receive until `end_ns`, or until nobody is connected or the run is to end early.
    fn run_until(&mut self, end_ns: u64, observer: &mut dyn Observer) -> Result<(), LoadError> {
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns || self.clients.is_over() {
                return Ok(());
            }
            self.interrupted = observer.interrupted();
            if self.interrupted {
                return Ok(());
            }
            if now_ns >= self.timeline.next_ns() {
                self.end_interval(observer);
                observer.go_on()?;
            }
            let due_ns = self.clients.send_due(now_ns).unwrap_or(end_ns);
            let reopen_ns = self.clients.reopen_due(now_ns).unwrap_or(end_ns);
            self.turn(due_ns.min(reopen_ns).min(end_ns).min(self.timeline.next_ns()))?;
        }
    }

    fn end_interval(&mut self, observer: &mut dyn Observer) {
        // A server that died has no figures any more; the run goes on to say so.
        let server = self.plan.server_pid.and_then(|pid| sample::server_brief(pid).ok());
        let now = Both { at_ns: self.clock.now_ns(), own: sample::own(), server };
        let seen = self.clients.driver.interval();
        self.timeline.end_interval(now, self.clients.alive(), &seen);
        observer.connections(self.clients.census.connections, self.clients.in_progress());
        if let Some(point) = self.timeline.newest() {
            observer.interval(point, &seen);
        }
    }

    /// Waits until every message is accounted for, or `drain_max` has passed.
    fn drain(&mut self, observer: &mut dyn Observer) -> Result<(), LoadError> {
        let give_up_ns = self.clock.now_ns() + self.plan.drain_max.as_nanos() as u64;
        let step_ns = SETTLE.as_nanos() as u64 / 10;
        while self.clock.now_ns() < give_up_ns && !self.clients.is_over() {
            let others = observer.sent_by_others(self.clients.driver.sent_to_others())?;
            let driver = &self.clients.driver;
            let settled = others.is_some_and(|messages| driver.missing_of_others(messages) == 0);
            if settled && driver.outstanding() == 0 {
                break;
            }
            let now_ns = self.clock.now_ns();
            let reopen_ns = self.clients.reopen_due(now_ns).unwrap_or(u64::MAX);
            self.turn(reopen_ns.min(now_ns + step_ns))?;
        }
        let settled_ns = self.clock.now_ns() + SETTLE.as_nanos() as u64;
        while self.clock.now_ns() < settled_ns && self.clients.alive() > 0 {
            self.turn(settled_ns)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), LoadError> {
        let give_up_ns = self.clock.now_ns() + CLOSE_MAX.as_nanos() as u64;
        self.clients.say_goodbye();
        while self.clients.alive() > 0 && self.clock.now_ns() < give_up_ns {
            self.turn(give_up_ns)?;
        }
        Ok(())
    }

    /// Sends what is gathered, waits until something happens or `until_ns`, and handles it.
    fn turn(&mut self, until_ns: u64) -> Result<(), LoadError> {
        let now_ns = self.clock.now_ns();
        let keep_alive_ns = self.clients.keep_alive(now_ns).unwrap_or(u64::MAX);
        self.clients.flush();
        let latest_ns = keep_alive_ns.min(now_ns + CONNECT_STALL.as_nanos() as u64);
        let until = self.clock.instant(until_ns.min(latest_ns));
        self.clients.reactor.wait(Some(until), &mut self.completions)?;
        let mut now_ns = self.clock.now_ns();
        while let Some(completion) = self.completions.next_completion() {
            if matches!(completion, Completion::Received { .. }) {
                now_ns = self.clock.now_ns();
            }
            self.clients.handle(completion, now_ns);
        }
        Ok(())
    }
}
