//! Counters of task.
//!
//! Owns their names. Never decides anything.

use gochat_infra::lanes::LaneCounters;
use gochat_infra::telemetry::metrics::{self, Counter, Histogram};
use gochat_proto::im::repo::v1::SaveRecordsResponse;
use gochat_proto::topics::{self, groups};

/// What all workers of a process count together.
#[derive(Clone)]
pub(crate) struct Stats {
    pub(crate) records: Histogram,
    saved: Counter,
    repeated: Counter,
    voided: Counter,
    parked: Counter,
    pub(crate) retries: Counter,
    pub(crate) relayed: Counter,
    pub(crate) relay_dropped: Counter,
    pub(crate) fanned_out: Counter,
    pub(crate) dead_fanouts: Counter,
    pub(crate) fanout_lanes: LaneCounters,
}

impl Stats {
    pub(crate) fn new() -> Stats {
        let counter = |name, help| metrics::counter(name, help, &[]);
        let dead = [("topic", topics::TASKS_FANOUT), ("group", groups::TASK_FANOUT)];
        Stats {
            records: metrics::size_histogram("gochat_task_persist_records", "Persist records of one transaction.", &[]),
            saved: counter("gochat_task_messages_saved_total", "Messages stored."),
            repeated: counter("gochat_task_messages_repeated_total", "Messages that were stored before."),
            voided: counter(
                "gochat_task_messages_voided_total",
                "Messages void for their epoch or under a second number.",
            ),
            parked: counter("gochat_task_messages_parked_total", "Messages that could not be stored and were parked."),
            retries: counter("gochat_task_persist_retries_total", "Transactions that were repeated."),
            relayed: counter("gochat_task_outbox_relayed_total", "Events and corrected acknowledgements relayed."),
            relay_dropped: counter("gochat_task_outbox_dropped_total", "Events that no bus takes, dropped."),
            fanned_out: counter("gochat_task_fanout_records_total", "Records of large fan-outs sent to gateways."),
            dead_fanouts: metrics::counter("gochat_mq_dlq_total", "Records given up as unusable.", &dead),
            fanout_lanes: LaneCounters {
                retries: counter("gochat_task_fanout_retries_total", "Records to gateways that were tried again."),
                dropped: counter("gochat_task_fanout_dropped_total", "Records to gateways finally dropped."),
            },
        }
    }

    pub(crate) fn saved(&self, answer: &SaveRecordsResponse) {
        self.saved.add(u64::from(answer.saved));
        self.repeated.add(u64::from(answer.repeated_messages));
        self.voided.add(u64::from(answer.voided));
        self.parked.add(u64::from(answer.parked));
    }
}
