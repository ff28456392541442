//! The metrics registry: counters, gauges and histograms by static name and labels, rendered as Prometheus text.
//!
//! Hot paths hold a handle and touch one atomic. Never takes user or conversation ids as labels: a family holds at
//! most [`SERIES_MAX`] series, later ones count into nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Series a family may have.
pub const SERIES_MAX: usize = 2048;

/// Upper bounds of duration histograms in microseconds (spec 08 §5): 1 ms to 10 s.
pub const DURATION_BUCKETS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Upper bounds of size histograms, in whatever is counted.
pub const SIZE_BUCKETS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000, 1_000_000];

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Value now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A distribution over fixed buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Distribution>);

#[derive(Debug)]
struct Distribution {
    bounds: &'static [u64; 13],
    /// Exported value = recorded value / `per_unit`: 10^6 for durations, 1 for sizes.
    per_unit: f64,
    buckets: [AtomicU64; 14],
    sum: AtomicU64,
}

impl Histogram {
    fn new(kind: Kind) -> Self {
        let (bounds, per_unit) =
            if kind == Kind::Durations { (&DURATION_BUCKETS_US, 1e6) } else { (&SIZE_BUCKETS, 1.0) };
        Histogram(Arc::new(Distribution { bounds, per_unit, buckets: Default::default(), sum: AtomicU64::new(0) }))
    }

    /// Records how long something took; for histograms made by [`histogram`].
    pub fn observe(&self, took: Duration) {
        self.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records a size; for histograms made by [`size_histogram`].
    pub fn record(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.buckets[bucket].fetch_add(1, Relaxed);
        self.0.sum.fetch_add(value, Relaxed);
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Durations,
    Sizes,
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

struct Family {
    kind: Kind,
    help: &'static str,
    series: BTreeMap<String, Series>,
}

/// Label names and values of one series.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A set of families. Processes use the global one through the functions of this module.
#[derive(Default)]
pub struct Registry {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

static GLOBAL: LazyLock<Registry> = LazyLock::new(Registry::default);

/// The counter of this name and labels in the global registry, made on first use.
pub fn counter(name: &'static str, help: &'static str, labels: Labels<'_>) -> Counter {
    GLOBAL.counter(name, help, labels)
}

/// The gauge of this name and labels in the global registry, made on first use.
pub fn gauge(name: &'static str, help: &'static str, labels: Labels<'_>) -> Gauge {
    GLOBAL.gauge(name, help, labels)
}

/// The duration histogram of this name and labels in the global registry, made on first use; exported in seconds.
pub fn histogram(name: &'static str, help: &'static str, labels: Labels<'_>) -> Histogram {
    GLOBAL.histogram(name, help, labels)
}

/// The size histogram of this name and labels in the global registry, made on first use.
pub fn size_histogram(name: &'static str, help: &'static str, labels: Labels<'_>) -> Histogram {
    GLOBAL.size_histogram(name, help, labels)
}

/// The global registry in the Prometheus text format 0.0.4.
pub fn render() -> String {
    GLOBAL.render()
}

impl Registry {
    /// See [`counter`].
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Counter {
        self.series(Kind::Counter, name, help, labels, |series| match series {
            Series::Counter(counter) => Some(counter.clone()),
            Series::Gauge(_) | Series::Histogram(_) => None,
        })
        .unwrap_or_default()
    }

    /// See [`gauge`].
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Gauge {
        self.series(Kind::Gauge, name, help, labels, |series| match series {
            Series::Gauge(gauge) => Some(gauge.clone()),
            Series::Counter(_) | Series::Histogram(_) => None,
        })
        .unwrap_or_default()
    }

    /// See [`histogram`].
    pub fn histogram(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Histogram {
        self.any_histogram(Kind::Durations, name, help, labels)
    }

    /// See [`size_histogram`].
    pub fn size_histogram(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Histogram {
        self.any_histogram(Kind::Sizes, name, help, labels)
    }

    fn any_histogram(&self, kind: Kind, name: &'static str, help: &'static str, labels: Labels<'_>) -> Histogram {
        self.series(kind, name, help, labels, |series| match series {
            Series::Histogram(histogram) => Some(histogram.clone()),
            Series::Counter(_) | Series::Gauge(_) => None,
        })
        .unwrap_or_else(|| Histogram::new(kind))
    }

    /// The registered series, or `None` when the name is taken by another kind or the family is full.
    fn series<T>(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        handle: impl Fn(&Series) -> Option<T>,
    ) -> Option<T> {
        let mut families = self.lock();
        let family = families.entry(name).or_insert_with(|| Family { kind, help, series: BTreeMap::new() });
        let labels = label_text(labels);
        if family.kind != kind {
            tracing::error!(metric = name, "metric registered as two kinds; the second counts into nothing");
            return None;
        }
        if !family.series.contains_key(&labels) && family.series.len() >= SERIES_MAX {
            return None;
        }
        let series = family.series.entry(labels).or_insert_with(|| match kind {
            Kind::Counter => Series::Counter(Counter::default()),
            Kind::Gauge => Series::Gauge(Gauge::default()),
            Kind::Durations | Kind::Sizes => Series::Histogram(Histogram::new(kind)),
        });
        handle(series)
    }

    /// See [`render`].
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        for (name, family) in self.lock().iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Durations | Kind::Sizes => "histogram",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, series) in &family.series {
                let _ = match series {
                    Series::Counter(counter) => writeln!(out, "{name}{} {}", braces(labels), counter.get()),
                    Series::Gauge(gauge) => writeln!(out, "{name}{} {}", braces(labels), gauge.get()),
                    Series::Histogram(histogram) => render_histogram(&mut out, name, labels, &histogram.0),
                };
            }
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn render_histogram(out: &mut String, name: &str, labels: &str, histogram: &Distribution) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for (i, bucket) in histogram.buckets.iter().enumerate() {
        total += bucket.load(Relaxed);
        match histogram.bounds.get(i) {
            Some(bound) => {
                let bound = *bound as f64 / histogram.per_unit;
                writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}")?;
            }
            None => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}")?,
        }
    }
    let sum = histogram.sum.load(Relaxed) as f64 / histogram.per_unit;
    writeln!(out, "{name}_sum{} {sum}\n{name}_count{} {total}", braces(labels), braces(labels))
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn label_text(labels: Labels<'_>) -> String {
    let mut out = String::new();
    for (i, (name, value)) in labels.iter().enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{}{name}=\"{value}\"", if i == 0 { "" } else { "," });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_prometheus_text_format() {
        let registry = Registry::default();
        registry.counter("b_total", "Things.", &[("kind", "x\"y")]).add(3);
        registry.counter("b_total", "Things.", &[("kind", "x\"y")]).inc();
        registry.gauge("a", "Level.", &[]).set(-2);
        let text = registry.render();
        assert_eq!(
            text,
            "# HELP a Level.\n# TYPE a gauge\na -2\n\
             # HELP b_total Things.\n# TYPE b_total counter\nb_total{kind=\"x\\\"y\"} 4\n"
        );
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_inclusive() {
        let registry = Registry::default();
        let histogram = registry.histogram("t_seconds", "Time.", &[("m", "a")]);
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_micros(1001));
        histogram.observe(Duration::from_secs(60));
        let text = registry.render();
        assert!(text.contains("t_seconds_bucket{m=\"a\",le=\"0.001\"} 1\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{m=\"a\",le=\"0.0025\"} 2\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{m=\"a\",le=\"10\"} 2\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{m=\"a\",le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("t_seconds_sum{m=\"a\"} 60.002001\nt_seconds_count{m=\"a\"} 3\n"), "{text}");
        assert_eq!(histogram.count(), 3);
    }

    #[test]
    fn a_full_family_and_a_second_kind_count_into_nothing() {
        let registry = Registry::default();
        for i in 0..SERIES_MAX + 5 {
            registry.counter("c_total", "C.", &[("i", &i.to_string())]).inc();
        }
        assert_eq!(registry.render().lines().filter(|line| line.starts_with("c_total{")).count(), SERIES_MAX);
        registry.gauge("c_total", "C.", &[]).set(7);
        assert!(!registry.render().contains(" 7\n"));
    }
}
