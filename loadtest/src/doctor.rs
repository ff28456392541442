//! What limits a run on this machine, and what to do about each limit. Reads /proc; changes nothing.

use std::fmt;
use std::fs;

use crate::run::DESCRIPTORS_MIN;

use rustix::process::{Resource, getrlimit};

/// Descriptors beside those of connections.
const SPARE: u64 = 64;
/// Kernel memory of a connection's two sockets on one machine, and ours of it, bytes.
const CONNECTION_BYTES: u64 = 2 * 4_300 + 128;
/// Source addresses in 127.0.0.0/8 are plenty; elsewhere there is one.
const LOOPBACK: &str = "on loopback the tool rotates through 127.0.0.0/8";

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// No limit in the way.
    Ok,
    /// Limits the run in some way.
    Warn,
    /// The run asked for cannot take place.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing has to be done.
    pub remedy: String,
}

/// All checks.
#[derive(Debug)]
pub struct Diagnosis(pub Vec<Finding>);

/// The machine's figures, as far as they can be read.
#[derive(Debug, Clone)]
struct Machine {
    nofile_soft: Option<u64>,
    nofile_hard: Option<u64>,
    ports: Option<(u64, u64)>,
    somaxconn: Option<u64>,
    syn_backlog: Option<u64>,
    conntrack_max: Option<u64>,
    memory_available: Option<u64>,
    file_max: Option<u64>,
    uring: Result<String, String>,
    cpus: usize,
}

/// Looks at this machine for a run with so many connections.
pub fn run(connections: u32) -> Diagnosis {
    judge(&Machine::here(), u64::from(connections))
}

impl Diagnosis {
    /// Whether nothing keeps the run from taking place.
    pub fn can_run(&self) -> bool {
        self.0.iter().all(|finding| finding.level != Level::Fail)
    }
}

impl Machine {
    fn here() -> Machine {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let limit = getrlimit(Resource::Nofile);
        let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| {
            let mut ends = text.split_whitespace().map(|end| end.parse::<u64>().ok());
            Some((ends.next()??, ends.next()??))
        });
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
        });
        Machine {
            nofile_soft: limit.current,
            nofile_hard: limit.maximum,
            ports,
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            syn_backlog: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            conntrack_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
            memory_available: memory,
            file_max: number("/proc/sys/fs/file-max"),
            uring: gochat_ring::probe(gochat_ring::ReactorChoice::Uring)
                .map(|probed| probed.kind.name().to_owned())
                .map_err(|error| error.to_string()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

fn judge(machine: &Machine, connections: u64) -> Diagnosis {
    let needed = connections + SPARE;
    let mut found = vec![nofile(machine, needed), ports(machine, connections)];
    let at_least = |name, value: Option<u64>, wanted: u64, level, key: &str| {
        let ok = value.is_none_or(|value| value >= wanted);
        Finding {
            name,
            level: if ok { Level::Ok } else { level },
            found: value.map_or("not limited here".to_owned(), |value| value.to_string()),
            remedy: if ok { String::new() } else { format!("sysctl -w {key}={wanted}") },
        }
    };
    found.push(at_least("system files", machine.file_max, 2 * needed, Level::Fail, "fs.file-max"));
    found.push(at_least("accept queue", machine.somaxconn, 4096, Level::Warn, "net.core.somaxconn"));
    found.push(at_least("SYN queue", machine.syn_backlog, 4096, Level::Warn, "net.ipv4.tcp_max_syn_backlog"));
    found.push(at_least(
        "conntrack",
        machine.conntrack_max,
        2 * connections + 1024,
        Level::Fail,
        "net.netfilter.nf_conntrack_max",
    ));
    let memory = connections * CONNECTION_BYTES;
    let enough = machine.memory_available.is_none_or(|available| available > memory + (512 << 20));
    found.push(Finding {
        name: "memory",
        level: if enough { Level::Ok } else { Level::Fail },
        found: format!(
            "{} MB available, about {} MB for both ends of {connections} connections",
            machine.memory_available.unwrap_or(0) >> 20,
            memory >> 20
        ),
        remedy: if enough {
            String::new()
        } else {
            "use fewer connections, or the server on another machine".to_owned()
        },
    });
    found.push(match &machine.uring {
        Ok(name) => Finding { name: "reactor", level: Level::Ok, found: name.clone(), remedy: String::new() },
        Err(why) => Finding {
            name: "reactor",
            level: Level::Warn,
            found: format!("no io_uring: {why}"),
            remedy: "epoll is used; allow io_uring (kernel.io_uring_disabled=0, seccomp) for the lower cost".to_owned(),
        },
    });
    let shared = machine.cpus < 2;
    found.push(Finding {
        name: "CPUs",
        level: if shared { Level::Warn } else { Level::Ok },
        found: machine.cpus.to_string(),
        remedy: if shared {
            "generator and server share one CPU: their figures disturb each other".to_owned()
        } else {
            String::new()
        },
    });
    Diagnosis(found)
}

fn nofile(machine: &Machine, needed: u64) -> Finding {
    let hard = machine.nofile_hard.unwrap_or(u64::MAX);
    let soft = machine.nofile_soft.unwrap_or(u64::MAX);
    // Sockets in the tables of several rings are not counted.
    let enough = hard >= needed || (machine.uring.is_ok() && hard >= DESCRIPTORS_MIN);
    let level = if enough { Level::Ok } else { Level::Fail };
    let show = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    Finding {
        name: "open files",
        level,
        found: format!("{} (hard limit {}), {needed} needed", show(soft), show(hard)),
        remedy: match level {
            Level::Fail => format!(
                "raise the hard limit: LimitNOFILE={needed}, limits.conf, or `prlimit --nofile={needed}` as root"
            ),
            Level::Ok | Level::Warn => String::new(),
        },
    }
}

fn ports(machine: &Machine, connections: u64) -> Finding {
    let available = machine.ports.map_or(u64::MAX, |(low, high)| high.saturating_sub(low) + 1);
    let enough = available >= connections;
    Finding {
        name: "local ports",
        level: if enough { Level::Ok } else { Level::Warn },
        found: format!("{available} per source address; {LOOPBACK}"),
        remedy: if enough {
            String::new()
        } else {
            "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"; beyond that more source addresses".to_owned()
        },
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let mark = match finding.level {
                Level::Ok => "ok  ",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            writeln!(f, "{mark}  {:<14}{}", finding.name, finding.found)?;
            if !finding.remedy.is_empty() {
                writeln!(f, "      {:<14}→ {}", "", finding.remedy)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            nofile_soft: Some(1024),
            nofile_hard: Some(20_000),
            ports: Some((32_768, 60_999)),
            somaxconn: Some(4096),
            syn_backlog: Some(128),
            conntrack_max: Some(65_536),
            memory_available: Some(4 << 30),
            file_max: Some(1 << 20),
            uring: Ok("io_uring".to_owned()),
            cpus: 2,
        }
    }

    fn level(machine: &Machine, connections: u64, name: &str) -> Option<Level> {
        judge(machine, connections).0.into_iter().find(|finding| finding.name == name).map(|finding| finding.level)
    }

    #[test]
    fn each_limit_is_found_when_it_is_in_the_way() {
        let good = machine();
        assert!(judge(&good, 10_000).can_run());
        assert_eq!(level(&good, 10_000, "open files"), Some(Level::Ok), "the soft limit is raised by the tool");
        assert_eq!(level(&good, 1_000_000, "open files"), Some(Level::Ok), "several rings hold them");
        let few = Machine { nofile_hard: Some(512), ..machine() };
        assert_eq!(level(&few, 600, "open files"), Some(Level::Fail));
        assert_eq!(level(&good, 30_000, "local ports"), Some(Level::Warn));
        assert_eq!(level(&good, 40_000, "conntrack"), Some(Level::Fail));
        assert_eq!(level(&good, 1_000_000, "memory"), Some(Level::Fail));
        assert_eq!(level(&good, 600_000, "system files"), Some(Level::Fail));
        assert_eq!(level(&good, 10, "SYN queue"), Some(Level::Warn));
        let poor = Machine { uring: Err("forbidden".to_owned()), cpus: 1, conntrack_max: None, ..machine() };
        assert_eq!(level(&poor, 10, "reactor"), Some(Level::Warn));
        assert_eq!(level(&poor, 10, "CPUs"), Some(Level::Warn));
        assert_eq!(level(&poor, 1 << 20, "conntrack"), Some(Level::Ok));
        assert!(judge(&poor, 10).can_run());
        assert_eq!(level(&poor, 20_000, "open files"), Some(Level::Fail), "epoll needs a descriptor each");
    }

    #[test]
    fn what_fails_has_a_remedy() {
        let all = judge(&Machine { uring: Err("forbidden".to_owned()), ..machine() }, 10_000_000);
        assert!(all.0.iter().all(|finding| (finding.level == Level::Ok) == finding.remedy.is_empty()), "{all}");
        assert!(!all.can_run());
    }
}
