//! A run second by second: rates, percentiles, connections, and what both sides used. Collects what the engine and the
//! traffic count; judges nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::percentiles::{Latencies, Percentiles};
use crate::sample::Sample;

/// Length of an interval in nanoseconds.
pub(crate) const INTERVAL_NS: u64 = 1_000_000_000;

/// What a scenario counted since it was asked last.
#[derive(Debug, Default)]
pub(crate) struct Interval {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) delivered: u64,
    /// From intended times.
    pub(crate) ack: Latencies,
    /// From intended times.
    pub(crate) deliver: Latencies,
}

/// One interval as it stands in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its end, seconds since sending began (warm-up included).
    pub at_s: f64,
    /// Whether it lies in the measured phase.
    pub steady: bool,
    /// Connections that stood at its end.
    pub connections: u32,
    /// Messages sent per second.
    pub sent_per_s: f64,
    /// Messages acknowledged per second.
    pub acked_per_s: f64,
    /// Messages delivered per second.
    pub delivered_per_s: f64,
    /// To acknowledgements, microseconds.
    pub ack: Option<Percentiles>,
    /// To deliveries (echo: round trips), microseconds.
    pub deliver: Option<Percentiles>,
    /// CPU of the generator's thread, cores.
    pub generator_cores: f64,
    /// CPU of the server's process, cores; with --server-pid.
    pub server_cores: Option<f64>,
    /// Resident memory of the server; with --server-pid.
    pub server_rss_bytes: Option<u64>,
    /// TCP buffers of the whole machine; with --server-pid.
    pub tcp_bytes: Option<u64>,
}

/// Both sides at the end of an interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Both {
    pub(crate) at_ns: u64,
    pub(crate) own: Sample,
    pub(crate) server: Option<Sample>,
}

/// The run so far.
#[derive(Debug)]
pub(crate) struct Timeline {
    begin_ns: u64,
    /// Measured phase.
    steady_ns: std::ops::Range<u64>,
    last: Both,
    points: Vec<Point>,
}

impl Timeline {
    /// Begins at `start`.
    pub(crate) fn new(start: Both, steady_ns: std::ops::Range<u64>) -> Timeline {
        Timeline { begin_ns: start.at_ns, steady_ns, last: start, points: Vec::new() }
    }

    /// When the interval ends that is under way.
    pub(crate) fn next_ns(&self) -> u64 {
        self.last.at_ns + INTERVAL_NS
    }

    /// Ends an interval. One without length is left out.
    pub(crate) fn end_interval(&mut self, now: Both, connections: u32, seen: &Interval) {
        let from_ns = self.last.at_ns;
        let seconds = now.at_ns.saturating_sub(from_ns) as f64 / 1e9;
        if seconds < 1e-3 {
            return;
        }
        let per_s = |count: u64| count as f64 / seconds;
        let cores = |from: Sample, to: Sample| (to.cpu_s - from.cpu_s) / seconds;
        self.points.push(Point {
            at_s: (now.at_ns - self.begin_ns) as f64 / 1e9,
            steady: from_ns >= self.steady_ns.start && now.at_ns <= self.steady_ns.end + INTERVAL_NS / 10,
            connections,
            sent_per_s: per_s(seen.sent),
            acked_per_s: per_s(seen.acked),
            delivered_per_s: per_s(seen.delivered),
            ack: seen.ack.percentiles(),
            deliver: seen.deliver.percentiles(),
            generator_cores: cores(self.last.own, now.own),
            server_cores: self.last.server.zip(now.server).map(|(from, to)| cores(from, to)),
            server_rss_bytes: now.server.map(|server| server.rss_bytes),
            tcp_bytes: now.server.and_then(|server| server.tcp_bytes),
        });
        self.last = now;
    }

    /// The interval that ended last.
    pub(crate) fn newest(&self) -> Option<&Point> {
        self.points.last()
    }

    pub(crate) fn finish(self) -> Vec<Point> {
        self.points
    }
}

/// The columns of [`csv`].
const COLUMNS: &str = "at_s,steady,connections,sent_per_s,acked_per_s,delivered_per_s,ack_p50_us,ack_p99_us,ack_p999_us,\
deliver_p50_us,deliver_p99_us,deliver_p999_us,generator_cores,server_cores,server_rss_bytes,tcp_bytes";

/// The points as a table, one line each; what is not known is empty.
pub fn csv(points: &[Point]) -> String {
    let mut text = format!("{COLUMNS}\n");
    let percentiles = |latencies: &Option<Percentiles>| {
        latencies.as_ref().map_or(",,".to_owned(), |p| format!("{},{},{}", p.p50, p.p99, p.p999))
    };
    for p in points {
        // A String takes whatever is written to it.
        let _ = writeln!(
            text,
            "{:.3},{},{},{:.1},{:.1},{:.1},{},{},{:.3},{},{},{}",
            p.at_s,
            p.steady,
            p.connections,
            p.sent_per_s,
            p.acked_per_s,
            p.delivered_per_s,
            percentiles(&p.ack),
            percentiles(&p.deliver),
            p.generator_cores,
            p.server_cores.map_or(String::new(), |cores| format!("{cores:.3}")),
            p.server_rss_bytes.map_or(String::new(), |bytes| bytes.to_string()),
            p.tcp_bytes.map_or(String::new(), |bytes| bytes.to_string()),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(at_ns: u64, cpu_s: f64) -> Both {
        Both { at_ns, own: Sample { cpu_s, rss_bytes: 1, ..Sample::default() }, server: None }
    }

    #[test]
    fn intervals_become_rates() {
        let mut timeline = Timeline::new(both(5_000_000_000, 1.0), 6_000_000_000..9_000_000_000);
        assert_eq!(timeline.next_ns(), 6_000_000_000);
        timeline.end_interval(both(6_000_000_000, 1.5), 7, &Interval { sent: 10, ..Interval::default() });
        timeline.end_interval(both(6_000_000_000, 1.5), 7, &Interval::default());
        timeline.end_interval(both(8_000_000_000, 2.5), 6, &Interval { acked: 10, ..Interval::default() });
        let points = timeline.finish();
        assert_eq!(points.len(), 2, "an interval without length is left out");
        assert_eq!((points[0].sent_per_s, points[0].generator_cores, points[0].steady), (10.0, 0.5, false));
        assert_eq!((points[1].acked_per_s, points[1].generator_cores, points[1].at_s), (5.0, 0.5, 3.0));
        assert!(points[1].steady);
        let text = csv(&points);
        let widths: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(widths, [16, 16, 16]);
    }
}
