//! The embedded cache with faults in front: refused calls, lost answers, one claim lost, everything lost.
//!
//! Owns the disturbance only; what is kept, and when it is a new incarnation, is the real cache's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gochat_infra::cache::memory::MemoryCache;
use gochat_infra::cache::{Cache, CacheError, Entry, Reservation, SequenceReply, SequenceRequest};

use crate::chaos::{Chaos, Fate, locked};

/// The cache all repo instances share.
pub(crate) struct SimCache {
    inner: MemoryCache,
    chaos: Arc<Chaos>,
    /// Claims that were asked for, newest last.
    asked: Mutex<Vec<(String, Bytes)>>,
}

impl SimCache {
    pub(crate) fn new(chaos: Arc<Chaos>, inner: MemoryCache) -> Arc<SimCache> {
        Arc::new(SimCache { inner, chaos, asked: Mutex::default() })
    }

    pub(crate) fn lose_everything(&self) {
        self.inner.lose_everything();
    }

    /// One claim goes, without a sign.
    pub(crate) async fn lose_a_claim(&self) {
        let asked = locked(&self.asked).clone();
        if let Some(claim) = asked.get(self.chaos.below(asked.len() as u64) as usize) {
            let _ = self.inner.release_claims(vec![claim.clone()], Duration::ZERO).await;
        }
    }

    async fn disturbed<T>(&self, call: impl Future<Output = Result<T, CacheError>>) -> Result<T, CacheError> {
        let lost = || CacheError::Unavailable("simulated".to_owned());
        self.chaos.jitter().await;
        let fate = self.chaos.fate(None);
        if fate == Fate::Refused {
            return Err(lost());
        }
        let result = call.await;
        self.chaos.jitter().await;
        if fate == Fate::AnswerLost { Err(lost()) } else { result }
    }
}

#[async_trait]
impl Cache for SimCache {
    async fn incarnation(&self) -> Result<u64, CacheError> {
        self.disturbed(self.inner.incarnation()).await
    }

    async fn get(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError> {
        self.disturbed(self.inner.get(keys)).await
    }

    async fn set(&self, entries: Vec<Entry>) -> Result<(), CacheError> {
        self.disturbed(self.inner.set(entries)).await
    }

    async fn set_if_absent(&self, entry: Entry) -> Result<bool, CacheError> {
        self.disturbed(self.inner.set_if_absent(entry)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), CacheError> {
        self.disturbed(self.inner.delete(keys)).await
    }

    async fn hash_get(&self, keys: &[String]) -> Result<Vec<Vec<(String, Bytes)>>, CacheError> {
        self.disturbed(self.inner.hash_get(keys)).await
    }

    async fn hash_set(&self, fields: Vec<(String, String, Bytes)>, ttl: Duration) -> Result<(), CacheError> {
        self.disturbed(self.inner.hash_set(fields, ttl)).await
    }

    async fn hash_delete(&self, fields: &[(String, String)]) -> Result<Vec<bool>, CacheError> {
        self.disturbed(self.inner.hash_delete(fields)).await
    }

    async fn expire(&self, keys: &[String], ttl: Duration) -> Result<Vec<bool>, CacheError> {
        self.disturbed(self.inner.expire(keys, ttl)).await
    }

    async fn sorted_add(&self, key: &str, members: Vec<(String, i64)>) -> Result<(), CacheError> {
        self.disturbed(self.inner.sorted_add(key, members)).await
    }

    async fn sorted_remove(&self, key: &str, members: &[String]) -> Result<Vec<bool>, CacheError> {
        self.disturbed(self.inner.sorted_remove(key, members)).await
    }

    async fn sorted_take(&self, key: &str, up_to: i64, limit: usize) -> Result<Vec<(String, i64)>, CacheError> {
        self.disturbed(self.inner.sorted_take(key, up_to, limit)).await
    }

    async fn claim_sequences(
        &self,
        incarnation: u64,
        requests: Vec<SequenceRequest>,
    ) -> Result<Result<Vec<SequenceReply>, u64>, CacheError> {
        for request in &requests {
            let claims = request.claims.iter().map(|c| (request.conversation.clone(), c.key.clone()));
            locked(&self.asked).extend(claims);
        }
        self.disturbed(self.inner.claim_sequences(incarnation, requests)).await
    }

    async fn reserve(&self, incarnation: u64, reservations: Vec<Reservation>) -> Result<(), CacheError> {
        self.disturbed(self.inner.reserve(incarnation, reservations)).await
    }

    async fn release_claims(&self, claims: Vec<(String, Bytes)>, keep: Duration) -> Result<(), CacheError> {
        self.disturbed(self.inner.release_claims(claims, keep)).await
    }

    async fn assigned(&self, conversations: &[String]) -> Result<Vec<Option<i64>>, CacheError> {
        self.disturbed(self.inner.assigned(conversations)).await
    }
}
