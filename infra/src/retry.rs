//! Bounded retries: a policy, a deadline, a budget, and the loop that keeps them.
//!
//! Stateless but for [`RetryBudget`]. Cancelled by dropping the future. Never decides what may be repeated: callers do.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How waits grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backoff {
    /// Always the same.
    Fixed(Duration),
    /// `initial × factor^n`, at most `cap`.
    Exponential {
        /// First wait.
        initial: Duration,
        /// At least 1.
        factor: f64,
        /// Longest wait.
        cap: Duration,
    },
}

/// How waits are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Not at all.
    None,
    /// Uniform between 0 and the wait.
    Full,
    /// The wait × (1 ± f), f in 0..=1.
    Proportional(f64),
}

/// How often and how patiently to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts in all, the first included; `u32::MAX` does not end.
    pub attempts_max: u32,
    /// Waits between them.
    pub backoff: Backoff,
    /// Their spread.
    pub jitter: Jitter,
}

/// RT-rpc: gRPC clients, together with [`is_transient`].
pub const RT_RPC: Policy = Policy::exponential(3, 100, 5_000, Jitter::Proportional(0.3));
/// RT-sync: what must happen in the end, such as a produce that keeps failing.
pub const RT_SYNC: Policy = Policy::exponential(u32::MAX, 1_000, 30_000, Jitter::Full);

impl Policy {
    const fn exponential(attempts_max: u32, initial_ms: u64, cap_ms: u64, jitter: Jitter) -> Self {
        let (initial, cap) = (Duration::from_millis(initial_ms), Duration::from_millis(cap_ms));
        Policy { attempts_max, backoff: Backoff::Exponential { initial, factor: 2.0, cap }, jitter }
    }

    /// The wait before retry number `retry` (from 0), with `random` in 0..1 for the jitter.
    pub fn wait(&self, retry: u32, random: f64) -> Duration {
        let wait = match self.backoff {
            Backoff::Fixed(wait) => wait,
            Backoff::Exponential { initial, factor, cap } => {
                let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
                Duration::try_from_secs_f64(initial.as_secs_f64() * factor.powi(exponent)).map_or(cap, |w| w.min(cap))
            }
        };
        let share = match self.jitter {
            Jitter::None => 1.0,
            Jitter::Full => random,
            Jitter::Proportional(f) => 1.0 + f.clamp(0.0, 1.0) * (2.0 * random - 1.0),
        };
        wait.mul_f64(share.clamp(0.0, 2.0))
    }
}

/// Keeps retries to a share of all calls to one destination, so that a struggling one is not buried. Shared by all of
/// its callers.
#[derive(Debug)]
pub struct RetryBudget {
    /// In thousandths of a retry.
    balance: AtomicI64,
}

/// A call earns a tenth of a retry.
const EARNED_PER_CALL: i64 = 100;
const RETRY_COST: i64 = 1_000;
/// Retries that may be saved up; also there at the start.
const BALANCE_MAX: i64 = 10 * RETRY_COST;

impl RetryBudget {
    /// A budget of 10 retries, refilled by one for every ten calls.
    pub const fn new() -> Self {
        RetryBudget { balance: AtomicI64::new(BALANCE_MAX) }
    }

    fn earn(&self) {
        // An add that races past the bound by a few calls does no harm.
        if self.balance.load(Relaxed) < BALANCE_MAX {
            self.balance.fetch_add(EARNED_PER_CALL, Relaxed);
        }
    }

    fn spend(&self) -> bool {
        self.balance
            .fetch_update(Relaxed, Relaxed, |balance| (balance >= RETRY_COST).then_some(balance - RETRY_COST))
            .is_ok()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

/// One use of a policy.
///
/// ```ignore
/// Retry::new(RT_RPC).deadline(until).run(|| call(), is_transient).await
/// ```
pub struct Retry<'a> {
    policy: Policy,
    deadline: Option<Instant>,
    budget: Option<&'a RetryBudget>,
    random: &'a (dyn Fn() -> f64 + Send + Sync),
}

impl<'a> Retry<'a> {
    /// Retries by a policy, without deadline or budget.
    pub fn new(policy: Policy) -> Self {
        Retry { policy, deadline: None, budget: None, random: &uniform }
    }

    /// No wait goes past this moment: where it would, the last error is returned at once.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Retries only while the destination's budget allows it.
    pub fn budget(mut self, budget: &'a RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Draws the jitter from here, numbers in 0..1: for runs that must repeat.
    pub fn random(mut self, random: &'a (dyn Fn() -> f64 + Send + Sync)) -> Self {
        self.random = random;
        self
    }

    /// Tries until the first success, the first error that is not retryable, or the end of attempts, deadline or
    /// budget; returns the last result.
    pub async fn run<T, E, F, Op>(self, mut op: Op, is_retryable: impl Fn(&E) -> bool) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        Op: FnMut() -> F,
    {
        if let Some(budget) = self.budget {
            budget.earn();
        }
        let mut retry = 0;
        loop {
            let error = match op().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !is_retryable(&error) || retry + 1 >= self.policy.attempts_max {
                return Err(error);
            }
            let wait = self.policy.wait(retry, (self.random)());
            if self.deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
                return Err(error);
            }
            if self.budget.is_some_and(|budget| !budget.spend()) {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            retry = retry.saturating_add(1).min(u32::MAX - 2);
        }
    }
}

/// Whether a gRPC status says nothing about the request itself: UNAVAILABLE or DEADLINE_EXCEEDED.
pub fn is_transient(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded)
}

/// Uniform in 0..1; every [`RandomState`] has other keys.
fn uniform() -> f64 {
    (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const NO_JITTER: Policy = Policy::exponential(4, 100, 250, Jitter::None);

    /// Fails `failures` times; returns the result, the attempts and the virtual time taken.
    async fn attempts(retry: Retry<'_>, failures: u32) -> (Result<u32, &'static str>, u32, u128) {
        let (count, start) = (Cell::new(0), Instant::now());
        let op = || {
            count.set(count.get() + 1);
            let result = if count.get() > failures { Ok(7) } else { Err("down") };
            async move { result }
        };
        let result = retry.run(op, |_| true).await;
        (result, count.get(), start.elapsed().as_millis())
    }

    #[test]
    fn waits_grow_to_the_cap_and_jitter_stays_in_its_range() {
        let waits = |policy: Policy, random| (0..4).map(|n| policy.wait(n, random).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(NO_JITTER, 0.9), [100, 200, 250, 250]);
        assert_eq!(NO_JITTER.wait(u32::MAX, 0.5).as_millis(), 250);
        assert_eq!(waits(RT_RPC, 0.0), [70, 140, 280, 560]);
        assert_eq!(waits(RT_RPC, 1.0), [130, 260, 520, 1040]);
        assert_eq!(waits(RT_SYNC, 0.5), [500, 1000, 2000, 4000]);
        assert_eq!(RT_SYNC.wait(30, 1.0).as_secs(), 30);
        let fixed = Policy { attempts_max: 2, backoff: Backoff::Fixed(Duration::from_secs(3)), jitter: Jitter::Full };
        assert_eq!(fixed.wait(9, 0.5).as_millis(), 1500);
        assert!((0..1000).map(|_| uniform()).all(|random| (0.0..1.0).contains(&random)));
        assert_ne!(uniform(), uniform());
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_success_at_the_last_attempt_and_at_a_final_error() {
        assert_eq!(attempts(Retry::new(NO_JITTER), 0).await, (Ok(7), 1, 0));
        assert_eq!(attempts(Retry::new(NO_JITTER), 2).await, (Ok(7), 3, 300));
        assert_eq!(attempts(Retry::new(NO_JITTER), 9).await, (Err("down"), 4, 550));
        let tries = Cell::new(0);
        let op = || {
            tries.set(tries.get() + 1);
            async { Err::<(), _>(tonic::Status::not_found("x")) }
        };
        assert!(Retry::new(NO_JITTER).run(op, is_transient).await.is_err());
        assert_eq!(tries.get(), 1);
        assert!(is_transient(&tonic::Status::unavailable("")) && is_transient(&tonic::Status::deadline_exceeded("")));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_passes_the_deadline() {
        let retry = Retry::new(NO_JITTER).deadline(Instant::now() + Duration::from_millis(310));
        assert_eq!(attempts(retry, 9).await, (Err("down"), 3, 300));
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_cancels_also_while_waiting() {
        let wait = tokio::time::timeout(Duration::from_millis(350), attempts(Retry::new(RT_SYNC).random(&|| 1.0), 9));
        assert!(wait.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_bounds_the_share_of_retries() {
        let budget = RetryBudget::new();
        let mut total = 0;
        for _ in 0..1000 {
            total += attempts(Retry::new(NO_JITTER).budget(&budget), u32::MAX).await.1;
        }
        assert!((1100..=1111).contains(&total), "10 saved up and one for ten calls: {total}");
    }
}
