//! Waking a reactor from another thread. Owns an eventfd and the flag that coalesces; never says why it woke.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::RingError;

/// Makes the reactor's `wait` return with `Completion::Wake`. Cheap to clone; one system call per wake-up however
/// many threads ask for it before the reactor noticed.
#[derive(Debug, Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    pending: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> Result<Waker, RingError> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| RingError::os("eventfd", e))?;
        Ok(Waker { shared: Arc::new(Shared { eventfd, pending: AtomicBool::new(false) }) })
    }

    /// Wakes the reactor. What the caller wrote before is visible to the reactor's thread when it handles `Wake`.
    pub fn wake(&self) {
        if !self.shared.pending.swap(true, Ordering::AcqRel) {
            // The counter cannot be full: it is read whenever it is not zero, and rises by one per reading.
            let _ = rustix::io::write(&self.shared.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Takes the pending wake-up, if there is one; the reactor calls this before it reports `Wake`.
    pub(crate) fn take(&self) -> bool {
        self.shared.pending.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }
}
