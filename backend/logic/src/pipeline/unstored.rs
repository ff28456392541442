//! What this writer appended under its epoch and persistence has not passed yet (pipeline.md B3, C1).
//!
//! Owns the claims and highest numbers that a lost cache entry could otherwise forget. Bounded by the caller, which
//! waits for persistence when there are too many. Never outlives the epoch.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};

use gochat_infra::bus::Offset;
use gochat_proto::codes::ErrorCode;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::batch::{Batch, Ids, Item, Push, Verdict};

/// Appended and not yet stored, oldest first.
pub(crate) struct Unstored {
    /// Of the keys: clients choose what is hashed.
    seed: u64,
    claims: HashMap<u128, Claim, BuildHasherDefault<KeyHasher>>,
    tops: HashMap<String, Top>,
    records: VecDeque<Appended>,
}

/// A key is a hash already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

struct Claim {
    ids: Ids,
    content_hash: u128,
}

struct Top {
    seq: i64,
    record: Offset,
}

struct Appended {
    offset: Offset,
    keys: Vec<u128>,
    conversations: Vec<String>,
}

impl Default for Unstored {
    fn default() -> Unstored {
        let (claims, tops, records) = Default::default();
        Unstored { seed: RandomState::new().hash_one(0), claims, tops, records }
    }
}

impl Unstored {
    /// Number of claims held.
    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Offset of the oldest persist record that is waited for.
    pub(crate) fn oldest(&self) -> Option<Offset> {
        self.records.front().map(|r| r.offset)
    }

    /// Highest number appended in a conversation under this epoch, 0 when the store knows it already.
    pub(crate) fn top_seq(&self, conversation: &str) -> i64 {
        self.tops.get(conversation).map_or(0, |t| t.seq)
    }

    /// Settles the open items that repeat an unstored claim: a resend is only acknowledged, a reuse is refused.
    pub(crate) fn settle(&self, batch: &mut Batch) {
        if self.claims.is_empty() {
            return;
        }
        let mut scratch = Vec::new();
        for item in batch.items.iter_mut().filter(|i| i.verdict == Verdict::Open) {
            if let Some(claim) = self.claims.get(&key(item, self.seed, &mut scratch)) {
                item.verdict = if claim.content_hash == item.content_hash {
                    Verdict::Settled { ids: claim.ids, append: false, push: Push::No, duplicate: true }
                } else {
                    Verdict::Refused { code: ErrorCode::ClientMsgIdReused }
                };
            }
        }
    }

    /// Remembers what `batch` appended with the persist record at `offset`.
    pub(crate) fn remember(&mut self, batch: &Batch, offset: Offset) {
        let mut scratch = Vec::new();
        let mut appended = Appended { offset, keys: Vec::new(), conversations: Vec::new() };
        for item in &batch.items {
            let Verdict::Settled { ids, append: true, .. } = item.verdict else { continue };
            let key = key(item, self.seed, &mut scratch);
            self.claims.insert(key, Claim { ids, content_hash: item.content_hash });
            appended.keys.push(key);
            match self.tops.get_mut(&item.message.conversation_id) {
                Some(top) => {
                    top.seq = top.seq.max(ids.seq_id);
                    if top.record != offset {
                        top.record = offset;
                        appended.conversations.push(item.message.conversation_id.clone());
                    }
                }
                None => {
                    self.tops.insert(item.message.conversation_id.clone(), Top { seq: ids.seq_id, record: offset });
                    appended.conversations.push(item.message.conversation_id.clone());
                }
            }
        }
        self.records.push_back(appended);
    }

    /// Forgets what lies below persistence's position.
    pub(crate) fn forget_below(&mut self, position: Offset) {
        while self.records.front().is_some_and(|r| r.offset < position) {
            let Some(passed) = self.records.pop_front() else { return };
            for key in &passed.keys {
                self.claims.remove(key);
            }
            for conversation in &passed.conversations {
                if self.tops.get(conversation).is_some_and(|t| t.record == passed.offset) {
                    self.tops.remove(conversation);
                }
            }
        }
    }
}

/// The idempotency key of B1 as 128 bits, length-prefixed.
fn key(item: &Item, seed: u64, scratch: &mut Vec<u8>) -> u128 {
    let message = &item.message;
    scratch.clear();
    scratch.extend_from_slice(&message.sender_id.to_le_bytes());
    scratch.extend_from_slice(&(message.conversation_id.len() as u64).to_le_bytes());
    scratch.extend_from_slice(message.conversation_id.as_bytes());
    scratch.extend_from_slice(message.client_msg_id.as_bytes());
    xxh3_128_with_seed(scratch, seed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use bytes::Bytes;
    use gochat_infra::bus::Consumed;
    use gochat_proto::bus::v1::UpstreamMessage;
    use prost::Message as _;

    fn batch(offset: Offset, content: &str, client_msg_id: &str) -> Batch {
        let message = UpstreamMessage {
            sender_id: 7,
            conversation_id: "c".into(),
            message_type: 1,
            content: content.into(),
            client_msg_id: client_msg_id.into(),
            ..UpstreamMessage::default()
        };
        let record = Consumed {
            offset,
            key: Bytes::new(),
            value: message.encode_to_vec().into(),
            trace_id: Bytes::new(),
            produced_at_ms: 0,
        };
        Batch::decode(&[record], 0, 1, 5, &[1])
    }

    fn appended(unstored: &mut Unstored, offset: Offset, client_msg_id: &str, seq_id: i64) {
        let mut b = batch(offset, "x", client_msg_id);
        let ids = Ids { message_id: 1, seq_id, created_at_ms: 0 };
        b.items[0].verdict = Verdict::Settled { ids, append: true, push: Push::First, duplicate: false };
        unstored.remember(&b, offset);
    }

    #[test]
    fn a_resend_is_answered_from_memory_and_a_reuse_refused() {
        let mut unstored = Unstored::default();
        appended(&mut unstored, 5, "m", 3);
        let mut again = batch(9, "x", "m");
        unstored.settle(&mut again);
        assert!(matches!(again.items[0].verdict, Verdict::Settled { append: false, duplicate: true, .. }));
        let mut reuse = batch(9, "y", "m");
        unstored.settle(&mut reuse);
        assert_eq!(reuse.items[0].verdict, Verdict::Refused { code: ErrorCode::ClientMsgIdReused });
    }

    #[test]
    fn what_persistence_has_passed_is_forgotten_and_nothing_else() {
        let mut unstored = Unstored::default();
        appended(&mut unstored, 5, "m", 3);
        appended(&mut unstored, 6, "n", 4);
        unstored.forget_below(6);
        assert_eq!((unstored.len(), unstored.top_seq("c"), unstored.oldest()), (1, 4, Some(6)));
        unstored.forget_below(7);
        assert_eq!((unstored.len(), unstored.top_seq("c"), unstored.oldest()), (0, 0, None));
    }
}
