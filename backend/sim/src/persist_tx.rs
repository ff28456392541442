//! The persist transaction of the store in memory: it works on a copy that replaces the tables at commit.
//!
//! Owns the checks of inserted rows: never back in number, never at or below what was passed.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gochat_proto::bus::v1::OutboxEvent;
use gochat_repo::store::Result;
use gochat_repo::store::pipeline::{
    Advance, ClaimRow, Inserted, LogState, MessageRow, OutboxRow, Parked, PersistTx, StoredRow,
};
use prost::Message as _;
use tokio::sync::OwnedMutexGuard;

use crate::Broken;
use crate::chaos::locked;
use crate::tables::{Database, Row, Tables};

/// A running transaction. Only one runs at a time.
pub(crate) struct MemoryTx {
    database: Arc<Database>,
    _writer: OwnedMutexGuard<()>,
    partition: u32,
    term: u64,
    tables: Tables,
    /// Highest number of a conversation before this transaction, whose rows become visible at once.
    tops: HashMap<i64, i64>,
    violations: Vec<String>,
}

impl MemoryTx {
    pub(crate) fn new(
        database: Arc<Database>,
        writer: OwnedMutexGuard<()>,
        partition: u32,
        term: u64,
        tables: Tables,
    ) -> MemoryTx {
        MemoryTx { database, _writer: writer, partition, term, tables, tops: HashMap::new(), violations: Vec::new() }
    }

    fn insert(&mut self, row: &MessageRow<'_>) -> bool {
        if self.tables.rows.contains_key(&row.id) || self.tables.places.contains_key(&(row.conversation, row.seq)) {
            return false;
        }
        let places = &self.tables.places;
        let top = *self.tops.entry(row.conversation).or_insert_with(|| {
            let highest = places.range((row.conversation, 0)..=(row.conversation, i64::MAX)).next_back();
            highest.map_or(0, |((_, seq), _)| *seq)
        });
        if top > row.seq {
            self.violations.push(format!("3: row {} of conversation {} comes after {top}", row.seq, row.conversation));
        }
        let through = self.tables.conversations.get(&row.conversation).map_or(0, |c| c.head.stored_through_seq);
        if row.seq <= through {
            let at = row.conversation;
            self.violations.push(format!("4: row {} of conversation {at} stored at or below {through}", row.seq));
        }
        self.tables.places.insert((row.conversation, row.seq), row.id);
        let identity = StoredRow {
            id: row.id,
            conversation: row.conversation,
            seq: row.seq,
            sender_id: row.sender_id,
            client_msg_id: row.client_msg_id.to_vec(),
            content_hash: row.content_hash,
            created_at_ms: row.created_at_ms,
        };
        self.tables.rows.insert(
            row.id,
            Row {
                identity,
                kind: row.kind,
                content: row.content.to_owned(),
                was: row.content.to_owned(),
                extra: row.extra.to_owned(),
                deleted: false,
            },
        );
        true
    }

    fn holds(&self, row: &MessageRow<'_>) -> bool {
        self.tables.rows.get(&row.id).is_some_and(|there| {
            let there = &there.identity;
            (there.conversation, there.seq, there.sender_id) == (row.conversation, row.seq, row.sender_id)
                && there.client_msg_id == row.client_msg_id
                && there.content_hash == row.content_hash
        })
    }
}

#[async_trait]
impl PersistTx for MemoryTx {
    async fn log_state(&mut self) -> Result<LogState> {
        Ok(self.tables.logs.get(&self.partition).copied().unwrap_or_default())
    }

    async fn insert_claims(&mut self, claims: &[ClaimRow]) -> Result<Vec<(usize, i64)>> {
        let mut held = Vec::new();
        for (index, claim) in claims.iter().enumerate() {
            let holder = *self.tables.claims.entry(claim.place).or_insert(claim.message_id);
            if holder != claim.message_id {
                held.push((index, holder));
            }
        }
        Ok(held)
    }

    async fn rows_by_id(&mut self, ids: &[i64]) -> Result<Vec<StoredRow>> {
        Ok(ids.iter().filter_map(|id| self.tables.rows.get(id)).map(|row| row.identity.clone()).collect())
    }

    async fn rows_at(&mut self, places: &[(i64, i64)]) -> Result<Vec<StoredRow>> {
        let ids = places.iter().filter_map(|place| self.tables.places.get(place));
        Ok(ids.filter_map(|id| self.tables.rows.get(id)).map(|row| row.identity.clone()).collect())
    }

    async fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> Result<Inserted> {
        let mut inserted = Inserted::default();
        for (index, row) in rows.iter().enumerate() {
            if self.insert(row) {
                inserted.new += 1;
            } else if !self.holds(row) {
                inserted.conflicts.push(index);
            }
        }
        Ok(inserted)
    }

    async fn recall_messages(&mut self, messages: &[(i64, i64)]) -> Result<()> {
        if locked(&self.database.inner).broken == Some(Broken::RecallsForgotten) {
            return Ok(());
        }
        for (conversation, id) in messages {
            if let Some(row) = self.tables.rows.get_mut(id).filter(|row| row.identity.conversation == *conversation) {
                row.deleted = true;
                row.content.clear();
                row.extra.clear();
            }
        }
        Ok(())
    }

    async fn advance(&mut self, advances: &[Advance]) -> Result<()> {
        for advance in advances {
            let Some(conversation) = self.tables.conversations.get_mut(&advance.conversation) else { continue };
            let head = &mut conversation.head;
            head.last_seq = head.last_seq.max(advance.last_seq);
            if !head.parked {
                head.stored_through_seq = head.stored_through_seq.max(advance.stored_through_seq);
            }
            head.parked |= advance.parked;
        }
        Ok(())
    }

    async fn park(&mut self, parked: &[Parked]) -> Result<()> {
        self.tables.parked.extend_from_slice(parked);
        Ok(())
    }

    async fn add_outbox(&mut self, acks: &[Bytes], events: &[OutboxEvent]) -> Result<()> {
        let acks = acks.iter().map(|ack| OutboxRow::Ack(ack.clone()));
        let events = events.iter().map(|event| OutboxRow::Event(event.encode_to_vec().into()));
        for row in acks.chain(events) {
            self.tables.outbox_next += 1;
            self.tables.outbox.insert(self.tables.outbox_next, row);
        }
        Ok(())
    }

    async fn set_log_state(&mut self, state: LogState) -> Result<()> {
        self.tables.logs.insert(self.partition, state);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let MemoryTx { database, _writer, term, tables, violations, .. } = *self;
        database.commit(term, tables, violations).await
    }
}
