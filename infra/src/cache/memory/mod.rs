//! The cache of a single process: plain keys, hashes and sorted sets in one set of shards, claims and counters in another.
//!
//! Never the source of truth, never on disk: a new process is a new incarnation. All calls finish without waiting.

mod sequences;
mod sorted;
mod values;

use super::{Cache, CacheError, Entry, Reservation, SequenceReply, SequenceRequest};
use crate::clock::{Clock, SystemClock};
use async_trait::async_trait;
use bytes::Bytes;
use sequences::Sequences;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use values::Values;

/// What a [`MemoryCache`] may use.
#[derive(Clone)]
pub struct MemoryCacheConfig {
    /// Plain keys and their values, bytes; the least recently used go first. Hashes, sorted sets and claims are not
    /// counted: they live by their time or until they are emptied.
    pub bytes_max: usize,
    /// Times of life are judged by its monotonic time.
    pub clock: Arc<dyn Clock>,
}

impl Default for MemoryCacheConfig {
    fn default() -> Self {
        MemoryCacheConfig { bytes_max: 256 << 20, clock: SystemClock::shared() }
    }
}

/// The embedded [`Cache`].
pub struct MemoryCache {
    values: Values,
    sequences: Sequences,
    /// Written while everything is being lost, read for the length of every call on claims: a call sees one claim
    /// space only.
    incarnation: RwLock<u64>,
    clock: Arc<dyn Clock>,
}

impl MemoryCache {
    /// An empty cache with an incarnation of its own.
    pub fn new(config: MemoryCacheConfig) -> Self {
        MemoryCache {
            values: Values::new(config.bytes_max),
            sequences: Sequences::default(),
            incarnation: RwLock::new(new_incarnation(0)),
            clock: config.clock,
        }
    }

    /// Forgets everything, as a flush or a restart of a cache server does: a new incarnation.
    pub fn lose_everything(&self) {
        let mut incarnation = self.incarnation.write().unwrap_or_else(PoisonError::into_inner);
        *incarnation = new_incarnation(*incarnation);
        self.values.clear();
        self.sequences.clear();
    }

    fn in_incarnation<T>(&self, expected: u64, work: impl FnOnce() -> T) -> Result<T, u64> {
        let incarnation = self.incarnation.read().unwrap_or_else(PoisonError::into_inner);
        if *incarnation == expected { Ok(work()) } else { Err(*incarnation) }
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(MemoryCacheConfig::default())
    }
}

/// Random, never 0, never the one before.
fn new_incarnation(before: u64) -> u64 {
    loop {
        let candidate = RandomState::new().hash_one(before);
        if candidate != 0 && candidate != before {
            return candidate;
        }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn incarnation(&self) -> Result<u64, CacheError> {
        Ok(*self.incarnation.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn get(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError> {
        let now = self.clock.monotonic_ms();
        keys.iter().map(|key| self.values.get(key, now)).collect()
    }

    async fn set(&self, entries: Vec<Entry>) -> Result<(), CacheError> {
        let now = self.clock.monotonic_ms();
        for entry in entries {
            self.values.set(&entry.key, entry.value, entry.ttl, now);
        }
        Ok(())
    }

    async fn set_if_absent(&self, entry: Entry) -> Result<bool, CacheError> {
        Ok(self.values.set_if_absent(&entry.key, entry.value, entry.ttl, self.clock.monotonic_ms()))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), CacheError> {
        for key in keys {
            self.values.delete(key);
        }
        Ok(())
    }

    async fn hash_get(&self, keys: &[String]) -> Result<Vec<Vec<(String, Bytes)>>, CacheError> {
        let now = self.clock.monotonic_ms();
        keys.iter().map(|key| self.values.hash_get(key, now)).collect()
    }

    async fn hash_set(&self, fields: Vec<(String, String, Bytes)>, ttl: Duration) -> Result<(), CacheError> {
        let now = self.clock.monotonic_ms();
        for (key, field, value) in fields {
            self.values.hash_set(&key, field, value, ttl, now)?;
        }
        Ok(())
    }

    async fn hash_delete(&self, fields: &[(String, String)]) -> Result<Vec<bool>, CacheError> {
        let now = self.clock.monotonic_ms();
        fields.iter().map(|(key, field)| self.values.hash_delete(key, field, now)).collect()
    }

    async fn expire(&self, keys: &[String], ttl: Duration) -> Result<Vec<bool>, CacheError> {
        let now = self.clock.monotonic_ms();
        Ok(keys.iter().map(|key| self.values.expire(key, ttl, now)).collect())
    }

    async fn sorted_add(&self, key: &str, members: Vec<(String, i64)>) -> Result<(), CacheError> {
        self.values.sorted_add(key, members, self.clock.monotonic_ms())
    }

    async fn sorted_remove(&self, key: &str, members: &[String]) -> Result<Vec<bool>, CacheError> {
        self.values.sorted_remove(key, members, self.clock.monotonic_ms())
    }

    async fn sorted_take(&self, key: &str, up_to: i64, limit: usize) -> Result<Vec<(String, i64)>, CacheError> {
        self.values.sorted_take(key, up_to, limit, self.clock.monotonic_ms())
    }

    async fn claim_sequences(
        &self,
        incarnation: u64,
        requests: Vec<SequenceRequest>,
    ) -> Result<Result<Vec<SequenceReply>, u64>, CacheError> {
        let now = self.clock.monotonic_ms();
        Ok(self.in_incarnation(incarnation, || {
            requests.into_iter().map(|request| self.sequences.claim(request, now)).collect()
        }))
    }

    async fn reserve(&self, incarnation: u64, reservations: Vec<Reservation>) -> Result<(), CacheError> {
        let now = self.clock.monotonic_ms();
        // A reservation for another claim space is void by contract.
        let _ = self.in_incarnation(incarnation, || {
            for reservation in reservations {
                self.sequences.reserve(reservation, now);
            }
        });
        Ok(())
    }

    async fn release_claims(&self, claims: Vec<(String, Bytes)>, keep: Duration) -> Result<(), CacheError> {
        let now = self.clock.monotonic_ms();
        for (conversation, key) in claims {
            self.sequences.release(&conversation, &key, keep, now);
        }
        Ok(())
    }

    async fn assigned(&self, conversations: &[String]) -> Result<Vec<Option<i64>>, CacheError> {
        Ok(conversations.iter().map(|conversation| self.sequences.assigned(conversation)).collect())
    }
}
