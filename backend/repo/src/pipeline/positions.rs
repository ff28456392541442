//! How far persistence has come, and who waits for it (pipeline.md A2, B3, D2).
//!
//! The store is the truth; this board wakes waiters of the process that saves, without polling.

use crate::store::{Result, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The board.
pub(crate) struct Positions {
    store: Arc<dyn Store>,
    moved: Notify,
}

impl Positions {
    pub(crate) fn new(store: Arc<dyn Store>) -> Positions {
        Positions { store, moved: Notify::new() }
    }

    /// What the store says.
    pub(crate) async fn read(&self) -> Result<Vec<(u32, i64)>> {
        self.store.positions().await
    }

    /// The store has saved something: whoever waits looks again.
    pub(crate) fn moved(&self) {
        self.moved.notify_waiters();
    }

    /// Waits until everything below the given offsets is stored; false when the time is over first. Judged by what the
    /// store says then: after a failover it may stand further back than before.
    pub(crate) async fn wait(&self, wanted: &[(u32, i64)], timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            // Enlisted before the look, so that nothing saved after it goes unnoticed.
            let moved = self.moved.notified();
            if passed(wanted, &self.read().await?) {
                return Ok(true);
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                // Another process may have saved: one more look.
                return Ok(passed(wanted, &self.read().await?));
            }
        }
    }
}

fn passed(wanted: &[(u32, i64)], stands: &[(u32, i64)]) -> bool {
    // A partition never seen stands at 0.
    let at = |partition: u32| stands.iter().find(|(p, _)| *p == partition).map_or(0, |(_, at)| *at);
    wanted.iter().all(|(partition, offset)| at(*partition) >= *offset)
}
