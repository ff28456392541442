//! Counters of the message pipeline.
//!
//! Owns their names. Never decides anything.

use gochat_infra::telemetry::metrics::{self, Counter, Histogram};

/// What all workers of a process count together.
#[derive(Clone)]
pub(crate) struct Stats {
    pub(crate) batch_records: Histogram,
    pub(crate) appended: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) refused: Counter,
    pub(crate) undecodable: Counter,
    pub(crate) epochs: Counter,
    pub(crate) stale: Counter,
    pub(crate) retries: Counter,
    pub(crate) pushes_dropped: Counter,
}

impl Stats {
    pub(crate) fn new() -> Stats {
        let counter = |name, help| metrics::counter(name, help, &[]);
        Stats {
            batch_records: metrics::size_histogram(
                "gochat_logic_batch_records",
                "Upstream records prepared together.",
                &[],
            ),
            appended: counter("gochat_logic_messages_appended_total", "Messages in durable persist records."),
            acknowledged: counter("gochat_logic_messages_acknowledged_total", "Messages acknowledged."),
            refused: counter("gochat_logic_messages_refused_total", "Messages refused."),
            undecodable: counter("gochat_logic_upstream_undecodable_total", "Upstream records skipped as unusable."),
            epochs: counter("gochat_logic_epochs_drawn_total", "Partition epochs drawn."),
            stale: counter(
                "gochat_logic_batches_stale_total",
                "Batches dropped because a newer writer owns the partition.",
            ),
            retries: counter("gochat_logic_pipeline_retries_total", "Calls of the pipeline that were repeated."),
            pushes_dropped: counter("gochat_logic_downstream_dropped_total", "Downstream records finally dropped."),
        }
    }
}
