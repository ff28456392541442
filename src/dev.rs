//! `gochat dev`: every service in this process on embedded parts. Owns the order of start and stop, and what is printed;
//! never a rule.

use crate::cli::{DevArgs, Limits, Reactor};
use crate::config::{self, Config, LogFormat};
use crate::data::{DataDir, Embedded, token_key};
use crate::metrics;
use gochat_gateway::config::{ChatConfig, DataPlaneConfig, ReactorChoice, SessionPolicy};
use gochat_gateway::control::{Control, ControlConfig, ControlDeps};
use gochat_gateway::data_plane::DataPlane;
use gochat_gateway::engine::EngineConfig;
use gochat_infra::bus::Bus;
use gochat_infra::bus::log::{BusHealth, LogBus};
use gochat_infra::coord::local::LocalCoord;
use gochat_infra::rpc::{Channel, RpcOptions, request};
use gochat_infra::telemetry;
use gochat_logic::{Logic, LogicConfig, LogicDeps};
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{AwaitPositionsRequest, GetPositionsRequest, Position};
use gochat_proto::topics;
use gochat_task::{Task, TaskConfig, TaskDeps};
use rustix::process::{Resource, getrlimit, setrlimit};
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
    let parts = DataDir::acquire(&config.data_dir)?.open(config).await?;
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
    let task = Task::new(deps, TaskConfig::default());
    let storing = task.health();
    let task = tokio::spawn(task.run(stopping.clone()));
    catch_up(&parts, config, &storing).await?;

    let key = token_key(&parts.key)?;
    let logic_deps = LogicDeps {
        repo: parts.repo.clone(),
        bus: parts.bus.clone(),
        gateways,
        uid: parts.uid.clone(),
        clock: parts.clock.clone(),
    };
    let logic = Logic::new(logic_deps, logic_config(config, &parts)).map_err(|error| error.to_string())?;
    let pipeline = logic.pipeline();
    let preparing = pipeline.health();
    let channel = Channel::in_process()
        .add(logic.auth_service())
        .add(logic.user_service())
        .add(logic.conversation_service())
        .build(RpcOptions::default());

    let incarnation = RandomState::new().build_hasher().finish() | 1;
    let plane = data_plane_config(config, gateway, incarnation, key.clone());
    let started =
        tokio::task::spawn_blocking(move || DataPlane::start(&plane)).await.map_err(|error| error.to_string())?;
    let (plane, bridge) = started.map_err(|error| error.to_string())?;
    let control_deps = ControlDeps {
        logic: channel,
        repo: parts.repo.clone(),
        bus: parts.bus.clone(),
        bridge,
        gateway,
        incarnation,
        tokens: key,
        bus_healthy: takes_messages(&parts, preparing, storing),
        clock: parts.clock.clone(),
        shard_metrics: metrics::of(&plane, parts.bus.clone()),
    };
    let control = Control::start(control_deps, control_config(config)).await.map_err(|error| error.to_string())?;
    let pipeline = tokio::spawn(pipeline.run(stopping));
    greet(config, &plane, &control);

    let ended = tokio::select! {
        () = stop_asked.next() => Ok(()),
        () = shard_ended(&plane) => Err("a shard ended, see the log above".to_owned()),
    };
    tracing::info!("stopping: sessions are asked to leave; once more ends at once");
    tokio::select! {
        () = wind_down(control, plane, shutdown, [pipeline, task], &parts.bus) => ended,
        () = stop_asked.next() => Err("ended at once, as asked".to_owned()),
    }
}

/// Refuses a store that is ahead of its log (pipeline.md J2), then waits until everything in the log is stored, so that
/// ids start above every one ever used (C3).
async fn catch_up(
    parts: &Embedded,
    config: &Config,
    storing: &watch::Receiver<gochat_task::Health>,
) -> Result<(), String> {
    let mut ends = Vec::new();
    for partition in 0..config.bus.partitions {
        let end = parts.bus.end_offset(topics::MESSAGES_PERSIST, partition).await.map_err(|error| error.to_string())?;
        ends.push(Position { partition, offset: end });
    }
    let mut repo = PipelineServiceClient::new(parts.repo.clone());
    let stored = repo.get_positions(request(GetPositionsRequest {}, Duration::from_secs(5))).await;
    for stored in stored.map_err(|status| status.message().to_owned())?.into_inner().positions {
        let end = ends.iter().find(|end| end.partition == stored.partition).map_or(0, |end| end.offset);
        if stored.offset > end {
            return Err(format!(
                "the database in {dir} has stored the log up to offset {} of partition {}, the log in {dir}/log ends at {end}: one of \
                 them is not of this installation or was restored from an older copy; restore both from one backup",
                stored.offset,
                stored.partition,
                dir = config.data_dir.display()
            ));
        }
    }
    loop {
        let wait = AwaitPositionsRequest { positions: ends.clone(), timeout_ms: 500 };
        let answer = repo.await_positions(request(wait, Duration::from_secs(5))).await;
        if answer.map_err(|status| status.message().to_owned())?.into_inner().passed {
            break;
        }
        if let gochat_task::Health::Stopped(reason) = &*storing.borrow() {
            return Err(reason.clone());
        }
        tracing::info!("storing what the log held when the last process ended");
    }
    let highest = parts.store.highest_id().await.map_err(|error| error.to_string())?;
    parts.uid.start_above(highest).map_err(|error| error.to_string())
}

/// Whether messages are taken: the log and the store work, and so do those who read the log.
fn takes_messages(
    parts: &Embedded,
    mut preparing: watch::Receiver<gochat_logic::Health>,
    mut storing: watch::Receiver<gochat_task::Health>,
) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(true);
    let mut log = parts.bus.health();
    let mut store = parts.store.health();
    tokio::spawn(async move {
        loop {
            let takes = *log.borrow_and_update() == BusHealth::Ok
                && *store.borrow_and_update()
                && *preparing.borrow_and_update() == gochat_logic::Health::Working
                && *storing.borrow_and_update() == gochat_task::Health::Working;
            if tell.send_replace(takes) != takes {
                tracing::warn!(takes, log = ?*log.borrow(), store = *store.borrow(), "whether messages are taken has changed");
            }
            let changed = tokio::select! {
                changed = log.changed() => changed,
                changed = store.changed() => changed,
                changed = preparing.changed() => changed,
                changed = storing.changed() => changed,
            };
            // Whoever watched over a part that is gone says no more: it ends with the process.
            if changed.is_err() || tell.is_closed() {
                return;
            }
        }
    });
    told
}

fn logic_config(config: &Config, parts: &Embedded) -> LogicConfig {
    let mut logic = LogicConfig::new(parts.key.clone().into());
    logic.auth.access_ttl_s = config.auth.access_token_ttl_s as i64;
    logic.auth.refresh_ttl_s = config.auth.refresh_token_ttl_s as i64;
    logic.auth.bcrypt_cost = config.auth.bcrypt_cost;
    logic
}

fn data_plane_config(
    config: &Config,
    gateway: GatewayId,
    incarnation: u64,
    token_key: gochat_infra::token::TokenKey,
) -> DataPlaneConfig {
    let shards = match config.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => usize::from(n),
    };
    let reactor = match config.reactor {
        Reactor::Auto => ReactorChoice::Auto,
        Reactor::Uring => ReactorChoice::Uring,
        Reactor::Epoll => ReactorChoice::Epoll,
    };
    let connections_max = config.ws.connections_max as usize;
    let mut engine = EngineConfig::for_gateway(config.listen, shards, reactor, connections_max, descriptors_max());
    engine.limits.message_bytes_max = config.ws.message_bytes_max as usize;
    engine.limits.queue_frames_max = config.ws.send_queue_frames as usize;
    engine.limits.queue_bytes_max = config.ws.send_queue_bytes as usize;
    engine.timeouts.ping_interval = Duration::from_secs(config.ws.ping_interval_s.into());
    engine.timeouts.dead_after = Duration::from_secs((config.ws.ping_interval_s + config.ws.pong_timeout_s).into());
    let all = config.ws.allowed_origins.iter().any(|origin| origin == "*");
    let chat = ChatConfig {
        gateway,
        incarnation,
        upstream_partitions: config.bus.partitions,
        token_key,
        allow_query_token: config.ws.query_token,
        allowed_origins: (!all).then(|| config.ws.allowed_origins.clone()),
        rate_limits: config.limits == Limits::On,
        world_messages_per_minute: config.ws.world_messages_per_minute,
        session_policy: session_policy(config),
        heartbeat_interval_s: config.ws.ping_interval_s,
    };
    DataPlaneConfig { engine, chat }
}

fn session_policy(config: &Config) -> SessionPolicy {
    match config.ws.session_policy {
        config::SessionPolicy::Single => SessionPolicy::Single,
        config::SessionPolicy::PerDevice => SessionPolicy::PerDevice,
        config::SessionPolicy::Multi => SessionPolicy::Multi,
    }
}

/// How many descriptors this process may open; the soft limit is raised to the hard one.
fn descriptors_max() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "RLIMIT_NOFILE stays as it is");
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |max| max as usize)
}

fn control_config(config: &Config) -> ControlConfig {
    ControlConfig {
        admin: config.admin,
        limits: config.limits == Limits::On,
        allowed_origins: config.ws.allowed_origins.clone(),
        session_policy: session_policy(config),
        max_devices: config.ws.max_devices,
        ..ControlConfig::default()
    }
}

/// Tells a newcomer where things are. Standard output, as everything this process says.
fn greet(config: &Config, plane: &DataPlane, control: &Control) {
    let (http, admin) = (plane.addr(), control.admin_addr());
    if config.limits == Limits::Off {
        tracing::warn!("RATE LIMITS ARE OFF: for load runs only");
    }
    let text = format!(
        "\nGoChat {} is ready, everything in this process ({})\n\n  API        http://{http}/api\n  WebSocket  ws://{http}/ws\n  \
         Admin      http://{admin}/health\n  Data       {}\n\n  Stop with Ctrl-C. What is acknowledged is on disk, however it ends.\n\n",
        env!("CARGO_PKG_VERSION"),
        plane.reactor(),
        config.data_dir.display(),
    );
    // Nobody has to listen: a closed standard output is no reason to end.
    let _ = std::io::stdout().write_all(text.as_bytes());
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
    services: [JoinHandle<()>; 2],
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
