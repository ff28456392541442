//! Thresholds: what must hold of a finished run's figures for it to pass. Owns how they are written and how they are judged;
//! the figures are those of the JSON result, by their dotted paths.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::report::{Report, Verdict};

/// One threshold, as in `latency_us.ack.p99 < 20ms`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    path: String,
    relation: Relation,
    bound: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

/// How they are written; longer ones first.
const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("<", Relation::Less),
    (">", Relation::More),
];

impl Relation {
    fn holds(self, figure: f64, bound: f64) -> bool {
        match self {
            Relation::Less => figure < bound,
            Relation::AtMost => figure <= bound,
            Relation::More => figure > bound,
            Relation::AtLeast => figure >= bound,
            Relation::Equal => figure == bound,
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let found = RELATIONS.into_iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, relation)));
        let ((path, bound), relation) =
            found.ok_or_else(|| format!("{text:?} compares nothing: write FIGURE < VALUE, or with <=, >, >= or =="))?;
        let (path, bound) = (path.trim().to_owned(), bound.trim());
        check_path(&path)?;
        let bound = value(&path, bound)?;
        Ok(Threshold { path, relation, bound, text: text.trim().to_owned() })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A mistyped figure is told before a run of an hour, not after it.
fn check_path(path: &str) -> Result<(), String> {
    // Of parts the names are the scenario's.
    if path.starts_with("parts.") {
        return Ok(());
    }
    let known = figures();
    if known.iter().any(|figure| figure == path) {
        return Ok(());
    }
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, path).total_cmp(&strsim::jaro(b, path)));
    Err(format!("no result has the figure {path:?}; the nearest is {}", nearest.map_or("", String::as_str)))
}

/// A number in the unit of the figure: microseconds and seconds may be written as us, ms, s, m or h.
fn value(path: &str, text: &str) -> Result<f64, String> {
    let digits = text.find(|c: char| c.is_alphabetic() && c != 'e' || c == '%').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number
        .trim()
        .trim_end_matches('/')
        .parse()
        .map_err(|_| format!("{text:?} is no value: write a number, with us, ms or s where it is a time"))?;
    let in_micros = path.split('.').any(|part| part.ends_with("_us") || part.starts_with("us_"));
    let in_seconds = path.ends_with("_s") && !path.ends_with("_per_s");
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => return Ok(number),
        _ => return Err(format!("{text:?}: the unit {unit:?} is none of us, ms, s, m and h")),
    };
    match (in_micros, in_seconds) {
        (true, _) => Ok(number * seconds * 1e6),
        (_, true) => Ok(number * seconds),
        _ if unit == "s" && text.contains("/s") && path.ends_with("_per_s") => Ok(number),
        _ => Err(format!("{path} is no time: {text:?} must be a plain number")),
    }
}

/// The dotted paths of all numbers in a result.
fn figures() -> Vec<String> {
    let mut paths = Vec::new();
    let every = serde_json::to_value(Report::with_every_figure()).unwrap_or_default();
    collect(&every, "", &mut paths);
    paths
}

fn collect(value: &Value, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(value, &path, paths);
            }
        }
        Value::Number(_) => paths.push(path.to_owned()),
        _ => {}
    }
}

/// The number at a dotted path; an element of a list of parts goes by its name.
fn figure(result: &Value, path: &str) -> Option<f64> {
    let step = |value: &'_ Value, name: &str| match value {
        Value::Array(list) => list.iter().find(|it| it.get("name").and_then(Value::as_str) == Some(name)).cloned(),
        other => other.get(name).cloned(),
    };
    path.split('.').try_fold(result.clone(), |value, name| step(&value, name))?.as_f64()
}

/// Holds the result to the thresholds. A figure that the run did not give fails its threshold; a run that says nothing about
/// the server stays invalid.
pub(crate) fn judge(report: &mut Report, thresholds: &[Threshold]) {
    if thresholds.is_empty() {
        return;
    }
    let result = serde_json::to_value(&*report).unwrap_or_default();
    let missed: Vec<String> = thresholds
        .iter()
        .filter_map(|threshold| match figure(&result, &threshold.path) {
            Some(figure) if threshold.relation.holds(figure, threshold.bound) => None,
            Some(figure) => Some(format!("threshold missed: {threshold}, it is {}", shown(figure))),
            None => Some(format!("threshold missed: {threshold}, the run gave no such figure")),
        })
        .collect();
    if !missed.is_empty() && report.verdict == Verdict::Ok {
        report.verdict = Verdict::Failed;
    }
    report.reasons.splice(0..0, missed);
}

fn shown(figure: f64) -> String {
    let rounded = (figure * 1000.0).round() / 1000.0;
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn judged(verdict: Verdict, thresholds: &[&str]) -> Report {
        let mut report = Report { verdict, ..Report::with_every_figure() };
        report.latency_us.ack.as_mut().unwrap().p99 = 15_000.0;
        report.latency_us.rtt = None;
        report.messages.as_mut().unwrap().lost = 3;
        let thresholds: Vec<Threshold> = thresholds.iter().map(|text| text.parse().unwrap()).collect();
        judge(&mut report, &thresholds);
        report
    }

    #[test]
    fn a_threshold_decides_the_verdict() {
        let good =
            ["latency_us.ack.p99 < 20ms", "latency_us.ack.p99>=0.015s", "messages.lost == 3", "messages.lost <= 3"];
        assert_eq!(judged(Verdict::Ok, &good).verdict, Verdict::Ok);
        let bad = judged(Verdict::Ok, &["latency_us.ack.p99 <= 14999us", "messages.lost > 3", "messages.sent >= 0"]);
        assert_eq!(bad.verdict, Verdict::Failed);
        let wanted = [
            "threshold missed: latency_us.ack.p99 <= 14999us, it is 15000",
            "threshold missed: messages.lost > 3, it is 3",
        ];
        assert_eq!(bad.reasons, wanted);
    }

    #[test]
    fn what_was_not_measured_fails_and_what_is_invalid_stays_so() {
        let missing = judged(Verdict::Ok, &["latency_us.rtt.p50 < 1s"]);
        assert_eq!((missing.verdict, missing.reasons.len()), (Verdict::Failed, 1));
        let part = judged(Verdict::Ok, &["parts.world.latency_us.deliver.p99 < 1s"]);
        assert!(part.reasons[0].contains("no such figure"), "{:?}", part.reasons);
        let invalid = judged(Verdict::Invalid, &["messages.lost == 0"]);
        assert_eq!((invalid.verdict, invalid.reasons.len()), (Verdict::Invalid, 1));
    }

    #[test]
    fn parts_go_by_their_names() {
        let result = serde_json::json!({"parts": [{"name": "a", "sent": 1}, {"name": "b", "sent": 2}]});
        assert_eq!((figure(&result, "parts.b.sent"), figure(&result, "parts.c.sent")), (Some(2.0), None));
    }

    #[test]
    fn what_is_no_threshold_says_why() {
        let error = |text: &str| text.parse::<Threshold>().unwrap_err();
        assert!(error("messages.lost").contains("FIGURE < VALUE"));
        assert!(error("mesages.lost == 0").contains("messages.lost"));
        assert!(error("latency_us.ack.p98 < 1s").contains("latency_us.ack.p99"));
        assert!(error("messages.lost < 5ms").contains("is no time"));
        assert!(error("latency_us.ack.p99 < 5 parsecs").contains("parsecs"));
        assert!(error("latency_us.ack.p99 < fast").contains("is no value"));
        assert!("rates.delivered_per_s >= 5000/s".parse::<Threshold>().is_ok());
        assert!("server.bytes_per_connection < 4096".parse::<Threshold>().is_ok());
        assert!("server.us_per_message < 20us".parse::<Threshold>().is_ok());
    }
}
