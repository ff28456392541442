//! The exclusive lock on a data directory: one directory, one process (pipeline.md G3).
//!
//! Owns the file `LOCK` and nothing else in there. The kernel drops the lock with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "LOCK";

/// Why a data directory cannot be used. Each message names the directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process works on it.
    #[error("data directory {} is in use by {}", dir.display(), holder_text(*holder))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Its process id, where it could be read.
        holder: Option<u32>,
    },
    /// It cannot be made or written to.
    #[error("data directory {} cannot be used: {source}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A process that works on a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id, where it could be read.
    pub pid: Option<u32>,
}

/// Held for the life of the process; released when dropped.
#[derive(Debug)]
pub struct DataDirLock {
    dir: PathBuf,
    // Closing the file releases the lock.
    _file: File,
}

impl DataDirLock {
    /// Makes the directory if it is absent (mode 0700) and locks it, or tells at once who has it.
    pub fn acquire(dir: &Path) -> Result<Self, DataDirError> {
        let unusable = |source: io::Error| DataDirError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let path = dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(DataDirError::Locked { dir: dir.to_owned(), holder: read_pid(&mut file) });
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
        write_pid(&mut file).map_err(unusable)?;
        Ok(DataDirLock { dir: dir.to_owned(), _file: file })
    }

    /// Who works on a directory now, found without changing anything: `None` when nobody does, or there is none.
    ///
    /// # Errors
    /// [`DataDirError::Unusable`] when its lock cannot be looked at.
    pub fn holder(dir: &Path) -> Result<Option<Holder>, DataDirError> {
        let unusable = |source: io::Error| DataDirError::Unusable { dir: dir.to_owned(), source };
        let mut file = match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error)),
        };
        // A shared lock stands beside other looks; it is gone when this returns.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(Holder { pid: read_pid(&mut file) })),
            Err(errno) => Err(unusable(errno.into())),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
// Tests fail by panicking.
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_refusal_says_who() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new/data");
        let first = DataDirLock::acquire(&dir).unwrap();
        let message = DataDirLock::acquire(&dir).unwrap_err().to_string();
        let pid = std::process::id();
        assert_eq!(message, format!("data directory {} is in use by process {pid}", dir.display()));
        assert_eq!(DataDirLock::holder(&dir).unwrap(), Some(Holder { pid: Some(pid) }));
        drop(first);
        assert_eq!(DataDirLock::holder(&dir).unwrap(), None);
        assert_eq!(DataDirLock::holder(&parent.path().join("absent")).unwrap(), None);
        assert_eq!(DataDirLock::acquire(&dir).unwrap().dir(), dir);
    }

    #[test]
    fn a_longer_pid_left_behind_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK_FILE), "4294967295\n4294967295\n").unwrap();
        let _lock = DataDirLock::acquire(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(LOCK_FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_path_that_is_no_directory_is_refused_by_name() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let message = DataDirLock::acquire(&path).unwrap_err().to_string();
            assert!(message.starts_with(&format!("data directory {} cannot be used", path.display())), "{message}");
        }
    }
}
