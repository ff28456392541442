//! Delays between attempts that are repeated until they succeed (RT-sync of spec 06 §0, with a short beginning).
//!
//! Owns the next delay, and the sleep that a shutdown ends. Without jitter: each consumer is alone on its partition, so
//! attempts do not come in herds. A bounded number of attempts is [`crate::retry`]'s.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(30);

/// Doubles from 50 ms to 30 s.
#[derive(Clone, Copy, Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(FIRST)
    }
}

impl Backoff {
    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.0;
        self.0 = (delay * 2).min(MAX);
        delay
    }

    /// Sleeps for the next delay; false when the process is to stop instead.
    pub async fn pause(&mut self, shutdown: &mut watch::Receiver<bool>) -> bool {
        pause(self.next_delay(), shutdown).await
    }
}

/// Sleeps; false when the process is to stop instead.
pub async fn pause(delay: Duration, shutdown: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = asked_to_stop(shutdown) => false,
        () = tokio::time::sleep(delay) => true,
    }
}

/// Sleeps until `due`, for ever without one: an arm of a select that is not always set.
pub async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Resolves when the process is to stop, or when nobody is left to say so.
pub async fn asked_to_stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
