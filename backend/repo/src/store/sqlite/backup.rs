//! Upkeep of the embedded store: a consistent copy while it is in use, a look that changes nothing, numbers left out.
//!
//! The copy is made table by table in one read transaction, not with VACUUM INTO: only so can its moment be fixed while
//! writing is held back, and what else belongs to a backup be cut at the same moment.

use super::super::error::{Result, StoreError};
use super::super::upkeep::{Backlog, Frozen, UpkeepStore};
use super::connection::{Inner, SqliteStore};
use super::rows::col;
use super::{MIGRATIONS, advice, make_private};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Sqlite, Transaction};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BACKLOG: &str = "SELECT (SELECT count(*) FROM parked_records), (SELECT count(*) FROM outbox)";

#[async_trait]
impl UpkeepStore for SqliteStore {
    async fn freeze(&self) -> Result<Box<dyn Frozen>> {
        let failed = |e| self.inner.fail(e);
        // A connection of its own: the copy may take long, and writes to the file that is attached to it.
        let mut source = SqliteConnectOptions::new()
            .filename(&self.inner.path)
            .create_if_missing(false)
            .pragma("wal_autocheckpoint", "0")
            .connect()
            .await
            .map_err(failed)?;
        let writer = self.inner.begin().await?;
        sqlx::query("BEGIN").execute(&mut source).await.map_err(failed)?;
        // The first read fixes what the transaction sees.
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&mut source).await.map_err(failed)?;
        Ok(Box::new(Moment { inner: self.inner.clone(), source, writer: Some(writer) }))
    }

    async fn backlog(&self) -> Result<Backlog> {
        let row = sqlx::query(BACKLOG).fetch_one(&self.inner.readers).await.map_err(|e| self.inner.fail(e))?;
        Ok(Backlog { parked: col(&row, 0)?, outbox: col(&row, 1)? })
    }

    async fn leap(&self, numbers: i64) -> Result<()> {
        let mut tx = self.inner.begin().await?;
        sqlx::query(
            "INSERT INTO conversation_sequences (conversation_key, reserved_until) \
             SELECT key, max(last_seq, stored_through_seq) + ?1 FROM conversations WHERE true \
             ON CONFLICT (conversation_key) DO UPDATE \
             SET reserved_until = max(reserved_until + ?1, excluded.reserved_until)",
        )
        .bind(numbers)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        self.inner.commit(tx).await
    }
}

/// See [`Frozen`].
struct Moment {
    inner: Arc<Inner>,
    source: SqliteConnection,
    writer: Option<Transaction<'static, Sqlite>>,
}

#[async_trait]
impl Frozen for Moment {
    async fn thaw(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => writer.rollback().await.map_err(|e| self.inner.fail(e)),
            None => Ok(()),
        }
    }

    async fn copy_to(mut self: Box<Self>, path: &Path) -> Result<()> {
        self.thaw().await?;
        let cannot = |e: std::io::Error| StoreError::Open { path: path.display().to_string(), reason: e.to_string() };
        if path.exists() {
            return Err(cannot(std::io::ErrorKind::AlreadyExists.into()));
        }
        make_private(path).map_err(cannot)?;
        // Errors from here on may be of the copy's disk as well: they must not stop the store.
        let broken = |e: sqlx::Error| StoreError::Open { path: path.display().to_string(), reason: e.to_string() };
        let Moment { mut source, .. } = *self;
        copy(&mut source, path).await.map_err(broken)?;
        source.close().await.map_err(broken)?;
        std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(cannot)
    }
}

/// In the source's open transaction. Tables with their indices first: filled from equal ones, both are copied in order.
async fn copy(source: &mut SqliteConnection, path: &Path) -> std::result::Result<(), sqlx::Error> {
    let target = path.to_str().ok_or_else(|| sqlx::Error::Protocol("the path is not UTF-8".to_owned()))?;
    sqlx::query("ATTACH DATABASE ? AS copy").bind(target).execute(&mut *source).await?;
    let schema: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT type, name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         ORDER BY type <> 'table', name",
    )
    .fetch_all(&mut *source)
    .await?;
    for (kind, name, sql) in &schema {
        // SQLite keeps these words as they stand here, whatever was typed.
        let words = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX "];
        let Some((words, rest)) = words.iter().find_map(|words| Some((words, sql.strip_prefix(words)?))) else {
            return Err(sqlx::Error::Protocol(format!("{kind} {name} is of a kind that is not copied")));
        };
        run(source, format!("{words}copy.{rest}")).await?;
    }
    for (_, name, _) in schema.iter().filter(|(kind, ..)| kind == "table") {
        run(source, format!("INSERT INTO copy.\"{name}\" SELECT * FROM main.\"{name}\"")).await?;
    }
    // Where AUTOINCREMENT goes on; the copied rows have made entries already.
    for sql in [
        "DELETE FROM copy.sqlite_sequence",
        "INSERT INTO copy.sqlite_sequence SELECT * FROM main.sqlite_sequence",
        "COMMIT",
    ] {
        run(source, sql.to_owned()).await?;
    }
    Ok(())
}

/// Statements over names from the schema, which is this program's own.
async fn run(source: &mut SqliteConnection, sql: String) -> std::result::Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).execute(source).await.map(drop)
}

/// What a look at a database file found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// What SQLite's own check of its structure complains about, at most 20 lines; empty: nothing.
    pub problems: Vec<String>,
    /// Version of its schema, and the newest one that this program knows.
    pub schema: (i64, i64),
    /// Next offset of every log partition that was stored from.
    pub positions: Vec<(u32, i64)>,
    /// What is waiting.
    pub backlog: Backlog,
}

/// Looks at a database file and changes nothing; it may be in use. Reads all of it.
///
/// # Errors
/// [`StoreError::Open`]: it cannot be read, is no database, or none of this program's.
pub async fn inspect_sqlite(path: &Path) -> Result<StoreReport> {
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    let in_use = || wal.exists();
    // Nothing but the file: then no file is made beside it.
    if !in_use() {
        let report = look(path, true).await;
        if !in_use() {
            return report;
        }
    }
    look(path, false).await
}

async fn look(path: &Path, alone: bool) -> Result<StoreReport> {
    let failed = |e: sqlx::Error| StoreError::Open { path: path.display().to_string(), reason: advice(&e) };
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .immutable(alone)
        .busy_timeout(super::BUSY)
        .connect()
        .await
        .map_err(failed)?;
    let check: Vec<(String,)> =
        sqlx::query_as("PRAGMA quick_check(20)").fetch_all(&mut connection).await.map_err(failed)?;
    let problems = check.into_iter().map(|(line,)| line).filter(|line| line != "ok").collect();
    let (schema,): (i64,) = sqlx::query_as("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    let positions = sqlx::query_as("SELECT partition, next_offset FROM log_positions")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    let (parked, outbox) = sqlx::query_as(BACKLOG).fetch_one(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    let known = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    Ok(StoreReport { problems, schema: (schema, known), positions, backlog: Backlog { parked, outbox } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::super::super::pipeline::{ClaimRow, LogState, MessageRow};
    use super::super::super::{Store, StoreError};
    use super::super::{SqliteConfig, open_sqlite};
    use super::*;
    use std::time::Duration;

    async fn open(path: &Path) -> Arc<dyn Store> {
        open_sqlite(SqliteConfig::new(path)).await.unwrap()
    }

    async fn save(store: &dyn Store, number: i64) {
        let mut tx = store.begin_persist(0, 1).await.unwrap();
        let row = MessageRow {
            id: number,
            conversation: 1,
            seq: number,
            sender_id: 1,
            kind: 1,
            content: "text",
            extra: "",
            client_msg_id: b"c",
            content_hash: 7,
            created_at_ms: 1,
        };
        tx.insert_messages(&[row]).await.unwrap();
        tx.insert_claims(&[ClaimRow { place: number, message_id: number }]).await.unwrap();
        tx.set_log_state(LogState { next_offset: number, epoch_seen: 1 }).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_shows_one_moment_and_opens() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("gochat.sqlite")).await;
        for number in 1..=500 {
            save(store.as_ref(), number).await;
        }
        store.draw_epoch(3).await.unwrap();
        let mut frozen = store.freeze().await.unwrap();
        let late = tokio::spawn({
            let store = store.clone();
            async move { save(store.as_ref(), 501).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(store.positions().await.unwrap(), [(0, 500)], "nothing is written meanwhile");
        frozen.thaw().await.unwrap();
        late.await.unwrap();
        assert_eq!(store.positions().await.unwrap(), [(0, 501)]);
        let path = dir.path().join("copy.sqlite");
        frozen.copy_to(&path).await.unwrap();

        let report = inspect_sqlite(&path).await.unwrap();
        assert_eq!((report.problems.clone(), report.positions), (vec![], vec![(0, 500)]));
        assert_eq!(report.schema.0, report.schema.1);
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("copy")).count(), 1, "a look makes no file");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let copy = open(&path).await;
        assert_eq!(copy.highest_id().await.unwrap(), 500);
        assert_eq!(copy.draw_epoch(3).await.unwrap(), 2);
        assert!(copy.message(250).await.unwrap().is_none(), "its conversation does not exist");
        let mut tx = copy.begin_persist(0, 1).await.unwrap();
        assert_eq!(tx.rows_at(&[(1, 250)]).await.unwrap()[0].id, 250);
        assert_eq!(tx.insert_claims(&[ClaimRow { place: 9, message_id: 1 }]).await.unwrap(), [(0, 9)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_in_the_way_is_refused_and_a_freeze_that_ends_lets_writing_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gochat.sqlite");
        let store = open(&path).await;
        let refused = store.freeze().await.unwrap().copy_to(&path).await.unwrap_err();
        assert!(matches!(refused, StoreError::Open { .. }), "{refused}");
        drop(store.freeze().await.unwrap());
        save(store.as_ref(), 1).await;
        assert!(*store.health().borrow(), "a copy that fails does not stop the store");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_look_finds_damage_and_foreign_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gochat.sqlite");
        assert!(inspect_sqlite(&path).await.is_err(), "absent");
        assert!(!path.exists(), "and it stays so");
        std::fs::write(&path, "this is a text").unwrap();
        assert!(inspect_sqlite(&path).await.unwrap_err().to_string().contains("backup"));
        std::fs::remove_file(&path).unwrap();
        let store = open(&path).await;
        for number in 1..=500 {
            save(store.as_ref(), number).await;
        }
        let copy = dir.path().join("copy.sqlite");
        store.freeze().await.unwrap().copy_to(&copy).await.unwrap();
        let mut bytes = std::fs::read(&copy).unwrap();
        let page = bytes.len() / 4096 / 2 * 4096;
        bytes[page..page + 4096].fill(0xAB);
        std::fs::write(&copy, bytes).unwrap();
        match inspect_sqlite(&copy).await {
            Ok(report) => assert!(!report.problems.is_empty()),
            Err(error) => assert!(error.to_string().contains("backup"), "{error}"),
        }
    }
}
