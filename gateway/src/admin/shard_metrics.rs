//! The shards' numbers in the Prometheus text format. Never resets or interprets them.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::data_plane::DataPlane;
use crate::engine::{Metric, Published};

/// Appends the data plane's numbers to a Prometheus text.
pub type ShardMetrics = Arc<dyn Fn(&mut String) + Send + Sync>;

/// The numbers of these shards, and the reactor with the reason why it was picked.
pub fn shard_metrics(data_plane: &DataPlane, reason: &str) -> ShardMetrics {
    let published = data_plane.published().to_vec();
    let reason = reason.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
    let reactor = format!("gochat_reactor_info{{reactor=\"{}\",reason=\"{reason}\"}} 1", data_plane.reactor());
    Arc::new(move |out| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP gochat_reactor_info The reactor in use, and why.");
        let _ = writeln!(out, "# TYPE gochat_reactor_info gauge\n{reactor}");
        write_all(out, &published);
    })
}

fn write_all(out: &mut String, shards: &[Arc<Published>]) {
    for metric in Metric::ALL {
        let kind = if metric.is_gauge() { "gauge" } else { "counter" };
        let name = metric.name();
        let _ = writeln!(out, "# TYPE gochat_ws_{name} {kind}");
        for (number, shard) in shards.iter().enumerate() {
            let _ = writeln!(out, "gochat_ws_{name}{{shard=\"{number}\"}} {}", shard.get(*metric));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_every_shard_is_shown() {
        let mut text = String::new();
        write_all(&mut text, &[Arc::default(), Arc::default()]);
        assert!(text.contains("# TYPE gochat_ws_connections gauge\ngochat_ws_connections{shard=\"0\"} 0\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("shard=\"1\"")).count(), Metric::ALL.len());
    }
}
