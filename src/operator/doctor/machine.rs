//! The machine: kernel, descriptors, queue of connections, memory, clock.

use super::finding::Finding;
use crate::cli::Reactor;
use crate::config::Config;
use crate::operator::order::Vitals;
use gochat_gateway::config::{ReactorChoice, probe};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Descriptors that are no connections.
const RESERVED: u64 = 1024;
/// Connections waiting to be accepted, as the gateway asks for.
const BACKLOG: u64 = 4096;
const MIB: u64 = 1 << 20;
/// Memory below which a start is not sensible, and a margin to warn at.
const MEMORY_MIN: u64 = 128 * MIB;
const MEMORY_LOW: u64 = 512 * MIB;
/// 2010 to 2080: what ids are made of.
const CLOCK_S: std::ops::Range<u64> = 1_262_304_000..3_471_292_800;

pub(super) fn examine(config: &Config, vitals: Option<&Vitals>) -> Vec<Finding> {
    vec![reactor(config), descriptors(config, vitals), somaxconn(), memory(), clock(config)]
}

fn reactor(config: &Config) -> Finding {
    let choice = match config.reactor {
        Reactor::Auto => ReactorChoice::Auto,
        Reactor::Uring => ReactorChoice::Uring,
        Reactor::Epoll => ReactorChoice::Epoll,
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim();
    match probe(choice) {
        Ok(probed) if config.reactor == Reactor::Auto && probed.reason.starts_with("epoll") => Finding::warn(
            "kernel",
            format!("Linux {kernel}: {}", probed.reason),
            "everything works with epoll; for io_uring see kernel.io_uring_disabled and the container's seccomp profile",
        ),
        Ok(probed) => Finding::ok("kernel", format!("Linux {kernel}: {}", probed.reason)),
        Err(error) => Finding::fail("kernel", format!("Linux {kernel}: {error}"), "start with --reactor auto"),
    }
}

fn descriptors(config: &Config, vitals: Option<&Vitals>) -> Finding {
    let (max, whose) = match vitals {
        Some(vitals) => (vitals.descriptors_max, "the server"),
        None => (getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX), "this shell"),
    };
    let wanted = u64::from(config.ws.connections_max) + RESERVED;
    let says = format!("{whose} may open {max}, ws.connections_max is {}", config.ws.connections_max);
    if max >= wanted {
        return Finding::ok("descriptors", says);
    }
    let room = max.saturating_sub(RESERVED);
    Finding::warn(
        "descriptors",
        format!("{says}: room for {room} connections"),
        format!("raise the hard limit (systemd LimitNOFILE={wanted}), or set ws.connections_max = {}", room.max(1)),
    )
}

fn somaxconn() -> Finding {
    match read_number("/proc/sys/net/core/somaxconn") {
        Some(max) if max < BACKLOG => Finding::warn(
            "accept queue",
            format!("net.core.somaxconn is {max}"),
            format!(
                "`sysctl -w net.core.somaxconn={BACKLOG}`: else connects are lost when all clients come back at once"
            ),
        ),
        Some(max) => Finding::ok("accept queue", format!("net.core.somaxconn is {max}")),
        None => Finding::ok("accept queue", "net.core.somaxconn cannot be read here"),
    }
}

fn memory() -> Finding {
    let Some(mut free) = available() else { return Finding::ok("memory", "cannot be read here") };
    let mut where_from = "";
    if let (Some(max), Some(used)) =
        (read_number("/sys/fs/cgroup/memory.max"), read_number("/sys/fs/cgroup/memory.current"))
        && max.saturating_sub(used) < free
    {
        (free, where_from) = (max.saturating_sub(used), " in this control group");
    }
    let says = format!("{} MiB available{where_from}", free / MIB);
    let remedy = "stop what else runs here, or give it more: the line `worst_case_mib` at the server's start says how much connections may take";
    match free {
        free if free < MEMORY_MIN => Finding::fail("memory", says, remedy),
        free if free < MEMORY_LOW => Finding::warn("memory", says, remedy),
        _ => Finding::ok("memory", says),
    }
}

fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// Ids and tokens hang on it: it may jump, and ids still rise, but tokens expire.
fn clock(config: &Config) -> Finding {
    let now = SystemTime::now();
    let since_epoch = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !CLOCK_S.contains(&since_epoch) {
        return Finding::fail(
            "clock",
            format!("it says {since_epoch} s after 1970"),
            "set the clock; the server does not start before 2010",
        );
    }
    let newest = ["gochat.sqlite", "gochat.sqlite-wal", "LOCK", "signing.key"]
        .iter()
        .filter_map(|name| fs::metadata(config.data_dir.join(name)).ok()?.modified().ok())
        .max();
    match newest.and_then(|newest| newest.duration_since(now).ok()) {
        Some(ahead) if ahead > Duration::from_secs(60) => Finding::warn(
            "clock",
            format!(
                "files in the data directory were written {} s in the future: the clock stepped back",
                ahead.as_secs()
            ),
            "check time synchronisation; ids stay unique, but tokens live longer and messages carry wrong times",
        ),
        _ => Finding::ok("clock", "plausible"),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
