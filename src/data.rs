//! The embedded parts over one data directory: its lock, the log, the store, the cache, the key, and repo on top. Owns
//! their opening and its order; whatever refuses says why in one line.

use crate::config::Config;
use crate::keys;
use gochat_infra::bus::log::{LogBus, LogConfig};
use gochat_infra::bus::{Bus, Durability, TopicSpec};
use gochat_infra::cache::memory::{MemoryCache, MemoryCacheConfig};
use gochat_infra::clock::{Clock, SystemClock};
use gochat_infra::coord::local::{DataDirError, DataDirLock};
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_infra::token::TokenKey;
use gochat_infra::uid::Snowflake;
use gochat_proto::topics;
use gochat_repo::store::Store;
use gochat_repo::{Repo, RepoConfig, SqliteConfig, open_sqlite};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A data directory that is ours alone until this is dropped.
pub(crate) struct DataDir {
    lock: DataDirLock,
}

/// A data directory, or who has it.
pub(crate) enum Acquired {
    Ours(DataDir),
    InUse(String),
}

/// A file that stands in a data directory while a backup is being restored into it.
pub(crate) const RESTORING: &str = "RESTORING";

/// The opened parts.
pub(crate) struct Embedded {
    pub(crate) bus: Arc<LogBus>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) uid: Arc<Snowflake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) repo: Channel,
    pub(crate) key: Vec<u8>,
    _dir: DataDir,
}

impl DataDir {
    /// Makes the directory when it is absent and locks it.
    pub(crate) fn acquire(path: &Path) -> Result<DataDir, String> {
        match DataDir::try_acquire(path)? {
            Acquired::Ours(dir) => Ok(dir),
            Acquired::InUse(why) => Err(why),
        }
    }

    /// The same, where somebody else may have it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Acquired, String> {
        match DataDirLock::acquire(path) {
            Ok(lock) => Ok(Acquired::Ours(DataDir { lock })),
            Err(error @ DataDirError::Locked { .. }) => Ok(Acquired::InUse(error.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Opens everything in it.
    pub(crate) async fn open(self, config: &Config) -> Result<Embedded, String> {
        let dir = self.lock.dir();
        if dir.join(RESTORING).exists() {
            return Err(format!(
                "a restore into {} did not finish: remove the directory and restore again",
                dir.display()
            ));
        }
        let key = keys::signing_key(dir)?;
        let clock = SystemClock::shared();
        let bus = open_bus(dir, config).await?;
        let store = open_store(dir).await?;
        let uid = Arc::new(Snowflake::new(1, clock.clone()).map_err(|error| error.to_string())?);
        let cache =
            Arc::new(MemoryCache::new(MemoryCacheConfig { clock: clock.clone(), ..MemoryCacheConfig::default() }));
        let repo_config = RepoConfig { clock: clock.clone(), ..RepoConfig::default() };
        let repo = Repo::new(store.clone(), cache, uid.clone(), repo_config);
        let repo = repo.add_to(Channel::in_process()).build(RpcOptions::default());
        Ok(Embedded { bus, store, uid, clock, repo, key, _dir: self })
    }
}

/// The key as tokens are signed and checked with.
pub(crate) fn token_key(bytes: &[u8]) -> Result<TokenKey, String> {
    TokenKey::hs256(bytes).map_err(|error| error.to_string())
}

async fn open_store(dir: &Path) -> Result<Arc<dyn Store>, String> {
    open_sqlite(SqliteConfig::new(dir.join("gochat.sqlite"))).await.map_err(|error| error.to_string())
}

async fn open_bus(dir: &Path, config: &Config) -> Result<Arc<LogBus>, String> {
    let log = LogConfig {
        segment_bytes: config.bus.segment_bytes,
        retention_bytes: config.bus.retention_bytes,
        retention_age: Duration::from_secs(config.bus.retention_s),
        ..LogConfig::new(dir.join("log"))
    };
    // Reading a long log back takes a while: not on a thread of the runtime.
    let opened = tokio::task::spawn_blocking(move || LogBus::open(log)).await.map_err(|error| error.to_string())?;
    let bus = opened.map_err(|error| error.to_string())?;
    // The persist record that a message is prepared into has the number of its upstream partition. What leaves the
    // store's outbox is durable before it is deleted there.
    for (name, durability) in [
        (topics::MESSAGES_UPSTREAM.to_owned(), Durability::Written),
        (topics::MESSAGES_PERSIST.to_owned(), Durability::Durable),
        (topics::TASKS_FANOUT.to_owned(), Durability::Written),
        (topics::dead_letter(topics::TASKS_FANOUT), Durability::Written),
        (topics::USER_EVENTS.to_owned(), Durability::Durable),
        (topics::CONVERSATION_EVENTS.to_owned(), Durability::Durable),
        (topics::MESSAGE_EVENTS.to_owned(), Durability::Durable),
        (topics::FRIEND_EVENTS.to_owned(), Durability::Durable),
        (topics::NOTIFICATIONS.to_owned(), Durability::Written),
    ] {
        let spec = TopicSpec { name, partitions: config.bus.partitions, durability };
        bus.create_topic(spec).await.map_err(|error| format!("bus.partitions: {error}"))?;
    }
    Ok(bus)
}
