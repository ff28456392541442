//! CPU time, memory and context switches, of this tool's thread and process and of the server's process, and what the kernel
//! holds in TCP buffers. Reads /proc and clocks; interprets nothing.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// Ticks per second of the times in /proc/PID/stat: the kernel's interface fixes it on all architectures we run on.
const USER_HZ: f64 = 100.0;

/// How often threads gave up their CPU to wait, and how often it was taken from them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// To wait for something.
    pub voluntary: u64,
    /// Somebody else's turn.
    pub involuntary: u64,
}

impl Switches {
    /// Both kinds.
    pub(crate) fn all(self) -> u64 {
        self.voluntary + self.involuntary
    }

    /// The sums of both.
    pub(crate) fn plus(self, other: Switches) -> Switches {
        let (voluntary, involuntary) = (self.voluntary + other.voluntary, self.involuntary + other.involuntary);
        Switches { voluntary, involuntary }
    }

    /// Those since `from`; none where threads that counted then are gone.
    pub(crate) fn since(self, from: Switches) -> Switches {
        let voluntary = self.voluntary.saturating_sub(from.voluntary);
        Switches { voluntary, involuntary: self.involuntary.saturating_sub(from.involuntary) }
    }
}

/// CPU seconds used and bytes resident at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) cpu_s: f64,
    pub(crate) rss_bytes: u64,
    /// Seconds the thread could have run but waited for a CPU; 0 where it is not known.
    pub(crate) wait_s: f64,
    /// Of the threads that there are.
    pub(crate) switches: Option<Switches>,
    /// In TCP buffers of the whole machine, the generator's sockets among them where it runs here.
    pub(crate) tcp_bytes: Option<u64>,
}

/// CPU and waiting of the calling thread, memory of this process.
pub(crate) fn own() -> Sample {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let cpu_s = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    let wait_s = fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|text| wait_seconds(&text));
    let switches = fs::read_to_string("/proc/thread-self/status").ok().and_then(|text| switches_in(&text));
    Sample {
        cpu_s,
        rss_bytes: rss_bytes("self").unwrap_or(0),
        wait_s: wait_s.unwrap_or(0.0),
        switches,
        tcp_bytes: None,
    }
}

/// What there is to know of the process `pid`: for the ends of a phase.
pub(crate) fn server(pid: u32) -> Result<Sample, LoadError> {
    let brief = server_brief(pid)?;
    let rss_bytes = rss_bytes(&pid.to_string()).unwrap_or(brief.rss_bytes);
    Ok(Sample { rss_bytes, switches: all_switches(pid), ..brief })
}

/// CPU, memory and TCP buffers of the process `pid`, without what takes its memory's lock or a file of each of its threads: for
/// every second of a run.
pub(crate) fn server_brief(pid: u32) -> Result<Sample, LoadError> {
    let fail = |why: String| LoadError::ServerPid { pid, why };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| fail(e.to_string()))?;
    let cpu_s = cpu_seconds(&stat).ok_or_else(|| fail("/proc/PID/stat has an unknown form".to_owned()))?;
    let rss_bytes =
        kibibytes(&pid.to_string(), "status", "VmRSS:").ok_or_else(|| fail("no resident size".to_owned()))?;
    let sockstat = fs::read_to_string(format!("/proc/{pid}/net/sockstat")).ok();
    let pages = sockstat.and_then(|text| tcp_pages(&text));
    let tcp_bytes = pages.map(|pages| pages * rustix::param::page_size() as u64);
    Ok(Sample { cpu_s, rss_bytes, wait_s: 0.0, switches: None, tcp_bytes })
}

/// The switches of all threads of the process `pid`.
fn all_switches(pid: u32) -> Option<Switches> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    // A thread that ends meanwhile has no file any more.
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    texts.filter_map(|text| switches_in(&text)).reduce(Switches::plus)
}

/// The two counts in /proc/PID/task/TID/status.
fn switches_in(status: &str) -> Option<Switches> {
    let count = |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
    Some(Switches { voluntary: count("voluntary_ctxt_switches:")?, involuntary: count("nonvoluntary_ctxt_switches:")? })
}

/// What stands behind `mem` in the line of TCP.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let mut words = line.split(' ');
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// On how many CPUs the process `pid` may run.
pub(crate) fn server_cpus(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    count_cpus(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim())
}

/// utime and stime: fields 14 and 15, counted behind the name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / USER_HZ)
}

/// The second number of schedstat: nanoseconds on a run queue.
fn wait_seconds(schedstat: &str) -> Option<f64> {
    Some(schedstat.split(' ').nth(1)?.parse::<u64>().ok()? as f64 / 1e9)
}

/// smaps_rollup counts pages; VmRSS, which needs no permission, may lag by some dozens of them.
fn rss_bytes(pid: &str) -> Option<u64> {
    kibibytes(pid, "smaps_rollup", "Rss:").or_else(|| kibibytes(pid, "status", "VmRSS:"))
}

/// The bytes that a line of a process's file says in kB.
fn kibibytes(pid: &str, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Members of a list such as `0-3,8`.
fn count_cpus(list: &str) -> Option<u32> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?).map(|more| more + 1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn fields_of_proc() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 5 100 10";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!((wait_seconds("5 2500000000 9\n"), wait_seconds("5")), (Some(2.5), None));
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(switches_in(status).map(|it| (it.voluntary, it.involuntary, it.all())), Some((12, 3, 15)));
        let sockstat = "sockets: used 12\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 359\nUDP: inuse 0 mem 7\n";
        assert_eq!((tcp_pages(sockstat), tcp_pages("UDP: inuse 0 mem 7\n")), (Some(359), None));
        assert_eq!((count_cpus("0-3,8"), count_cpus("1"), count_cpus("x")), (Some(5), Some(1), None));
    }

    #[test]
    fn this_process_has_memory() {
        let pid = std::process::id();
        assert!(server(pid).unwrap().rss_bytes > 0 && own().rss_bytes > 0);
        let (brief, whole) = (server_brief(pid).unwrap(), server(pid).unwrap());
        assert!(brief.rss_bytes > 0 && brief.tcp_bytes.is_some() && brief.switches.is_none());
        assert!(whole.switches.unwrap().all() >= own().switches.unwrap().all(), "this thread is one of all");
        assert!(server_cpus(pid).unwrap() > 0);
        assert!(server(u32::MAX).unwrap_err().to_string().contains("--server-pid"));
    }
}
