//! Threads of shards: which reactor, which CPU, which address. Owns start and end of the threads, nothing inside them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use gochat_ring::{
    Epoll, Probed, Reactor, ReactorChoice, ReactorKind, RingConfig, RingError, Uring, Waker, bind_probe,
    pin_current_thread, probe,
};

use super::app::App;
use super::conn::slot_bytes;
use super::metrics::Published;
use super::tick::Engine;
use crate::limits::{Limits, Timeouts};

/// What the shards of a process are made with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where all shards listen, each with a socket of its own; port 0 lets the kernel choose one.
    pub listen: SocketAddr,
    /// Connections waiting to be accepted, per shard.
    pub backlog: u32,
    /// Which reactor.
    pub reactor: ReactorChoice,
    /// Number of shards, 1 to 256.
    pub shards: usize,
    /// Pins shard n to CPU n modulo the number of CPUs.
    pub pin: bool,
    /// Limits of each shard's reactor.
    pub ring: RingConfig,
    /// Limits of each shard.
    pub limits: Limits,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address, the reactor or its limits.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A thread could not be made, or ended at once.
    #[error("a shard's thread did not start: {0}")]
    Thread(String),
}

/// Makes the application of one shard, on that shard's thread.
pub type AppMaker<A> = Box<dyn FnOnce() -> A + Send>;

/// The running shards.
#[derive(Debug)]
pub struct Shards {
    /// The address they listen on.
    pub addr: SocketAddr,
    /// The reactor they use.
    pub reactor: ReactorKind,
    /// Why that one, in one sentence.
    pub reactor_reason: String,
    /// The numbers of each.
    pub published: Vec<Arc<Published>>,
    threads: Vec<JoinHandle<Result<(), RingError>>>,
}

impl Shards {
    /// Whether every shard still runs.
    pub fn are_alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Waits until every shard has ended; blocks.
    ///
    /// # Errors
    /// The first shard that did not end in order.
    pub fn join(self) -> Result<(), StartError> {
        let mut outcome = Ok(());
        for (number, thread) in self.threads.into_iter().enumerate() {
            let ended = match thread.join() {
                Ok(result) => result.map_err(StartError::from),
                Err(_) => Err(StartError::Thread(format!("shard {number} panicked"))),
            };
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Starts the shards. `make` is given their wakers, by shard number, and answers with the makers of their
/// applications; a shard listens once its application is made.
///
/// # Errors
/// The address is in use or cannot be bound, the reactor asked for does not work here, or a limit is wrong. Nothing
/// keeps running then.
pub fn start<A: App + 'static>(
    config: &EngineConfig,
    make: impl FnOnce(&[Waker]) -> Vec<AppMaker<A>>,
) -> Result<Shards, StartError> {
    let Probed { kind, reason } = probe(config.reactor)?;
    let addr = bind_probe(config.listen)?;
    let worst_case = config.limits.worst_case_memory(slot_bytes::<A::Session>(), &config.ring);
    let worst_mib = (config.shards * worst_case) >> 20;
    tracing::info!(shards = config.shards, worst_case_mib = worst_mib, %addr, "reactor: {reason}");
    let config = Arc::new(EngineConfig { listen: addr, ..config.clone() });
    let (ready, starts) = mpsc::channel();
    let mut threads = Vec::new();
    let mut makers = Vec::new();
    for number in 0..config.shards {
        let (maker, wait_for_maker) = mpsc::channel();
        let (config, ready) = (Arc::clone(&config), ready.clone());
        let run = move || match kind {
            ReactorKind::Uring => run(number, &config, Uring::new(&config.ring), &ready, &wait_for_maker),
            ReactorKind::Epoll | ReactorKind::Sim => {
                run(number, &config, Epoll::new(&config.ring), &ready, &wait_for_maker)
            }
        };
        let thread = std::thread::Builder::new().name(format!("shard-{number}")).spawn(run);
        threads.push(thread.map_err(|e| StartError::Thread(e.to_string()))?);
        makers.push(maker);
    }
    drop(ready);
    let wakers = collect(&starts, config.shards)?.into_iter().filter_map(Report::waker).collect::<Vec<_>>();
    for (maker, app) in makers.into_iter().zip(make(&wakers)) {
        // A shard that is gone shows below.
        let _ = maker.send(app);
    }
    let published = collect(&starts, config.shards)?.into_iter().filter_map(Report::published).collect();
    Ok(Shards { addr, reactor: kind, reactor_reason: reason, published, threads })
}

/// What a shard tells while it starts.
enum Report {
    Ready(Waker),
    Listening(Arc<Published>),
    Failed(RingError),
}

impl Report {
    fn waker(self) -> Option<Waker> {
        if let Report::Ready(waker) = self { Some(waker) } else { None }
    }

    fn published(self) -> Option<Arc<Published>> {
        if let Report::Listening(published) = self { Some(published) } else { None }
    }
}

/// One report of each shard, by shard number, or the first failure.
fn collect(reports: &mpsc::Receiver<(usize, Report)>, shards: usize) -> Result<Vec<Report>, StartError> {
    let mut all: Vec<(usize, Report)> = Vec::new();
    while all.len() < shards {
        match reports.recv() {
            Ok((_, Report::Failed(error))) => return Err(error.into()),
            Ok(report) => all.push(report),
            Err(mpsc::RecvError) => return Err(StartError::Thread("it ended".to_owned())),
        }
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, report)| report).collect())
}

/// The life of one shard's thread.
fn run<R: Reactor, A: App>(
    number: usize,
    config: &EngineConfig,
    reactor: Result<R, RingError>,
    reports: &mpsc::Sender<(usize, Report)>,
    wait_for_maker: &mpsc::Receiver<AppMaker<A>>,
) -> Result<(), RingError> {
    let started = reactor.and_then(|reactor| {
        let _ = reports.send((number, Report::Ready(reactor.waker())));
        // Nobody sends a maker when another shard has failed.
        let Ok(make) = wait_for_maker.recv() else { return Ok(None) };
        if config.pin {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            if let Err(error) = pin_current_thread(number % cpus) {
                tracing::warn!(shard = number, %error, "not pinned");
            }
        }
        let mut engine = Engine::new(reactor, &config.ring, config.limits, &config.timeouts, make(), seed(number));
        let listener = engine.reactor().listen(config.listen, config.backlog)?;
        engine.serve(listener);
        Ok(Some(engine))
    });
    let mut engine = match started {
        Ok(Some(engine)) => engine,
        Ok(None) => return Ok(()),
        Err(error) => {
            let _ = reports.send((number, Report::Failed(error)));
            return Ok(());
        }
    };
    let _ = reports.send((number, Report::Listening(engine.published())));
    while !engine.is_finished() {
        if let Err(error) = engine.tick() {
            tracing::error!(shard = number, %error, "the reactor failed: this shard ends");
            return Err(error);
        }
    }
    Ok(())
}

/// Differs per shard and start, so that timers of different gateways do not run in step.
fn seed(number: usize) -> u64 {
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    nanos.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number as u64
}
