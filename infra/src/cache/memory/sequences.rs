//! The sequence script: claims and counters by conversation, each call atomic in one conversation.
//!
//! Never evicts a claim before its time. Times are whole seconds, rounded up.

use super::super::{Claim, ClaimRequest, Claimed, Reservation, SequenceReply, SequenceRequest};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

const SHARDS: usize = 64;
/// Claims are kept this long at most, and a conversation's counter this long after its last use.
const CLAIM_TTL: Duration = Duration::from_secs(24 * 3600);
/// How often a shard is searched for claims whose time is over.
const SWEEP_EVERY_S: u32 = 30;

pub(super) struct Sequences {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    conversations: HashMap<Box<str>, Conversation>,
    next_sweep_s: u32,
}

struct Conversation {
    counter: Option<Counter>,
    /// Highest epoch that has claimed here.
    epoch: i64,
    used_s: u32,
    claims: HashMap<Box<[u8]>, StoredClaim>,
}

#[derive(Clone, Copy)]
struct Counter {
    /// Highest number handed out.
    last: i64,
    /// Highest number that may be.
    bound: i64,
}

/// A claim in 56 bytes: the hash is split to keep the alignment at 8.
#[derive(Clone, Copy)]
struct StoredClaim {
    message_id: i64,
    seq: i64,
    created_at_ms: i64,
    offset: i64,
    content_hash: [u64; 2],
    expires_s: u32,
}

impl Default for Sequences {
    fn default() -> Self {
        Sequences { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Sequences {
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
    }

    pub(super) fn claim(&self, request: SequenceRequest, now_ms: u64) -> SequenceReply {
        let mut shard = self.shard(&request.conversation);
        shard.sweep_if_due(now_ms);
        match shard.conversations.get_mut(request.conversation.as_str()) {
            Some(conversation) => conversation.claim(&request, now_ms),
            None if request.claims.is_empty() => SequenceReply::Claimed(Vec::new()),
            None => SequenceReply::NeedsReservation,
        }
    }

    pub(super) fn reserve(&self, reservation: Reservation, now_ms: u64) {
        let mut shard = self.shard(&reservation.conversation);
        let conversation = shard
            .conversations
            .entry(reservation.conversation.into_boxed_str())
            .or_insert_with(|| Conversation { counter: None, epoch: i64::MIN, used_s: 0, claims: HashMap::new() });
        conversation.used_s = seconds(now_ms);
        let counter = conversation.counter.get_or_insert(Counter { last: reservation.start, bound: reservation.bound });
        counter.bound = counter.bound.max(reservation.bound);
    }

    pub(super) fn release(&self, conversation: &str, key: &[u8], keep: Duration, now_ms: u64) {
        let mut shard = self.shard(conversation);
        shard.sweep_if_due(now_ms);
        let Some(conversation) = shard.conversations.get_mut(conversation) else { return };
        if keep.is_zero() {
            // Whole seconds, rounded up, would keep it for a moment.
            conversation.claims.remove(key);
        } else if let Some(claim) = conversation.claims.get_mut(key) {
            claim.expires_s = claim.expires_s.min(expiry(keep, now_ms));
        }
    }

    pub(super) fn assigned(&self, conversation: &str) -> Option<i64> {
        self.shard(conversation).conversations.get(conversation)?.counter.map(|counter| counter.last)
    }

    fn shard(&self, conversation: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[xxh3_64(conversation.as_bytes()) as usize % SHARDS])
    }
}

impl Shard {
    fn sweep_if_due(&mut self, now_ms: u64) {
        let now = seconds(now_ms);
        if now < self.next_sweep_s {
            return;
        }
        self.next_sweep_s = now + SWEEP_EVERY_S;
        let idle_max = CLAIM_TTL.as_secs() as u32;
        self.conversations.retain(|_, conversation| {
            conversation.claims.retain(|_, claim| claim.expires_s > now);
            if conversation.claims.len() < conversation.claims.capacity() / 4 {
                conversation.claims.shrink_to_fit();
            }
            !conversation.claims.is_empty() || now.saturating_sub(conversation.used_s) < idle_max
        });
    }
}

impl Conversation {
    fn claim(&mut self, request: &SequenceRequest, now_ms: u64) -> SequenceReply {
        if request.epoch < self.epoch {
            return SequenceReply::StaleWriter;
        }
        let before = self.counter;
        let mut claimed = Vec::with_capacity(request.claims.len());
        // Claims that a new number replaced, to be put back if the numbers do not suffice.
        let mut replaced = Vec::new();
        let mut top = request.floor;
        for ask in &request.claims {
            let standing = self.claims.get(&ask.key[..]).filter(|claim| claim.expires_s > seconds(now_ms)).copied();
            match standing {
                Some(claim) if !(claim.is_produced_again(ask) && claim.seq < top) => {
                    if claim.is_produced_again(ask) {
                        top = top.max(claim.seq);
                    }
                    claimed.push(Claimed { claim: claim.public(), fresh: false });
                }
                standing => {
                    let Some(seq) = self.next_seq(top) else {
                        let is_lost = self.counter.is_some_and(|counter| counter.last < top);
                        self.undo(request, &claimed, replaced);
                        // A counter below a number in use has lost its state: it starts again above the reserved bound.
                        self.counter = if is_lost { None } else { before };
                        return SequenceReply::NeedsReservation;
                    };
                    top = seq;
                    let claim = StoredClaim::new(ask, seq, now_ms);
                    self.claims.insert(Box::from(&ask.key[..]), claim);
                    let is_older =
                        |old: &StoredClaim| !claimed.iter().any(|c: &Claimed| c.fresh && c.claim.seq == old.seq);
                    replaced.extend(standing.filter(is_older).map(|old| (ask.key.clone(), old)));
                    claimed.push(Claimed { claim: claim.public(), fresh: true });
                }
            }
        }
        self.epoch = request.epoch;
        self.used_s = seconds(now_ms);
        SequenceReply::Claimed(claimed)
    }

    /// The next number, if one may be handed out and lies above `top`.
    fn next_seq(&mut self, top: i64) -> Option<i64> {
        let counter = self.counter.as_mut()?;
        if counter.last < top || counter.last >= counter.bound {
            return None;
        }
        counter.last += 1;
        Some(counter.last)
    }

    fn undo(&mut self, request: &SequenceRequest, claimed: &[Claimed], replaced: Vec<(bytes::Bytes, StoredClaim)>) {
        for (ask, _) in request.claims.iter().zip(claimed).filter(|(_, claimed)| claimed.fresh) {
            self.claims.remove(&ask.key[..]);
        }
        for (key, claim) in replaced {
            self.claims.insert(Box::from(&key[..]), claim);
        }
    }
}

impl StoredClaim {
    fn new(ask: &ClaimRequest, seq: i64, now_ms: u64) -> Self {
        StoredClaim {
            message_id: ask.message_id,
            seq,
            created_at_ms: ask.created_at_ms,
            offset: ask.offset,
            content_hash: halves(ask.content_hash),
            expires_s: expiry(CLAIM_TTL, now_ms),
        }
    }

    /// Whether the record asking would append this claim's message again: the same message, not a later resend (B4).
    fn is_produced_again(&self, ask: &ClaimRequest) -> bool {
        self.content_hash == halves(ask.content_hash) && self.offset >= ask.offset
    }

    fn public(&self) -> Claim {
        let [high, low] = self.content_hash;
        Claim {
            message_id: self.message_id,
            seq: self.seq,
            created_at_ms: self.created_at_ms,
            offset: self.offset,
            content_hash: (u128::from(high) << 64) | u128::from(low),
        }
    }
}

fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

fn expiry(ttl: Duration, now_ms: u64) -> u32 {
    let end_ms = now_ms.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    u32::try_from(end_ms.div_ceil(1000)).unwrap_or(u32::MAX)
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
