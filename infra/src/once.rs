//! Idempotent execution in one process: the first caller of a key runs, the others get its result.
//!
//! Never persists: results live for their time in memory. A failure leaves nothing behind.

use crate::clock::Clock;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Results by key, at most `entries_max`; of too many the oldest are forgotten.
pub struct OnceMap<K, V> {
    state: Mutex<State<K, V>>,
    entries_max: usize,
    clock: Arc<dyn Clock>,
}

struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys with their entry's number, oldest first; those whose entry is another one by now are skipped.
    order: VecDeque<(K, u64)>,
    next_number: u64,
}

struct Entry<V> {
    number: u64,
    result: Arc<OnceCell<V>>,
    /// `None` while it runs.
    expires_ms: Option<u64>,
}

impl<K: Hash + Eq + Clone, V: Clone> OnceMap<K, V> {
    /// An empty map; its clock's monotonic time ends results.
    pub fn new(entries_max: usize, clock: Arc<dyn Clock>) -> Self {
        let state = State { entries: HashMap::new(), order: VecDeque::new(), next_number: 0 };
        OnceMap { state: Mutex::new(state), entries_max: entries_max.max(1), clock }
    }

    /// The result stored under the key, or that of `f`, which is then kept for `ttl`. Callers that come while it runs
    /// wait for it; when it fails its caller gets the error and the next one runs its own. The same when its caller
    /// gives up (drops this future).
    pub async fn execute<E, F>(&self, key: K, ttl: Duration, f: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let (number, cell) = self.entry(&key);
        let _abandoned = RemoveUnfinished { map: self, key: &key, number };
        let mut ran = false;
        let run = || {
            ran = true;
            f()
        };
        let value = cell.get_or_try_init(run).await.cloned()?;
        if ran {
            self.finish(&key, number, ttl);
        }
        Ok(value)
    }

    /// Forgets a result.
    pub fn clear(&self, key: &K) {
        self.lock().entries.remove(key);
    }

    fn entry(&self, key: &K) -> (u64, Arc<OnceCell<V>>) {
        let now = self.clock.monotonic_ms();
        let mut state = self.lock();
        state.trim(now, self.entries_max);
        if let Some(entry) = state.entries.get(key).filter(|entry| entry.expires_ms.is_none_or(|end| end > now)) {
            return (entry.number, entry.result.clone());
        }
        let number = state.next_number;
        state.next_number += 1;
        let result = Arc::new(OnceCell::new());
        state.entries.insert(key.clone(), Entry { number, result: result.clone(), expires_ms: None });
        state.order.push_back((key.clone(), number));
        (number, result)
    }

    fn finish(&self, key: &K, number: u64, ttl: Duration) {
        let end = self.clock.monotonic_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        if let Some(entry) = self.lock().entries.get_mut(key).filter(|entry| entry.number == number) {
            entry.expires_ms = Some(end);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, V> State<K, V> {
    /// Drops entries from the old end: those that are gone or over, and as many more as make room for one.
    fn trim(&mut self, now: u64, entries_max: usize) {
        while let Some((key, number)) = self.order.front() {
            let entry = self.entries.get(key).filter(|entry| entry.number == *number);
            let is_over = entry.is_none_or(|entry| entry.expires_ms.is_some_and(|end| end <= now));
            if !is_over && self.order.len() < entries_max {
                return;
            }
            if entry.is_some() {
                self.entries.remove(key);
            }
            self.order.pop_front();
        }
    }
}

/// Takes away an entry that nobody runs or waits for and that has no result.
struct RemoveUnfinished<'a, K: Hash + Eq + Clone, V: Clone> {
    map: &'a OnceMap<K, V>,
    key: &'a K,
    number: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for RemoveUnfinished<'_, K, V> {
    fn drop(&mut self) {
        let mut state = self.map.lock();
        let unfinished = state.entries.get(self.key).is_some_and(|entry| {
            // One reference is the map's, one this caller's; any other belongs to one who waits and will run.
            entry.number == self.number && !entry.result.initialized() && Arc::strong_count(&entry.result) <= 2
        });
        if unfinished {
            state.entries.remove(self.key);
        }
    }
}

#[cfg(test)]
// Tests fail by panicking.
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    const MINUTE: Duration = Duration::from_secs(60);

    fn map(entries_max: usize) -> (Arc<OnceMap<String, u32>>, Arc<ManualClock>) {
        let clock = ManualClock::at(0);
        (Arc::new(OnceMap::new(entries_max, clock.clone())), clock)
    }

    async fn get(map: &OnceMap<String, u32>, key: &str, value: u32) -> u32 {
        map.execute(key.to_owned(), MINUTE, || async move { Ok::<_, ()>(value) }).await.unwrap()
    }

    #[tokio::test]
    async fn the_first_result_stands_for_its_time() {
        let (map, clock) = map(10);
        assert_eq!(get(&map, "k", 1).await, 1);
        assert_eq!(get(&map, "k", 2).await, 1);
        assert_eq!(get(&map, "other", 3).await, 3);
        clock.advance(MINUTE);
        assert_eq!(get(&map, "k", 4).await, 4);
        map.clear(&"k".to_owned());
        assert_eq!(get(&map, "k", 5).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_callers_wait_for_the_first() {
        let (map, _) = map(10);
        let runs = Arc::new(AtomicU32::new(0));
        let callers = (0..20).map(|_| {
            let runs = runs.clone();
            let slow = move || async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok::<_, ()>(runs.fetch_add(1, SeqCst) + 1)
            };
            map.execute("k".to_owned(), MINUTE, slow)
        });
        let results = futures::future::join_all(callers).await;
        assert!(results.into_iter().all(|result| result == Ok(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_or_an_owner_that_leaves_lets_the_next_one_run() {
        let (map, _) = map(10);
        let fails = map.execute("k".to_owned(), MINUTE, || async { Err("no") });
        let waits = map.execute("k".to_owned(), MINUTE, || async { Ok::<_, &str>(2) });
        assert_eq!(futures::future::join(fails, waits).await, (Err("no"), Ok(2)));
        assert_eq!(map.execute("f".to_owned(), MINUTE, || async { Err("no") }).await, Err("no"));
        assert!(!map.lock().entries.contains_key("f"), "a failure leaves nothing");
        let hangs = map.execute("h".to_owned(), MINUTE, std::future::pending::<Result<u32, ()>>);
        assert!(tokio::time::timeout(Duration::from_millis(1), hangs).await.is_err());
        assert!(!map.lock().entries.contains_key("h"), "nor does an owner that left");
        assert_eq!(get(&map, "h", 3).await, 3);
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_go() {
        let (map, _) = map(3);
        for (value, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
            get(&map, key, value as u32).await;
        }
        assert!(map.lock().entries.len() <= 3);
        assert_eq!(get(&map, "d", 9).await, 3);
        assert_eq!(get(&map, "a", 9).await, 9);
        for i in 0..100 {
            map.execute(format!("fails {i}"), MINUTE, || async { Err(()) }).await.unwrap_err();
        }
        assert!(map.lock().order.len() <= 3, "failures do not pile up");
    }
}
