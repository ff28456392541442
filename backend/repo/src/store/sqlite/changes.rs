//! The clock of change times, which delta sync goes by (pipeline.md D4).
//!
//! Owns the promise that nothing is committed any more with a time below one it has settled: times never step back, and one
//! that a transaction is still writing holds the settled time down, however long its commit takes.

use gochat_infra::clock::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clock. Times are Unix milliseconds.
pub(super) struct ChangeClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Highest time written or settled.
    highest: i64,
    /// Times of transactions that are neither committed nor given up.
    writing: Vec<i64>,
}

impl ChangeClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> ChangeClock {
        ChangeClock { clock, state: Mutex::default() }
    }

    /// A time that an earlier process wrote.
    pub(super) fn raise(&self, written: i64) {
        let mut state = self.locked();
        state.highest = state.highest.max(written);
    }

    /// The time of what a transaction changes, to be kept until it is committed or given up.
    pub(super) fn stamp(self: &Arc<Self>) -> Stamp {
        let mut state = self.locked();
        let ms = state.tick(&*self.clock);
        state.writing.push(ms);
        Stamp { ms, clock: self.clone() }
    }

    /// Every change that is not yet visible will have this time or a later one.
    pub(super) fn settled(&self) -> i64 {
        let mut state = self.locked();
        let now = state.tick(&*self.clock);
        state.writing.iter().copied().min().unwrap_or(now)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self, clock: &dyn Clock) -> i64 {
        self.highest = self.highest.max(clock.unix_ms());
        self.highest
    }
}

/// A change time in use.
pub(super) struct Stamp {
    pub(super) ms: i64,
    clock: Arc<ChangeClock>,
}

impl Drop for Stamp {
    fn drop(&mut self) {
        let mut state = self.clock.locked();
        if let Some(at) = state.writing.iter().position(|ms| *ms == self.ms) {
            state.writing.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    struct Wall(AtomicI64);

    impl Clock for Wall {
        fn unix_ms(&self) -> i64 {
            self.0.load(SeqCst)
        }
        fn monotonic_ms(&self) -> u64 {
            0
        }
    }

    #[test]
    fn times_never_step_back_and_wait_for_writers() {
        let wall = Arc::new(Wall(AtomicI64::new(100)));
        let clock = Arc::new(ChangeClock::new(wall.clone()));
        clock.raise(150);
        assert_eq!(clock.settled(), 150, "as an earlier process left it");
        wall.0.store(200, SeqCst);
        let slow = clock.stamp();
        wall.0.store(300, SeqCst);
        let same = [clock.stamp(), clock.stamp()];
        assert_eq!((slow.ms, same[0].ms, clock.settled()), (200, 300, 200));
        drop(slow);
        assert_eq!(clock.settled(), 300);
        wall.0.store(50, SeqCst);
        assert_eq!(clock.stamp().ms, 300);
        drop(same);
        assert_eq!(clock.settled(), 300);
    }
}
