//! A copy of the log as it stood at one moment, taken while it is being written. Never decides what else belongs to a
//! backup.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::{
    LogBus,
    partition::lock,
    segment::{self, Segment},
    shared::Shared,
};
use crate::bus::BusError;

const CHUNK_BYTES: usize = 1024 * 1024;

/// The log as it stood at one moment, on stable storage. While this lives, no segment leaves the log: more are made
/// instead.
pub struct LogCut {
    segments: Vec<Arc<Segment>>,
    /// Where the last one ends: between two frames.
    end_at: u64,
    _hold: Hold,
}

/// Keeps retention from taking segments.
struct Hold(Arc<Shared>);

impl Hold {
    fn new(shared: Arc<Shared>) -> Hold {
        let alone = lock(&shared.retention);
        shared.holds.fetch_add(1, Ordering::AcqRel);
        drop(alone);
        Hold(shared)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

impl LogBus {
    /// Notes where the log stands now and syncs it up to there.
    ///
    /// # Errors
    /// `Closed` and `Stopped`; a stopped log is not copied, as nobody knows what its disk holds.
    pub async fn cut(&self) -> Result<LogCut, BusError> {
        self.parts.shared.check_open()?;
        let shared = self.parts.shared.clone();
        // A segment that is just leaving is waited for.
        let hold = tokio::task::spawn_blocking(move || Hold::new(shared))
            .await
            .map_err(|error| BusError::Unavailable(format!("retention cannot be held: {error}")))?;
        let (segments, end_at, synced) = self.parts.writer.mark();
        synced.await.unwrap_or(Err(BusError::Closed))?;
        Ok(LogCut { segments, end_at, _hold: hold })
    }
}

impl LogCut {
    /// What a copy takes, bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| self.bytes_of(segment)).sum()
    }

    fn bytes_of(&self, segment: &Arc<Segment>) -> u64 {
        let last = self.segments.last().is_some_and(|last| Arc::ptr_eq(last, segment));
        if last { self.end_at } else { segment.header.segment_bytes }
    }

    /// Writes the segments into `dir`, which exists and is empty, and syncs them; a log opens there. Gives their names.
    /// Blocks; ends with `Interrupted` as soon as `goes_on` says no.
    ///
    /// # Errors
    /// What the system said; files that were begun stay.
    pub fn copy_to(&self, dir: &Path, goes_on: impl Fn() -> bool) -> io::Result<Vec<String>> {
        let mut names = Vec::with_capacity(self.segments.len());
        let mut chunk = vec![0; CHUNK_BYTES];
        for segment in &self.segments {
            let name = segment.path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(&name))?;
            let (mut at, end) = (0, self.bytes_of(segment));
            while at < end {
                if !goes_on() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let part = &mut chunk[..(end - at).min(CHUNK_BYTES as u64) as usize];
                segment.read_at(part, at)?;
                file.write_all(part)?;
                at += part.len() as u64;
            }
            file.sync_all()?;
            names.push(name);
        }
        segment::sync_dir(dir)?;
        Ok(names)
    }
}
