//! Numbers of the shards and of the log as Prometheus text, for the admin listener. Owns the wording of the log's only.

use gochat_gateway::admin::{ShardMetrics, shard_metrics};
use gochat_gateway::data_plane::DataPlane;
use gochat_infra::bus::log::LogBus;
use std::fmt::Write;
use std::sync::Arc;

/// Appends them to a page whenever it is asked for.
pub(crate) fn of(plane: &DataPlane, bus: Arc<LogBus>) -> ShardMetrics {
    let shards = shard_metrics(plane, plane.reactor_reason());
    Arc::new(move |page| {
        shards(page);
        let log = bus.stats();
        let counters = [
            ("appends", log.appends),
            ("records", log.records),
            ("bytes", log.bytes),
            ("syncs", log.syncs),
            ("file_reads", log.file_reads),
        ];
        for (name, value) in counters {
            let _ = writeln!(page, "# TYPE gochat_log_{name}_total counter\ngochat_log_{name}_total {value}");
        }
    })
}
