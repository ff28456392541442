//! What the data plane is started with, as plain values; where they come from is the root package's business.

use std::net::SocketAddr;

use gochat_infra::token::TokenKey;
use gochat_proto::ids::GatewayId;
use gochat_ring::RingConfig;
pub use gochat_ring::{ReactorChoice, probe};

use crate::engine::EngineConfig;
use crate::limits::{HANDSHAKES_MAX, Limits, Timeouts};

/// Descriptors kept for the control plane: its database, logs and HTTP connections.
const DESCRIPTORS_RESERVED: usize = 1024;
/// Connections waiting to be accepted, per shard.
const BACKLOG: u32 = 4096;

/// How many sessions a user may have (spec 02 section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionPolicy {
    /// One: a newer one replaces it.
    #[default]
    Single,
    /// One per device.
    PerDevice,
    /// Any number up to the most.
    Multi,
}

/// What a chat session is judged by.
#[derive(Clone, Debug)]
pub struct ChatConfig {
    /// This gateway's instance id.
    pub gateway: GatewayId,
    /// Differs for every life of this gateway.
    pub incarnation: u64,
    /// Partitions of `gochat.messages.upstream`.
    pub upstream_partitions: u32,
    /// Checks access tokens.
    pub token_key: TokenKey,
    /// Whether a token in the query is accepted: in development only (pipeline.md H3).
    pub allow_query_token: bool,
    /// Origins that browsers may connect from; `None` allows all.
    pub allowed_origins: Option<Vec<String>>,
    /// Whether rates are limited; sizes always are.
    pub rate_limits: bool,
    /// Messages to the world room a minute: per connection, and for guests per address too.
    pub world_messages_per_minute: u32,
    /// How many sessions a user may have; repo decides, a shard only acts early where the answer is plain.
    pub session_policy: SessionPolicy,
    /// What clients are told in `connected`, seconds.
    pub heartbeat_interval_s: u32,
}

/// The data plane of one gateway.
#[derive(Clone, Debug)]
pub struct DataPlaneConfig {
    /// Threads and sockets.
    pub engine: EngineConfig,
    /// Sessions.
    pub chat: ChatConfig,
}

impl EngineConfig {
    /// A gateway with room for `connections_max` connections in all, as far as this process may open descriptors
    /// (`descriptors_max`, RLIMIT_NOFILE).
    pub fn for_gateway(
        listen: SocketAddr,
        shards: usize,
        reactor: ReactorChoice,
        connections_max: usize,
        descriptors_max: usize,
    ) -> EngineConfig {
        let shards = shards.clamp(1, 256);
        let connections = connections_max.min(descriptors_max.saturating_sub(DESCRIPTORS_RESERVED)).max(64);
        // Shards are not filled evenly: each may take half more than its share.
        let per_shard = if shards == 1 { connections } else { connections * 3 / (2 * shards) };
        let handshakes_max = HANDSHAKES_MAX.min(per_shard / 2);
        let limits = Limits { connections_max: per_shard - per_shard / 16, handshakes_max, ..Limits::default() };
        let ring = RingConfig { connections_max: per_shard as u32, outgoing_max: 0, ..RingConfig::default() };
        EngineConfig {
            listen,
            backlog: BACKLOG,
            reactor,
            shards,
            pin: true,
            ring,
            limits,
            timeouts: Timeouts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_the_descriptors_and_leave_room_to_refuse() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let one = EngineConfig::for_gateway(listen, 1, ReactorChoice::Auto, 200_000, 20_000);
        assert_eq!(one.ring.connections_max, 18_976);
        assert!(one.limits.connections_max < one.ring.connections_max as usize, "a 503 needs a slot");
        let tiny = EngineConfig::for_gateway(listen, 4, ReactorChoice::Auto, 1, 100);
        assert!(tiny.limits.connections_max > 0 && tiny.limits.handshakes_max > 0);
        assert_eq!(tiny.ring.check(), Ok(()));
    }
}
