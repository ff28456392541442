//! What logic is given to work with: repo's channel, the bus, ids and the clock.
//!
//! Owns the bundle only. Never opens anything itself.

use std::sync::Arc;

use gochat_infra::bus::Bus;
use gochat_infra::clock::Clock;
use gochat_infra::rpc::Channel;
use gochat_infra::uid::Snowflake;
use gochat_proto::ids::GatewayId;
use tokio::sync::watch;

/// Everything logic works with. Cheap to clone.
#[derive(Clone)]
pub struct LogicDeps {
    /// To the repo service.
    pub repo: Channel,
    /// The bus with the upstream, persist and downstream topics.
    pub bus: Arc<dyn Bus>,
    /// The gateways that are alive.
    pub gateways: watch::Receiver<Vec<GatewayId>>,
    /// Message ids.
    pub uid: Arc<Snowflake>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}
