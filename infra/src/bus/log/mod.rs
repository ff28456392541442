//! The embedded bus: all topics share one append-only log of preallocated, checksummed segment files.
//!
//! Owns the public face and the life of the log's threads. The parts, lowest first: `format`, `records` and `image`
//! say what bytes mean; `segment` is one file; `partition`, `tail_cache` and `topic` are what is in memory; `shared`
//! holds these together; `sync` and `spare` are the two threads; `writer` appends; `groups` balances members;
//! `stream` reads; `recovery` runs before and `retention` now and then; `backup` copies. What a record means is nobody's business here.

mod append;
mod backup;
mod bytes_io;
mod config;
mod format;
mod groups;
mod image;
mod partition;
mod records;
mod recovery;
mod retention;
mod segment;
mod shared;
mod spare;
mod stream;
mod sync;
mod tail_cache;
mod topic;
mod writer;

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::sync::watch;

use self::{
    append::append_or_wait,
    groups::Groups,
    partition::lock,
    records::Frame,
    recovery::recover,
    retention::trim,
    shared::Shared,
    spare::SpareSlot,
    stream::{LogConsumer, LogParts, LogStream},
    sync::SyncQueue,
    topic::{Topic, unknown},
    writer::Writer,
};
pub use self::{
    backup::LogCut,
    config::{BusHealth, FileHook, FileOp, LogConfig, LogStats},
    recovery::{LogReport, inspect},
};
use super::{Bus, BusError, Consumer, Offset, PartitionStream, StartAt, TopicSpec};

const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const PARTITIONS_MAX: u32 = 1024;
const NAME_BYTES_MAX: usize = 200;

/// The embedded [`Bus`].
///
/// Beyond the trait's words: an offset below the earliest record kept means the earliest one; `commit` on a stream
/// without a group answers `Revoked`; a wrong topic name or number of partitions answers `UnknownPartition` or
/// `TopicMismatch`; readers at the tail of a log that stopped or closed are told so. Reading old records needs a
/// tokio runtime. Dropping the last reference ends the log like [`Bus::close`], but without a last sync.
pub struct LogBus {
    parts: LogParts,
    sync: Arc<SyncQueue>,
    groups: Arc<Groups>,
    running: Mutex<Option<Running>>,
}

/// What ends with the log: its threads, and the lock on its directory.
struct Running {
    threads: Vec<JoinHandle<()>>,
    _directory_lock: File,
}

impl LogBus {
    /// Opens the log in `config.dir`, or begins one. Blocks for the time it takes to read what is kept.
    ///
    /// # Errors
    /// `Corrupt` when the directory cannot be used, is in use, holds another version or is damaged before its tail;
    /// `DiskFull` when there is no space for a first segment; `Stopped` when it cannot be synced.
    pub fn open(mut config: LogConfig) -> Result<Arc<LogBus>, BusError> {
        config.segment_bytes = config.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(4096);
        config.batch_bytes_max = config.batch_bytes_max.min(config.segment_bytes as usize / 2);
        let directory_lock = lock_directory(&config.dir)?;
        let recovered = recover(&config)?;
        let shared = Arc::new(Shared::new(config, recovered.catalog, recovered.segments, recovered.synced_through));
        let sync = Arc::new(SyncQueue::new(shared.clone()));
        let spare = Arc::new(SpareSlot::new(shared.clone(), recovered.spare));
        let writer = Arc::new(Writer::new(shared.clone(), sync.clone(), spare.clone(), recovered.at)?);
        let threads = vec![
            spawn("log-sync", {
                let sync = sync.clone();
                move || sync.run()
            })?,
            spawn("log-spare", {
                let spare = spare.clone();
                move || spare.run()
            })?,
        ];
        Ok(Arc::new(LogBus {
            parts: LogParts { shared, writer, spare },
            sync,
            groups: Arc::default(),
            running: Mutex::new(Some(Running { threads, _directory_lock: directory_lock })),
        }))
    }

    /// Follows whether the log takes appends.
    pub fn health(&self) -> watch::Receiver<BusHealth> {
        self.parts.shared.health.subscribe()
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> LogStats {
        self.parts.shared.stats()
    }

    /// Offset of the first record that is kept.
    pub fn earliest_offset(&self, topic: &str, partition: u32) -> Result<Offset, BusError> {
        Ok(self.topic(topic)?.partition(partition)?.earliest())
    }

    /// What a group has committed on a partition, if anything.
    pub fn committed(&self, topic: &str, group: &str, partition: u32) -> Result<Option<Offset>, BusError> {
        Ok(self.topic(topic)?.committed(group, partition))
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, BusError> {
        self.parts.shared.catalog.get(name).ok_or_else(|| unknown(name, 0))
    }

    /// Lets the threads end and waits for them, then gives the directory free.
    fn end(&self) {
        self.parts.shared.close();
        self.groups.clear();
        self.sync.end();
        self.parts.spare.end();
        if let Some(running) = lock(&self.running).take() {
            for thread in running.threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the log panicked");
                }
            }
        }
    }
}

impl Drop for LogBus {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Bus for LogBus {
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), BusError> {
        self.parts.shared.check_open()?;
        let named = !spec.name.is_empty()
            && spec.name.len() <= NAME_BYTES_MAX
            && spec.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !named {
            return Err(unknown(&spec.name, 0));
        }
        if !(1..=PARTITIONS_MAX).contains(&spec.partitions) {
            return Err(BusError::TopicMismatch { topic: spec.name, existing: 0, asked: spec.partitions });
        }
        let LogParts { shared, writer, spare } = &self.parts;
        append_or_wait(shared, spare, || writer.create_topic(&spec)).await?;
        let existing = &self.topic(&spec.name)?.spec;
        if *existing != spec {
            let (existing, asked) = (existing.partitions, spec.partitions);
            return Err(BusError::TopicMismatch { topic: spec.name, existing, asked });
        }
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        Ok(self.topic(topic)?.spec.partitions)
    }

    async fn produce(&self, topic: &str, partition: u32, records: Vec<super::Record>) -> Result<Offset, BusError> {
        let LogParts { shared, writer, spare } = &self.parts;
        shared.check_open()?;
        let topic = self.topic(topic)?;
        let partition = topic.partition(partition)?;
        if records.is_empty() {
            return Ok(partition.visible_end());
        }
        let mut frame = Frame::of_records(&records, shared.config.record_bytes_max, shared.config.batch_bytes_max)?;
        drop(records);
        append_or_wait(shared, spare, || writer.append(&topic, partition, &mut frame)).await
    }

    async fn end_offset(&self, topic: &str, partition: u32) -> Result<Offset, BusError> {
        Ok(self.topic(topic)?.partition(partition)?.visible_end())
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.parts.shared.check_open()?;
        if group.is_empty() || group.len() > NAME_BYTES_MAX {
            return Err(BusError::TooLarge { bytes: group.len(), limit: NAME_BYTES_MAX });
        }
        let membership = self.groups.join(&self.topic(topic)?, group);
        Ok(Box::new(LogConsumer { parts: self.parts.clone(), membership }))
    }

    async fn assign(&self, topic: &str, partition: u32, at: StartAt) -> Result<Box<dyn PartitionStream>, BusError> {
        self.parts.shared.check_open()?;
        let mut stream = LogStream::new(self.parts.clone(), self.topic(topic)?, partition, None)?;
        stream.seek(at).await?;
        Ok(Box::new(stream))
    }

    async fn trim(&self) -> Result<(), BusError> {
        self.parts.shared.check_open()?;
        self.parts.writer.barrier().await.unwrap_or(Err(BusError::Closed))?;
        let shared = self.parts.shared.clone();
        let removed = tokio::task::spawn_blocking(move || trim(&shared))
            .await
            .map_err(|error| BusError::Unavailable(format!("trim did not finish: {error}")))??;
        if removed > 0 {
            tracing::debug!(removed, "removed segments of the log");
            self.parts.spare.retry();
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), BusError> {
        if let Err(BusError::Closed) = self.parts.shared.check_open() {
            return Ok(());
        }
        let synced = self.parts.writer.close().await.unwrap_or(Err(BusError::Closed));
        let closed = match synced {
            Ok(()) => self.parts.writer.write_closed()?.await.unwrap_or(Err(BusError::Closed)),
            Err(error) => Err(error),
        };
        self.end();
        closed
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BusError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| BusError::Unavailable(format!("cannot start the thread {name}: {error}")))
}

/// One process at a time: two would overwrite each other's frames.
fn lock_directory(dir: &Path) -> Result<File, BusError> {
    let corrupt = |problem: String| BusError::Corrupt { path: dir.display().to_string(), problem };
    let unusable = |error: io::Error| corrupt(format!("cannot be used: {error}"));
    std::fs::create_dir_all(dir).map_err(unusable)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        segment::sync_dir(parent).map_err(unusable)?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock")).map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(corrupt("another process has it open".to_owned())),
        Err(error) => Err(unusable(error.into())),
    }
}
