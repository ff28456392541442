//! How far persistence has come, and who waits for it (pipeline.md A2, B3, D2).
//!
//! The store is the truth; this board wakes waiters of the process that saves, without polling.

use crate::store::{Result, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The board.
pub(crate) struct Positions {
    store: Arc<dyn Store>,
    known: Mutex<HashMap<u32, i64>>,
    moved: watch::Sender<u64>,
}

impl Positions {
    pub(crate) fn new(store: Arc<dyn Store>) -> Positions {
        Positions { store, known: Mutex::default(), moved: watch::Sender::new(0) }
    }

    /// What the store says; waiters learn of it.
    pub(crate) async fn read(&self) -> Result<Vec<(u32, i64)>> {
        let positions = self.store.positions().await?;
        self.advance(&positions);
        Ok(positions)
    }

    /// The store holds everything below these offsets now.
    pub(crate) fn advance(&self, positions: &[(u32, i64)]) {
        let mut known = locked(&self.known);
        for (partition, offset) in positions {
            let stands = known.entry(*partition).or_insert(0);
            *stands = (*stands).max(*offset);
        }
        drop(known);
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until everything below the given offsets is stored; false when the time is over first.
    pub(crate) async fn wait(&self, wanted: &[(u32, i64)], timeout: Duration) -> Result<bool> {
        if self.passed(wanted) {
            return Ok(true);
        }
        let mut moved = self.moved.subscribe();
        let deadline = Instant::now() + timeout;
        self.read().await?;
        while !self.passed(wanted) {
            if !matches!(tokio::time::timeout_at(deadline, moved.changed()).await, Ok(Ok(()))) {
                // Another process may have saved: one more look.
                self.read().await?;
                return Ok(self.passed(wanted));
            }
        }
        Ok(true)
    }

    fn passed(&self, wanted: &[(u32, i64)]) -> bool {
        let known = locked(&self.known);
        wanted.iter().all(|(partition, offset)| known.get(partition).copied().unwrap_or(0) >= *offset)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
