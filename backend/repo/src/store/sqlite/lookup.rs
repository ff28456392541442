//! Statements of the pipeline outside the persist transaction: epochs, look-ups of a batch, reservations, positions, outbox.

use super::super::error::{Result, StoreError};
use super::super::pipeline::{
    OutboxRow, Parked, PersistTx, PipelineStore, PrepareAnswer, PrepareLookup, RecallTarget, StoredRow,
};
use super::batch::{Batched, Values};
use super::claims::period_of;
use super::connection::SqliteStore;
use super::heads::HEADS;
use super::persist::SqlitePersist;
use super::rows::{col, flag, small, stored_row_at};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

static RESERVE: Batched = Batched::new(
    "INSERT INTO conversation_sequences (conversation_key, reserved_until) VALUES ",
    "(?,?)",
    " ON CONFLICT (conversation_key) DO UPDATE SET reserved_until = reserved_until + excluded.reserved_until \
     RETURNING conversation_key, reserved_until",
);

static TARGETS: Batched = Batched::new(
    "SELECT id, conversation_key, seq, sender_id, type, created_at, deleted FROM messages WHERE id IN (",
    "?",
    ")",
);

#[async_trait]
impl PipelineStore for SqliteStore {
    async fn draw_epoch(&self, partition: u32) -> Result<i64> {
        let mut tx = self.inner.begin().await?;
        let row = sqlx::query(
            "INSERT INTO partitions (partition, epoch) VALUES (?, 1) \
             ON CONFLICT (partition) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        )
        .bind(partition)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let epoch: i64 = col(&row, 0)?;
        self.inner.commit(tx).await?;
        // Nobody has this epoch before we return, so a check that ran in between was answered rightly. Of two draws the
        // earlier may come here last.
        let mut epochs = locked(&self.inner.epochs);
        let known = epochs.entry(partition).or_insert(0);
        *known = epoch.max(*known);
        Ok(epoch)
    }

    async fn epoch(&self, partition: u32) -> Result<i64> {
        Ok(locked(&self.inner.epochs).get(&partition).copied().unwrap_or(0))
    }

    async fn prepare_lookup(&self, lookup: PrepareLookup) -> Result<PrepareAnswer> {
        let claims = self.rows_at_claims(lookup.claims).await?;
        let top_seqs = self.top_seqs(&lookup.conversations).await?;
        Ok(PrepareAnswer { epoch: self.epoch(lookup.partition).await?, claims, top_seqs })
    }

    async fn recall_targets(&self, ids: &[i64]) -> Result<Vec<RecallTarget>> {
        let mut found = Vec::with_capacity(ids.len());
        for (sql, keys) in TARGETS.padded(ids) {
            let rows = sqlx::query_with(sql, Values::keys(keys)?)
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                found.push(RecallTarget {
                    id: col(row, 0)?,
                    conversation: col(row, 1)?,
                    seq: col(row, 2)?,
                    sender_id: col(row, 3)?,
                    kind: small(row, 4)?,
                    created_at_ms: col(row, 5)?,
                    deleted: flag(row, 6)?,
                });
            }
        }
        Ok(found)
    }

    async fn reserve_sequences(&self, raises: &[(i64, i64)]) -> Result<Vec<i64>> {
        let mut tx = self.inner.begin().await?;
        let mut bounds = HashMap::with_capacity(raises.len());
        for (sql, slice) in RESERVE.exact(raises) {
            let mut values = Values::default();
            for (conversation, count) in slice {
                values.add(*conversation)?.add(*count)?;
            }
            let rows =
                sqlx::query_with(sql, values.done()).fetch_all(&mut *tx).await.map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                bounds.insert(col::<i64>(row, 0)?, col::<i64>(row, 1)?);
            }
        }
        self.inner.commit(tx).await?;
        let before = |(conversation, count): &(i64, i64)| bounds.get(conversation).map(|bound| bound - count);
        raises.iter().map(before).collect::<Option<_>>().ok_or_else(|| StoreError::Broken("a bound is missing".into()))
    }

    async fn begin_persist(&self, partition: u32, now_ms: i64) -> Result<Box<dyn PersistTx>> {
        let mut tx = self.inner.begin().await?;
        // Read inside the transaction: only one can be changing them.
        let mut claims = self.inner.claim_tables();
        let new_period = claims.needs(period_of(now_ms));
        if new_period {
            claims = self.inner.begin_period(&mut tx, period_of(now_ms)).await?;
        }
        Ok(Box::new(SqlitePersist::new(self.inner.clone(), tx, partition, claims, new_period)))
    }

    async fn positions(&self) -> Result<Vec<(u32, i64)>> {
        let rows = sqlx::query("SELECT partition, next_offset FROM log_positions")
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| Ok((col(row, 0)?, col(row, 1)?))).collect()
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxRow)>> {
        self.inner.outbox_rows(limit).await
    }

    fn outbox_commits(&self) -> watch::Receiver<u64> {
        self.inner.outbox.commits()
    }

    async fn delete_outbox(&self, ids: &[i64]) -> Result<()> {
        self.inner.delete_outbox_rows(ids).await
    }

    async fn parked(&self, limit: u32) -> Result<Vec<Parked>> {
        let rows = sqlx::query(
            "SELECT partition, log_offset, conversation_id, message_id, reason, message, parked_at \
             FROM parked_records ORDER BY id LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let parked = |row: &SqliteRow| {
            Ok(Parked {
                partition: col(row, 0)?,
                log_offset: col(row, 1)?,
                conversation: col(row, 2)?,
                message_id: col(row, 3)?,
                reason: col(row, 4)?,
                message: Bytes::from(col::<Vec<u8>>(row, 5)?),
                parked_at_ms: col(row, 6)?,
            })
        };
        rows.iter().map(parked).collect()
    }

    fn health(&self) -> watch::Receiver<bool> {
        self.inner.health.subscribe()
    }
}

impl SqliteStore {
    /// Goes on from the highest change time written.
    pub(super) async fn load_change_time(&self) -> Result<()> {
        let row = sqlx::query(
            "SELECT max(coalesce((SELECT max(updated_at) FROM conversations), 0), \
             coalesce((SELECT max(updated_at) FROM conversation_members), 0), \
             coalesce((SELECT max(updated_at) FROM read_pointers), 0), \
             coalesce((SELECT max(updated_at) FROM friendship_requests), 0), \
             coalesce((SELECT max(removed_at) FROM sync_tombstones), 0))",
        )
        .fetch_one(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        self.inner.changes.raise(col(&row, 0)?);
        Ok(())
    }

    /// Reads the epochs; from then on they are kept beside the file.
    pub(super) async fn load_epochs(&self) -> Result<()> {
        let rows = sqlx::query("SELECT partition, epoch FROM partitions")
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        let mut epochs = locked(&self.inner.epochs);
        for row in &rows {
            epochs.insert(col(row, 0)?, col(row, 1)?);
        }
        Ok(())
    }

    /// Highest numbers of conversations, in the order asked; 0 for those that do not exist.
    async fn top_seqs(&self, conversations: &[i64]) -> Result<Vec<i64>> {
        let mut known = self.inner.heads.look(conversations);
        if known.missing.is_empty() {
            return Ok(known.tops);
        }
        let mut loaded = HashMap::with_capacity(known.missing.len());
        for (sql, keys) in HEADS.padded(&known.missing) {
            let rows = sqlx::query_with(sql, Values::keys(keys)?)
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                loaded.insert(col::<i64>(row, 0)?, col::<i64>(row, 1)?);
            }
        }
        self.inner.heads.keep(&known, loaded.iter().map(|(key, top)| (*key, *top)));
        for (top, key) in known.tops.iter_mut().zip(conversations) {
            *top = (*top).max(loaded.get(key).copied().unwrap_or(0));
        }
        Ok(known.tops)
    }

    /// Places that are taken, in the current table or the one before.
    async fn rows_at_claims(&self, mut places: Vec<i64>) -> Result<Vec<(i64, Option<StoredRow>)>> {
        let mut found = Vec::new();
        for table in &self.inner.claim_tables().tables {
            let first = found.len();
            let asked: Vec<i64> = places.iter().copied().filter(|place| !table.filter.is_free(*place)).collect();
            for (sql, keys) in table.rows.padded(&asked) {
                let rows = sqlx::query_with(sql, Values::keys(keys)?)
                    .fetch_all(&self.inner.readers)
                    .await
                    .map_err(|e| self.inner.fail(e))?;
                for row in &rows {
                    let there = col::<Option<i64>>(row, 1)?.is_some();
                    found.push((col(row, 0)?, if there { Some(stored_row_at(row, 1)?) } else { None }));
                }
            }
            if found.len() > first {
                places.retain(|place| !found[first..].iter().any(|(taken, _)| taken == place));
            }
        }
        Ok(found)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
