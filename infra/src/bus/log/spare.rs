//! The preallocator thread: keeps the next segment ready, so that writes never meet a lack of space.

use std::{
    fs, io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    config::BusHealth,
    partition::lock,
    retention::take_oldest,
    segment::{Segment, is_disk_full},
    shared::Shared,
};

/// How long a full disk is left alone, unless space was freed by ourselves.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The next segment, or the wish for one.
pub(super) struct SpareSlot {
    shared: Arc<Shared>,
    state: Mutex<State>,
    wake: Condvar,
    /// Told when a spare came, or could not be made.
    pub changed: Notify,
}

#[derive(Default)]
struct State {
    spare: Option<Arc<Segment>>,
    wanted: Option<Wanted>,
    disk_full: bool,
    ending: bool,
}

#[derive(Clone, Copy)]
struct Wanted {
    sequence: u64,
    base_position: u64,
}

impl SpareSlot {
    pub(super) fn new(shared: Arc<Shared>, spare: Option<Arc<Segment>>) -> Self {
        let state = Mutex::new(State { spare, ..State::default() });
        SpareSlot { shared, state, wake: Condvar::new(), changed: Notify::new() }
    }

    /// The segment that follows `current`, when it is ready; else it is being made from now on.
    pub(super) fn take_after(&self, current: &Segment) -> Option<Arc<Segment>> {
        self.prepare_after(current);
        lock(&self.state).spare.take()
    }

    /// Has the segment that follows `current` made, unless it exists.
    pub(super) fn prepare_after(&self, current: &Segment) {
        let mut state = lock(&self.state);
        if state.spare.is_none() && state.wanted.is_none() {
            state.wanted =
                Some(Wanted { sequence: current.header.sequence + 1, base_position: current.end_position() });
            self.wake.notify_one();
        }
    }

    /// Whether the last try met a full disk.
    pub(super) fn is_disk_full(&self) -> bool {
        lock(&self.state).disk_full
    }

    /// Space was freed: try again now.
    pub(super) fn retry(&self) {
        self.wake.notify_one();
    }

    /// Lets [`SpareSlot::run`] return.
    pub(super) fn end(&self) {
        lock(&self.state).ending = true;
        self.wake.notify_one();
    }

    /// The thread.
    pub(super) fn run(&self) {
        while let Some(wanted) = self.next_wanted() {
            self.settle(self.make(wanted));
            self.changed.notify_waiters();
        }
    }

    /// The oldest segment serves again when nobody needs it; else a new one is allocated.
    fn make(&self, wanted: Wanted) -> io::Result<Arc<Segment>> {
        let Wanted { sequence, base_position } = wanted;
        let config = &self.shared.config;
        match take_oldest(&self.shared).map_err(io::Error::other)? {
            Some(oldest) if oldest.header.segment_bytes == config.segment_bytes => {
                oldest.recycle(config, sequence, base_position)
            }
            Some(oldest) => {
                fs::remove_file(&oldest.path)?;
                Segment::create(config, sequence, base_position)
            }
            None => Segment::create(config, sequence, base_position),
        }
    }

    fn next_wanted(&self) -> Option<Wanted> {
        let mut state = lock(&self.state);
        if state.disk_full && !state.ending {
            state = self.wake.wait_timeout(state, RETRY_AFTER).unwrap_or_else(PoisonError::into_inner).0;
        }
        loop {
            if state.ending {
                return None;
            }
            if let Some(wanted) = state.wanted {
                return Some(wanted);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn settle(&self, made: io::Result<Arc<Segment>>) {
        let mut state = lock(&self.state);
        match made {
            Ok(segment) => {
                let was_full = std::mem::take(&mut state.disk_full);
                state.spare = Some(segment);
                state.wanted = None;
                drop(state);
                if was_full {
                    tracing::info!("there is space for the log again");
                    self.report(BusHealth::Ok);
                }
            }
            Err(error) if is_disk_full(&error) => {
                let was_full = std::mem::replace(&mut state.disk_full, true);
                drop(state);
                if !was_full {
                    tracing::error!(%error, dir = %self.shared.config.dir.display(), "no space for the log's next segment");
                    self.report(BusHealth::DiskFull);
                }
            }
            Err(error) => {
                state.wanted = None;
                state.ending = true;
                drop(state);
                self.shared.stop(format!("preallocation in {}: {error}", self.shared.config.dir.display()));
            }
        }
    }

    /// Never hides that the log stopped.
    fn report(&self, health: BusHealth) {
        self.shared.health.send_if_modified(|now| {
            let differs = !matches!(now, BusHealth::Stopped(_)) && *now != health;
            if differs {
                *now = health;
            }
            differs
        });
    }
}
