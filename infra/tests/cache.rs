//! The in-memory cache under the cache contract, and what is its own: eviction and sweeping.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[path = "contracts/cache.rs"]
mod contract;

use bytes::Bytes;
use gochat_infra::cache::memory::{MemoryCache, MemoryCacheConfig};
use gochat_infra::cache::{Cache, Entry};
use gochat_infra::clock::ManualClock;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_cache_keeps_the_contract() {
    let clock = ManualClock::at(0);
    let cache = Arc::new(MemoryCache::new(MemoryCacheConfig { clock: clock.clone(), ..Default::default() }));
    let flushed = cache.clone();
    let subject = contract::Subject {
        cache,
        advance: Box::new(move |by| {
            clock.advance(by);
            Box::pin(async {})
        }),
        lose_everything: Box::new(move || {
            flushed.lose_everything();
            Box::pin(async {})
        }),
    };
    contract::run(&subject).await;
}

fn entry(key: String, bytes: usize) -> Entry {
    Entry { key, value: Bytes::from(vec![0; bytes]), ttl: None }
}

#[tokio::test]
async fn plain_keys_are_evicted_least_recently_used_first_and_hashes_never() {
    let cache = MemoryCache::new(MemoryCacheConfig { bytes_max: 4 << 20, clock: ManualClock::at(0) });
    let hot: Vec<String> = (0..200).map(|i| format!("hot {i}")).collect();
    cache.set(hot.iter().map(|key| entry(key.clone(), 1000)).collect()).await.unwrap();
    let presence: Vec<(String, String, Bytes)> =
        (0..200).map(|i| (format!("hash {i}"), "f".to_owned(), Bytes::new())).collect();
    cache.hash_set(presence, Duration::from_secs(60)).await.unwrap();
    for round in 0..20 {
        cache.get(&hot).await.unwrap();
        cache.set((0..1000).map(|i| entry(format!("cold {round} {i}"), 1000)).collect()).await.unwrap();
    }
    let kept = cache.get(&hot).await.unwrap().iter().flatten().count();
    assert!(kept > 150, "keys in use survive 20 MB of others: {kept} of 200");
    let cold: Vec<String> = (0..20).flat_map(|r| (0..1000).map(move |i| format!("cold {r} {i}"))).collect();
    let kept = cache.get(&cold).await.unwrap().iter().flatten().count();
    assert!(kept <= 4 * 1024 * 1024 / 1000, "the bound holds: {kept} of 1000 bytes each");
    assert!(kept > 2000, "and is made use of: {kept}");
    let hashes: Vec<String> = (0..200).map(|i| format!("hash {i}")).collect();
    assert!(cache.hash_get(&hashes).await.unwrap().iter().all(|hash| !hash.is_empty()));
}

#[tokio::test]
async fn a_value_above_the_bound_is_not_kept_and_evicts_nothing() {
    let cache = MemoryCache::new(MemoryCacheConfig { bytes_max: 640_000, clock: ManualClock::at(0) });
    let keys: Vec<String> = (0..500).map(|i| i.to_string()).collect();
    cache.set(keys.iter().map(|key| entry(key.clone(), 10)).collect()).await.unwrap();
    cache.set(vec![entry("7".to_owned(), 100_000)]).await.unwrap();
    let kept = cache.get(&keys).await.unwrap();
    assert_eq!(kept.iter().flatten().count(), 499);
    assert_eq!(kept[7], None, "nor does its older value stay");
}

#[tokio::test]
async fn keys_deleted_and_set_again_do_not_pile_up_or_vanish() {
    let cache = MemoryCache::new(MemoryCacheConfig { bytes_max: 640_000, clock: ManualClock::at(0) });
    for _ in 0..2_000 {
        cache.set(vec![entry("k".to_owned(), 1000)]).await.unwrap();
        cache.delete(&["k".to_owned()]).await.unwrap();
    }
    cache.set(vec![entry("k".to_owned(), 1000)]).await.unwrap();
    assert!(cache.get(&["k".to_owned()]).await.unwrap()[0].is_some());
}
