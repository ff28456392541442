//! Settings of the control side, as one plain struct with its defaults. Never reads files or the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::SessionPolicy;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Address of the admin listener; port 0 lets the kernel choose one.
    pub admin: SocketAddr,
    /// Rate limits of the HTTP API; off is for load runs.
    pub limits: bool,
    /// Origins that browsers may call the HTTP API from; `*` allows all, none refuses all.
    pub allowed_origins: Vec<String>,
    /// Partitions of this gateway's downstream topic, when it is made.
    pub downstream_partitions: u32,
    /// How long one presence registration may take; then `connected` says that it is degraded.
    pub registration_timeout: Duration,
    /// How long an HTTP send waits for its acknowledgement.
    pub send_timeout: Duration,
    /// How many sessions a user may have.
    pub session_policy: SessionPolicy,
    /// Sessions of one user, unless the policy is one.
    pub max_devices: u32,
    /// Connections served over HTTP at once; further ones are closed.
    pub http_connections_max: usize,
    /// Connections closed per second while draining, in percent of those open at its start.
    pub drain_percent_per_s: u8,
}

impl Default for ControlConfig {
    fn default() -> ControlConfig {
        ControlConfig {
            admin: (Ipv4Addr::LOCALHOST, 9093).into(),
            limits: true,
            allowed_origins: vec!["*".to_owned()],
            downstream_partitions: 2,
            registration_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(10),
            session_policy: SessionPolicy::Single,
            max_devices: 5,
            http_connections_max: 4096,
            drain_percent_per_s: 5,
        }
    }
}
