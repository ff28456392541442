//! One leader a job: the lock that a job holds while it works.
//!
//! Owns the waiting for it. Never knows what the job does.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::backoff::pause;
use gochat_infra::coord::{Coord, LockGuard};
use tokio::sync::watch;

/// How often who is not the leader asks again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The right to do one job, taken again when it was lost.
pub(crate) struct Leader {
    coord: Arc<dyn Coord>,
    name: &'static str,
    held: Option<Box<dyn LockGuard>>,
}

impl Leader {
    /// Leads nothing before it is asked to.
    pub(crate) fn new(coord: Arc<dyn Coord>, name: &'static str) -> Leader {
        Leader { coord, name, held: None }
    }

    /// Waits until this process leads the job; false when it is to stop instead.
    pub(crate) async fn lead(&mut self, shutdown: &mut watch::Receiver<bool>) -> bool {
        loop {
            if self.held.as_ref().is_some_and(|held| held.is_held()) {
                return !*shutdown.borrow();
            }
            self.held = match self.coord.try_lock(self.name).await {
                Ok(held) => held,
                Err(error) => {
                    tracing::warn!(job = self.name, %error, "cannot tell who leads a job");
                    None
                }
            };
            if self.held.is_none() && !pause(ASK_AGAIN, shutdown).await {
                return false;
            }
        }
    }
}
