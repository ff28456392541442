//! One segment file: made whole, written and read at positions, synced. Never knows what frames mean.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File, OpenOptions},
    hash::BuildHasher,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Advice, FallocateFlags, fadvise, fallocate},
    io::Errno,
};

use super::{
    config::{FileHook, FileOp, LogConfig},
    format::{FORMAT_VERSION, HeaderProblem, SEGMENT_HEADER_BYTES, SegmentHeader},
};
use crate::bus::BusError;

const ZEROS_BYTES: usize = 1024 * 1024;
const SUFFIX: &str = ".log";
const SUFFIX_NEW: &str = ".log.new";

/// An open segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub header: SegmentHeader,
    pub path: PathBuf,
    file: File,
    hook: Option<FileHook>,
    /// Unix milliseconds at which the log went on to the next segment; 0 before.
    sealed_at_ms: AtomicU64,
}

impl Segment {
    /// Makes and preallocates a segment: its blocks are allocated and written with zeros, so that a later write can
    /// meet no lack of space and a sync has no metadata to write. It appears under its name only when complete.
    pub(super) fn create(config: &LogConfig, sequence: u64, base_position: u64) -> io::Result<Arc<Self>> {
        let path = config.dir.join(format!("{sequence:012}{SUFFIX}"));
        let path_new = config.dir.join(format!("{sequence:012}{SUFFIX_NEW}"));
        let header = SegmentHeader {
            sequence,
            base_position,
            segment_bytes: config.segment_bytes,
            salt: RandomState::new().hash_one((sequence, std::process::id())),
            created_at_ms: now_ms(),
        };
        let made = Self::fill(config, &header, &path_new).and_then(|file| {
            fs::rename(&path_new, &path)?;
            sync_dir(&config.dir)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Arc::new(Segment {
                header,
                path,
                file,
                hook: config.file_hook.clone(),
                sealed_at_ms: AtomicU64::new(0),
            })),
            Err(error) => {
                // Give the space back; the first error is the one that counts.
                let _ = fs::remove_file(&path_new);
                Err(error)
            }
        }
    }

    /// Takes the file out of the log on the disk, before a byte of it changes; a start removes what is set aside.
    pub(super) fn set_aside(mut self, config: &LogConfig) -> io::Result<Self> {
        let path_aside = config.dir.join(format!("{:012}{SUFFIX_NEW}", self.header.sequence));
        fs::rename(&self.path, &path_aside).and_then(|()| sync_dir(&config.dir)).inspect_err(|_| {
            // Left where it is, it would stand before a gap; the first error is the one that counts.
            let _ = fs::remove_file(&self.path);
        })?;
        self.path = path_aside;
        Ok(self)
    }

    /// Makes this segment, which was set aside, into the one numbered `sequence`: its blocks are allocated and
    /// written already. What it held stays behind the new header; no frame of it counts under the new salt.
    pub(super) fn recycle(self, config: &LogConfig, sequence: u64, base_position: u64) -> io::Result<Arc<Self>> {
        let path = config.dir.join(format!("{sequence:012}{SUFFIX}"));
        let header = SegmentHeader {
            sequence,
            base_position,
            segment_bytes: config.segment_bytes,
            salt: RandomState::new().hash_one((sequence, std::process::id())),
            created_at_ms: now_ms(),
        };
        // Frames fill pages in part: those that are not in memory would be read one by one.
        let _ = fadvise(&self.file, 0, None, Advice::WillNeed);
        self.file.write_all_at(&header.encode(), 0)?;
        self.file.sync_all()?;
        fs::rename(&self.path, &path)?;
        sync_dir(&config.dir)?;
        Ok(Arc::new(Segment { header, path, file: self.file, hook: self.hook, sealed_at_ms: AtomicU64::new(0) }))
    }

    fn fill(config: &LogConfig, header: &SegmentHeader, path: &Path) -> io::Result<File> {
        if let Some(hook) = &config.file_hook {
            hook.ask(FileOp::Allocate)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, header.segment_bytes) {
            // A file system without fallocate allocates when the zeros are written.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = 0;
        while at < header.segment_bytes {
            let len = (header.segment_bytes - at).min(zeros.len() as u64);
            file.write_all_at(&zeros[..len as usize], at)?;
            at += len;
        }
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        Ok(file)
    }

    /// Opens a segment that exists and checks its header.
    pub(super) fn open(path: PathBuf, hook: Option<FileHook>) -> Result<Self, BusError> {
        Self::open_with(OpenOptions::new().read(true).write(true), path, hook)
    }

    /// Opens a segment that exists, to be read only.
    pub(super) fn open_to_read(path: PathBuf) -> Result<Self, BusError> {
        Self::open_with(OpenOptions::new().read(true), path, None)
    }

    fn open_with(options: &OpenOptions, path: PathBuf, hook: Option<FileHook>) -> Result<Self, BusError> {
        let unusable = |problem: String| BusError::Corrupt { path: path.display().to_string(), problem };
        let cannot_read = |error: io::Error| unusable(format!("cannot be read: {error}"));
        let file = options.open(&path).map_err(cannot_read)?;
        let metadata = file.metadata().map_err(cannot_read)?;
        let mut page = vec![0; SEGMENT_HEADER_BYTES.min(metadata.len()) as usize];
        file.read_exact_at(&mut page, 0).map_err(cannot_read)?;
        let header = SegmentHeader::decode(&page).map_err(|problem| {
            unusable(match problem {
                HeaderProblem::NotALog => "is not a segment of this log; move it out of the directory".to_owned(),
                HeaderProblem::Version(version) => format!(
                    "has format version {version}, this program reads version {FORMAT_VERSION}; \
                     start the program that wrote it"
                ),
                HeaderProblem::Damaged => "its header is damaged; restore the directory from a backup".to_owned(),
            })
        })?;
        let sealed_at_ms = metadata.modified().map_or(0, unix_ms);
        Ok(Segment { header, file, hook, sealed_at_ms: AtomicU64::new(sealed_at_ms), path })
    }

    /// Position behind the last byte that exists, which for a file cut short is less than its header says.
    pub(super) fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().min(self.header.segment_bytes))
    }

    /// Allocates again what is missing of a file that was cut short.
    pub(super) fn restore_length(&self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.header.segment_bytes {
            self.file.set_len(self.header.segment_bytes)?;
            match fallocate(&self.file, FallocateFlags::empty(), 0, self.header.segment_bytes) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Writes all of `bytes` at `at`, which counts from the start of the file.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Some(hook) = &self.hook {
            hook.ask(FileOp::Write)?;
        }
        self.file.write_all_at(bytes, at)
    }

    /// Fills `bytes` from `at`.
    pub(super) fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    /// fdatasync.
    pub(super) fn sync(&self) -> io::Result<()> {
        if let Some(hook) = &self.hook {
            hook.ask(FileOp::Sync)?;
        }
        self.file.sync_data()
    }

    /// Position in the whole log behind this segment.
    pub(super) fn end_position(&self) -> u64 {
        self.header.base_position + self.header.segment_bytes
    }

    pub(super) fn mark_sealed(&self) {
        self.sealed_at_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Milliseconds since the last write, for a sealed segment.
    pub(super) fn sealed_age_ms(&self) -> u64 {
        now_ms().saturating_sub(self.sealed_at_ms.load(Ordering::Relaxed))
    }
}

/// Paths of the segments in `dir` in the order of their numbers, and those of leftovers of unfinished ones.
pub(super) fn list(dir: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut paths, mut leftovers) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(SUFFIX_NEW) {
            leftovers.push(path);
        } else if name.ends_with(SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok((paths, leftovers))
}

/// Makes additions and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether an error means that there is no space, and not that something is broken.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(|errno| errno.raw_os_error());
    error.raw_os_error().is_some_and(|code| full.contains(&code))
}

fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
