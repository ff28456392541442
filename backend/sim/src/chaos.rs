//! The one source of chance of a run, and what it makes of calls: delays, refusals, lost answers.
//!
//! Owns the seed. Never touches the state of what it disturbs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done and answered.
    Done,
    /// It is refused, nothing was done.
    Refused,
    /// It is done, the answer is lost.
    AnswerLost,
}

/// Where a single fault may be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The append of a persist record.
    PersistAppend,
    /// The answer of PrepareMessages.
    Prepare,
    /// A produce to a gateway.
    Downstream,
    /// The answer of SaveRecords.
    Save,
    /// The answer of CheckEpoch.
    Check,
}

/// Chance and planned faults.
pub(crate) struct Chaos {
    state: Mutex<u64>,
    /// Off when the run comes to rest.
    on: AtomicBool,
    planned: Mutex<BTreeSet<Place>>,
    /// Where the next process to come by stands still, and who did.
    traps: Mutex<BTreeSet<Place>>,
    trapped: Mutex<Vec<usize>>,
    /// Calls of a thousand that are disturbed unplanned.
    per_mille: u64,
}

impl Chaos {
    pub(crate) fn new(seed: u64, per_mille: u64) -> Chaos {
        Chaos {
            state: Mutex::new(seed ^ 0x9E37_79B9_7F4A_7C15),
            on: AtomicBool::new(true),
            planned: Mutex::default(),
            traps: Mutex::default(),
            trapped: Mutex::default(),
            per_mille,
        }
    }

    /// A number below `bound` (splitmix64).
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut state = locked(&self.state);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// True once in `n`.
    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Ends all faults.
    pub(crate) fn calm(&self) {
        self.on.store(false, Ordering::SeqCst);
        locked(&self.planned).clear();
        locked(&self.traps).clear();
    }

    /// The next process that comes to this place stands still there.
    pub(crate) fn trap(&self, place: Place) {
        locked(&self.traps).insert(place);
    }

    /// A process is at this place.
    pub(crate) fn pass(&self, place: Place, process: &Process) {
        if locked(&self.traps).remove(&place) {
            process.freeze(true);
            locked(&self.trapped).push(process.id);
        }
    }

    /// Who was trapped since this was asked last.
    pub(crate) fn take_trapped(&self) -> Vec<usize> {
        std::mem::take(&mut locked(&self.trapped))
    }

    /// The next call at this place loses its answer.
    pub(crate) fn plan(&self, place: Place) {
        locked(&self.planned).insert(place);
    }

    /// Draws the fate of a call.
    pub(crate) fn fate(&self, place: Option<Place>) -> Fate {
        if !self.on.load(Ordering::SeqCst) {
            return Fate::Done;
        }
        if place.is_some_and(|p| locked(&self.planned).remove(&p)) {
            return Fate::AnswerLost;
        }
        match self.below(1_000) {
            n if n < self.per_mille => Fate::AnswerLost,
            n if n < 2 * self.per_mille => Fate::Refused,
            _ => Fate::Done,
        }
    }

    /// Lets others run, for up to a few virtual milliseconds.
    pub(crate) async fn jitter(&self) {
        match self.below(8) {
            0..4 => tokio::task::yield_now().await,
            4..7 => tokio::time::sleep(Duration::from_micros(self.below(3_000))).await,
            _ => tokio::time::sleep(Duration::from_millis(self.below(40))).await,
        }
    }
}

/// A process that may stand still: while it does, no call of it starts or returns.
pub(crate) struct Process {
    pub(crate) id: usize,
    frozen: AtomicBool,
    // Wakes in the order of waiting, which a watch channel does not: runs must replay.
    thawed: Notify,
}

impl Process {
    pub(crate) fn new(id: usize) -> Process {
        Process { id, frozen: AtomicBool::new(false), thawed: Notify::new() }
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
        self.thawed.notify_waiters();
    }

    /// Returns when the process runs.
    pub(crate) async fn running(&self) {
        loop {
            let thawed = self.thawed.notified();
            if !self.frozen.load(Ordering::SeqCst) {
                return;
            }
            thawed.await;
        }
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
