//! Whoever looks on while a run is under way: progress for people, and the log of histograms. Changes nothing.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::connections::Connections;
use crate::error::LoadError;
use crate::interrupt;
use crate::timeline::{Interval, Point};
use crate::view::{Stage, View};

/// What is told of a run.
pub(crate) trait Observer {
    /// A stage begins, in a few words.
    fn stage(&mut self, stage: Stage, what: &str);

    /// The connections so far, and how many are being opened: some times a second while any is, and before each interval.
    fn connections(&mut self, _connections: Connections, _under_way: u32) {}

    /// An interval has ended.
    fn interval(&mut self, point: &Point, seen: &Interval);

    /// When sending begins, once that is known; asked again and again while `_connections` stand and wait.
    ///
    /// # Errors
    /// The run is called off.
    fn begin_at(&mut self, _connections: u32) -> Result<Option<Instant>, LoadError> {
        Ok(Some(Instant::now()))
    }

    /// Messages that other agents sent into a room shared with this one, which sent `_own`; `None`: not known yet.
    ///
    /// # Errors
    /// The run is called off.
    fn sent_by_others(&mut self, _own: u64) -> Result<Option<u64>, LoadError> {
        Ok(Some(0))
    }

    /// Whether the run is to end now, with a report on what there was of it.
    fn interrupted(&self) -> bool {
        false
    }

    /// Asked with each interval.
    ///
    /// # Errors
    /// The run is called off.
    fn go_on(&mut self) -> Result<(), LoadError> {
        Ok(())
    }
}

/// Progress on standard error, when that is a terminal, and the log of histograms, when it was asked for.
pub(crate) struct Progress {
    hlog: Option<HistogramLog>,
    view: Option<View>,
}

impl Progress {
    /// Begins; `hlog` is made new. From here on Ctrl-C ends the run and no longer the process.
    pub(crate) fn new(hlog: Option<&Path>) -> Result<Progress, LoadError> {
        interrupt::arm();
        Ok(Progress { hlog: hlog.map(HistogramLog::create).transpose()?, view: None })
    }

    /// The same with a live view in place of lines.
    pub(crate) fn with_view(self, view: Option<View>) -> Progress {
        Progress { view, ..self }
    }

    /// Everything that was to be written is written.
    pub(crate) fn finish(self) -> Result<(), LoadError> {
        self.hlog.map_or(Ok(()), HistogramLog::finish)
    }
}

impl Observer for Progress {
    fn stage(&mut self, stage: Stage, what: &str) {
        self.view.as_ref().map_or_else(|| say(what), |view| view.stage(stage));
    }

    fn connections(&mut self, connections: Connections, under_way: u32) {
        if let Some(view) = &self.view {
            view.connections(connections, under_way);
        }
    }

    fn interrupted(&self) -> bool {
        interrupt::asked()
    }

    fn interval(&mut self, point: &Point, seen: &Interval) {
        if let Some(log) = &mut self.hlog {
            log.add(point, seen);
        }
        if let Some(view) = &self.view {
            view.second(point, seen);
        }
    }
}

/// Progress, for people only.
pub(crate) fn say(what: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = writeln!(stderr, "{what}");
    }
}

/// An HdrHistogram interval log: base time in its head, then a line for each second and kind of latency.
struct HistogramLog {
    path: PathBuf,
    out: BufWriter<File>,
    /// End of the interval before, seconds.
    last_s: f64,
    failed: Option<String>,
}

impl HistogramLog {
    fn create(path: &Path) -> Result<HistogramLog, LoadError> {
        let failure = |why: String| LoadError::File { path: path.to_owned(), why };
        let mut out = BufWriter::new(File::create(path).map_err(|e| failure(e.to_string()))?);
        IntervalLogWriterBuilder::new()
            .add_comment("gochat-loadtest: latencies in nanoseconds from intended times, values divided by 1000 make microseconds")
            .with_base_time(SystemTime::now())
            .with_start_time(SystemTime::now())
            .with_max_value_divisor(1000.0)
            .begin_log_with(&mut out, &mut V2Serializer::new())
            .map_err(|e| failure(e.to_string()))?;
        Ok(HistogramLog { path: path.to_owned(), out, last_s: 0.0, failed: None })
    }

    fn add(&mut self, point: &Point, seen: &Interval) {
        let start = Duration::from_secs_f64(self.last_s);
        let length = Duration::from_secs_f64((point.at_s - self.last_s).max(0.0));
        self.last_s = point.at_s;
        for (name, latencies) in [("ack", &seen.ack), ("deliver", &seen.deliver)] {
            let Some(histogram) = latencies.histogram().filter(|histogram| !histogram.is_empty()) else { continue };
            let mut line = Vec::new();
            let written = IntervalLogWriterBuilder::new()
                .with_max_value_divisor(1000.0)
                .begin_log_with(&mut line, &mut V2Serializer::new())
                .map_err(|e| e.to_string())
                .and_then(|mut log| {
                    log.write_histogram(histogram, start, length, Tag::new(name)).map_err(|e| format!("{e:?}"))
                });
            // Only the last line is new: a writer begins with the head that this log has already.
            let line = line.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
            let outcome = written.and_then(|()| self.out.write_all(line).map_err(|e| e.to_string()));
            self.failed = self.failed.take().or(outcome.err());
        }
    }

    fn finish(mut self) -> Result<(), LoadError> {
        let flushed = self.out.flush().map_err(|e| e.to_string());
        match self.failed.or(flushed.err()) {
            Some(why) => Err(LoadError::File { path: self.path, why }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_of_histograms_is_read_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.hlog");
        let mut progress = Progress::new(Some(&path)).unwrap();
        for second in 1..=3 {
            let mut seen = Interval::default();
            (0..100).for_each(|n| seen.ack.record(n * 1000 * second));
            let point = Point {
                at_s: second as f64,
                steady: true,
                connections: 1,
                sent_per_s: 1.0,
                acked_per_s: 1.0,
                delivered_per_s: 0.0,
                ack: None,
                deliver: None,
                generator_cores: 0.0,
                server_cores: None,
                server_rss_bytes: None,
                tcp_bytes: None,
            };
            progress.interval(&point, &seen);
        }
        progress.finish().unwrap();
        let text = std::fs::read(&path).unwrap();
        let mut seen = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = decode(interval.encoded_histogram());
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                assert_eq!(interval.tag().unwrap().as_str(), "ack");
                seen.push((interval.start_timestamp().as_secs(), interval.duration().as_secs(), histogram.len()));
            }
        }
        assert_eq!(seen, [(0, 1, 100), (1, 1, 100), (2, 1, 100)]);
    }

    /// Standard base64.
    fn decode(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = text.bytes().filter(|b| *b != b'=').map(|b| DIGITS.iter().position(|d| *d == b).unwrap() as u32);
        let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
        for digit in digits {
            bits = bits << 6 | digit;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
        out
    }
}
