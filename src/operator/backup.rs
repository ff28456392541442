//! The making of a backup while everything goes on: database and log as they stood at one moment, and the key.
//!
//! The moment is fixed while the store writes nothing: all that the store has stored stands in the log before it, and
//! every user and conversation that the log names stands in the store. Restored, it is what a power loss at that moment
//! would have left.

use super::manifest::{KEY, LOG, Manifest, STORE};
use super::order::{BackedUp, Outcome};
use super::{Notes, Operator};
use gochat_infra::bus::log::LogCut;
use rustix::fs::statvfs;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

impl Operator {
    /// Makes a backup in `dest`, which appears when it is complete.
    pub(super) async fn back_up(&self, dest: &Path, notes: &Notes) -> Result<Outcome, String> {
        let Ok(_alone) = self.backing_up.try_lock() else {
            return Err("another backup is being made: wait for it".to_owned());
        };
        let partial = self.check_dest(dest)?;
        let draft = Draft::make(partial)?;
        // Dropped with this call when whoever asked is gone: a copy that runs on another thread ends then.
        let _wanted = Wanted(draft.goes_on.clone());
        let said = |text: String| drop(notes.send(text));
        let fail = |error: gochat_repo::store::StoreError| format!("the database cannot be copied: {error}");

        let mut frozen = self.parts.store.freeze().await.map_err(fail)?;
        let cut = self.parts.bus.cut().await;
        let taken_at = self.parts.clock.unix_ms() / 1000;
        frozen.thaw().await.map_err(fail)?;
        let cut = cut.map_err(|error| format!("the log cannot be copied: {error}"))?;
        let store_bytes = fs::metadata(self.config.data_dir.join(STORE)).map_or(0, |file| file.len());
        check_room(&draft.dir, store_bytes + cut.bytes())?;

        said("copying the database".to_owned());
        frozen.copy_to(&draft.dir.join(STORE)).await.map_err(fail)?;
        said(format!("copying the log, {} MiB", cut.bytes() >> 20));
        let manifest = Manifest::new(taken_at, self.config.bus.partitions);
        let (key, dest) = (self.parts.key.clone(), dest.to_owned());
        let finished = tokio::task::spawn_blocking(move || draft.finish(&cut, &key, manifest, &dest));
        let done = finished.await.map_err(|error| error.to_string())??;
        tracing::info!(dest = %done.dest.display(), bytes = done.bytes, "a backup was made");
        Ok(Outcome::Backup(done))
    }

    /// Where it is written first.
    fn check_dest(&self, dest: &Path) -> Result<PathBuf, String> {
        let named = dest.file_name().and_then(|name| name.to_str());
        let (Some(name), Some(parent), true) = (named, dest.parent(), dest.is_absolute()) else {
            return Err(format!("{}: name a directory to be made", dest.display()));
        };
        if fs::symlink_metadata(dest).is_ok() {
            return Err(format!("{} exists already: a backup never replaces anything, name another", dest.display()));
        }
        let parent = parent
            .canonicalize()
            .map_err(|error| format!("the directory {} for the backup cannot be used: {error}", parent.display()))?;
        if self.config.data_dir.canonicalize().is_ok_and(|data| parent.starts_with(data)) {
            return Err(format!(
                "{} lies in the data directory: put backups elsewhere, best on another disk",
                dest.display()
            ));
        }
        let partial = parent.join(format!("{name}.partial"));
        if fs::symlink_metadata(&partial).is_ok() {
            return Err(format!("{} is left of a backup that did not finish: remove it", partial.display()));
        }
        Ok(partial)
    }
}

fn check_room(dir: &Path, needed: u64) -> Result<(), String> {
    let Ok(file_system) = statvfs(dir) else { return Ok(()) };
    let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
    if free < needed {
        return Err(format!(
            "{} MiB are needed beside {} and {} MiB are free",
            needed >> 20,
            dir.display(),
            free >> 20
        ));
    }
    Ok(())
}

/// A backup that is being written; removed unless it is finished.
struct Draft {
    dir: PathBuf,
    goes_on: Arc<AtomicBool>,
    finished: bool,
}

/// Somebody waits for the backup.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Draft {
    fn make(dir: PathBuf) -> Result<Draft, String> {
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        Ok(Draft { dir, goes_on: Arc::new(AtomicBool::new(true)), finished: false })
    }

    /// Adds log and key, then the manifest, makes it durable and gives it its name. Blocks.
    fn finish(mut self, cut: &LogCut, key: &[u8], mut manifest: Manifest, dest: &Path) -> Result<BackedUp, String> {
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", self.dir.display());
        manifest.add(&self.dir, STORE.to_owned())?;
        let log = self.dir.join(LOG);
        DirBuilder::new().mode(0o700).create(&log).map_err(failed)?;
        let names = cut.copy_to(&log, || self.goes_on.load(Ordering::Relaxed)).map_err(failed)?;
        for name in names {
            manifest.add(&self.dir, format!("{LOG}/{name}"))?;
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.dir.join(KEY)).map_err(failed)?;
        file.write_all(key).and_then(|()| file.sync_all()).map_err(failed)?;
        manifest.add(&self.dir, KEY.to_owned())?;
        manifest.write(&self.dir)?;
        sync_dir(&self.dir).map_err(failed)?;
        if fs::symlink_metadata(dest).is_ok() {
            return Err(format!("{} has come to exist meanwhile: name another", dest.display()));
        }
        fs::rename(&self.dir, dest).map_err(|error| format!("cannot make {}: {error}", dest.display()))?;
        self.finished = true;
        if let Some(parent) = dest.parent() {
            sync_dir(parent).map_err(|error| format!("cannot sync {}: {error}", parent.display()))?;
        }
        Ok(BackedUp { dest: dest.to_owned(), files: manifest.files.len(), bytes: manifest.bytes() })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "an unfinished backup stays: remove it");
        }
    }
}

/// Makes additions in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
