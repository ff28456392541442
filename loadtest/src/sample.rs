//! CPU time and resident memory, of this tool's thread and process and of the server's process. Reads /proc and clocks;
//! interprets nothing.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::error::LoadError;

/// Ticks per second of the times in /proc/PID/stat: the kernel's interface fixes it on all architectures we run on.
const USER_HZ: f64 = 100.0;

/// CPU seconds used and bytes resident at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) cpu_s: f64,
    pub(crate) rss_bytes: u64,
    /// Seconds the thread could have run but waited for a CPU; 0 where it is not known.
    pub(crate) wait_s: f64,
}

/// CPU and waiting of the calling thread, memory of this process.
pub(crate) fn own() -> Sample {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let cpu_s = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    let wait_s = fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|text| wait_seconds(&text));
    Sample { cpu_s, rss_bytes: rss_bytes("self").unwrap_or(0), wait_s: wait_s.unwrap_or(0.0) }
}

/// CPU and memory of the process `pid`.
pub(crate) fn server(pid: u32) -> Result<Sample, LoadError> {
    let fail = |why: String| LoadError::ServerPid { pid, why };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| fail(e.to_string()))?;
    let cpu_s = cpu_seconds(&stat).ok_or_else(|| fail("/proc/PID/stat has an unknown form".to_owned()))?;
    let rss_bytes = rss_bytes(&pid.to_string()).ok_or_else(|| fail("no resident size".to_owned()))?;
    Ok(Sample { cpu_s, rss_bytes, wait_s: 0.0 })
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
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    field("smaps_rollup", "Rss:").or_else(|| field("status", "VmRSS:"))
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
        assert_eq!((count_cpus("0-3,8"), count_cpus("1"), count_cpus("x")), (Some(5), Some(1), None));
    }

    #[test]
    fn this_process_has_memory() {
        let pid = std::process::id();
        assert!(server(pid).unwrap().rss_bytes > 0 && own().rss_bytes > 0);
        assert!(server_cpus(pid).unwrap() > 0);
        assert!(server(u32::MAX).unwrap_err().to_string().contains("--server-pid"));
    }
}
