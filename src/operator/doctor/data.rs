//! The data directory: who has it, whom it belongs to, what its disk does, and whether what is in it is whole.

use super::finding::Finding;
use super::server;
use crate::config::Config;
use crate::data::RESTORING;
use crate::operator::order::Vitals;
use gochat_infra::bus::log::{self, LogReport};
use gochat_infra::coord::local::DataDirLock;
use gochat_proto::topics;
use gochat_repo::{StoreReport, inspect_sqlite};
use rustix::fs::{statfs, statvfs};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// A sync that takes longer holds up every acknowledgement.
const SYNC_SLOW: Duration = Duration::from_millis(50);
/// No disk is faster: something answers before it has written.
const SYNC_UNBELIEVABLE: Duration = Duration::from_micros(10);
/// File systems by their numbers that keep nothing, or may answer before they have.
const SUSPECT: [(u64, &str); 7] = [
    (0x0102_1994, "tmpfs, which is memory: nothing survives a restart of the machine"),
    (0x8584_58f6, "ramfs, which is memory: nothing survives a restart of the machine"),
    (0x6969, "NFS, whose locks and syncs depend on the server"),
    (0xff53_4d42, "CIFS, whose locks and syncs depend on the server"),
    (0xfe53_4d42, "SMB, whose locks and syncs depend on the server"),
    (0x0102_1997, "9p, whose syncs depend on the host"),
    (0x6573_5546, "FUSE, whose syncs depend on a program"),
];

pub(super) async fn examine(config: &Config, vitals: Option<&Vitals>) -> Vec<Finding> {
    let dir = &config.data_dir;
    let metadata = match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return vec![fail_dir(dir, "is no directory", "name another one")],
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let says = format!("{} does not exist: the first start makes it", dir.display());
            return vec![Finding::ok("data directory", says)];
        }
        Err(error) => return vec![fail_dir(dir, &error.to_string(), "run this as the server's user")],
    };
    let mut findings =
        vec![owner(dir, &metadata), restoring(dir), holder(dir, vitals), space(config), sync_time(dir), key(dir)];
    findings.extend(contents(config, vitals).await);
    findings
}

fn fail_dir(dir: &Path, says: &str, remedy: &str) -> Finding {
    Finding::fail("data directory", format!("{} {says}", dir.display()), remedy)
}

fn owner(dir: &Path, metadata: &fs::Metadata) -> Finding {
    let me = rustix::process::geteuid().as_raw();
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.uid() != me && me != 0 {
        let says = format!("belongs to user {}, this is user {me}", metadata.uid());
        return fail_dir(dir, &says, "run this, and the server, as its owner");
    }
    if mode & 0o077 != 0 {
        let says = format!("{} is open to others (mode {mode:o})", dir.display());
        return Finding::warn("data directory", says, format!("`chmod 700 {}`", dir.display()));
    }
    Finding::ok("data directory", format!("{}, of user {}", dir.display(), metadata.uid()))
}

fn restoring(dir: &Path) -> Finding {
    match dir.join(RESTORING).exists() {
        false => Finding::ok("restore", "none was cut off"),
        true => Finding::fail("restore", "one did not finish here", "remove the directory and restore again"),
    }
}

fn holder(dir: &Path, vitals: Option<&Vitals>) -> Finding {
    match (DataDirLock::holder(dir), vitals) {
        (Ok(None), _) => Finding::ok("lock", "free"),
        (Ok(Some(holder)), Some(vitals)) if holder.pid == Some(vitals.pid) => {
            Finding::ok("lock", format!("held by the server, process {}", vitals.pid))
        }
        (Ok(Some(holder)), _) => Finding::fail(
            "lock",
            format!(
                "held by process {}, which does not answer operators",
                holder.pid.map_or("?".to_owned(), |pid| pid.to_string())
            ),
            "it is starting, stopping or stuck: look at its log; end it if it stays so",
        ),
        (Err(error), _) => Finding::fail("lock", error.to_string(), "run this as the server's user"),
    }
}

fn space(config: &Config) -> Finding {
    let Ok(file_system) = statvfs(&config.data_dir) else { return Finding::ok("disk space", "cannot be read here") };
    let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
    let says = format!("{} MiB free", free / MIB);
    let remedy = "make room: a full disk stops messages until there is some";
    if free < 2 * config.bus.segment_bytes {
        return Finding::fail("disk space", says, remedy);
    }
    if free < config.bus.retention_bytes.saturating_add(1024 * MIB) {
        return Finding::warn(
            "disk space",
            format!("{says}, the log alone may keep {} MiB", config.bus.retention_bytes / MIB),
            remedy,
        );
    }
    Finding::ok("disk space", says)
}

/// Writes and syncs a file of its own, which is gone afterwards.
fn sync_time(dir: &Path) -> Finding {
    if let Some((_, what)) =
        statfs(dir).ok().and_then(|fs| SUSPECT.iter().find(|(number, _)| *number == fs.f_type as u64 & 0xffff_ffff))
    {
        return Finding::warn(
            "disk sync",
            format!("the file system is {what}"),
            "put the data directory on a local disk",
        );
    }
    let path = dir.join(format!("doctor-{}.tmp", std::process::id()));
    let timed = time_syncs(&path);
    let _ = fs::remove_file(&path);
    match timed {
        Err(error) => Finding::fail(
            "disk sync",
            format!("a file cannot be written: {error}"),
            "permissions, a full or a read-only disk",
        ),
        Ok(took) if took > SYNC_SLOW => Finding::warn(
            "disk sync",
            format!("a sync takes {} ms", took.as_millis()),
            "every acknowledgement waits for one: use a faster disk, or find out what else writes to it",
        ),
        Ok(took) if took < SYNC_UNBELIEVABLE => Finding::warn(
            "disk sync",
            format!("a sync takes {} µs, which no disk does", took.as_micros()),
            "something answers before it has written (a virtual disk's cache mode, `nobarrier`, eatmydata): a power loss may take back what was acknowledged",
        ),
        Ok(took) => Finding::ok("disk sync", format!("takes {} µs", took.as_micros())),
    }
}

/// The middle one of a few.
fn time_syncs(path: &Path) -> std::io::Result<Duration> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&[1; 16 * 4096])?;
    file.sync_all()?;
    let mut times = Vec::new();
    for round in 0..7u8 {
        file.write_all(&[round; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn key(dir: &Path) -> Finding {
    let path = dir.join("signing.key");
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && !dir.join("gochat.sqlite").exists() => {
            return Finding::ok("signing key", "none yet: the first start makes it");
        }
        Err(error) => {
            return Finding::fail(
                "signing key",
                format!("{}: {error}", path.display()),
                "restore it from a backup; without it everybody logs in again",
            );
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let says = format!("{} may be read by others (mode {mode:o})", path.display());
        return Finding::fail(
            "signing key",
            says,
            format!("`chmod 600 {}`, and think about who read it: whoever has it can be any user", path.display()),
        );
    }
    match metadata.len() {
        32 => Finding::ok("signing key", "private"),
        bytes => {
            Finding::fail("signing key", format!("it has {bytes} bytes instead of 32"), "restore it from a backup")
        }
    }
}

/// Database and log, each by itself and whether they belong together.
async fn contents(config: &Config, vitals: Option<&Vitals>) -> Vec<Finding> {
    let path = config.data_dir.join("gochat.sqlite");
    if !path.exists() {
        return vec![Finding::ok("database", "none yet: the first start makes it")];
    }
    let mut findings = vec![store_mode(&path)];
    let store = match inspect_sqlite(&path).await {
        Ok(store) => store,
        Err(error) => {
            findings.push(Finding::fail(
                "database",
                error.to_string(),
                "restore the whole data directory from a backup",
            ));
            return findings;
        }
    };
    findings.push(structure(&store));
    if let Some(vitals) = vitals {
        findings.push(Finding::ok("log", "in use by the server, which checked it at its start"));
        findings.extend(server::backlog(vitals.parked, vitals.outbox));
        return findings;
    }
    findings.extend(server::backlog(store.backlog.parked, store.backlog.outbox));
    let dir = config.data_dir.join("log");
    let looked =
        tokio::task::spawn_blocking(move || if dir.exists() { log::inspect(&dir) } else { Ok(LogReport::default()) });
    match looked.await {
        Ok(Ok(log)) => findings.extend(together(config, &store, &log)),
        Ok(Err(error)) => {
            findings.push(Finding::fail("log", error.to_string(), "restore the whole data directory from a backup"))
        }
        Err(error) => findings.push(Finding::fail("log", error.to_string(), "look again")),
    }
    findings
}

fn store_mode(path: &Path) -> Finding {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        return Finding::ok("database file", "private");
    }
    Finding::fail(
        "database file",
        format!("{} may be read by others (mode {mode:o}): it holds password hashes and all messages", path.display()),
        format!("`chmod 600 {0} {0}-wal {0}-shm`", path.display()),
    )
}

fn structure(store: &StoreReport) -> Finding {
    let (schema, known) = store.schema;
    if let Some(problem) = store.problems.first() {
        let says = format!("SQLite's check found {} problems, the first: {problem}", store.problems.len());
        return Finding::fail("database", says, "restore the whole data directory from a backup; keep this one");
    }
    match schema {
        schema if schema > known => Finding::fail(
            "database",
            format!("its schema has version {schema}, this program knows {known}"),
            "start the newer program that wrote it",
        ),
        schema if schema < known => {
            Finding::ok("database", format!("whole; the next start takes it from schema {schema} to {known}"))
        }
        _ => Finding::ok("database", format!("whole, schema {schema}")),
    }
}

fn together(config: &Config, store: &StoreReport, log: &LogReport) -> Vec<Finding> {
    let ends = log.ends.get(topics::MESSAGES_PERSIST).cloned().unwrap_or_default();
    let end = |partition: u32| ends.get(partition as usize).copied().unwrap_or(0);
    let mut findings = Vec::new();
    let torn = if log.torn { ", a torn tail that the next start cuts" } else { "" };
    findings.push(Finding::ok("log", format!("whole, {} segments{torn}", log.segments)));
    if !ends.is_empty() && ends.len() != config.bus.partitions as usize {
        findings.push(Finding::fail(
            "partitions",
            format!("the log has {}, the configuration says {}", ends.len(), config.bus.partitions),
            format!("set bus.partitions = {}", ends.len()),
        ));
    }
    findings.push(match store.positions.iter().find(|(partition, offset)| *offset > end(*partition)) {
        Some((partition, offset)) => Finding::fail(
            "log and database",
            format!(
                "the database has stored offset {offset} of partition {partition}, the log ends at {}",
                end(*partition)
            ),
            "they are of different copies, or the log was removed: restore both from one backup",
        ),
        None => {
            let stored =
                |partition: u32| store.positions.iter().find(|(p, _)| *p == partition).map_or(0, |(_, offset)| *offset);
            let behind: i64 = (0u32..).zip(&ends).map(|(partition, end)| end - stored(partition)).sum();
            Finding::ok("log and database", format!("belong together; the next start stores {behind} records"))
        }
    });
    findings
}
