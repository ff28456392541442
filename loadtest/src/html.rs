//! A report as one HTML file that needs nothing else: figures, plots over time, the JSON result itself. Computes nothing.

use std::fmt::Write as _;

use crate::percentiles::Percentiles;
use crate::plot::{Captions, Series, escape, svg, svg_of_quantiles};
use crate::report::Report;
use crate::timeline::Point;

const STYLE: &str = include_str!("report.css");

/// The whole page.
pub fn page(report: &Report) -> String {
    let label = &report.label;
    let title = format!("{} ({}), {:.1} s", label.scenario, label.protocol, label.duration_s);
    let verdict = report.verdict.text();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{verdict}: {}</title><style>{STYLE}</style></head><body><header><h1>{}</h1><p class=\"verdict {}\">{verdict}</p></header><main>",
        escape(&title),
        escape(&title),
        verdict.to_lowercase()
    );
    if !report.reasons.is_empty() {
        out.push_str("<ul class=\"reasons\">");
        for reason in &report.reasons {
            let _ = write!(out, "<li>{}</li>", escape(reason));
        }
        out.push_str("</ul>");
    }
    let _ = write!(out, "<pre>{}</pre>", escape(&report.to_string()));
    plots(report).iter().for_each(|plot| out.push_str(plot));
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    let _ = writeln!(
        out,
        "<details><summary>The result as JSON</summary><pre>{}</pre></details></main><footer>{} · {} CPUs · reactor {} · {}</footer></body></html>",
        escape(&json),
        escape(&report.environment.kernel),
        report.environment.cpus,
        escape(&report.environment.reactor),
        escape(report.environment.git.as_deref().unwrap_or("no commit")),
    );
    out
}

/// Those that have something to show.
fn plots(report: &Report) -> Vec<String> {
    let points = &report.detail.timeline;
    let arrivals = if report.latency_us.rtt.is_some() { "Round trip" } else { "Latency to the delivery" };
    let plots = [
        rates(points),
        percentiles("Latency to the acknowledgement", points, |p| p.ack.as_ref()),
        percentiles(arrivals, points, |p| p.deliver.as_ref()),
        distributions(report),
        over_time("Connections", "connections", points, &[("connections", &|p| Some(f64::from(p.connections)))]),
        over_time(
            "CPU",
            "cores",
            points,
            &[("server", &|p| p.server_cores), ("generator", &|p| Some(p.generator_cores))],
        ),
        over_time(
            "Memory",
            "MB",
            points,
            &[
                ("server, resident", &|p| p.server_rss_bytes.map(megabytes)),
                ("TCP buffers of the machine", &|p| p.tcp_bytes.map(megabytes)),
            ],
        ),
    ];
    plots.into_iter().flatten().collect()
}

fn rates(points: &[Point]) -> Option<String> {
    let busy = |value: fn(&Point) -> f64| points.iter().any(|p| value(p) > 0.0);
    let any = |value: fn(&Point) -> f64| move |p: &Point| busy(value).then(|| value(p));
    busy(|p| p.sent_per_s).then(|| {
        over_time(
            "Rates",
            "messages/s",
            points,
            &[
                ("sent", &any(|p| p.sent_per_s)),
                ("acknowledged", &any(|p| p.acked_per_s)),
                ("delivered", &any(|p| p.delivered_per_s)),
            ],
        )
    })?
}

fn percentiles(title: &str, points: &[Point], of: fn(&Point) -> Option<&Percentiles>) -> Option<String> {
    over_time(
        title,
        "µs",
        points,
        &[
            ("p50", &|p| Some(of(p)?.p50)),
            ("p90", &|p| Some(of(p)?.p90)),
            ("p99", &|p| Some(of(p)?.p99)),
            ("p99.9", &|p| Some(of(p)?.p999)),
            ("max", &|p| Some(of(p)?.max)),
        ],
    )
}

/// How many messages of the measured phase took how long at most.
fn distributions(report: &Report) -> Option<String> {
    let curves = report.detail.curves.iter();
    let series: Vec<Series<'_>> = curves.map(|(name, points)| Series { name, points: points.clone() }).collect();
    let captions = Captions { title: "Percentiles of the measured phase", x: "share of messages", y: "µs" };
    svg_of_quantiles(captions, &series)
}

/// A figure of each second.
type Figure<'a> = &'a dyn Fn(&Point) -> Option<f64>;

/// Lines over the seconds of a run; one that has no values is left out.
fn over_time(title: &str, unit: &str, points: &[Point], lines: &[(&str, Figure<'_>)]) -> Option<String> {
    let series = lines.iter().map(|(name, value)| Series {
        name,
        points: points.iter().filter_map(|p| Some((p.at_s, value(p)?))).collect(),
    });
    let series: Vec<Series<'_>> = series.filter(|line| !line.points.is_empty()).collect();
    svg(Captions { title, x: "seconds", y: unit }, &series)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
