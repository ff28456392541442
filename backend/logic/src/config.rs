//! Settings of logic, as small plain structs with their defaults.
//!
//! Owns the values and their units. Never reads files or the environment.

use std::time::Duration;

use bytes::Bytes;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct LogicConfig {
    /// Accounts and tokens.
    pub auth: AuthConfig,
    /// What is switched on.
    pub rules: RulesConfig,
    /// The message pipeline.
    pub pipeline: PipelineConfig,
    /// How long list and history requests wait for persistence at most (pipeline.md D2). Never above 1 s.
    pub read_wait_max: Duration,
}

impl LogicConfig {
    /// Defaults with this token signing key (at least 32 bytes for HS256).
    pub fn new(signing_key: Bytes) -> LogicConfig {
        LogicConfig {
            auth: AuthConfig {
                signing_key,
                access_ttl_s: 24 * 3600,
                refresh_ttl_s: 30 * 24 * 3600,
                guest_refresh_ttl_s: 7 * 24 * 3600,
                refresh_grace_s: 10,
                bcrypt_cost: 10,
                hashes_max: 2,
            },
            rules: RulesConfig::default(),
            pipeline: PipelineConfig::default(),
            read_wait_max: Duration::from_secs(1),
        }
    }
}

/// Accounts and tokens (spec 01 §1.4, §4.1).
#[derive(Clone)]
pub struct AuthConfig {
    /// HS256 key of access and refresh tokens; also seals what the refresh grace keeps.
    pub signing_key: Bytes,
    /// Life of an access token, seconds.
    pub access_ttl_s: i64,
    /// Life of a refresh token, seconds.
    pub refresh_ttl_s: i64,
    /// Life of a guest's refresh token, seconds.
    pub guest_refresh_ttl_s: i64,
    /// How long a used refresh token is answered with the same pair again, seconds.
    pub refresh_grace_s: i32,
    /// bcrypt cost, 4..=31.
    pub bcrypt_cost: u32,
    /// Passwords hashed at the same time at most; each keeps one core busy.
    pub hashes_max: usize,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("access_ttl_s", &self.access_ttl_s)
            .field("refresh_ttl_s", &self.refresh_ttl_s)
            .field("bcrypt_cost", &self.bcrypt_cost)
            .finish_non_exhaustive()
    }
}

/// What an installation switches on or off (spec 01 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesConfig {
    /// Guests may come.
    pub guests_enabled: bool,
    /// Who registers joins the world room.
    pub world_auto_join_registered: bool,
    /// Guests join the world room, where its own settings allow it too.
    pub world_auto_join_guests: bool,
    /// Only friends may open a single chat.
    pub single_requires_friend: bool,
}

impl Default for RulesConfig {
    fn default() -> RulesConfig {
        RulesConfig {
            guests_enabled: true,
            world_auto_join_registered: true,
            world_auto_join_guests: true,
            single_requires_friend: false,
        }
    }
}

/// Limits of the message pipeline.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// Upstream records prepared together at most.
    pub records_max: usize,
    /// Claims of this writer that persistence has not passed yet, at most; above it the writer goes on at persistence's
    /// pace. Some seconds' worth for a busy partition: senders are slowed by waiting before they are refused (E3).
    pub unstored_max: usize,
    /// Bytes held back for one gateway that cannot be reached, at most; above it they are dropped and counted.
    pub held_bytes_max: usize,
    /// How long a push is held back for a gateway that cannot be reached.
    pub held_max: Duration,
    /// Members above which a group's pushes are left to task, as the world room's always are.
    pub room_members_max: i32,
    /// Rules taken out, to show that a test notices. Production leaves all in.
    pub without: OmittedRules,
}

impl Default for PipelineConfig {
    fn default() -> PipelineConfig {
        PipelineConfig {
            records_max: 2_000,
            unstored_max: 25_000,
            held_bytes_max: 8 << 20,
            held_max: Duration::from_secs(60),
            room_members_max: 500,
            without: OmittedRules::default(),
        }
    }
}

/// Rules of pipeline.md that a simulation takes out to see itself fail.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OmittedRules {
    /// A2: the look at the epoch between append and acknowledgement.
    pub epoch_check: bool,
    /// A2, B3: the marker and the wait for it.
    pub marker_wait: bool,
    /// B4: a redelivered claim that is not stored is produced again.
    pub known_again: bool,
    /// D3: the wait until what a recall names is stored.
    pub target_wait: bool,
}
