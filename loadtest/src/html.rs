//! A report as one HTML file that needs nothing else: figures, plots over time, the JSON result itself. Computes nothing.

use std::fmt::Write as _;

use crate::plot::{Series, escape, svg};
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
    for plot in plots(&report.detail.timeline).into_iter().flatten() {
        out.push_str(&plot);
    }
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

fn plots(points: &[Point]) -> [Option<String>; 5] {
    let line = |name, value: &dyn Fn(&Point) -> Option<f64>| Series {
        name,
        points: points.iter().filter_map(|p| Some((p.at_s, value(p)?))).collect(),
    };
    let has = |value: f64| (value > 0.0).then_some(value);
    let seconds = "seconds";
    let busy = |value: &dyn Fn(&Point) -> f64| points.iter().any(|p| value(p) > 0.0);
    let mut rates = vec![line("sent", &|p| Some(p.sent_per_s))];
    if busy(&|p| p.acked_per_s) {
        rates.push(line("acknowledged", &|p| Some(p.acked_per_s)));
    }
    rates.push(line("delivered", &|p| Some(p.delivered_per_s)));
    [
        svg("Rates", seconds, "messages/s", &rates).filter(|_| busy(&|p| p.sent_per_s)),
        svg(
            "Latency to the acknowledgement",
            seconds,
            "µs",
            &[
                line("p50", &|p| p.ack.as_ref().map(|l| l.p50)),
                line("p99", &|p| p.ack.as_ref().map(|l| l.p99)),
                line("p99.9", &|p| p.ack.as_ref().map(|l| l.p999)),
            ],
        ),
        svg(
            "Latency to the delivery",
            seconds,
            "µs",
            &[
                line("p50", &|p| p.deliver.as_ref().map(|l| l.p50)),
                line("p99", &|p| p.deliver.as_ref().map(|l| l.p99)),
                line("p99.9", &|p| p.deliver.as_ref().map(|l| l.p999)),
            ],
        ),
        svg(
            "CPU",
            seconds,
            "cores",
            &[line("server", &|p| p.server_cores), line("generator", &|p| Some(p.generator_cores))],
        ),
        svg(
            "Connections and the server's memory",
            seconds,
            "connections / MB",
            &[
                line("connections", &|p| Some(f64::from(p.connections))),
                line("server, resident MB", &|p| p.server_rss_bytes.and_then(|b| has(b as f64 / 1e6))),
            ],
        ),
    ]
}
