//! What the message pipeline asks of the store: epochs, look-ups, reservations, and the transaction that persists records.
//!
//! The verbs are mechanical. What a conflict means (B5), which record is void (A2) and what moves `storedThroughSeq` (D1) is
//! decided in `pipeline`.

use super::error::Result;
use async_trait::async_trait;
use bytes::Bytes;
use gochat_proto::bus::v1::OutboxEvent;
use tokio::sync::watch;

/// Epochs, claims, reservations, positions, outbox.
#[async_trait]
pub trait PipelineStore: Send + Sync + 'static {
    /// +1 for the partition's epoch, durable before it returns, also over a failover (A2). The first is 1.
    async fn draw_epoch(&self, partition: u32) -> Result<i64>;

    /// The partition's epoch; 0: none was drawn.
    async fn epoch(&self, partition: u32) -> Result<i64>;

    /// What preparing a batch must know, in one call: rows at claims, heads of conversations, the partition's epoch.
    /// The epoch is not older than the heads, and these are not older than the claims.
    async fn prepare_lookup(&self, lookup: PrepareLookup) -> Result<PrepareAnswer>;

    /// Messages that recalls name, by id, in any order; absent ones are left out.
    async fn recall_targets(&self, ids: &[i64]) -> Result<Vec<RecallTarget>>;

    /// Raises the reserved bounds of conversations by a number each, durable before it returns (C1). Answers with the
    /// bounds before, in order: numbers above them and up to the new bound belong to the caller.
    async fn reserve_sequences(&self, raises: &[(i64, i64)]) -> Result<Vec<i64>>;

    /// Begins the transaction that persists records of one partition. One at a time runs; the others wait. Dropped without
    /// [`PersistTx::commit`], it leaves no trace. `now_ms` (Unix) decides the period whose claims are written.
    async fn begin_persist(&self, partition: u32, now_ms: i64) -> Result<Box<dyn PersistTx>>;

    /// Where persistence stands: next offset of every partition seen.
    async fn positions(&self) -> Result<Vec<(u32, i64)>>;

    /// Outbox entries that are still there, oldest first.
    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxRow)>>;

    /// Moves with every commit of this process that added outbox entries. The sender lives as long as the store.
    fn outbox_commits(&self) -> watch::Receiver<u64>;

    /// Removes outbox entries; absent ones are fine.
    async fn delete_outbox(&self, ids: &[i64]) -> Result<()>;

    /// Records that could not be stored, oldest first.
    async fn parked(&self, limit: u32) -> Result<Vec<Parked>>;

    /// Whether it can still write: false from the first error of its disk on, and for ever (pipeline.md J2). The sender
    /// lives as long as the store.
    fn health(&self) -> watch::Receiver<bool>;
}

/// What the outbox holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxRow {
    /// An encoded `gochat.bus.v1.Ack`: a corrected acknowledgement (B5).
    Ack(Bytes),
    /// An encoded `gochat.bus.v1.OutboxEvent`: a domain event (F2).
    Event(Bytes),
}

/// One transaction of the persist path (E1). A call that fails ends it: drop it and begin again.
#[async_trait]
pub trait PersistTx: Send {
    /// What the store has seen of this log partition.
    async fn log_state(&mut self) -> Result<LogState>;

    /// Takes free claims, in order. Answers with those whose place is held by another message, also by an earlier one of
    /// this call: index and the holder's message id.
    async fn insert_claims(&mut self, claims: &[ClaimRow]) -> Result<Vec<(usize, i64)>>;

    /// Rows by message id, in any order; absent ones are left out.
    async fn rows_by_id(&mut self, ids: &[i64]) -> Result<Vec<StoredRow>>;

    /// Rows by (conversation key, number), in any order; absent ones are left out.
    async fn rows_at(&mut self, places: &[(i64, i64)]) -> Result<Vec<StoredRow>>;

    /// Inserts messages, in order. A message whose id or (conversation, number) is taken is left out.
    async fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> Result<Inserted>;

    /// Recalls messages, by conversation key and message id: they stay, marked, without content and extra. Others are left
    /// alone.
    async fn recall_messages(&mut self, messages: &[(i64, i64)]) -> Result<()>;

    /// Moves conversations, each once in a call. Numbers only rise; a parked conversation's `stored_through_seq` stays. One
    /// in which something was stored gets a new change time (D4).
    async fn advance(&mut self, advances: &[Advance]) -> Result<()>;

    /// Keeps messages that could not be stored.
    async fn park(&mut self, parked: &[Parked]) -> Result<()>;

    /// Adds corrected acknowledgements (encoded `gochat.bus.v1.Ack`) and domain events to be relayed.
    async fn add_outbox(&mut self, acks: &[Bytes], events: &[OutboxEvent]) -> Result<()>;

    /// Moves the log position.
    async fn set_log_state(&mut self, state: LogState) -> Result<()>;

    /// Makes everything durable at once. After an error it is unknown whether it did.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// What the store has seen of a log partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Offset of the first record not yet consumed.
    pub next_offset: i64,
    /// Highest epoch met.
    pub epoch_seen: i64,
}

/// Question of [`PipelineStore::prepare_lookup`].
#[derive(Clone, Debug, Default)]
pub struct PrepareLookup {
    /// Upstream partition.
    pub partition: u32,
    /// Places in the claims index.
    pub claims: Vec<i64>,
    /// Conversation keys.
    pub conversations: Vec<i64>,
}

/// Answer to a [`PrepareLookup`].
#[derive(Clone, Debug, Default)]
pub struct PrepareAnswer {
    /// The partition's epoch.
    pub epoch: i64,
    /// Places that are taken, in any order, with the row they point to, if it is there.
    pub claims: Vec<(i64, Option<StoredRow>)>,
    /// Highest number stored or passed per conversation, in the order asked; 0 without such a conversation.
    pub top_seqs: Vec<i64>,
}

/// A place in the claims index (B1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// 64-bit hash of the idempotency key and the probe number.
    pub place: i64,
    /// The message that holds it.
    pub message_id: i64,
}

/// Identity of a stored message: what B5 compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Snowflake.
    pub id: i64,
    /// Conversation key.
    pub conversation: i64,
    /// Number within it.
    pub seq: i64,
    /// Who sent it.
    pub sender_id: i64,
    /// As the client sent it, compared as bytes.
    pub client_msg_id: Vec<u8>,
    /// 128-bit hash of type, content and extra.
    pub content_hash: u128,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// What judging a recall asks of the message it names (D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallTarget {
    /// Snowflake.
    pub id: i64,
    /// Conversation key.
    pub conversation: i64,
    /// Number within it.
    pub seq: i64,
    /// Who sent it.
    pub sender_id: i64,
    /// Number of `common.v1.MessageType`.
    pub kind: i32,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Recalled before.
    pub deleted: bool,
}

/// A message to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct MessageRow<'a> {
    /// Snowflake.
    pub id: i64,
    /// Conversation key.
    pub conversation: i64,
    /// Number within it.
    pub seq: i64,
    /// Who sent it.
    pub sender_id: i64,
    /// Number of `common.v1.MessageType`.
    pub kind: i32,
    /// Text.
    pub content: &'a str,
    /// JSON or empty.
    pub extra: &'a str,
    /// Compared as bytes.
    pub client_msg_id: &'a [u8],
    /// 128-bit hash of type, content and extra.
    pub content_hash: u128,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// Answer to [`PersistTx::insert_messages`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Rows that are new.
    pub new: u64,
    /// Indexes of messages that the store does not hold as they are: their id or their place belongs to another. One that
    /// was stored before with the same id, place, sender and hash is not among them.
    pub conflicts: Vec<usize>,
}

/// How a conversation moves. Fields that are lower than what is stored change nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// Conversation key.
    pub conversation: i64,
    /// Highest number stored now; 0: none.
    pub last_seq: i64,
    /// Highest number stored now of what a person wrote; 0: none.
    pub last_message_seq: i64,
    /// The message with that number.
    pub last_message_id: i64,
    /// Something happened in it: lists show it first.
    pub active: bool,
    /// Everything at or below is stored or void for ever.
    pub stored_through_seq: i64,
    /// `stored_through_seq` stops here.
    pub parked: bool,
}

/// A message that could not be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Log partition.
    pub partition: u32,
    /// Offset of its record.
    pub log_offset: i64,
    /// Text id.
    pub conversation: String,
    /// Its id; 0: unknown.
    pub message_id: i64,
    /// Why, for the operator.
    pub reason: String,
    /// An encoded `gochat.bus.v1.PersistMessage`.
    pub message: Bytes,
    /// Unix milliseconds.
    pub parked_at_ms: i64,
}
