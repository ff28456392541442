//! What control is given to work with. Owns the bundle only; never opens anything itself.

use std::sync::Arc;

use gochat_infra::bus::Bus;
use gochat_infra::clock::Clock;
use gochat_infra::rpc::Channel;
use gochat_infra::token::TokenKey;
use gochat_proto::ids::GatewayId;
use tokio::sync::watch;

use crate::admin::ShardMetrics;
use crate::bridge::ControlEnd;

/// Everything control works with.
pub struct ControlDeps {
    /// To the logic service.
    pub logic: Channel,
    /// To the repo service: presence, and how far persistence has come.
    pub repo: Channel,
    /// The bus with the upstream and persist topics.
    pub bus: Arc<dyn Bus>,
    /// The other side of the shards.
    pub bridge: ControlEnd,
    /// Which gateway this is.
    pub gateway: GatewayId,
    /// Which life of it; never 0.
    pub incarnation: u64,
    /// Checks access tokens.
    pub tokens: TokenKey,
    /// Whether the bus takes messages.
    pub bus_healthy: watch::Receiver<bool>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Numbers of the shards for `/metrics`: [`shard_metrics`](crate::admin::shard_metrics).
    pub shard_metrics: ShardMetrics,
}
