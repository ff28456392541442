//! The embedded store: SQLite through sqlx, in WAL mode with synchronous=FULL.
//!
//! Owns the connections (one writer, some readers), the migrations and the translation of errors; the statements stand in
//! one file per noun. One process at a time may have the file: the caller holds the data directory's lock (pipeline.md G3),
//! and what only this process writes is kept in memory beside it (epochs, names of the claims tables).

mod backup;
mod batch;
mod bell;
mod changes;
mod claims;
mod connection;
mod conversations;
mod filter;
mod friends;
mod groups;
mod heads;
mod history;
mod list;
mod lookup;
mod members;
mod outbox;
mod periods;
mod persist;
mod rooms;
mod rosters;
mod rows;
mod tokens;
mod users;

use super::Store;
use super::error::{Result, StoreError};
pub use backup::{StoreReport, inspect_sqlite};
use bell::OutboxBell;
use changes::ChangeClock;
use connection::{Inner, SQLITE_CANTOPEN, SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_READONLY, SqliteStore, primary_code};
use gochat_infra::clock::{Clock, SystemClock};
use heads::Heads;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// Where and how.
#[derive(Clone)]
pub struct SqliteConfig {
    /// The database file; made when absent, with `-wal` and `-shm` beside it.
    pub path: PathBuf,
    /// Connections that read at the same time. Default 3.
    pub readers: u32,
    /// Page cache of the writer, KiB; a reader has a quarter. Default 32 MiB.
    pub cache_kib: u32,
    /// Wall clock of change times (pipeline.md D4).
    pub clock: Arc<dyn Clock>,
}

impl SqliteConfig {
    /// Defaults for a file.
    pub fn new(path: impl Into<PathBuf>) -> SqliteConfig {
        SqliteConfig { path: path.into(), readers: 3, cache_kib: 32 * 1024, clock: SystemClock::shared() }
    }
}

/// Opens the embedded store, migrating its schema to this version.
///
/// # Errors
/// [`StoreError::Open`] with what to do: not writable, not a database, written by a later version.
pub async fn open_sqlite(config: SqliteConfig) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(SqliteStore::open(config).await?))
}

const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "first path", include_str!("../../../migrations/0001_first_path.sql")),
    (2, "groups", include_str!("../../../migrations/0002_groups.sql")),
    (3, "people", include_str!("../../../migrations/0003_people.sql")),
];

const ADVICE_DIRECTORY: &str = "; does the directory exist, and may this user write to it?";

/// How long a statement waits for a lock; only a foreign process can hold one.
const BUSY: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before they are copied to the file: 64 MiB, so that pages written often are copied rarely.
const WAL_PAGES: &str = "16384";

impl SqliteStore {
    async fn open(config: SqliteConfig) -> Result<SqliteStore> {
        let fail = |reason: String| StoreError::Open { path: config.path.display().to_string(), reason };
        make_private(&config.path).map_err(|e| fail(e.to_string() + ADVICE_DIRECTORY))?;
        let options = SqliteConnectOptions::new()
            .filename(&config.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", WAL_PAGES);
        let cache = |kib: u32| format!("-{kib}");
        let writer = pool(1)
            .connect_with(options.clone().pragma("cache_size", cache(config.cache_kib)))
            .await
            .map_err(|e| fail(advice(&e)))?;
        migrator().run(&writer).await.map_err(|e| fail(migration_advice(&e)))?;
        let readers = pool(config.readers.max(1))
            .connect_with(options.pragma("cache_size", cache(config.cache_kib / 4)).pragma("query_only", "on"))
            .await
            .map_err(|e| fail(advice(&e)))?;
        let inner = Inner {
            path: config.path.clone(),
            writer,
            readers,
            epochs: Mutex::default(),
            made: Mutex::default(),
            claims: RwLock::default(),
            heads: Heads::default(),
            outbox: OutboxBell::default(),
            changes: Arc::new(ChangeClock::new(config.clock.clone())),
            stopped: OnceLock::new(),
            health: watch::Sender::new(true),
        };
        let store = SqliteStore { inner: Arc::new(inner) };
        store.load_epochs().await?;
        store.load_change_time().await?;
        store.load_claim_tables().await?;
        store.fill_filters();
        Ok(store)
    }
}

/// Makes an absent database file readable for its owner alone; SQLite gives the files beside it the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.to_vec())
}

fn advice(error: &sqlx::Error) -> String {
    match primary_code(error) {
        Some(SQLITE_CANTOPEN) => format!("{error}{ADVICE_DIRECTORY}"),
        Some(SQLITE_READONLY) => format!("{error}; may this user write to it?"),
        Some(SQLITE_NOTADB | SQLITE_CORRUPT) => format!("{error}; restore it from a backup"),
        _ => error.to_string(),
    }
}

fn migration_advice(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            format!("its schema has version {version}, which this program does not know: use a newer one")
        }
        MigrateError::Execute(error) => advice(error),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::super::contract;
    use super::super::pipeline::PipelineStore as _;
    use super::*;

    async fn open(directory: &Path) -> Result<Arc<dyn Store>> {
        open_sqlite(SqliteConfig::new(directory.join("gochat.db"))).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        contract::check(|| {
            let sub = directory.path().join(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
            async move {
                std::fs::create_dir(&sub).unwrap();
                open(&sub).await.unwrap()
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restart_finds_epochs_and_claims() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await.unwrap();
        store.draw_epoch(1).await.unwrap();
        let claim = super::super::pipeline::ClaimRow { place: 7, message_id: 1 };
        let mut tx = store.begin_persist(0, 1).await.unwrap();
        tx.insert_claims(&[claim]).await.unwrap();
        tx.commit().await.unwrap();
        drop(store);
        let store = open(directory.path()).await.unwrap();
        assert_eq!(store.draw_epoch(1).await.unwrap(), 2);
        let mut tx = store.begin_persist(0, 1).await.unwrap();
        let other = super::super::pipeline::ClaimRow { place: 7, message_id: 2 };
        assert_eq!(tx.insert_claims(&[other]).await.unwrap(), [(0, 1)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restart_fills_the_filters() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path().join("gochat.db"));
        let store = SqliteStore::open(config.clone()).await.unwrap();
        let places: Vec<i64> = (0..40_000).chain([i64::MIN, -1, i64::MAX]).collect();
        let claims: Vec<_> =
            places.iter().map(|place| super::super::pipeline::ClaimRow { place: *place, message_id: 1 }).collect();
        let mut tx = store.begin_persist(0, 0).await.unwrap();
        tx.insert_claims(&claims).await.unwrap();
        tx.commit().await.unwrap();
        drop(store);
        let store = SqliteStore::open(config).await.unwrap();
        let tables = store.inner.claim_tables();
        let filter = &tables.tables[0].filter;
        while (50_000..51_000).all(|place| !filter.is_free(place)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(places.iter().all(|place| !filter.is_free(*place)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_files_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await.unwrap();
        store.draw_epoch(1).await.unwrap();
        let mut names = Vec::new();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
            names.push(file.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["gochat.db", "gochat.db-shm", "gochat.db-wal"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_error_of_the_disk_is_told_and_ends_all_writing() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await.unwrap();
        let mut health = store.health();
        assert!(*health.borrow_and_update());
        store.create_users((1..5000).map(user).collect()).await.unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("gochat.db-wal")).unwrap();
        file.set_len(0).unwrap();
        let failed = store.users(&[4000]).await;
        assert!(matches!(failed, Err(StoreError::Stopped(_))), "what it wrote is gone: {failed:?}");
        health.changed().await.unwrap();
        assert!(!*health.borrow());
        assert!(matches!(store.draw_epoch(1).await, Err(StoreError::Stopped(_))));
    }

    fn user(id: i64) -> super::super::user::NewUser {
        super::super::user::NewUser {
            id,
            username: format!("user{id}"),
            password_hash: String::new(),
            avatar_url: String::new(),
            is_guest: false,
            created_at_ms: 0,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_opened_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(&directory.path().join("absent")).await.err().unwrap().to_string();
        assert!(error.contains("absent") && error.contains("directory"), "{error}");
        std::fs::write(directory.path().join("gochat.db"), vec![b'x'; 8192]).unwrap();
        let error = open(directory.path()).await.err().unwrap().to_string();
        assert!(error.contains("backup"), "{error}");
    }
}
