//! One partition in memory: where its frames are, its newest frames themselves, and its visible end.
//! Never writes; what is published here is readable at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::segment::Segment;
use crate::bus::{BatchLimits, Offset, TopicPartition};

/// Locks, also after a panic elsewhere: every critical section of the log leaves its data usable at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame of records with its place.
#[derive(Clone, Debug)]
pub(super) struct PlacedFrame {
    pub segment: Arc<Segment>,
    /// From the start of the segment's file.
    pub at: u32,
    pub frame: Bytes,
    pub base_offset: Offset,
    pub count: u32,
}

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Partition {
    pub id: TopicPartition,
    /// Offset of the next append; changed only under the writer's lock.
    assigned_end: AtomicI64,
    visible_end: AtomicI64,
    index: Mutex<Index>,
    /// Told when records became visible, and when a reader must look at its lease or at the log's state.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Index {
    /// Oldest first; one per segment that holds frames of this partition.
    runs: VecDeque<Run>,
    /// The newest frames, without gap up to the visible end.
    cached: VecDeque<CachedFrame>,
}

#[derive(Debug)]
struct Run {
    segment: Arc<Segment>,
    base_offset: Offset,
    entries: Vec<Entry>,
}

/// Place of one frame in its segment. Twelve bytes, because a retained log has millions.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset_delta: u32,
    at: u32,
    bytes: u32,
}

#[derive(Debug)]
struct CachedFrame {
    base_offset: Offset,
    count: u32,
    frame: Bytes,
}

/// A frame to read from its file.
#[derive(Debug)]
pub(super) struct StoredFrame {
    pub segment: Arc<Segment>,
    pub at: u32,
    pub bytes: u32,
}

/// Where the records from an offset on are.
pub(super) enum Located {
    /// In memory: frames with base offset and record count.
    Cached(Vec<(Offset, u32, Bytes)>),
    /// In files.
    Stored(Vec<StoredFrame>),
}

impl Partition {
    /// A partition whose next append gets `next`.
    pub(super) fn new(id: TopicPartition, next: Offset) -> Self {
        Partition {
            id,
            assigned_end: AtomicI64::new(next),
            visible_end: AtomicI64::new(next),
            index: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Offset of the next append.
    pub(super) fn assigned_end(&self) -> Offset {
        self.assigned_end.load(Ordering::Acquire)
    }

    /// Gives out the next `count` offsets. Under the writer's lock only.
    pub(super) fn assign(&self, count: u32) -> Offset {
        self.assigned_end.fetch_add(Offset::from(count), Ordering::AcqRel)
    }

    /// Offset behind the last visible record.
    pub(super) fn visible_end(&self) -> Offset {
        self.visible_end.load(Ordering::Acquire)
    }

    /// Offset of the first record that is kept.
    pub(super) fn earliest(&self) -> Offset {
        lock(&self.index).runs.front().map_or_else(|| self.visible_end(), |run| run.base_offset)
    }

    /// Makes a frame visible and keeps it in memory. Frames of a partition are published in offset order.
    pub(super) fn publish(&self, placed: PlacedFrame) {
        let end = placed.base_offset + Offset::from(placed.count);
        let mut index = lock(&self.index);
        index.add(&placed.segment, placed.at, placed.frame.len() as u32, placed.base_offset);
        index.cached.push_back(CachedFrame {
            base_offset: placed.base_offset,
            count: placed.count,
            frame: placed.frame,
        });
        self.visible_end.store(end, Ordering::Release);
        drop(index);
        self.changed.notify_waiters();
    }

    /// Takes a frame found in a file at start.
    pub(super) fn restore(&self, segment: &Arc<Segment>, at: u32, bytes: u32, base_offset: Offset, count: u32) {
        lock(&self.index).add(segment, at, bytes, base_offset);
        let end = base_offset + Offset::from(count);
        self.assigned_end.store(end, Ordering::Release);
        self.visible_end.store(end, Ordering::Release);
    }

    /// Forgets the frames in memory up to the one that starts at `base_offset`.
    pub(super) fn evict(&self, base_offset: Offset) {
        let mut index = lock(&self.index);
        while index.cached.front().is_some_and(|cached| cached.base_offset <= base_offset) {
            index.cached.pop_front();
        }
    }

    /// Frames that hold the records from `offset` on, enough for `limits` or less; `offset` lies at or above
    /// [`Partition::earliest`] and below the visible end, else there are none.
    pub(super) fn locate(&self, offset: Offset, limits: BatchLimits) -> Located {
        let index = lock(&self.index);
        match index.cached.front() {
            Some(first) if first.base_offset <= offset => Located::Cached(index.cached_from(offset, limits)),
            _ => Located::Stored(index.stored_from(offset, limits)),
        }
    }

    /// Offset behind the last record of this partition in a sealed, published segment; `None` when it holds none.
    pub(super) fn end_in(&self, sequence: u64) -> Option<Offset> {
        let index = lock(&self.index);
        let at = index.runs.iter().position(|run| run.segment.header.sequence == sequence)?;
        Some(index.runs.get(at + 1).map_or_else(|| self.visible_end(), |next| next.base_offset))
    }

    /// Forgets everything up to and in a segment.
    pub(super) fn forget_through(&self, sequence: u64) {
        let mut index = lock(&self.index);
        while index.runs.front().is_some_and(|run| run.segment.header.sequence <= sequence) {
            index.runs.pop_front();
        }
        let earliest = index.runs.front().map_or_else(|| self.visible_end(), |run| run.base_offset);
        while index.cached.front().is_some_and(|cached| cached.base_offset < earliest) {
            index.cached.pop_front();
        }
    }
}

impl Index {
    fn add(&mut self, segment: &Arc<Segment>, at: u32, bytes: u32, base_offset: Offset) {
        let sequence = segment.header.sequence;
        match self.runs.back_mut() {
            Some(run) if run.segment.header.sequence == sequence => {
                run.entries.push(Entry { offset_delta: (base_offset - run.base_offset) as u32, at, bytes });
            }
            _ => self.runs.push_back(Run {
                segment: segment.clone(),
                base_offset,
                entries: vec![Entry { offset_delta: 0, at, bytes }],
            }),
        }
    }

    fn cached_from(&self, offset: Offset, limits: BatchLimits) -> Vec<(Offset, u32, Bytes)> {
        let first = self.cached.partition_point(|cached| cached.base_offset <= offset).saturating_sub(1);
        let mut frames = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        for cached in self.cached.range(first..) {
            frames.push((cached.base_offset, cached.count, cached.frame.clone()));
            records += cached.count as usize;
            bytes += cached.frame.len();
            if records >= limits.records_max || bytes >= limits.bytes_max {
                break;
            }
        }
        frames
    }

    fn stored_from(&self, offset: Offset, limits: BatchLimits) -> Vec<StoredFrame> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        let first_run = self.runs.partition_point(|run| run.base_offset <= offset).saturating_sub(1);
        for run in self.runs.range(first_run.min(self.runs.len())..) {
            let first = run
                .entries
                .partition_point(|entry| run.base_offset + Offset::from(entry.offset_delta) <= offset)
                .saturating_sub(1);
            for entry in &run.entries[first..] {
                frames.push(StoredFrame { segment: run.segment.clone(), at: entry.at, bytes: entry.bytes });
                bytes += entry.bytes as usize;
                // Every frame holds at least one record.
                if frames.len() >= limits.records_max || bytes >= limits.bytes_max {
                    return frames;
                }
            }
        }
        frames
    }
}
