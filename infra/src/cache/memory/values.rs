//! Plain keys and hashes with a time to live, and sorted sets, sharded; plain keys are bounded in bytes and evicted by second chance.
//!
//! Never a claim or a counter: those may not be evicted and live in `sequences`.

use super::super::CacheError;
use super::sorted::Sorted;
use crate::telemetry::metrics::{self, Counter};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

const SHARDS: usize = 64;
/// Counted for a plain key beside its text and value: map slot, queue slot, reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 128;
/// Keys whose time of life is looked at for each key that is added.
const SWEEP_STEPS: usize = 2;
const FOREVER: u64 = u64::MAX;

pub(super) struct Values {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: usize,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Arc<str>, Slot>,
    /// The hand of the second-chance clock goes round here; entries whose slot is gone are skipped.
    plain: VecDeque<Arc<str>>,
    hashes: VecDeque<Arc<str>>,
    plain_bytes: usize,
}

struct Slot {
    key: Arc<str>,
    content: Content,
    expires_ms: u64,
    used: bool,
}

enum Content {
    Plain(Bytes),
    Hash(BTreeMap<String, Bytes>),
    Sorted(Sorted),
}

/// What one look of the plain clock hand did.
enum Step {
    Evicted,
    Passed,
    Empty,
}

impl Values {
    pub(super) fn new(bytes_max: usize) -> Self {
        let operation =
            |name| metrics::counter("gochat_cache_operations_total", "Cache events.", &[("operation", name)]);
        Values {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_bytes_max: bytes_max / SHARDS,
            hits: operation("hit"),
            misses: operation("miss"),
            evictions: operation("evict"),
        }
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
    }

    pub(super) fn get(&self, key: &str, now: u64) -> Result<Option<Bytes>, CacheError> {
        match self.shard(key).live(key, now) {
            Some(Slot { content: Content::Plain(value), used, .. }) => {
                *used = true;
                self.hits.inc();
                Ok(Some(value.clone()))
            }
            Some(_) => Err(CacheError::WrongKind(key.to_owned())),
            None => {
                self.misses.inc();
                Ok(None)
            }
        }
    }

    pub(super) fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>, now: u64) {
        let evicted = self.shard(key).put_plain(key, value, expiry(ttl, now), now, self.shard_bytes_max);
        self.evictions.add(evicted);
    }

    pub(super) fn set_if_absent(&self, key: &str, value: Bytes, ttl: Option<Duration>, now: u64) -> bool {
        let mut shard = self.shard(key);
        if shard.live(key, now).is_some() {
            return false;
        }
        self.evictions.add(shard.put_plain(key, value, expiry(ttl, now), now, self.shard_bytes_max));
        true
    }

    pub(super) fn delete(&self, key: &str) {
        self.shard(key).remove(key);
    }

    pub(super) fn expire(&self, key: &str, ttl: Duration, now: u64) -> bool {
        let mut shard = self.shard(key);
        let slot = shard.live(key, now);
        slot.map(|slot| slot.expires_ms = expiry(Some(ttl), now)).is_some()
    }

    pub(super) fn hash_get(&self, key: &str, now: u64) -> Result<Vec<(String, Bytes)>, CacheError> {
        match self.shard(key).live(key, now).map(|slot| &slot.content) {
            Some(Content::Hash(fields)) => {
                Ok(fields.iter().map(|(field, value)| (field.clone(), value.clone())).collect())
            }
            Some(_) => Err(CacheError::WrongKind(key.to_owned())),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn hash_set(
        &self,
        key: &str,
        field: String,
        value: Bytes,
        ttl: Duration,
        now: u64,
    ) -> Result<(), CacheError> {
        let mut shard = self.shard(key);
        let expires_ms = expiry(Some(ttl), now);
        match shard.live(key, now) {
            Some(Slot { content: Content::Hash(fields), expires_ms: expires, .. }) => {
                fields.insert(field, value);
                *expires = expires_ms;
            }
            Some(_) => return Err(CacheError::WrongKind(key.to_owned())),
            None => shard.insert(key, Content::Hash(BTreeMap::from([(field, value)])), expires_ms, now),
        }
        Ok(())
    }

    pub(super) fn hash_delete(&self, key: &str, field: &str, now: u64) -> Result<bool, CacheError> {
        let mut shard = self.shard(key);
        match shard.live(key, now).map(|slot| &mut slot.content) {
            Some(Content::Hash(fields)) => {
                fields.remove(field);
                if !fields.is_empty() {
                    return Ok(true);
                }
            }
            Some(_) => return Err(CacheError::WrongKind(key.to_owned())),
            None => return Ok(false),
        }
        shard.remove(key);
        Ok(false)
    }

    pub(super) fn sorted_add(&self, key: &str, members: Vec<(String, i64)>, now: u64) -> Result<(), CacheError> {
        let mut shard = self.shard(key);
        if members.is_empty() {
            return Ok(());
        }
        if shard.live(key, now).is_none() {
            shard.insert(key, Content::Sorted(Sorted::default()), FOREVER, now);
        }
        match shard.live(key, now).map(|slot| &mut slot.content) {
            Some(Content::Sorted(set)) => members.iter().for_each(|(member, score)| set.add(member, *score)),
            _ => return Err(CacheError::WrongKind(key.to_owned())),
        }
        Ok(())
    }

    pub(super) fn sorted_remove(&self, key: &str, members: &[String], now: u64) -> Result<Vec<bool>, CacheError> {
        let removed = |set: &mut Sorted| members.iter().map(|member| set.remove(member)).collect();
        Ok(self.with_sorted(key, now, removed)?.unwrap_or_else(|| vec![false; members.len()]))
    }

    pub(super) fn sorted_take(
        &self,
        key: &str,
        up_to: i64,
        limit: usize,
        now: u64,
    ) -> Result<Vec<(String, i64)>, CacheError> {
        let taken = |set: &mut Sorted| std::iter::from_fn(|| set.take(up_to)).take(limit).collect();
        Ok(self.with_sorted(key, now, taken)?.unwrap_or_default())
    }

    /// Changes a sorted set, if there is one; an emptied one is no key any more.
    fn with_sorted<T>(
        &self,
        key: &str,
        now: u64,
        change: impl FnOnce(&mut Sorted) -> T,
    ) -> Result<Option<T>, CacheError> {
        let mut shard = self.shard(key);
        let (answer, is_empty) = match shard.live(key, now).map(|slot| &mut slot.content) {
            Some(Content::Sorted(set)) => (change(set), set.is_empty()),
            Some(_) => return Err(CacheError::WrongKind(key.to_owned())),
            None => return Ok(None),
        };
        if is_empty {
            shard.remove(key);
        }
        Ok(Some(answer))
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[xxh3_64(key.as_bytes()) as usize % SHARDS])
    }
}

impl Shard {
    /// The slot of a key, unless its time is over, in which case it is removed.
    fn live(&mut self, key: &str, now: u64) -> Option<&mut Slot> {
        if self.slots.get(key)?.expires_ms <= now {
            self.remove(key);
            return None;
        }
        self.slots.get_mut(key)
    }

    /// Returns the number of keys evicted for it. A value that alone is above the bound is not kept.
    fn put_plain(&mut self, key: &str, value: Bytes, expires_ms: u64, now: u64, bytes_max: usize) -> u64 {
        let bytes = plain_bytes(key, &value);
        match self.slots.get_mut(key) {
            _ if bytes > bytes_max => self.remove(key),
            Some(Slot { content: Content::Plain(old), expires_ms: expires, used, .. }) => {
                self.plain_bytes = self.plain_bytes - plain_bytes(key, old) + bytes;
                (*old, *expires, *used) = (value, expires_ms, true);
            }
            _ => {
                self.remove(key);
                self.insert(key, Content::Plain(value), expires_ms, now);
            }
        }
        let mut evicted = 0;
        while self.plain_bytes > bytes_max {
            match self.turn_plain_hand(now, true) {
                Step::Evicted => evicted += 1,
                Step::Passed => {}
                Step::Empty => break,
            }
        }
        evicted
    }

    /// Adds a slot that is absent.
    fn insert(&mut self, key: &str, content: Content, expires_ms: u64, now: u64) {
        let key: Arc<str> = key.into();
        match &content {
            Content::Plain(value) => {
                self.plain_bytes += plain_bytes(&key, value);
                self.plain.push_back(key.clone());
            }
            Content::Hash(_) => self.hashes.push_back(key.clone()),
            // They have no time to live: no hand needs to find them.
            Content::Sorted(_) => {}
        }
        self.slots.insert(key.clone(), Slot { key, content, expires_ms, used: false });
        for _ in 0..SWEEP_STEPS {
            self.turn_plain_hand(now, false);
            self.turn_hash_hand(now);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(Slot { content: Content::Plain(value), .. }) = self.slots.remove(key) {
            self.plain_bytes -= plain_bytes(key, &value);
        }
    }

    /// Looks at one plain key and drops it when its time is over; to evict, also when it was not used since the last
    /// look: each key gets a second chance.
    fn turn_plain_hand(&mut self, now: u64, evict: bool) -> Step {
        let Some(key) = self.plain.pop_front() else { return Step::Empty };
        // A queue entry is of this slot only if they share the text: the key may have been deleted and set again.
        match self.slots.get_mut(&key).filter(|slot| Arc::ptr_eq(&slot.key, &key)) {
            None => Step::Passed,
            Some(slot) if slot.expires_ms <= now => {
                self.remove(&key);
                Step::Passed
            }
            Some(slot) if evict && !slot.used => {
                self.remove(&key);
                Step::Evicted
            }
            Some(slot) => {
                slot.used &= !evict;
                self.plain.push_back(key);
                Step::Passed
            }
        }
    }

    fn turn_hash_hand(&mut self, now: u64) {
        let Some(key) = self.hashes.pop_front() else { return };
        match self.slots.get(&key).filter(|slot| Arc::ptr_eq(&slot.key, &key)) {
            Some(slot) if slot.expires_ms > now => self.hashes.push_back(key),
            Some(_) => self.remove(&key),
            None => {}
        }
    }
}

fn plain_bytes(key: &str, value: &Bytes) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD_BYTES
}

fn expiry(ttl: Option<Duration>, now: u64) -> u64 {
    ttl.map_or(FOREVER, |ttl| now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(FOREVER)))
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
