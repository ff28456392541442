//! Checking a backup, and making a data directory of it. Works on files alone, where no server runs; whatever is wrong
//! with the backup is found before anything is touched.

use super::backup::sync_dir;
use super::manifest::{KEY, LOG, Manifest, STORE};
use crate::data::{DataDir, RESTORING};
use gochat_infra::bus::log;
use gochat_proto::topics;
use gochat_repo::{SqliteConfig, inspect_sqlite, open_sqlite};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Numbers left out in every conversation. Clients may hold messages under numbers that were given out after the backup:
/// what is sent from now on stands above them, and so reaches them.
const LEAP: i64 = 1_000_000;

/// Checks everything that can be checked without using a backup: checksums, the database's structure, the log's frames,
/// and that the two belong together.
///
/// # Errors
/// One line: what is wrong, and what to do.
pub(crate) async fn verify(src: &Path) -> Result<Manifest, String> {
    let dir = src.to_owned();
    let manifest = tokio::task::spawn_blocking(move || Manifest::verify(&dir)).await;
    let manifest = manifest.map_err(|error| error.to_string())??;
    let store = inspect_sqlite(&src.join(STORE)).await.map_err(|error| error.to_string())?;
    if let Some(problem) = store.problems.first() {
        return Err(format!("the database of {} is damaged ({problem}): use another backup", src.display()));
    }
    let (schema, known) = store.schema;
    if schema > known {
        return Err(format!(
            "the database of {} has schema version {schema}, this program knows {known}: use a newer one",
            src.display()
        ));
    }
    let log_dir = src.join(LOG);
    let log = tokio::task::spawn_blocking(move || log::inspect(&log_dir)).await;
    let log = log.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let ends = log.ends.get(topics::MESSAGES_PERSIST).cloned().unwrap_or_default();
    let beyond = |&&(partition, offset): &&(u32, i64)| offset > ends.get(partition as usize).copied().unwrap_or(0);
    if let Some((partition, offset)) = store.positions.iter().find(beyond) {
        return Err(format!(
            "the database of {} has stored offset {offset} of partition {partition}, which its log does not reach: \
             they are not of one backup, use another one",
            src.display()
        ));
    }
    Ok(manifest)
}

/// Makes a data directory of a backup. `data_dir` is absent or empty.
///
/// # Errors
/// One line. Nothing was changed then, or what was begun is gone again.
pub(crate) async fn restore(src: &Path, data_dir: &Path) -> Result<Manifest, String> {
    let manifest = verify(src).await?;
    let existed = data_dir.exists();
    if existed && fs::read_dir(data_dir).map_err(|error| unusable(data_dir, &error))?.next().is_some() {
        return Err(format!(
            "{} is not empty: a restore never replaces anything. Move it away (`mv {0} {0}.old`) and restore again",
            data_dir.display()
        ));
    }
    let lock = DataDir::acquire(data_dir)?;
    let restored = fill(src, data_dir, &manifest).await;
    if restored.is_err() {
        clean_up(data_dir, existed);
    }
    drop(lock);
    restored.map(|()| manifest)
}

async fn fill(src: &Path, data_dir: &Path, manifest: &Manifest) -> Result<(), String> {
    let failed = |error: std::io::Error| unusable(data_dir, &error);
    // While this stands, no server starts here.
    let marker = data_dir.join(RESTORING);
    File::create_new(&marker).and_then(|file| file.sync_all()).map_err(failed)?;
    sync_dir(data_dir).map_err(failed)?;
    let (from, to, files) = (src.to_owned(), data_dir.to_owned(), manifest.files.clone());
    let copied = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        DirBuilder::new().mode(0o700).create(to.join(LOG))?;
        for file in files {
            copy(&from.join(&file.name), &to.join(&file.name))?;
        }
        sync_dir(&to.join(LOG))
    });
    copied.await.map_err(|error| error.to_string())?.map_err(failed)?;
    // The copy, too, is what was written.
    let (to, wanted) = (data_dir.to_owned(), manifest.clone());
    let checked = tokio::task::spawn_blocking(move || wanted.check_files(&to)).await;
    checked.map_err(|error| error.to_string())??;
    let store = open_sqlite(SqliteConfig::new(data_dir.join(STORE))).await.map_err(|error| error.to_string())?;
    store.leap(LEAP).await.map_err(|error| error.to_string())?;
    drop(store);
    fs::remove_file(&marker).and_then(|()| sync_dir(data_dir)).map_err(failed)
}

/// Private, whatever the backup's files have become meanwhile.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// Takes away what a restore that failed has made.
fn clean_up(data_dir: &Path, existed: bool) {
    let wal = |suffix: &str| format!("{STORE}{suffix}");
    for name in [STORE, KEY, &wal("-wal"), &wal("-shm"), "LOCK"] {
        // Absent is fine.
        let _ = fs::remove_file(data_dir.join(name));
    }
    let _ = fs::remove_dir_all(data_dir.join(LOG));
    // The marker last: until then the directory is not used.
    let _ = fs::remove_file(data_dir.join(RESTORING));
    if !existed {
        let _ = fs::remove_dir(data_dir);
    }
}

fn unusable(dir: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be used: {error}", dir.display())
}
