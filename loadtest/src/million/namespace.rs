//! The network namespace of `million`: made by `unshare`, its size by a setting of its parent that is put back at once.
//! Changes settings of its own namespace only once it is sure to be in one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::LoadError;

/// Sockets of a namespace are found in a table of this size; without it all share the machine's.
const TABLE_ENTRIES: &str = "/proc/sys/net/ipv4/tcp_child_ehash_entries";
const TABLE_MAX: u64 = 1 << 24;
const STEP: Duration = Duration::from_millis(5);
const ENTER_MAX: Duration = Duration::from_secs(10);
/// What is set inside, where only this run is.
const SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"),
    ("/proc/sys/net/core/somaxconn", "65535"),
    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65535"),
];

/// Runs this process' own command line with `--inside` in a new namespace with room for both ends of so many connections.
pub(super) fn run_inside(connections: u32) -> Result<ExitStatus, LoadError> {
    let table = Setting::raise(TABLE_ENTRIES, (2 * u64::from(connections)).next_power_of_two().min(TABLE_MAX));
    let mut words = std::env::args_os().skip(1);
    let mut child = Command::new("unshare")
        .args(["--net", "--"])
        .arg(this_program()?)
        .args(words.next())
        .arg("--inside")
        .args(words)
        .spawn()
        .map_err(|error| wrong(&format!("cannot run `unshare` (of util-linux): {error}")))?;
    let here = namespace_of("self");
    let give_up = Instant::now() + ENTER_MAX;
    while namespace_of(&child.id().to_string()) == here && Instant::now() < give_up {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        sleep(STEP);
    }
    drop(table);
    child.wait().map_err(|error| wrong(&error.to_string()))
}

/// Brings up loopback and widens the limits of the namespace this process is in.
pub(super) fn prepare() -> Result<(), LoadError> {
    let parent = rustix::process::getppid().map_or_else(|| "1".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    let here = namespace_of("self");
    if here.is_none() || here == namespace_of(&parent) {
        return Err(wrong("--inside is what million calls itself with, in a network namespace of its own"));
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        return Err(wrong("`ip link set lo up` failed: install iproute2"));
    }
    for (path, value) in SETTINGS {
        fs::write(path, value).map_err(|error| wrong(&format!("{path}: {error}")))?;
    }
    Ok(())
}

pub(super) fn this_program() -> Result<PathBuf, LoadError> {
    std::env::current_exe().map_err(|error| wrong(&format!("where this program is: {error}")))
}

fn namespace_of(pid: &str) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid).join("ns/net")).ok()
}

fn wrong(why: &str) -> LoadError {
    LoadError::Arguments(format!("no network namespace: {why}"))
}

/// A setting of the machine that gets its old value back.
struct Setting {
    path: &'static str,
    old: String,
}

impl Setting {
    /// `None` where the kernel has no such setting, or it is that large already.
    fn raise(path: &'static str, value: u64) -> Option<Setting> {
        let old = fs::read_to_string(path).ok()?.trim().to_owned();
        if old.parse::<u64>().ok()? >= value {
            return None;
        }
        fs::write(path, value.to_string()).ok()?;
        Some(Setting { path, old })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.old);
    }
}
