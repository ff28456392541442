//! The control side of a gateway: a few single-owner loops on the tokio runtime around the bridge.
//!
//! Owns composition, start and end. `uplink` takes what shards say; `upstream` appends messages; `presence` (with
//! `roster`) registers sessions, `online_events` tells of users who came online or logged out; `reads` marks read, `typing`
//! passes typing on; `downstream` (with `deliver`, `frames`) brings what is to be sent, `room_loop` (with `rooms`) what is
//! for rooms; `lag` and `gate` decide about admission; `waiting` holds HTTP requests; `shards` sends. Never touches a
//! socket of a session.

mod config;
mod deliver;
mod deps;
mod downstream;
mod frames;
mod gate;
mod lag;
mod online_events;
mod presence;
mod reads;
mod room_loop;
mod rooms;
mod roster;
pub(crate) mod shards;
mod stats;
pub(crate) mod status;
mod typing;
mod uplink;
pub(crate) mod upstream;
pub(crate) mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::BusError;
use gochat_proto::topics;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

pub use self::config::ControlConfig;
pub use self::deps::ControlDeps;
use self::downstream::Downstream;
use self::gate::Gate;
use self::online_events::{OnlineEvents, OnlineOutlet};
use self::presence::{PresenceDeps, PresenceOutlets, PresenceSettings};
use self::room_loop::{RoomInput, RoomLoop};
use self::shards::Shards;
use self::stats::{DownlinkStats, RoomStats, UplinkStats};
use self::status::{Phase, Status};
use self::typing::TypingOutlet;
use self::uplink::{Outlets, UplinkLoop};
use self::upstream::{Upstream, UpstreamHandle};
use self::waiting::Waiting;
use crate::admin::{self, Admin};
use crate::http::{Api, ApiParts, Edge, Server, router};

const PRESENCE_QUEUE_MAX: usize = 64;
const HTTP_QUEUE_MAX: usize = 1024;

/// Why control did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A topic is missing or cannot be read.
    #[error("the bus cannot be used: {0}")]
    Bus(#[from] BusError),
    /// The admin address cannot be bound.
    #[error("cannot listen on {addr} for the admin endpoints: {source}")]
    Admin {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// The running control side of one gateway.
pub struct Control {
    admin: SocketAddr,
    phase: watch::Sender<Phase>,
    /// End by themselves once the shards have.
    finishing: Vec<JoinHandle<()>>,
    /// Run until they are ended.
    lasting: JoinSet<()>,
}

impl Control {
    /// Binds the admin address, positions the downstream consumer, starts all loops, and lets shards accept. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// See [`ControlError`]; nothing keeps running then.
    pub async fn start(deps: ControlDeps, config: ControlConfig) -> Result<Control, ControlError> {
        let unbound = |source| ControlError::Admin { addr: config.admin, source };
        let listener = TcpListener::bind(config.admin).await.map_err(unbound)?;
        let admin = listener.local_addr().map_err(unbound)?;
        let partitions = deps.bus.partitions(topics::MESSAGES_UPSTREAM).await?;
        let stats = DownlinkStats::new();
        let shards = Shards::new(deps.bridge.shards.clone(), &stats);
        let (waiting, table) = Waiting::new();
        let (rooms, room_inputs) = mpsc::channel(room_loop::QUEUE_MAX);
        let downstream = Downstream {
            bus: Arc::clone(&deps.bus),
            clock: Arc::clone(&deps.clock),
            gateway: deps.gateway,
            incarnation: deps.incarnation,
            shards: shards.clone(),
            rooms: rooms.clone(),
            waiting: waiting.clone(),
            stats,
        };
        let positions = downstream.position(config.downstream_partitions).await?;

        let mut lasting = JoinSet::new();
        lasting.spawn(table);
        lasting.spawn(room_loop(&deps, &shards, room_inputs).run());
        for position in positions {
            lasting.spawn(downstream.clone().run(position));
        }
        let phase = watch::Sender::new(Phase::Running);
        let status = start_gate(&deps, &config, &shards, &phase, &mut lasting);
        let mut admitting = status.clone();
        let (upstream, submits) = UpstreamHandle::new(partitions);
        let api = Api::new(ApiParts {
            logic: deps.logic.clone(),
            repo: deps.repo.clone(),
            tokens: deps.tokens.clone(),
            clock: Arc::clone(&deps.clock),
            origin: (deps.gateway, deps.incarnation),
            upstream,
            waiting: waiting.clone(),
            shards: shards.clone(),
            status: status.clone(),
            limits: config.limits,
            send_timeout: config.send_timeout,
        });
        let edge = Edge::new(router(api), config.allowed_origins.clone());
        let (http, handovers) = mpsc::channel(HTTP_QUEUE_MAX);
        let server = Server::new(edge, config.http_connections_max, phase.subscribe());
        let (shard_metrics, clock) = (Arc::clone(&deps.shard_metrics), Arc::clone(&deps.clock));
        lasting.spawn(admin::serve(listener, Admin { status, shard_metrics, clock }));
        let mut finishing = start_loops(deps, &config, Parts { partitions, submits, http, shards, rooms, waiting });
        finishing.push(tokio::spawn(server.run(handovers)));
        // Whoever knows of the address now is not turned away.
        let _ = admitting.changed().await;
        Ok(Control { admin, phase, finishing, lasting })
    }

    /// Where the admin endpoints are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Stops accepting and lets shards close their sessions in slices; [`stop`](Self::stop) waits for that. Irrevocable.
    pub fn drain(&self) {
        self.phase.send_if_modified(|phase| {
            let changed = *phase < Phase::Draining;
            *phase = (*phase).max(Phase::Draining);
            changed
        });
    }

    /// Drains, waits until the shards have ended and everything they brought is appended and told to repo, at most for
    /// `timeout`, then ends everything else. Answers whether all of it came to an end in time.
    pub async fn stop(mut self, timeout: Duration) -> bool {
        self.drain();
        let aborts: Vec<AbortHandle> = self.finishing.iter().map(JoinHandle::abort_handle).collect();
        let finished = tokio::time::timeout(timeout, futures::future::join_all(self.finishing)).await.is_ok();
        aborts.iter().for_each(AbortHandle::abort);
        self.phase.send_replace(Phase::Stopping);
        self.lasting.shutdown().await;
        finished
    }
}

struct Parts {
    partitions: u32,
    submits: mpsc::Receiver<upstream::Submit>,
    http: mpsc::Sender<crate::bridge::HttpHandover>,
    shards: Shards,
    rooms: mpsc::Sender<RoomInput>,
    waiting: Waiting,
}

fn room_loop(deps: &ControlDeps, shards: &Shards, inputs: mpsc::Receiver<RoomInput>) -> RoomLoop {
    RoomLoop {
        inputs,
        repo: deps.repo.clone(),
        shards: shards.clone(),
        clock: Arc::clone(&deps.clock),
        gateway: deps.gateway,
        incarnation: deps.incarnation,
        stats: RoomStats::new(),
    }
}

/// Starts the loops that end with the shards.
fn start_loops(deps: ControlDeps, config: &ControlConfig, parts: Parts) -> Vec<JoinHandle<()>> {
    let Parts { partitions, submits, http, shards, rooms, waiting } = parts;
    let (online, came_online) = OnlineOutlet::new();
    let (typing, typed) = TypingOutlet::new();
    let (presence, presence_events) = mpsc::channel(PRESENCE_QUEUE_MAX);
    let (reads, marks) = mpsc::channel(reads::WAITING_MAX);
    let presence_deps = PresenceDeps {
        repo: deps.repo.clone(),
        bus: Arc::clone(&deps.bus),
        shards: shards.clone(),
        outlets: PresenceOutlets { rooms, online },
        clock: Arc::clone(&deps.clock),
        gateway: deps.gateway,
        incarnation: deps.incarnation,
        settings: PresenceSettings {
            timeout: config.registration_timeout,
            policy: config.session_policy,
            max_devices: config.max_devices,
        },
    };
    let online_events = OnlineEvents {
        inbox: came_online,
        bus: Arc::clone(&deps.bus),
        clock: Arc::clone(&deps.clock),
        gateway: deps.gateway,
    };
    let typing_calls = typing::run(typed, deps.logic.clone(), deps.gateway, deps.incarnation);
    let stats = UplinkStats::new();
    let reading = reads::run(marks, deps.logic, shards.clone(), Arc::clone(&deps.clock));
    let uplink = UplinkLoop {
        uplinks: deps.bridge.uplinks,
        submits,
        upstream: Upstream::new(deps.bus, Arc::clone(&deps.clock), partitions, stats.clone()),
        outlets: Outlets { presence, reads, typing, http, shards, waiting },
        clock: deps.clock,
        stats,
    };
    vec![
        tokio::spawn(uplink.run()),
        tokio::spawn(presence::run(presence_events, presence_deps)),
        tokio::spawn(reading),
        tokio::spawn(typing_calls),
        tokio::spawn(online_events.run()),
    ]
}

/// Starts what decides about admission; the answer follows what it decided.
fn start_gate(
    deps: &ControlDeps,
    config: &ControlConfig,
    shards: &Shards,
    phase: &watch::Sender<Phase>,
    lasting: &mut JoinSet<()>,
) -> watch::Receiver<Status> {
    let (slow, slow_down) = watch::channel(0);
    let (status, watched) = watch::channel(Status::default());
    lasting.spawn(lag::watch_lag(Arc::clone(&deps.bus), deps.repo.clone(), slow));
    let gate = Gate {
        bus_healthy: deps.bus_healthy.clone(),
        slow_down,
        phase: phase.subscribe(),
        shards: shards.clone(),
        drain_percent_per_s: config.drain_percent_per_s,
        status,
    };
    lasting.spawn(gate.run());
    watched
}
