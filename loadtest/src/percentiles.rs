//! Latency histograms and the percentiles a report shows. Takes nanoseconds, gives microseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency told apart: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;

/// A histogram of nanoseconds, exact to three significant digits.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Option<Histogram<u64>>,
}

impl Latencies {
    /// An empty one.
    pub fn new() -> Latencies {
        // The bounds are constants that the library accepts; without a histogram nothing is recorded.
        Latencies { histogram: Histogram::new_with_bounds(1, NANOS_MAX, 3).ok() }
    }

    /// Counts one latency.
    pub fn record(&mut self, nanos: u64) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(nanos.max(1));
        }
    }

    /// Counts what another counted.
    pub(crate) fn add(&mut self, other: &Latencies) {
        if let (Some(mine), Some(theirs)) = (&mut self.histogram, &other.histogram) {
            // Both have the same bounds, so that everything fits.
            let _ = mine.add(theirs);
        }
    }

    /// Those of a histogram; an empty one where it counts other values than this tool does.
    pub(crate) fn from_histogram(histogram: &Histogram<u64>) -> Latencies {
        let mut latencies = Latencies::new();
        if let Some(mine) = &mut latencies.histogram {
            let _ = mine.add(histogram);
        }
        latencies
    }

    /// The histogram, for a log of histograms.
    pub(crate) fn histogram(&self) -> Option<&Histogram<u64>> {
        self.histogram.as_ref()
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The summary; `None` when nothing was counted.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let histogram = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| micros(histogram.value_at_quantile(quantile) as f64);
        Some(Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max() as f64),
            mean: micros(histogram.mean()),
            count: histogram.len(),
        })
    }
}

/// Points of a curve for each halving of the distance to 100 %.
const CURVE_STEPS: u32 = 5;

impl Latencies {
    /// The whole distribution: quantiles below 1, closer to each other the nearer they are to it, and their microseconds. The
    /// last is the largest value, at the quantile that one value in so many makes.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let Some(histogram) = self.histogram.as_ref().filter(|histogram| !histogram.is_empty()) else {
            return Vec::new();
        };
        let (last, max) = (1.0 - 1.0 / histogram.len() as f64, histogram.max());
        let steps = histogram.iter_quantiles(CURVE_STEPS).map(|it| (it.quantile_iterated_to(), it.value_iterated_to()));
        let below = steps.filter(|(quantile, _)| *quantile < last);
        below.chain([(last, max)]).map(|(quantile, nanos)| (quantile, micros(nanos.min(max) as f64))).collect()
    }
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies::new()
    }
}

/// Microseconds at the usual percentiles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// How many values.
    pub count: u64,
}

/// To microseconds with one digit behind the point.
fn micros(nanos: f64) -> f64 {
    (nanos / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        for micros in 1..=1000 {
            latencies.record(micros * 1000);
        }
        latencies.record(u64::MAX);
        let seen = latencies.percentiles().unwrap();
        let near = |value: f64, wanted: f64| assert!((value / wanted - 1.0).abs() < 0.002, "{value} is not {wanted}");
        near(seen.p50, 501.0);
        near(seen.p90, 901.0);
        near(seen.p99, 991.0);
        near(seen.p999, 1000.0);
        near(seen.max, NANOS_MAX as f64 / 1000.0);
        assert_eq!(seen.count, 1001);
        let curve = latencies.curve();
        assert!(curve.is_sorted() && curve.len() > 40, "{curve:?}");
        assert_eq!(curve.last().copied(), Some((1.0 - 1.0 / 1001.0, seen.max)));
        let middle = curve.iter().find(|(quantile, _)| *quantile >= 0.5).unwrap();
        near(middle.1, 501.0);
        assert_eq!(Latencies::new().curve(), []);
        let json = serde_json::to_value(&seen).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["count", "max", "mean", "p50", "p90", "p99", "p999"]);
    }
}
