//! Parts of a run: how one is made of what was measured, and what is said of it beyond counts and latencies. Measures nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Part;
use crate::contrast::Contrast;
use crate::percentiles::Latencies;
use crate::traffic::Measured;

/// How a part fared beside the others, where they are treated unequally; what does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Treatment {
    /// Jain's index over its clients' throughput as a share of what each asked for: 1 where all are served alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness: Option<f64>,
    /// Its share of all answers in the measured phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The 99th percentile of its deliveries over that of the part `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_times_before: Option<f64>,
    /// What became of its connections: `open`, `caught_up`, `behind`, `closed`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fates: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = [
            ("fairness", self.fairness.map(|it| format!("{it:.4}"))),
            ("share", self.share.map(|it| format!("{:.1} %", it * 100.0))),
            ("p99", self.p99_times_before.map(|it| format!("{it:.2} times that before"))),
        ];
        let figures = figures.into_iter().filter_map(|(name, figure)| Some(format!("{name} {}", figure?)));
        let fates = self.fates.iter().map(|(fate, count)| format!("{count} {}", fate.replace('_', " ")));
        write!(f, "{}", figures.chain(fates).collect::<Vec<_>>().join(", "))
    }
}

impl Part {
    /// What was measured, under a name of its own. `arrivals` is what deliveries are called.
    pub(crate) fn of(name: &'static str, measured: &Measured, arrivals: &'static str) -> Part {
        Part {
            name,
            sent: measured.messages.sent,
            done: measured.messages.delivered,
            errors: measured.errors.clone(),
            messages: Some(measured.messages),
            latency_us: rows([("ack", &measured.ack), (arrivals, &measured.deliver), ("fanout_last", &measured.last)]),
            ..Part::default()
        }
    }

    /// The baseline of a load.
    pub(crate) fn before(contrast: &Contrast, arrivals: &'static str) -> Part {
        Part {
            name: "before",
            sent: contrast.sent,
            done: contrast.deliver.count(),
            latency_us: rows([("ack", &contrast.ack), (arrivals, &contrast.deliver), ("fanout_last", &contrast.last)]),
            ..Part::default()
        }
    }
}

fn rows(rows: [(&'static str, &Latencies); 3]) -> BTreeMap<&'static str, crate::percentiles::Percentiles> {
    rows.into_iter().filter_map(|(name, latencies)| Some((name, latencies.percentiles()?))).collect()
}
