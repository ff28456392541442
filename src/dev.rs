//! `gochat dev`: every service in this process on embedded parts. Owns the order of start and stop, and what is printed;
//! never a rule.

use crate::cli::{DevArgs, Limits};
use crate::config::{Config, LogFormat};
use crate::data::{DataDir, Embedded, token_key};
use crate::operator::{self, Live, Operator};
use crate::{metrics, readiness, settings};
use gochat_gateway::control::{Control, ControlDeps};
use gochat_gateway::data_plane::DataPlane;
use gochat_infra::bus::Bus;
use gochat_infra::bus::log::LogBus;
use gochat_infra::coord::local::LocalCoord;
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_infra::telemetry;
use gochat_logic::{Logic, LogicDeps};
use gochat_proto::ids::GatewayId;
use gochat_task::{Task, TaskDeps};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Threads of everything but the shards, which do the work of connections.
const RUNTIME_THREADS: usize = 2;
/// How long open sessions have to leave.
const DRAIN: Duration = Duration::from_secs(60);
/// How long work in flight has to finish after that.
const FINISH: Duration = Duration::from_secs(30);
/// How often the shards are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until it is told to stop, or cannot go on.
///
/// # Errors
/// One line that says why it did not start, or why it ended.
pub(crate) fn run(flags: &DevArgs) -> Result<(), String> {
    let config = Config::resolve(flags).map_err(|error| error.to_string())?;
    let format = match config.log.format {
        LogFormat::Console => telemetry::Format::Console,
        LogFormat::Json => telemetry::Format::Json,
    };
    let log = telemetry::LogConfig { filter: config.log.level.clone(), format };
    telemetry::init(&log).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    runtime.block_on(serve(&config))
}

async fn serve(config: &Config) -> Result<(), String> {
    let mut stop_asked = StopSignals::new()?;
    let parts = Arc::new(DataDir::acquire(&config.data_dir)?.open(config).await?);
    let (shutdown, stopping) = watch::channel(false);

    let gateway = GatewayId::new(1).ok_or("1 is no gateway id")?;
    let gateways = watch::Sender::new(vec![gateway]).subscribe();
    let deps = TaskDeps {
        repo: parts.repo.clone(),
        bus: parts.bus.clone(),
        clock: parts.clock.clone(),
        coord: Arc::new(LocalCoord::new(parts.clock.clone())),
        gateways: gateways.clone(),
    };
    let task = Task::new(deps, settings::task(config));
    let storing = task.health();
    let task = tokio::spawn(task.run(stopping.clone()));
    readiness::catch_up(&parts, config, &storing).await?;

    let key = token_key(&parts.key)?;
    let (logic, channel) = prepare_logic(&parts, config, gateways).await?;
    let pipeline = logic.pipeline();
    let preparing = pipeline.health();
    let incarnation = RandomState::new().build_hasher().finish() | 1;
    let plane = settings::data_plane(config, gateway, incarnation, key.clone());
    let started =
        tokio::task::spawn_blocking(move || DataPlane::start(&plane)).await.map_err(|error| error.to_string())?;
    let (plane, bridge) = started.map_err(|error| error.to_string())?;
    let takes_messages = readiness::takes_messages(&parts, preparing, storing);
    let control_deps = ControlDeps {
        logic: channel,
        repo: parts.repo.clone(),
        bus: parts.bus.clone(),
        bridge,
        gateway,
        incarnation,
        tokens: key,
        bus_healthy: takes_messages.clone(),
        clock: parts.clock.clone(),
        shard_metrics: metrics::of(&plane, parts.bus.clone()),
    };
    let control = Control::start(control_deps, settings::control(config)).await.map_err(|error| error.to_string())?;
    let pipeline = tokio::spawn(pipeline.run(stopping.clone()));
    let events = tokio::spawn(logic.events().run(stopping));
    let live = Live {
        listen: plane.addr(),
        admin: control.admin_addr(),
        reactor: plane.reactor_reason().to_owned(),
        takes_messages,
    };
    let operators = operator::listen(Operator::live(parts.clone(), config.clone(), live))?;
    let operators = AbortOnDrop(tokio::spawn(operators));
    greet(config, &plane, &control);

    let ended = tokio::select! {
        () = stop_asked.next() => Ok(()),
        () = shard_ended(&plane) => Err("a shard ended, see the log above".to_owned()),
    };
    // A backup that is being made is given up: it could not end before the log is closed.
    drop(operators);
    tracing::info!("stopping: sessions are asked to leave; once more ends at once");
    tokio::select! {
        () = wind_down(control, plane, shutdown, [pipeline, events, task], &parts.bus) => ended,
        () = stop_asked.next() => Err("ended at once, as asked".to_owned()),
    }
}

/// The rules, with what has to exist made, and the way to their services.
async fn prepare_logic(
    parts: &Embedded,
    config: &Config,
    gateways: watch::Receiver<Vec<GatewayId>>,
) -> Result<(Logic, Channel), String> {
    let deps = LogicDeps {
        repo: parts.repo.clone(),
        bus: parts.bus.clone(),
        gateways,
        uid: parts.uid.clone(),
        clock: parts.clock.clone(),
    };
    let logic = Logic::new(deps, settings::logic(config, parts.key.clone())).map_err(|error| error.to_string())?;
    logic.prepare().await.map_err(|error| error.to_string())?;
    let channel = Channel::in_process()
        .add(logic.auth_service())
        .add(logic.user_service())
        .add(logic.conversation_service())
        .add(logic.message_service())
        .add(logic.friend_service())
        .build(RpcOptions::default());
    Ok((logic, channel))
}

/// Tells a newcomer where things are. Standard output, as everything this process says.
fn greet(config: &Config, plane: &DataPlane, control: &Control) {
    let (http, admin) = (plane.addr(), control.admin_addr());
    if config.limits == Limits::Off {
        tracing::warn!("RATE LIMITS ARE OFF: for load runs only");
    }
    let text = format!(
        "\nGoChat {} is ready, everything in this process ({})\n\n  Chat       http://{http}/\n  API        http://{http}/api, described at http://{http}/docs\n  WebSocket  ws://{http}/ws\n  \
         Admin      http://{admin}/health\n  Data       {}\n\n  Stop with Ctrl-C. What is acknowledged is on disk, however it ends.\n\n",
        env!("CARGO_PKG_VERSION"),
        plane.reactor(),
        config.data_dir.display(),
    );
    // Nobody has to listen: a closed standard output is no reason to end.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Work that ends when this is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn shard_ended(plane: &DataPlane) {
    while plane.is_alive() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn wind_down(
    control: Control,
    plane: DataPlane,
    shutdown: watch::Sender<bool>,
    services: [JoinHandle<()>; 3],
    bus: &Arc<LogBus>,
) {
    if !control.stop(DRAIN).await {
        tracing::warn!("sessions did not leave in time");
    }
    drop(tokio::task::spawn_blocking(move || plane.join()).await);
    shutdown.send_replace(true);
    for service in services {
        let abort = service.abort_handle();
        if tokio::time::timeout(FINISH, service).await.is_err() {
            tracing::warn!("work in flight did not finish in time; nothing acknowledged is lost");
            abort.abort();
        }
    }
    if let Err(error) = bus.close().await {
        tracing::error!(%error, "the log did not close in order");
    }
}

/// SIGTERM and SIGINT.
struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    fn new() -> Result<StopSignals, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(StopSignals { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
