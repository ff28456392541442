//! The news that the outbox has entries, for who waits for some.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::sync::watch;

/// Tells who waits that a commit added entries.
pub(super) struct OutboxBell {
    /// The running write transaction has added some; only one runs at a time.
    added: AtomicBool,
    commits: watch::Sender<u64>,
}

impl Default for OutboxBell {
    fn default() -> OutboxBell {
        OutboxBell { added: AtomicBool::new(false), commits: watch::Sender::new(0) }
    }
}

impl OutboxBell {
    /// Moves with every commit that added entries, now and then also without.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// To be called inside the transaction that adds some.
    pub(super) fn added(&self) {
        self.added.store(true, SeqCst);
    }

    /// To be called after every commit.
    pub(super) fn committed(&self) {
        if self.added.swap(false, SeqCst) {
            self.commits.send_modify(|commits| *commits += 1);
        }
    }
}
