//! What makes a run failed or invalid. Owns the bounds; measures nothing.

use crate::engine::{Census, Connections};
use crate::ledger::Messages;
use crate::percentiles::Percentiles;
use crate::report::Verdict;

/// An open loop whose generator sends this late at the 99th percentile is not the load that was asked for.
pub(crate) const LAG_P99_MAX_US: f64 = 1000.0;
/// CPU of the generator's thread from which on it is taken for saturated.
pub(crate) const CPU_MAX_CORES: f64 = 0.95;

/// Share of the time that the generator may wait for a CPU that others use.
pub(crate) const WAIT_MAX_CORES: f64 = 0.10;

/// CPU use of both sides in cores; of the server also how many it may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy {
    pub(crate) generator: f64,
    pub(crate) generator_wait: f64,
    pub(crate) server: Option<(f64, u32)>,
}

/// Judges a run. `remarks` are added to the reasons whatever the verdict.
pub(crate) fn judge(
    census: &Census,
    messages: Option<&Messages>,
    lag: Option<&Percentiles>,
    busy: Option<Busy>,
    remarks: Vec<String>,
) -> (Verdict, Vec<String>) {
    let mut reasons = wrong_connections(census);
    reasons.extend(messages.into_iter().flat_map(wrong_messages));
    let failed = !reasons.is_empty();
    let saturated: Vec<String> =
        [lag.and_then(late), busy.and_then(saturated), busy.and_then(starved)].into_iter().flatten().collect();
    let verdict = match (failed, saturated.is_empty()) {
        (true, _) => Verdict::Failed,
        (false, false) => Verdict::Invalid,
        (false, true) => Verdict::Ok,
    };
    reasons.extend(saturated);
    reasons.extend(remarks);
    (verdict, reasons)
}

fn wrong_connections(census: &Census) -> Vec<String> {
    let Connections { refused, dropped, .. } = census.connections;
    let mut reasons = Vec::new();
    if refused > 0 {
        reasons.push(format!("{refused} connections were refused"));
    }
    let dropped = dropped - census.excused.min(dropped);
    if dropped > 0 {
        reasons.push(format!("{dropped} connections were dropped"));
    }
    reasons.extend(census.endings.iter().map(|(why, count)| format!("{count} × {why}")));
    reasons
}

fn wrong_messages(messages: &Messages) -> Vec<String> {
    let none = (messages.delivered == 0).then(|| "no message was delivered".to_owned());
    let kinds = [
        (messages.lost, "lost"),
        (messages.unacked, "never acknowledged"),
        (messages.refused, "refused by the server"),
        (messages.duplicated, "delivered twice"),
        (messages.reordered, "delivered out of order"),
        (messages.corrupted, "corrupted"),
        (messages.foreign, "delivered to a stranger"),
    ];
    let counted =
        kinds.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} messages {what}"));
    none.into_iter().chain(counted).collect()
}

/// What to say of a generator that was late.
pub(crate) fn late(lag: &Percentiles) -> Option<String> {
    (lag.p99 > LAG_P99_MAX_US).then(|| {
        format!(
            "the generator sent late: p99 of its lag is {} µs, the bound is {LAG_P99_MAX_US} µs; lower the rate",
            lag.p99
        )
    })
}

fn saturated(busy: Busy) -> Option<String> {
    // A server that uses all it may is the bottleneck, however busy the generator is.
    let server_full = busy.server.is_some_and(|(cores, allowed)| cores >= CPU_MAX_CORES * f64::from(allowed));
    (busy.generator >= CPU_MAX_CORES && !server_full).then(|| {
        let cores = busy.generator;
        format!("the generator used {cores:.2} of its one core, the bound is {CPU_MAX_CORES}: rates and latencies are its own; CPU per message stands")
    })
}

fn starved(busy: Busy) -> Option<String> {
    let wait = busy.generator_wait;
    (wait > WAIT_MAX_CORES).then(|| {
        format!(
            "the generator waited for a CPU in {:.0} % of the time, the bound is {:.0} %: give it one of its own (--cpu)",
            wait * 100.0,
            WAIT_MAX_CORES * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(p99: f64) -> Percentiles {
        Percentiles { p50: 1.0, p90: 1.0, p99, p999: p99, max: p99, mean: 1.0, count: 1 }
    }

    #[test]
    fn verdicts() {
        let good = Messages { sent: 1, delivered: 1, ..Messages::default() };
        let bad = Messages { lost: 1, ..good };
        let census = Census::default();
        let busy = |generator, server| Some(Busy { generator, generator_wait: 0.0, server });
        let verdict = |messages, p99, busy| judge(&census, Some(messages), Some(&lag(p99)), busy, Vec::new());
        assert_eq!(verdict(&good, 999.0, busy(0.5, None)), (Verdict::Ok, Vec::new()));
        assert_eq!(verdict(&good, 1001.0, busy(0.5, None)).0, Verdict::Invalid);
        assert_eq!(verdict(&good, 1.0, busy(0.96, None)).0, Verdict::Invalid);
        assert_eq!(verdict(&good, 1.0, busy(0.96, Some((1.5, 2)))).0, Verdict::Invalid);
        assert_eq!(verdict(&good, 1.0, busy(0.96, Some((0.97, 1)))).0, Verdict::Ok);
        let starved = Some(Busy { generator: 0.2, generator_wait: 0.3, server: None });
        assert_eq!(verdict(&good, 1.0, starved).0, Verdict::Invalid);
        let (seen, reasons) = verdict(&bad, 2000.0, busy(0.5, None));
        assert_eq!((seen, reasons.len()), (Verdict::Failed, 2));
        assert_eq!(reasons[0], "1 messages lost");
        let nothing = Messages { sent: 5, ..Messages::default() };
        assert_eq!(verdict(&nothing, 1.0, None).0, Verdict::Failed);
    }
}
