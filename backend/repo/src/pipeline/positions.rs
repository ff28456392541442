//! How far persistence has come, and who waits for it (pipeline.md A2, B3, D2).
//!
//! The store is the truth; this board wakes waiters of the process that saves, without polling.

use crate::store::{Result, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The board.
pub(crate) struct Positions {
    store: Arc<dyn Store>,
    moved: watch::Sender<u64>,
}

impl Positions {
    pub(crate) fn new(store: Arc<dyn Store>) -> Positions {
        Positions { store, moved: watch::Sender::new(0) }
    }

    /// What the store says.
    pub(crate) async fn read(&self) -> Result<Vec<(u32, i64)>> {
        self.store.positions().await
    }

    /// The store has saved something: whoever waits looks again.
    pub(crate) fn moved(&self) {
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until everything below the given offsets is stored; false when the time is over first. Judged by what the
    /// store says then: after a failover it may stand further back than before.
    pub(crate) async fn wait(&self, wanted: &[(u32, i64)], timeout: Duration) -> Result<bool> {
        let mut moved = self.moved.subscribe();
        let deadline = Instant::now() + timeout;
        loop {
            if passed(wanted, &self.read().await?) {
                return Ok(true);
            }
            if !matches!(tokio::time::timeout_at(deadline, moved.changed()).await, Ok(Ok(()))) {
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
