//! Stored messages at the store's seam: reading. They are written by [`super::PersistTx`].

use super::error::Result;
use super::head::Head;
use super::user::Profile;
use async_trait::async_trait;

/// Reading messages.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// One message by id.
    async fn message(&self, id: i64) -> Result<Option<Message>>;

    /// A range of one conversation by number; `None` without such a conversation. The head is not younger than the rows:
    /// a row at or below its `stored_through_seq` is never missing.
    async fn messages(&self, query: MessageQuery) -> Result<Option<MessagePage>>;

    /// Highest id there is of a message, stored or parked, or of a user; 0 without any (C3).
    async fn highest_id(&self) -> Result<i64>;
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Snowflake.
    pub id: i64,
    /// Text id of its conversation.
    pub conversation: String,
    /// Number within the conversation.
    pub seq: i64,
    /// Who sent it.
    pub sender_id: i64,
    /// Number of `common.v1.MessageType`.
    pub kind: i32,
    /// Empty when deleted.
    pub content: String,
    /// JSON or empty.
    pub extra: String,
    /// As the client sent it.
    pub client_msg_id: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Recalled.
    pub deleted: bool,
}

/// Which messages.
#[derive(Clone, Debug)]
pub struct MessageQuery {
    /// Text id.
    pub conversation: String,
    /// Lowest number, inclusive.
    pub low: i64,
    /// Highest number, inclusive.
    pub high: i64,
    /// Lowest first.
    pub ascending: bool,
    /// Only these numbers of `common.v1.MessageType`; empty: all.
    pub kinds: Vec<i32>,
    /// Rows at most.
    pub limit: i64,
}

/// Answer to a [`MessageQuery`].
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// How far the conversation was stored before the rows were read.
    pub head: Head,
    /// In the order asked for, each with its sender if that account exists.
    pub messages: Vec<(Message, Option<Profile>)>,
}
