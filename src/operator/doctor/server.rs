//! What the running server said about itself.

use super::finding::Finding;
use crate::operator::order::Vitals;
use std::fs;

/// Records behind which senders are slowed.
const LAG_MAX: i64 = 100_000;
/// Entries that are normally relayed within a second.
const OUTBOX_MAX: i64 = 10_000;

pub(super) fn examine(vitals: &Vitals) -> Vec<Finding> {
    let memory = resident_mib(vitals.pid).map_or(String::new(), |mib| format!(", {mib} MiB of memory"));
    let says = format!("process {}, gochat {}, {}{memory}", vitals.pid, vitals.version, vitals.reactor);
    let mut findings = vec![match vitals.version == env!("CARGO_PKG_VERSION") {
        true => Finding::ok("server", says),
        false => Finding::warn("server", says, "restart it to run the version that is installed"),
    }];
    findings.push(match vitals.log.as_str() {
        "ok" if vitals.takes_messages => Finding::ok("messages", "are taken"),
        "ok" => Finding::fail(
            "messages",
            "are not taken: the database failed, or those who read the log ended",
            "look at the server's log and at the disk (`dmesg`), then restart it",
        ),
        "disk full" => Finding::fail("messages", "are not taken: the disk is full", "make room; it goes on by itself"),
        reason => Finding::fail(
            "messages",
            format!("are not taken: the log stopped: {reason}"),
            "look at the disk first (`dmesg`), then restart the server",
        ),
    });
    findings.push(match vitals.lag {
        lag if lag > LAG_MAX => Finding::fail(
            "persistence",
            format!("{lag} records behind: senders are slowed"),
            "the disk of the database does not keep up: look at its latency (`iostat -x 1`)",
        ),
        lag if lag > LAG_MAX / 10 => Finding::warn(
            "persistence",
            format!("{lag} records behind"),
            "look again in a minute; rising, the disk of the database does not keep up",
        ),
        lag => Finding::ok("persistence", format!("{lag} records behind")),
    });
    findings
}

/// What waits in the database, with a server or without.
pub(super) fn backlog(parked: i64, outbox: i64) -> Vec<Finding> {
    let parked = match parked {
        0 => Finding::ok("parked records", "none"),
        parked => Finding::fail(
            "parked records",
            format!("{parked} acknowledged messages could not be stored: their conversations never say `complete`"),
            "`sqlite3 gochat.sqlite 'select conversation_id, reason from parked_records'` says why; keep the data and report it",
        ),
    };
    let outbox = match outbox {
        outbox if outbox > OUTBOX_MAX => Finding::warn(
            "outbox",
            format!("{outbox} events wait to be relayed"),
            "look at the server's log for `outbox`; without a server they go out at the next start",
        ),
        outbox => Finding::ok("outbox", format!("{outbox} events wait to be relayed")),
    };
    vec![parked, outbox]
}

fn resident_mib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? >> 10)
}
