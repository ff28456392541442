//! The sync thread: one fdatasync for everything that was written before it began. Never writes.
//!
//! While a sync runs, durable appends that were written meanwhile gather for the next one (group commit).

use std::sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering};

use tokio::sync::oneshot;

use super::{
    partition::{Partition, PlacedFrame, lock},
    segment::Segment,
    shared::Shared,
};
use crate::bus::{BusError, Offset};

/// Answers a durable append with its offset.
pub(super) type AppendReply = oneshot::Sender<Result<Offset, BusError>>;

/// Work for the sync thread.
pub(super) struct SyncQueue {
    shared: Arc<Shared>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    round: Round,
    /// Bytes of appends in `round` and in the round that is being synced.
    waiting_bytes: usize,
    idle: bool,
    ending: bool,
}

/// What one sync covers.
#[derive(Default)]
struct Round {
    /// Segments that were left since the last sync, oldest first.
    left: Vec<Arc<Segment>>,
    /// The segment written last and the position in the log up to which it was written.
    target: Option<(Arc<Segment>, u64)>,
    appends: Vec<WaitingAppend>,
    barriers: Vec<oneshot::Sender<Result<(), BusError>>>,
}

/// A durable append that is written and not yet synced.
pub(super) struct WaitingAppend {
    pub partition: Arc<Partition>,
    pub placed: PlacedFrame,
    pub reply: AppendReply,
}

impl SyncQueue {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        SyncQueue { shared, state: Mutex::default(), wake: Condvar::new() }
    }

    /// Whether `bytes` more may wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let waiting = lock(&self.state).waiting_bytes;
        waiting == 0 || waiting + bytes <= self.shared.config.queue_bytes_max
    }

    /// Queues an append written up to `through`. Under the writer's lock, so that appends come in log order.
    pub(super) fn push_append(&self, append: WaitingAppend, through: u64) {
        let mut state = lock(&self.state);
        state.waiting_bytes += append.placed.frame.len();
        state.round.target = Some((append.placed.segment.clone(), through));
        state.round.appends.push(append);
        self.wake(&state);
    }

    /// Asks for a sync of everything up to `through` in `segment`. Under the writer's lock.
    pub(super) fn push_barrier(&self, segment: &Arc<Segment>, through: u64) -> oneshot::Receiver<Result<(), BusError>> {
        let (reply, answer) = oneshot::channel();
        let mut state = lock(&self.state);
        // Nobody would answer any more; the receiver learns it from the dropped sender.
        if !state.ending {
            state.round.target = Some((segment.clone(), through));
            state.round.barriers.push(reply);
            self.wake(&state);
        }
        answer
    }

    /// The log leaves this segment: it is synced before anything of the next one counts as synced. Under the
    /// writer's lock.
    pub(super) fn push_left(&self, segment: Arc<Segment>) {
        let mut state = lock(&self.state);
        state.round.target = Some((segment.clone(), segment.end_position()));
        state.round.left.push(segment);
        self.wake(&state);
    }

    fn wake(&self, state: &State) {
        if state.idle {
            self.wake.notify_one();
        }
    }

    /// Lets [`SyncQueue::run`] return when nothing waits any more.
    pub(super) fn end(&self) {
        lock(&self.state).ending = true;
        self.wake.notify_one();
    }

    /// The thread.
    pub(super) fn run(&self) {
        while let Some(round) = self.next_round() {
            let bytes: usize = round.appends.iter().map(|append| append.placed.frame.len()).sum();
            match self.sync(&round) {
                Ok(()) => self.complete(round),
                Err(error) => refuse(round, &error),
            }
            lock(&self.state).waiting_bytes -= bytes;
        }
    }

    fn next_round(&self) -> Option<Round> {
        let mut state = lock(&self.state);
        loop {
            if state.round.target.is_some() {
                return Some(std::mem::take(&mut state.round));
            }
            if state.ending {
                return None;
            }
            state.idle = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle = false;
        }
    }

    fn sync(&self, round: &Round) -> Result<(), String> {
        // After a failure the files are never tried again: the kernel may have dropped what it could not write.
        if let Err(BusError::Stopped(reason)) = self.shared.check_open() {
            return Err(reason);
        }
        let Some((last, through)) = &round.target else { return Ok(()) };
        let left = round.left.iter().filter(|segment| !Arc::ptr_eq(segment, last));
        for segment in left.chain([last]) {
            self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = segment.sync() {
                let reason = format!("fdatasync of {}: {error}", segment.path.display());
                self.shared.stop(reason.clone());
                return Err(reason);
            }
        }
        self.shared.synced_through.fetch_max(*through, Ordering::AcqRel);
        Ok(())
    }

    fn complete(&self, round: Round) {
        for append in round.appends {
            let base_offset = append.placed.base_offset;
            self.shared.publish(&append.partition, append.placed);
            // A producer that no longer waits has cancelled; the append stands.
            let _ = append.reply.send(Ok(base_offset));
        }
        for barrier in round.barriers {
            let _ = barrier.send(Ok(()));
        }
    }
}

fn refuse(round: Round, reason: &str) {
    for append in round.appends {
        let _ = append.reply.send(Err(BusError::Stopped(reason.to_owned())));
    }
    for barrier in round.barriers {
        let _ = barrier.send(Err(BusError::Stopped(reason.to_owned())));
    }
}
