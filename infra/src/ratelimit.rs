//! Rate limits inside one process: token buckets, buckets by key, and growing delays after failures.
//!
//! Never reads a clock: every call is told the time, as monotonic milliseconds. Limits over a whole cluster are the
//! cache's matter.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A rate and a burst. Buckets hold no rule of their own: a changed one applies at the next call, tokens above its
/// capacity are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateRule {
    /// Tokens that come back per second; may be a fraction.
    pub rate_per_s: f64,
    /// Tokens of a full bucket: the burst.
    pub capacity: u32,
}

impl RateRule {
    /// No limit.
    pub const OFF: RateRule = RateRule::new(f64::INFINITY, u32::MAX);
    /// Protection of the instance as a whole.
    pub const LOCAL_MACHINE_QPS: RateRule = RateRule::new(500.0, 600);
    /// HTTP API, per address.
    pub const API_DEFAULT: RateRule = RateRule::new(100.0, 200);
    /// Health endpoints.
    pub const HEALTH_CHECK: RateRule = RateRule::new(1000.0, 1000);
    /// Login, per address and per name.
    pub const USER_LOGIN_ATTEMPT: RateRule = RateRule::new(5.0, 10);
    /// Sending, per user.
    pub const USER_SEND_MESSAGE: RateRule = RateRule::new(30.0, 60);
    /// Sending to the world room, per user.
    pub const WORLD_SEND_MESSAGE: RateRule = RateRule::new(10.0 / 60.0, 10);
    /// User search, per user.
    pub const USER_SEARCH: RateRule = RateRule::new(5.0, 10);
    /// WebSocket handshakes, per address.
    pub const WS_CONNECT_PER_ADDRESS: RateRule = RateRule::new(5.0, 10);
    /// WebSocket handshakes, per user.
    pub const WS_CONNECT_PER_USER: RateRule = RateRule::new(1.0, 5);

    /// A rule.
    pub const fn new(rate_per_s: f64, capacity: u32) -> Self {
        RateRule { rate_per_s, capacity }
    }
}

/// Whether something may happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A token was taken.
    Allowed,
    /// Nothing was taken; there is a token after this time.
    Limited {
        /// At least 1 ms, at most a day.
        retry_after: Duration,
    },
}

impl Decision {
    /// Whether it may happen.
    pub fn is_allowed(self) -> bool {
        self == Decision::Allowed
    }
}

const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// A bucket of tokens, refilled when it is looked at. 16 bytes, for state that lies beside a connection.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    tokens: f64,
    filled_ms: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rule: &RateRule, now_ms: u64) -> Self {
        TokenBucket { tokens: f64::from(rule.capacity), filled_ms: now_ms }
    }

    /// Takes one token.
    pub fn take(&mut self, rule: &RateRule, now_ms: u64) -> Decision {
        let elapsed_s = now_ms.saturating_sub(self.filled_ms) as f64 / 1000.0;
        // Of an infinite rate over no time (NaN) min() keeps the capacity.
        self.tokens = (self.tokens + elapsed_s * rule.rate_per_s).min(f64::from(rule.capacity));
        self.filled_ms = self.filled_ms.max(now_ms);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Decision::Allowed;
        }
        let wait = Duration::try_from_secs_f64((1.0 - self.tokens) / rule.rate_per_s).unwrap_or(RETRY_AFTER_MAX);
        Decision::Limited { retry_after: wait.clamp(Duration::from_millis(1), RETRY_AFTER_MAX) }
    }

    /// When it will be full again, the moment from which it need not be remembered.
    fn full_at_ms(&self, rule: &RateRule) -> u64 {
        let missing = f64::from(rule.capacity) - self.tokens;
        // A float-to-integer cast saturates: a bucket that never fills is never forgotten.
        self.filled_ms.saturating_add((missing / rule.rate_per_s * 1000.0).ceil() as u64)
    }
}

/// Token buckets by key, for many callers. Holds at most a million; of too many, those nearest to full are forgotten.
pub struct KeyedLimiter {
    buckets: IdleMap<TokenBucket>,
}

impl KeyedLimiter {
    /// A limiter without buckets.
    pub fn new() -> Self {
        KeyedLimiter { buckets: IdleMap::new(ENTRIES_MAX) }
    }

    /// Takes one token of the key's bucket. Where several rules share a limiter, the rule's name is part of the key:
    /// `("login", address)`.
    pub fn allow<K: Hash + ?Sized>(&self, key: &K, rule: &RateRule, now_ms: u64) -> Decision {
        self.buckets.update(key, now_ms, |bucket| {
            let mut bucket = bucket.unwrap_or_else(|| TokenBucket::full(rule, now_ms));
            let decision = bucket.take(rule, now_ms);
            (decision, Some((bucket, bucket.full_at_ms(rule))))
        })
    }

    /// Buckets remembered.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for KeyedLimiter {
    fn default() -> Self {
        Self::new()
    }
}

/// How delays grow with failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct DelayRule {
    /// Failures without any delay.
    pub free: u32,
    /// Delay after the first failure that counts; doubles with each.
    pub first: Duration,
    /// Longest delay.
    pub cap: Duration,
    /// Failures are forgotten this long after the last one.
    pub forget_after: Duration,
}

impl DelayRule {
    /// Login, per name: an attacker is slowed to two attempts a minute, the owner waits half a minute at most.
    pub const LOGIN: DelayRule = DelayRule {
        free: 3,
        first: Duration::from_secs(1),
        cap: Duration::from_secs(30),
        forget_after: Duration::from_secs(900),
    };

    fn delay(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free + 1) {
            None => Duration::ZERO,
            Some(doublings) => self.first.saturating_mul(1 << doublings.min(30)).min(self.cap),
        }
    }
}

/// Counts failures by key and tells how long the next attempt is to be held back. Never refuses: an attacker is slowed,
/// the owner is not locked out (pipeline.md H6).
pub struct FailureDelays {
    rule: DelayRule,
    failures: IdleMap<(u32, u64)>,
}

impl FailureDelays {
    /// No failures yet.
    pub fn new(rule: DelayRule) -> Self {
        FailureDelays { rule, failures: IdleMap::new(ENTRIES_MAX) }
    }

    /// How long from now an attempt has to wait.
    pub fn delay<K: Hash + ?Sized>(&self, key: &K, now_ms: u64) -> Duration {
        self.failures.update(key, now_ms, |entry| {
            let Some((failures, last_ms)) = entry else { return (Duration::ZERO, None) };
            let since = Duration::from_millis(now_ms.saturating_sub(last_ms));
            let delay = self.rule.delay(failures).saturating_sub(since);
            (delay, Some(((failures, last_ms), self.forgotten_ms(last_ms))))
        })
    }

    /// An attempt has failed.
    pub fn failed<K: Hash + ?Sized>(&self, key: &K, now_ms: u64) {
        self.failures.update(key, now_ms, |entry| {
            let failures = entry.map_or(0, |(failures, _)| failures).saturating_add(1);
            ((), Some(((failures, now_ms), self.forgotten_ms(now_ms))))
        });
    }

    /// An attempt has succeeded: its failures are forgotten.
    pub fn succeeded<K: Hash + ?Sized>(&self, key: &K, now_ms: u64) {
        self.failures.update(key, now_ms, |_| ((), None));
    }

    fn forgotten_ms(&self, last_ms: u64) -> u64 {
        last_ms.saturating_add(self.rule.forget_after.as_millis() as u64)
    }
}

const ENTRIES_MAX: usize = 1_000_000;
const SHARDS: usize = 64;
const SWEEP_EVERY_MS: u64 = 10_000;

/// A bounded map from key hashes to small states, each of which may be forgotten from some moment on. Keys are kept
/// as 64-bit keyed hashes: a million of them collide with a chance of 1 in 10^7, and nobody outside can make them.
struct IdleMap<V> {
    shards: Vec<Mutex<IdleShard<V>>>,
    hasher: RandomState,
    shard_entries_max: usize,
}

struct IdleShard<V> {
    /// State and the moment it may be forgotten.
    entries: HashMap<u64, (V, u64)>,
    next_sweep_ms: u64,
}

impl<V: Copy> IdleMap<V> {
    fn new(entries_max: usize) -> Self {
        let shard = || Mutex::new(IdleShard { entries: HashMap::new(), next_sweep_ms: 0 });
        IdleMap {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_entries_max: (entries_max / SHARDS).max(2),
        }
    }

    /// Gives the state under a key, if any, and puts back what comes out, with the moment it may be forgotten.
    fn update<K: Hash + ?Sized, T>(
        &self,
        key: &K,
        now_ms: u64,
        change: impl FnOnce(Option<V>) -> (T, Option<(V, u64)>),
    ) -> T {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let before = shard.entries.get(&hash).filter(|(_, idle_ms)| *idle_ms > now_ms).map(|(state, _)| *state);
        let (answer, after) = change(before);
        match after {
            Some(after) => {
                shard.entries.insert(hash, after);
                shard.sweep(now_ms, self.shard_entries_max);
            }
            None => {
                shard.entries.remove(&hash);
            }
        }
        answer
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }
}

impl<V> IdleShard<V> {
    fn sweep(&mut self, now_ms: u64, entries_max: usize) {
        let is_full = self.entries.len() > entries_max;
        if !is_full && now_ms < self.next_sweep_ms {
            return;
        }
        self.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
        self.entries.retain(|_, (_, idle_ms)| *idle_ms > now_ms);
        if self.entries.len() > entries_max {
            // Half goes at once, so that the cost of choosing spreads over as many insertions.
            let mut moments: Vec<u64> = self.entries.values().map(|(_, idle_ms)| *idle_ms).collect();
            let half = moments.len() / 2;
            let (_, median, _) = moments.select_nth_unstable(half);
            let (median, mut surplus) = (*median, half);
            self.entries.retain(|_, (_, idle_ms)| {
                let goes = *idle_ms <= median && surplus > 0;
                surplus -= usize::from(goes);
                !goes
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        assert_eq!(size_of::<TokenBucket>(), 16);
        let rule = RateRule::new(10.0, 5);
        let mut bucket = TokenBucket::full(&rule, 1_000);
        let allowed = (1_000..11_000).filter(|now| bucket.take(&rule, *now).is_allowed()).count();
        assert_eq!(allowed, 5 + 99, "10 s at 10/s on top of the burst, the last token just not due");
        assert!(!bucket.take(&rule, 500).is_allowed(), "time going back gives nothing");
    }

    #[test]
    fn retry_after_is_when_the_next_token_is_there() {
        let rule = RateRule::new(0.5, 1);
        let mut bucket = TokenBucket::full(&rule, 0);
        assert!(bucket.take(&rule, 0).is_allowed());
        assert_eq!(bucket.take(&rule, 500), Decision::Limited { retry_after: Duration::from_millis(1_500) });
        assert!(bucket.take(&rule, 2_000).is_allowed());
        let never = RateRule::new(0.0, 0);
        assert_eq!(bucket.take(&never, 9_000), Decision::Limited { retry_after: RETRY_AFTER_MAX });
    }

    #[test]
    fn a_changed_rule_clips_the_tokens_and_off_never_limits() {
        let wide = RateRule::new(1.0, 100);
        let mut bucket = TokenBucket::full(&wide, 0);
        let narrow = RateRule::new(1.0, 3);
        assert_eq!((0..10).filter(|_| bucket.take(&narrow, 0).is_allowed()).count(), 3);
        assert!((0..10_000).all(|_| bucket.take(&RateRule::OFF, 0).is_allowed()));
    }

    #[test]
    fn keys_have_buckets_of_their_own_that_are_forgotten_when_full() {
        let limiter = KeyedLimiter::new();
        let rule = RateRule::new(1.0, 2);
        for key in ["a", "b"] {
            assert_eq!((0..5).filter(|_| limiter.allow(key, &rule, 0).is_allowed()).count(), 2);
        }
        assert!(limiter.allow(&7u64, &rule, 0).is_allowed());
        assert_eq!(limiter.len(), 3);
        for key in 0..10_000u64 {
            limiter.allow(&key, &rule, 60_000 + key * 100);
        }
        assert!(limiter.len() < 1_000, "idle buckets go: {} left", limiter.len());
    }

    #[test]
    fn a_full_map_forgets_those_nearest_to_idle() {
        let map: IdleMap<u8> = IdleMap::new(SHARDS * 10);
        for key in 0..5_000u64 {
            map.update(&("victim", 0), 0, |_| ((), Some((1, u64::MAX))));
            map.update(&key, 0, |_| ((), Some((0, 1_000 + key))));
            assert!(map.len() <= SHARDS * 10 + SHARDS);
        }
        assert_eq!(map.update(&("victim", 0), 0, |state| (state, None)), Some(1), "the one in use stays");
    }

    #[test]
    fn delays_grow_are_capped_and_end() {
        let delays = FailureDelays::new(DelayRule::LOGIN);
        let mut seen = Vec::new();
        for _ in 0..10 {
            delays.failed("name", 1_000);
            seen.push(delays.delay("name", 1_000).as_secs());
        }
        assert_eq!(seen, [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(delays.delay("other", 1_000), Duration::ZERO);
        assert_eq!(delays.delay("name", 11_000), Duration::from_secs(20), "time that has passed counts");
        delays.succeeded("name", 12_000);
        assert_eq!(delays.delay("name", 12_000), Duration::ZERO);
        delays.failed("name", 20_000);
        (0..9).for_each(|_| delays.failed("late", 0));
        assert_eq!(delays.delay("late", 900_001), Duration::ZERO, "forgotten");
        delays.failed("late", 900_001);
        assert_eq!(delays.delay("late", 900_001), Duration::ZERO, "and counted from one again");
    }
}
