//! Settings of the embedded log and what it tells about itself: plain data. Never does I/O.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

/// How a [`super::LogBus`] is opened. [`LogConfig::new`] gives the defaults named here.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Directory of the segment files; made when missing. One process at a time.
    pub dir: PathBuf,
    /// Size of a segment file in bytes, 64 KiB to 1 GiB; default 64 MiB. Each is allocated whole and written with
    /// zeros before it is used.
    pub segment_bytes: u64,
    /// [`super::LogBus`] may drop a segment when this many newer bytes exist; default 512 MiB.
    pub retention_bytes: u64,
    /// Or when its last record is this old; default 1 h. What a group has not passed is kept in any case.
    pub retention_age: Duration,
    /// Largest record (key, trace id and value together), in bytes; default 1 MiB.
    pub record_bytes_max: usize,
    /// Largest batch of one produce call, in bytes; default 8 MiB, at most half a segment.
    pub batch_bytes_max: usize,
    /// Bytes of durable appends that may wait for a sync; more are refused as `Unavailable`. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Newest records kept in memory for readers at the tail, in bytes; default 32 MiB.
    pub cache_bytes: usize,
    /// See [`FileHook`]; none by default.
    pub file_hook: Option<FileHook>,
}

impl LogConfig {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        const MIB: usize = 1024 * 1024;
        LogConfig {
            dir: dir.into(),
            segment_bytes: 64 * MIB as u64,
            retention_bytes: 512 * MIB as u64,
            retention_age: Duration::from_secs(3600),
            record_bytes_max: MIB,
            batch_bytes_max: 8 * MIB,
            queue_bytes_max: 64 * MIB,
            cache_bytes: 32 * MIB,
            file_hook: None,
        }
    }
}

/// A file operation that a [`FileHook`] is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// Making and preallocating a segment.
    Allocate,
    /// Writing a frame.
    Write,
    /// fdatasync of a segment.
    Sync,
}

/// Asked before each file operation; an error it returns is taken as the operating system's. For fault tests.
#[derive(Clone)]
pub struct FileHook(Arc<dyn Fn(FileOp) -> io::Result<()> + Send + Sync>);

impl FileHook {
    /// A hook that calls `hook`.
    pub fn new(hook: impl Fn(FileOp) -> io::Result<()> + Send + Sync + 'static) -> Self {
        FileHook(Arc::new(hook))
    }

    pub(super) fn ask(&self, op: FileOp) -> io::Result<()> {
        (self.0)(op)
    }
}

impl fmt::Debug for FileHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileHook")
    }
}

/// Whether the log takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusHealth {
    /// It does.
    Ok,
    /// There was no space for the next segment: appends are refused once the present one is full, and taken again
    /// when there is space.
    DiskFull,
    /// A write or sync failed; nothing is taken until the process is restarted.
    Stopped(String),
}

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Produce calls appended.
    pub appends: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes written to segments, all frames.
    pub bytes: u64,
    /// fdatasync calls on segments.
    pub syncs: u64,
    /// Frames that a reader had to fetch from the file.
    pub file_reads: u64,
}
