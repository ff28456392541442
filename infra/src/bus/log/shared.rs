//! What all parts of one open log look at: settings, topics, segments, health, counters. Runs nothing by itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    config::{BusHealth, LogConfig, LogStats},
    partition::{Partition, PlacedFrame},
    segment::Segment,
    tail_cache::TailCache,
    topic::Catalog,
};
use crate::bus::BusError;

/// See the top of this file.
pub(super) struct Shared {
    pub config: LogConfig,
    pub catalog: Catalog,
    cache: TailCache,
    /// Oldest first; the last one is being written.
    pub segments: Mutex<VecDeque<Arc<Segment>>>,
    /// Held while segments leave the log: the oldest goes first on the disk too.
    pub retention: Mutex<()>,
    /// While above 0, no segment leaves the log. Raised under `retention`.
    pub holds: AtomicUsize,
    pub health: watch::Sender<BusHealth>,
    pub counters: Counters,
    /// Position in the log below which everything is on stable storage.
    pub synced_through: AtomicU64,
    stopped: OnceLock<String>,
    closed: AtomicBool,
}

/// The sources of [`LogStats`].
#[derive(Default)]
pub(super) struct Counters {
    pub appends: AtomicU64,
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub syncs: AtomicU64,
    pub file_reads: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: LogConfig, catalog: Catalog, segments: VecDeque<Arc<Segment>>, synced: u64) -> Self {
        Shared {
            cache: TailCache::new(config.cache_bytes),
            config,
            catalog,
            segments: Mutex::new(segments),
            retention: Mutex::default(),
            holds: AtomicUsize::new(0),
            health: watch::Sender::new(BusHealth::Ok),
            counters: Counters::default(),
            synced_through: AtomicU64::new(synced),
            stopped: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// The error that every call answers when the log takes nothing any more.
    pub(super) fn check_open(&self) -> Result<(), BusError> {
        if let Some(reason) = self.stopped.get() {
            return Err(BusError::Stopped(reason.clone()));
        }
        if self.closed.load(Ordering::Acquire) { Err(BusError::Closed) } else { Ok(()) }
    }

    /// Takes nothing from now on (pipeline.md J2). The first reason stays.
    pub(super) fn stop(&self, reason: String) -> BusError {
        let reason = self.stopped.get_or_init(|| {
            tracing::error!(%reason, "the log stopped: restart the process");
            reason
        });
        self.health.send_replace(BusHealth::Stopped(reason.clone()));
        self.wake_readers();
        BusError::Stopped(reason.clone())
    }

    /// Refuses calls from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake_readers();
    }

    fn wake_readers(&self) {
        for topic in self.catalog.all() {
            for partition in &topic.partitions {
                partition.changed.notify_waiters();
            }
        }
    }

    /// Lets readers see a frame.
    pub(super) fn publish(&self, partition: &Arc<Partition>, placed: PlacedFrame) {
        let (base_offset, bytes) = (placed.base_offset, placed.frame.len());
        partition.publish(placed);
        self.cache.admit(partition, base_offset, bytes);
    }

    pub(super) fn stats(&self) -> LogStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogStats {
            appends: read(&self.counters.appends),
            records: read(&self.counters.records),
            bytes: read(&self.counters.bytes),
            syncs: read(&self.counters.syncs),
            file_reads: read(&self.counters.file_reads),
        }
    }
}
