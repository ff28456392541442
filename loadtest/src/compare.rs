//! Two results side by side: the ratio of each figure with a 95 % confidence interval from the seconds of both runs. Reads
//! results; runs nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::LoadError;
use crate::percentiles::Percentiles;
use crate::timeline::Point;

/// Resamplings of the bootstrap.
const RESAMPLINGS: usize = 2000;
/// Seconds that both runs must have for an interval to be said.
const SECONDS_MIN: usize = 3;

/// What is read of a result.
#[derive(Debug, Deserialize)]
struct Recorded {
    scenario: String,
    protocol: String,
    verdict: String,
    rate: Option<f64>,
    in_flight: Option<u32>,
    size: Option<usize>,
    timeline: Vec<Point>,
    server: Option<Used>,
    generator: Used,
}

#[derive(Debug, Deserialize)]
struct Used {
    bytes_per_connection: f64,
    us_per_message: Option<f64>,
}

/// Takes a figure out of a second.
type PerSecond = Box<dyn Fn(&Point) -> Option<f64>>;

/// One figure of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub name: &'static str,
    /// In the first result.
    pub a: f64,
    /// In the second.
    pub b: f64,
    /// 95 % confidence interval of b/a; absent for figures that a run has once.
    pub interval: Option<(f64, f64)>,
}

/// The comparison.
#[derive(Debug)]
pub struct Comparison {
    /// What does not fit together, or must not be believed.
    pub warnings: Vec<String>,
    /// The figures both have.
    pub rows: Vec<Row>,
    names: [PathBuf; 2],
}

/// Reads two results and compares the second to the first.
///
/// # Errors
/// A file is missing or no result of this tool.
pub fn run(a: &Path, b: &Path) -> Result<Comparison, LoadError> {
    let (first, second) = (read(a)?, read(b)?);
    Ok(Comparison { warnings: warnings(&first, &second), rows: rows(&first, &second), names: [a.into(), b.into()] })
}

fn read(path: &Path) -> Result<Recorded, LoadError> {
    let failure = |why: String| LoadError::File { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|e| failure(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| failure(format!("no result of `run --json`: {e}")))
}

fn warnings(a: &Recorded, b: &Recorded) -> Vec<String> {
    let mut found = Vec::new();
    let what = |r: &Recorded| (r.scenario.clone(), r.protocol.clone(), r.in_flight, r.size);
    if what(a) != what(b) || a.rate != b.rate {
        found.push("the two runs asked for different things: ratios compare them all the same".to_owned());
    }
    for (name, result) in [("first", a), ("second", b)] {
        if result.verdict != "ok" {
            found.push(format!("the verdict of the {name} run is {}", result.verdict));
        }
    }
    found
}

fn rows(a: &Recorded, b: &Recorded) -> Vec<Row> {
    let percentile = |of: fn(&Point) -> &Option<Percentiles>, pick: fn(&Percentiles) -> f64| {
        move |p: &Point| of(p).as_ref().map(pick)
    };
    let per_second: [(&'static str, PerSecond); 9] = [
        ("sent/s", Box::new(|p| Some(p.sent_per_s))),
        ("acknowledged/s", Box::new(|p| Some(p.acked_per_s))),
        ("delivered/s", Box::new(|p| Some(p.delivered_per_s))),
        ("ack p50 µs", Box::new(percentile(|p| &p.ack, |l| l.p50))),
        ("ack p99 µs", Box::new(percentile(|p| &p.ack, |l| l.p99))),
        ("deliver p50 µs", Box::new(percentile(|p| &p.deliver, |l| l.p50))),
        ("deliver p99 µs", Box::new(percentile(|p| &p.deliver, |l| l.p99))),
        ("server cores", Box::new(|p| p.server_cores)),
        ("generator cores", Box::new(|p| Some(p.generator_cores))),
    ];
    let mut rows: Vec<Row> = per_second
        .into_iter()
        .filter_map(|(name, value)| {
            let of = |r: &Recorded| -> Vec<f64> { r.timeline.iter().filter(|p| p.steady).filter_map(&value).collect() };
            let (xs, ys) = (of(a), of(b));
            let (mean_a, mean_b) = (mean(&xs)?, mean(&ys)?);
            (mean_a > 0.0).then(|| Row { name, a: mean_a, b: mean_b, interval: interval(&xs, &ys) })
        })
        .collect();
    let once = |name, a: Option<f64>, b: Option<f64>| {
        let (a, b) = (a?, b?);
        (a > 0.0).then_some(Row { name, a, b, interval: None })
    };
    let server = |r: &Recorded, pick: fn(&Used) -> Option<f64>| r.server.as_ref().and_then(pick);
    rows.extend(once("server µs/message", server(a, |u| u.us_per_message), server(b, |u| u.us_per_message)));
    let bytes = |u: &Used| Some(u.bytes_per_connection);
    rows.extend(once("server B/connection", server(a, bytes), server(b, bytes)));
    rows.extend(once("generator µs/message", a.generator.us_per_message, b.generator.us_per_message));
    rows
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Percentile bootstrap of the ratio of means; seconds of one run are taken as independent. The same numbers give the same
/// interval.
fn interval(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    if a.len() < SECONDS_MIN || b.len() < SECONDS_MIN {
        return None;
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut resampled = |values: &[f64]| {
        let sum: f64 = (0..values.len())
            .map(|_| {
                state = crate::message::mix(state);
                values[(state % values.len() as u64) as usize]
            })
            .sum();
        sum / values.len() as f64
    };
    let mut ratios: Vec<f64> =
        (0..RESAMPLINGS).map(|_| resampled(b) / resampled(a)).filter(|r| r.is_finite()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios.get((share * ratios.len() as f64) as usize).copied();
    at(0.025).zip(at(0.975))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = &self.names;
        writeln!(f, "{} to {}", b.display(), a.display())?;
        for warning in &self.warnings {
            writeln!(f, "  - {warning}")?;
        }
        writeln!(f, "{:<22}{:>14}{:>14}{:>9}   95 % interval", "", "first", "second", "ratio")?;
        for row in &self.rows {
            write!(f, "{:<22}{:>14.2}{:>14.2}{:>9.3}", row.name, row.a, row.b, row.b / row.a)?;
            match row.interval {
                Some((low, high)) => {
                    let verdict = if low > 1.0 || high < 1.0 { "" } else { "  no difference shown" };
                    writeln!(f, "   {low:.3} to {high:.3}{verdict}")?;
                }
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn result(rates: &[f64], verdict: &str) -> String {
        let points: Vec<_> = rates
            .iter()
            .enumerate()
            .map(|(at, rate)| {
                serde_json::json!({"at_s": at, "steady": at > 0, "connections": 1, "sent_per_s": rate, "acked_per_s": 0.0,
                    "delivered_per_s": rate, "ack": null, "deliver": null, "generator_cores": 0.5, "server_cores": null,
                    "server_rss_bytes": null})
            })
            .collect();
        serde_json::json!({"scenario": "echo", "protocol": "raw-echo", "verdict": verdict, "rate": null, "in_flight": 1,
            "size": 64, "timeline": points, "server": null,
            "generator": {"bytes_per_connection": 9.0, "us_per_message": 2.0}})
        .to_string()
    }

    #[test]
    fn a_difference_is_told_from_noise() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        // The first second is warm-up and does not count.
        let a = write("a", result(&[9e9, 100.0, 102.0, 98.0, 100.0, 101.0], "ok"));
        let same = write("same", result(&[1.0, 101.0, 99.0, 100.0, 102.0, 98.0], "ok"));
        let half = write("half", result(&[1.0, 50.0, 51.0, 49.0, 50.0, 50.0], "failed"));
        let sent = |comparison: &Comparison| comparison.rows.iter().find(|row| row.name == "sent/s").unwrap().clone();
        let comparison = run(&a, &same).unwrap();
        let (low, high) = sent(&comparison).interval.unwrap();
        assert!(low < 1.0 && high > 1.0 && comparison.warnings.is_empty(), "{comparison}");
        let comparison = run(&a, &half).unwrap();
        let (low, high) = sent(&comparison).interval.unwrap();
        assert!(low > 0.45 && high < 0.55, "{comparison}");
        assert_eq!(comparison.warnings.len(), 1);
        let error = run(&a, &write("bad", "{}".to_owned())).unwrap_err().to_string();
        assert!(error.contains("no result"), "{error}");
    }
}
