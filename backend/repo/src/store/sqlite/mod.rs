//! The embedded store: SQLite through sqlx, in WAL mode with synchronous=FULL.
//!
//! Owns the connections (one writer, some readers), the migrations and the translation of errors; the statements stand in
//! one file per noun. One process at a time may have the file: the caller holds the data directory's lock (pipeline.md G3),
//! and what only this process writes is kept in memory beside it (epochs, names of the claims tables).

mod batch;
mod claims;
mod conversations;
mod history;
mod list;
mod lookup;
mod persist;
mod tokens;
mod users;

use super::{Result, Store, StoreError};
use claims::ClaimTables;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, SqlSafeStr, Sqlite, SqlitePool, Transaction};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Where and how.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// The database file; made when absent, with `-wal` and `-shm` beside it.
    pub path: PathBuf,
    /// Connections that read at the same time. Default 3.
    pub readers: u32,
    /// Page cache of the writer, KiB; a reader has a quarter. Default 32 MiB.
    pub cache_kib: u32,
}

impl SqliteConfig {
    /// Defaults for a file.
    pub fn new(path: impl Into<PathBuf>) -> SqliteConfig {
        SqliteConfig { path: path.into(), readers: 3, cache_kib: 32 * 1024 }
    }
}

/// Opens the embedded store, migrating its schema to this version.
///
/// # Errors
/// [`StoreError::Open`] with what to do: not writable, not a database, written by a later version.
pub async fn open_sqlite(config: SqliteConfig) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(SqliteStore::open(config).await?))
}

/// The embedded store. Cheap to clone.
#[derive(Clone)]
struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Epoch of every partition, as committed.
    epochs: Mutex<HashMap<u32, i64>>,
    /// Which claims tables exist.
    claims: RwLock<Arc<ClaimTables>>,
    /// Set by the first error of the disk; nothing is written after it.
    stopped: OnceLock<String>,
}

const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "first path", include_str!("../../../migrations/0001_first_path.sql"))];

/// How long a statement waits for a lock; only a foreign process can hold one.
const BUSY: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before they are copied to the file: 16 MiB.
const WAL_PAGES: &str = "4096";

impl SqliteStore {
    async fn open(config: SqliteConfig) -> Result<SqliteStore> {
        let fail = |reason: String| StoreError::Open { path: config.path.display().to_string(), reason };
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
            writer,
            readers,
            epochs: Mutex::default(),
            claims: RwLock::default(),
            stopped: OnceLock::new(),
        };
        let store = SqliteStore { inner: Arc::new(inner) };
        store.load_epochs().await?;
        store.load_claim_tables().await?;
        Ok(store)
    }
}

impl Inner {
    /// Begins a write transaction; rolled back when dropped.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        if let Some(reason) = self.stopped.get() {
            return Err(StoreError::Stopped(reason.clone()));
        }
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.fail(e))
    }

    async fn commit(&self, tx: Transaction<'static, Sqlite>) -> Result<()> {
        tx.commit().await.map_err(|e| self.fail(e))
    }

    /// Translates an error, and stops the store after one of the disk (pipeline.md J2).
    fn fail(&self, error: sqlx::Error) -> StoreError {
        let text = error.to_string();
        match primary_code(&error) {
            Some(SQLITE_FULL) => StoreError::Full(text),
            Some(SQLITE_IOERR | SQLITE_CORRUPT | SQLITE_NOTADB) => {
                if self.stopped.set(text.clone()).is_ok() {
                    tracing::error!(error = %text, "the store's disk failed: nothing is written any more");
                }
                StoreError::Stopped(text)
            }
            Some(SQLITE_BUSY | SQLITE_LOCKED) => StoreError::Unavailable(text),
            Some(_) => StoreError::Broken(text),
            None => match error {
                sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Io(_) => StoreError::Unavailable(text),
                _ => StoreError::Broken(text),
            },
        }
    }

    fn claim_tables(&self) -> Arc<ClaimTables> {
        self.claims.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;
const SQLITE_READONLY: i32 = 8;

/// SQLite's primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
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
        Some(SQLITE_CANTOPEN) => format!("{error}; does the directory exist, and may this user write to it?"),
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

/// A column by position. The statements name their columns, so an error here is a bug.
fn col<'r, T>(row: &'r SqliteRow, index: usize) -> Result<T>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(index).map_err(|e| StoreError::Broken(e.to_string()))
}

fn flag(row: &SqliteRow, index: usize) -> Result<bool> {
    Ok(col::<i64>(row, index)? != 0)
}

/// Stored numbers of small enums.
fn small(row: &SqliteRow, index: usize) -> Result<i32> {
    i32::try_from(col::<i64>(row, index)?).map_err(|e| StoreError::Broken(e.to_string()))
}
