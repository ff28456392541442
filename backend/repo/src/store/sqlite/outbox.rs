//! What transactions have to tell: corrected acknowledgements and domain events, in the order of their commits.
//!
//! Owns the table. Never relays them.

use super::super::error::{Result, StoreError};
use super::super::pipeline::OutboxRow;
use super::batch::{Batched, Values};
use super::connection::Inner;
use super::rows::col;
use bytes::Bytes;
use gochat_proto::bus::v1::OutboxEvent;
use prost::Message as _;
use sqlx::{Sqlite, Transaction};

const ACK: i64 = 1;
const EVENT: i64 = 2;

static ADD: Batched = Batched::new("INSERT INTO outbox (kind, entry) VALUES ", "(?,?)", "");
static DELETE: Batched = Batched::new("DELETE FROM outbox WHERE id IN (", "?", ")");

impl Inner {
    /// Adds domain events to the running transaction.
    pub(super) async fn add_events(&self, tx: &mut Transaction<'static, Sqlite>, events: &[OutboxEvent]) -> Result<()> {
        let entries: Vec<Bytes> = events.iter().map(|event| event.encode_to_vec().into()).collect();
        self.add_entries(tx, EVENT, &entries).await
    }

    /// Adds corrected acknowledgements to the running transaction.
    pub(super) async fn add_acks(&self, tx: &mut Transaction<'static, Sqlite>, acks: &[Bytes]) -> Result<()> {
        self.add_entries(tx, ACK, acks).await
    }

    async fn add_entries(&self, tx: &mut Transaction<'static, Sqlite>, kind: i64, entries: &[Bytes]) -> Result<()> {
        for (sql, slice) in ADD.exact(entries) {
            let mut values = Values::default();
            for entry in slice {
                values.add(kind)?.add(entry.as_ref())?;
            }
            sqlx::query_with(sql, values.done()).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        if !entries.is_empty() {
            self.outbox.added();
        }
        Ok(())
    }

    pub(super) async fn outbox_rows(&self, limit: u32) -> Result<Vec<(i64, OutboxRow)>> {
        let rows = sqlx::query("SELECT id, kind, entry FROM outbox ORDER BY id LIMIT ?")
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|e| self.fail(e))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let entry = Bytes::from(col::<Vec<u8>>(row, 2)?);
            let entry = match col::<i64>(row, 1)? {
                ACK => OutboxRow::Ack(entry),
                EVENT => OutboxRow::Event(entry),
                kind => return Err(StoreError::Broken(format!("an outbox entry of kind {kind}"))),
            };
            found.push((col(row, 0)?, entry));
        }
        Ok(found)
    }

    pub(super) async fn delete_outbox_rows(&self, ids: &[i64]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (sql, keys) in DELETE.padded(ids) {
            sqlx::query_with(sql, Values::keys(keys)?).execute(&mut *tx).await.map_err(|e| self.fail(e))?;
        }
        self.commit(tx).await
    }
}
