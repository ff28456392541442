//! The persist transaction: many rows a statement, many records a commit (pipeline.md E1, performance.md).

use super::super::error::Result;
use super::super::pipeline::{Advance, ClaimRow, Inserted, LogState, MessageRow, Parked, PersistTx, StoredRow};
use super::batch::{Batched, Values};
use super::changes::Stamp;
use super::claims::ClaimTables;
use super::connection::Inner;
use super::heads::HEADS;
use super::rows::{col, log_state_of, stored_row_at};
use async_trait::async_trait;
use bytes::Bytes;
use gochat_proto::bus::v1::OutboxEvent;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

static INSERT_MESSAGES: Batched = Batched::new(
    "INSERT OR IGNORE INTO messages (id, conversation_key, seq, sender_id, type, content, extra, client_msg_id, \
     content_hash, created_at) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?)",
    "",
);
static ROWS_BY_ID: Batched = Batched::new(
    "SELECT id, conversation_key, seq, sender_id, client_msg_id, content_hash, created_at FROM messages WHERE id IN (",
    "?",
    ")",
);
static ROWS_AT: Batched = Batched::new(
    "WITH asked (conversation_key, seq) AS (VALUES ",
    "(?,?)",
    ") SELECT m.id, m.conversation_key, m.seq, m.sender_id, m.client_msg_id, m.content_hash, m.created_at \
     FROM asked JOIN messages m ON m.conversation_key = asked.conversation_key AND m.seq = asked.seq",
);
static ADVANCE: Batched = Batched::new(
    "WITH moved (key, last_seq, message_seq, message_id, active, through, parked) AS (VALUES ",
    "(?,?,?,?,?,?,?)",
    ") UPDATE conversations AS c SET \
     last_message_id = iif(moved.message_seq > c.last_message_seq, moved.message_id, c.last_message_id), \
     last_message_seq = max(c.last_message_seq, moved.message_seq), \
     last_seq = max(c.last_seq, moved.last_seq), \
     stored_through_seq = iif(c.parked, c.stored_through_seq, max(c.stored_through_seq, moved.through)), \
     parked = max(c.parked, moved.parked), \
     active_at = iif(moved.active, max(c.active_at, ?), c.active_at), \
     updated_at = iif(moved.last_seq > 0, max(c.updated_at, ?), c.updated_at) \
     FROM moved WHERE c.key = moved.key",
);
static RECALL: Batched = Batched::new(
    "WITH gone (conversation_key, id) AS (VALUES ",
    "(?,?)",
    ") UPDATE messages SET deleted = 1, content = '', extra = '' FROM gone \
     WHERE messages.id = gone.id AND messages.conversation_key = gone.conversation_key",
);
static PARK: Batched = Batched::new(
    "INSERT INTO parked_records (partition, log_offset, conversation_id, message_id, reason, message, parked_at) VALUES ",
    "(?,?,?,?,?,?,?)",
    "",
);

/// A running persist transaction.
pub(super) struct SqlitePersist {
    inner: Arc<Inner>,
    tx: Transaction<'static, Sqlite>,
    partition: u32,
    claims: Arc<ClaimTables>,
    new_period: bool,
    /// Change time of what it changes, once it does.
    stamp: Option<Stamp>,
}

impl SqlitePersist {
    pub(super) fn new(
        inner: Arc<Inner>,
        tx: Transaction<'static, Sqlite>,
        partition: u32,
        claims: Arc<ClaimTables>,
        new_period: bool,
    ) -> SqlitePersist {
        SqlitePersist { inner, tx, partition, claims, new_period, stamp: None }
    }

    /// Runs one statement; answers with the rows it changed.
    async fn run(&mut self, sql: AssertSqlSafe<Arc<str>>, values: SqliteArguments) -> Result<u64> {
        let done = sqlx::query_with(sql, values).execute(&mut *self.tx).await;
        Ok(done.map_err(|e| self.inner.fail(e))?.rows_affected())
    }

    async fn stored_rows(&mut self, sql: AssertSqlSafe<Arc<str>>, keys: SqliteArguments) -> Result<Vec<StoredRow>> {
        let rows = sqlx::query_with(sql, keys).fetch_all(&mut *self.tx).await.map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| stored_row_at(row, 0)).collect()
    }

    /// Takes the heads of these conversations into memory as this transaction leaves them.
    async fn read_heads(&mut self, conversations: &[i64]) -> Result<()> {
        let mut heads = Vec::with_capacity(conversations.len());
        for (sql, keys) in HEADS.padded(conversations) {
            let rows = sqlx::query_with(sql, Values::keys(keys)?).fetch_all(&mut *self.tx).await;
            for row in &rows.map_err(|e| self.inner.fail(e))? {
                heads.push((col(row, 0)?, col(row, 1)?));
            }
        }
        if !heads.is_empty() {
            self.inner.heads.set(&heads);
        }
        Ok(())
    }

    /// Indexes of claims that the table before the current one holds for another message.
    async fn held_before(&mut self, claims: &[ClaimRow]) -> Result<HashMap<i64, i64>> {
        let Some(before) = self.claims.tables.get(1).cloned() else { return Ok(HashMap::new()) };
        let taken = claims.iter().map(|c| c.place).filter(|place| !before.filter.is_free(*place));
        let places: Vec<i64> = taken.collect();
        self.inner.holders(&mut self.tx, &before, &places).await
    }
}

#[async_trait]
impl PersistTx for SqlitePersist {
    async fn log_state(&mut self) -> Result<LogState> {
        let row = sqlx::query("SELECT next_offset, epoch_seen FROM log_positions WHERE partition = ?")
            .bind(self.partition)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(|e| self.inner.fail(e))?;
        log_state_of(row.as_ref())
    }

    async fn insert_claims(&mut self, claims: &[ClaimRow]) -> Result<Vec<(usize, i64)>> {
        let before = self.held_before(claims).await?;
        let mut held = Vec::new();
        let mut wanted: Vec<(usize, ClaimRow)> = Vec::with_capacity(claims.len());
        for (index, claim) in claims.iter().enumerate() {
            match before.get(&claim.place) {
                Some(holder) if *holder != claim.message_id => held.push((index, *holder)),
                Some(_) => {}
                None => wanted.push((index, *claim)),
            }
        }
        let tables = self.claims.clone();
        let table = tables.current()?;
        table.filter.add(wanted.iter().map(|(_, claim)| claim.place));
        // Neighbours share pages. Equal places stay in order: the first one takes it.
        wanted.sort_by_key(|(_, claim)| claim.place);
        for (sql, slice) in table.insert.exact(&wanted) {
            let mut values = Values::default();
            for (_, claim) in slice {
                values.add(claim.place)?.add(claim.message_id)?;
            }
            if self.run(sql, values.done()).await? == slice.len() as u64 {
                continue;
            }
            let places: Vec<i64> = slice.iter().map(|(_, c)| c.place).collect();
            let holders = self.inner.holders(&mut self.tx, table, &places).await?;
            let other = |(index, claim): &(usize, ClaimRow)| {
                let holder = *holders.get(&claim.place)?;
                (holder != claim.message_id).then_some((*index, holder))
            };
            held.extend(slice.iter().filter_map(other));
        }
        held.sort_unstable();
        Ok(held)
    }

    async fn rows_by_id(&mut self, ids: &[i64]) -> Result<Vec<StoredRow>> {
        let mut found = Vec::new();
        for (sql, keys) in ROWS_BY_ID.padded(ids) {
            found.extend(self.stored_rows(sql, Values::keys(keys)?).await?);
        }
        Ok(found)
    }

    async fn rows_at(&mut self, places: &[(i64, i64)]) -> Result<Vec<StoredRow>> {
        let mut found = Vec::new();
        for (sql, keys) in ROWS_AT.exact(places) {
            let flat = Values::keys(keys.iter().flat_map(|(conversation, seq)| [*conversation, *seq]))?;
            found.extend(self.stored_rows(sql, flat).await?);
        }
        Ok(found)
    }

    async fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> Result<Inserted> {
        let mut inserted = Inserted::default();
        let mut first = 0;
        for (sql, slice) in INSERT_MESSAGES.exact(rows) {
            let mut values = Values::default();
            for row in slice {
                bind_message(&mut values, row)?;
            }
            let new = self.run(sql, values.done()).await?;
            inserted.new += new;
            if new < slice.len() as u64 {
                let ids: Vec<i64> = slice.iter().map(|row| row.id).collect();
                let stored: HashMap<i64, StoredRow> =
                    self.rows_by_id(&ids).await?.into_iter().map(|row| (row.id, row)).collect();
                let other = |row: &MessageRow<'_>| stored.get(&row.id).is_none_or(|there| !same(there, row));
                inserted.conflicts.extend((0..slice.len()).filter(|i| other(&slice[*i])).map(|i| first + i));
            }
            first += slice.len();
        }
        Ok(inserted)
    }

    async fn recall_messages(&mut self, messages: &[(i64, i64)]) -> Result<()> {
        for (sql, slice) in RECALL.exact(messages) {
            let flat = slice.iter().flat_map(|(conversation, id)| [*conversation, *id]);
            self.run(sql, Values::keys(flat)?).await?;
        }
        Ok(())
    }

    async fn advance(&mut self, advances: &[Advance]) -> Result<()> {
        let tops = advances.iter().map(|a| (a.conversation, a.last_seq.max(a.stored_through_seq)));
        let unknown = self.inner.heads.raise(tops);
        let changed_at = self.stamp.get_or_insert_with(|| self.inner.changes.stamp()).ms;
        for (sql, slice) in ADVANCE.exact(advances) {
            let mut values = Values::default();
            for a in slice {
                values.add(a.conversation)?.add(a.last_seq)?.add(a.last_message_seq)?.add(a.last_message_id)?;
                values.add(a.active)?.add(a.stored_through_seq)?.add(a.parked)?;
            }
            values.add(changed_at)?.add(changed_at)?;
            self.run(sql, values.done()).await?;
        }
        self.read_heads(&unknown).await
    }

    async fn park(&mut self, parked: &[Parked]) -> Result<()> {
        for (sql, slice) in PARK.exact(parked) {
            let mut values = Values::default();
            for p in slice {
                values.add(p.partition)?.add(p.log_offset)?.add(&p.conversation)?.add(p.message_id)?;
                values.add(&p.reason)?.add(p.message.as_ref())?.add(p.parked_at_ms)?;
            }
            self.run(sql, values.done()).await?;
        }
        Ok(())
    }

    async fn add_outbox(&mut self, acks: &[Bytes], events: &[OutboxEvent]) -> Result<()> {
        self.inner.add_acks(&mut self.tx, acks).await?;
        self.inner.add_events(&mut self.tx, events).await
    }

    async fn set_log_state(&mut self, state: LogState) -> Result<()> {
        sqlx::query(
            "INSERT INTO log_positions (partition, next_offset, epoch_seen) VALUES (?,?,?) \
             ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset, epoch_seen = excluded.epoch_seen",
        )
        .bind(self.partition)
        .bind(state.next_offset)
        .bind(state.epoch_seen)
        .execute(&mut *self.tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let SqlitePersist { inner, tx, claims, new_period, stamp, .. } = *self;
        inner.commit(tx).await?;
        drop(stamp);
        if new_period {
            inner.set_claim_tables(claims);
        }
        Ok(())
    }
}

/// Most messages carry no extra: one text for all of them.
static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

fn bind_message(values: &mut Values, row: &MessageRow<'_>) -> Result<()> {
    values
        .add(row.id)?
        .add(row.conversation)?
        .add(row.seq)?
        .add(row.sender_id)?
        .add(row.kind)?
        .add(Arc::<str>::from(row.content))?
        .add(if row.extra.is_empty() { EMPTY.clone() } else { Arc::from(row.extra) })?
        .add(row.client_msg_id)?
        .add(row.content_hash.to_be_bytes().to_vec())?
        .add(row.created_at_ms)?;
    Ok(())
}

/// Stored before, as it is?
fn same(there: &StoredRow, row: &MessageRow<'_>) -> bool {
    there.conversation == row.conversation
        && there.seq == row.seq
        && there.sender_id == row.sender_id
        && there.client_msg_id == row.client_msg_id
        && there.content_hash == row.content_hash
}
