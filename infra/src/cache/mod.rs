//! The seam to the cache: keys with a time to live, hashes, sorted sets, and the sequence script of the message pipeline.
//!
//! Owns the [`Cache`] trait. Never the source of truth: everything in it may be gone at any moment (pipeline.md B3).
//! Implementations: [`memory::MemoryCache`] (embedded) and, in a cluster, Redis. Every call takes many keys, so that
//! a batch costs one round trip.

use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

pub mod memory;

/// What can go wrong in front of a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Not reachable in time; the call may or may not have had its effect.
    #[error("cache unavailable: {0}")]
    Unavailable(String),
    /// The key holds another kind of value.
    #[error("key {0} holds another kind of value")]
    WrongKind(String),
    /// The writer's epoch is older than one the conversation's counter has seen (pipeline.md A2).
    #[error("a newer writer owns conversation {0}")]
    StaleWriter(String),
}

/// A value to be set.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Key; at most 512 bytes.
    pub key: String,
    /// Value.
    pub value: Bytes,
    /// Time to live; `None` keeps it until it is deleted or evicted.
    pub ttl: Option<Duration>,
}

/// Claims and numbers asked for in one conversation. Atomic per conversation (pipeline.md B2).
#[derive(Clone, Debug)]
pub struct SequenceRequest {
    /// Conversation id.
    pub conversation: String,
    /// Epoch of the writer; kept beside the counter, an older one is refused (A2).
    pub epoch: i64,
    /// Highest number this writer appended under its epoch or the store holds: a claim that would be produced again
    /// below it gets a new number (C1).
    pub floor: i64,
    /// One per message, in upstream order.
    pub claims: Vec<ClaimRequest>,
}

/// One message's claim.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Sender and client_msg_id, length-prefixed: the idempotency key inside the conversation (B1).
    pub key: Bytes,
    /// 128-bit hash of type, content and extra (B1).
    pub content_hash: u128,
    /// Candidate message id.
    pub message_id: i64,
    /// Candidate creation time, Unix milliseconds.
    pub created_at_ms: i64,
    /// Upstream offset of the record (B4).
    pub offset: i64,
}

/// A claim as the cache holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Message id it was made with.
    pub message_id: i64,
    /// Its number in the conversation.
    pub seq: i64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Upstream offset of the record that made it.
    pub offset: i64,
    /// Content hash it was made with.
    pub content_hash: u128,
}

/// Answer for one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceReply {
    /// One per claim, in order; `fresh` tells whether it was made now. A claim with another `content_hash` than the one
    /// asked with is returned as it stands: the caller refuses the message (CLIENT_MSG_ID_REUSED).
    Claimed(Vec<Claimed>),
    /// The counter is unknown here or would pass its reserved bound: nothing was changed in this conversation. The caller reserves in
    /// SQL, calls [`Cache::reserve`] and asks again.
    NeedsReservation,
    /// A newer epoch was seen: nothing was changed.
    StaleWriter,
}

/// One claim of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The claim that now stands under the key.
    pub claim: Claim,
    /// Made by this call.
    pub fresh: bool,
}

/// A bound that SQL has reserved.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// Conversation id.
    pub conversation: String,
    /// Where the counter starts when the cache knows none: the bound reserved before, so above every number ever used.
    pub start: i64,
    /// Numbers up to and including this one may be handed out. Never lowers a bound.
    pub bound: i64,
}

/// The cache. All calls take `&self` and may be used from many tasks.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// Incarnation of the claim space: changes whenever claims or counters may have been lost (B3). Never 0.
    async fn incarnation(&self) -> Result<u64, CacheError>;

    /// Values of many keys; `None` is a miss, an empty value is a value.
    async fn get(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError>;

    /// Sets many keys.
    async fn set(&self, entries: Vec<Entry>) -> Result<(), CacheError>;

    /// Sets one key if it is absent; tells whether it did.
    async fn set_if_absent(&self, entry: Entry) -> Result<bool, CacheError>;

    /// Deletes many keys; absent ones are fine.
    async fn delete(&self, keys: &[String]) -> Result<(), CacheError>;

    /// All fields of many hashes; an absent hash is empty.
    async fn hash_get(&self, keys: &[String]) -> Result<Vec<Vec<(String, Bytes)>>, CacheError>;

    /// Sets one field in each of many hashes and renews the whole hash's time to live.
    async fn hash_set(&self, fields: Vec<(String, String, Bytes)>, ttl: Duration) -> Result<(), CacheError>;

    /// Deletes one field in each of many hashes; tells for each whether the hash has fields left.
    async fn hash_delete(&self, fields: &[(String, String)]) -> Result<Vec<bool>, CacheError>;

    /// Renews the time to live of many keys; tells for each whether it exists.
    async fn expire(&self, keys: &[String], ttl: Duration) -> Result<Vec<bool>, CacheError>;

    /// Puts members into one sorted set, or gives those already there another score. A sorted set has no time to live.
    async fn sorted_add(&self, key: &str, members: Vec<(String, i64)>) -> Result<(), CacheError>;

    /// Takes members out of a sorted set; tells for each whether it was there.
    async fn sorted_remove(&self, key: &str, members: &[String]) -> Result<Vec<bool>, CacheError>;

    /// Takes out at most `limit` members with a score of at most `up_to`, lowest score first. Each member goes to one caller.
    async fn sorted_take(&self, key: &str, up_to: i64, limit: usize) -> Result<Vec<(String, i64)>, CacheError>;

    /// The sequence script: claims and numbers for many conversations, atomic in each. `Err(incarnation)` inside: the
    /// claim space is another one than the caller waited for; nothing was changed anywhere.
    async fn claim_sequences(
        &self,
        incarnation: u64,
        requests: Vec<SequenceRequest>,
    ) -> Result<Result<Vec<SequenceReply>, u64>, CacheError>;

    /// Starts counters and raises bounds after SQL has reserved them. Ignored for another incarnation.
    async fn reserve(&self, incarnation: u64, reservations: Vec<Reservation>) -> Result<(), CacheError>;

    /// The store holds these claims now (conversation, key), or nothing was appended under them: they may be forgotten after
    /// `keep`. Zero: they are forgotten when this returns.
    async fn release_claims(&self, claims: Vec<(String, Bytes)>, keep: Duration) -> Result<(), CacheError>;

    /// Highest number handed out per conversation; `None` where the cache knows no counter.
    async fn assigned(&self, conversations: &[String]) -> Result<Vec<Option<i64>>, CacheError>;
}
