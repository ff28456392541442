//! Time as a dependency: what components that keep time ask, so that tests and the simulation own it.
//!
//! Never sleeps: waiting is tokio's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time. Handles are shared: `Arc<dyn Clock>`.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock, Unix milliseconds; may step in either direction.
    fn unix_ms(&self) -> i64;
    /// Monotonic milliseconds from an arbitrary start.
    fn monotonic_ms(&self) -> u64;
}

/// The machine's clocks. Monotonic time is tokio's, so it follows a paused runtime.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// A shared handle.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock { start: tokio::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    fn unix_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that only moves when told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    unix_ms: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at the given wall time.
    pub fn at(unix_ms: i64) -> Arc<Self> {
        Arc::new(ManualClock { unix_ms: AtomicI64::new(unix_ms), monotonic_ms: AtomicU64::new(0) })
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_ms.fetch_add(ms, SeqCst);
        self.unix_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), SeqCst);
    }

    /// Steps the wall clock only, in either direction.
    pub fn step_wall(&self, by_ms: i64) {
        self.unix_ms.fetch_add(by_ms, SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> i64 {
        self.unix_ms.load(SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(SeqCst)
    }
}
