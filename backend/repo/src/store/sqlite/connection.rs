//! The connections, the translation of SQLite's errors, and what only this process writes and so keeps in memory.

use super::super::error::{Result, StoreError};
use super::bell::OutboxBell;
use super::changes::ChangeClock;
use super::claims::{ClaimTable, ClaimTables};
use super::heads::Heads;
use gochat_infra::telemetry::metrics;
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tokio::sync::watch;

/// The embedded store. Cheap to clone.
#[derive(Clone)]
pub(super) struct SqliteStore {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) path: PathBuf,
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
    /// Epoch of every partition, as committed.
    pub(super) epochs: Mutex<HashMap<u32, i64>>,
    /// Which claims tables exist.
    pub(super) claims: RwLock<Arc<ClaimTables>>,
    /// The table made last: transactions that find its period missing share it, and its filter, until it is published.
    pub(super) made: Mutex<Option<Arc<ClaimTable>>>,
    /// How high numbers have been stored.
    pub(super) heads: Heads,
    pub(super) outbox: OutboxBell,
    pub(super) changes: Arc<ChangeClock>,
    /// Set by the first error of the disk; nothing is written after it.
    pub(super) stopped: OnceLock<String>,
    /// False once it has stopped.
    pub(super) health: watch::Sender<bool>,
}

impl Inner {
    /// Begins a write transaction; rolled back when dropped.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        if let Some(reason) = self.stopped.get() {
            return Err(StoreError::Stopped(reason.clone()));
        }
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.fail(e))
    }

    pub(super) async fn commit(&self, tx: Transaction<'static, Sqlite>) -> Result<()> {
        tx.commit().await.map_err(|e| self.fail(e))?;
        self.outbox.committed();
        Ok(())
    }

    /// Translates an error, and stops the store after one of the disk (pipeline.md J2).
    pub(super) fn fail(&self, error: sqlx::Error) -> StoreError {
        let text = error.to_string();
        match primary_code(&error) {
            Some(SQLITE_FULL) => StoreError::Full(text),
            Some(SQLITE_IOERR | SQLITE_CORRUPT | SQLITE_NOTADB) => {
                if self.stopped.set(text.clone()).is_ok() {
                    self.health.send_replace(false);
                    metrics::gauge("gochat_repo_store_stopped", "1 after an error of the store's disk.", &[]).set(1);
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

    pub(super) fn claim_tables(&self) -> Arc<ClaimTables> {
        self.claims.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) const SQLITE_BUSY: i32 = 5;
pub(super) const SQLITE_LOCKED: i32 = 6;
pub(super) const SQLITE_IOERR: i32 = 10;
pub(super) const SQLITE_CORRUPT: i32 = 11;
pub(super) const SQLITE_FULL: i32 = 13;
pub(super) const SQLITE_CANTOPEN: i32 = 14;
pub(super) const SQLITE_NOTADB: i32 = 26;
pub(super) const SQLITE_READONLY: i32 = 8;

/// SQLite's primary result code: the low byte of the extended one.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
