//! Delays between attempts that are repeated until they succeed (RT-sync of spec 06 §0, with a short beginning).
//!
//! Owns the next delay only. Without jitter: a partition has one worker, so attempts do not come in herds.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(30);

/// Doubles from 50 ms to 30 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(FIRST)
    }
}

impl Backoff {
    /// The delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.0;
        self.0 = (delay * 2).min(MAX);
        delay
    }
}
