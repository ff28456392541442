//! From the keys of the configuration to the small structs of each crate. Owns the mapping; knows no default but theirs.

use crate::cli::{Limits, Reactor};
use crate::config::{self, Config};
use gochat_gateway::config::{ChatConfig, DataPlaneConfig, ReactorChoice, SessionPolicy};
use gochat_gateway::control::ControlConfig;
use gochat_gateway::engine::EngineConfig;
use gochat_infra::token::TokenKey;
use gochat_logic::{LogicConfig, RulesConfig};
use gochat_proto::ids::GatewayId;
use gochat_task::TaskConfig;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::Duration;

/// Persistence and jobs.
pub(crate) fn task(config: &Config) -> TaskConfig {
    let mut task = TaskConfig::default();
    task.jobs.guest_idle_max = Duration::from_secs(config.guests.idle_days_max * 24 * 3600);
    task
}

/// What drives sockets.
pub(crate) fn reactor(config: &Config) -> ReactorChoice {
    match config.reactor {
        Reactor::Auto => ReactorChoice::Auto,
        Reactor::Uring => ReactorChoice::Uring,
        Reactor::Epoll => ReactorChoice::Epoll,
    }
}

/// Accounts and rules.
pub(crate) fn logic(config: &Config, key: Vec<u8>) -> LogicConfig {
    let mut logic = LogicConfig::new(key.into());
    logic.auth.access_ttl_s = config.auth.access_token_ttl_s as i64;
    logic.auth.refresh_ttl_s = config.auth.refresh_token_ttl_s as i64;
    logic.auth.guest_refresh_ttl_s = config.guests.refresh_token_ttl_s as i64;
    logic.auth.bcrypt_cost = config.auth.bcrypt_cost;
    logic.rules = RulesConfig {
        guests_enabled: config.guests.enabled,
        world_auto_join_registered: config.world.auto_join_registered,
        world_auto_join_guests: config.world.auto_join_guests,
        single_requires_friend: config.single.friends_only,
    };
    logic
}

/// Threads, sockets and sessions.
pub(crate) fn data_plane(
    config: &Config,
    gateway: GatewayId,
    incarnation: u64,
    token_key: TokenKey,
) -> DataPlaneConfig {
    let shards = match config.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => usize::from(n),
    };
    let connections_max = config.ws.connections_max as usize;
    let mut engine =
        EngineConfig::for_gateway(config.listen, shards, reactor(config), connections_max, descriptors_max());
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
        world_messages_per_minute: config.world.messages_per_minute,
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

/// Delivery, HTTP and the admin listener.
pub(crate) fn control(config: &Config) -> ControlConfig {
    ControlConfig {
        admin: config.admin,
        limits: config.limits == Limits::On,
        allowed_origins: config.ws.allowed_origins.clone(),
        session_policy: session_policy(config),
        max_devices: config.ws.max_devices,
        ..ControlConfig::default()
    }
}
