//! The step "id": a new id for a message. `id` takes it from a clock that moves on in time, so that nothing waits; `id-clock`
//! from the machine's, which gives 4,096 a millisecond at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use gochat_infra::clock::{Clock, SystemClock};
use gochat_infra::uid::{Snowflake, uuid_v7};

use super::Outcome;
use super::case::{Case, OURS, Work, checked};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("id", OURS, || ids(Arc::new(Moving::default()))),
        Case::new("id", "UUID v7", || checked(&36, || uuid_v7().len())),
        Case::new("id-clock", OURS, || ids(SystemClock::shared())).timed_only(),
    ]
}

fn ids(clock: Arc<dyn Clock>) -> Outcome<Work> {
    let generator = Snowflake::new(1, clock)?;
    let mut last = 0;
    checked(&true, move || {
        // At the end of a millisecond the generator spins, and then says to wait.
        loop {
            if let Ok(id) = generator.next() {
                let is_above = id > last;
                last = id;
                return is_above;
            }
        }
    })
}

/// A millisecond passes with every 4,096th look.
#[derive(Default)]
struct Moving {
    looks: AtomicI64,
}

impl Clock for Moving {
    fn unix_ms(&self) -> i64 {
        1_800_000_000_000 + self.looks.fetch_add(1, Relaxed) / 4096
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }
}
