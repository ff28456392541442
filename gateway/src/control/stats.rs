//! What control counts, as handles on the process's metrics. Never labels by user or conversation.

use gochat_infra::telemetry::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram, size_histogram};

/// Counters of the way up.
#[derive(Clone)]
pub(crate) struct UplinkStats {
    /// Records appended to the upstream topic.
    pub(crate) produced: Counter,
    /// Records refused, as the bus did not take them.
    pub(crate) refused: Counter,
    /// Records in one append.
    pub(crate) batch: Histogram,
    /// Connections closed, as too many wait for the HTTP server.
    pub(crate) http_turned_away: Counter,
}

impl UplinkStats {
    pub(crate) fn new() -> UplinkStats {
        UplinkStats {
            produced: counter("gochat_message_send_total", "Messages appended to the upstream topic.", &[]),
            refused: counter(
                "gochat_message_send_failures_total",
                "Messages refused before they were appended.",
                &[("reason", "bus")],
            ),
            batch: size_histogram("gochat_upstream_batch_size", "Messages in one append.", &[]),
            http_turned_away: counter(
                "gochat_http_turned_away_total",
                "Connections closed, as too many wait to be served over HTTP.",
                &[],
            ),
        }
    }
}

/// Counters of the way down.
#[derive(Clone)]
pub(crate) struct DownlinkStats {
    /// Downstream records read.
    pub(crate) records: Counter,
    /// Records and acknowledgements for another life of this gateway.
    pub(crate) stale: Counter,
    /// Records and items that were not understood.
    pub(crate) malformed: Counter,
    /// Frames given to shards, each target counted.
    pub(crate) pushes: Counter,
    /// Batches that had to wait, as a shard's queue was full.
    pub(crate) full: Counter,
}

impl DownlinkStats {
    pub(crate) fn new() -> DownlinkStats {
        DownlinkStats {
            records: counter("gochat_downstream_records_total", "Downstream records read.", &[]),
            stale: counter("gochat_downstream_stale_total", "Downstream items for another life of this gateway.", &[]),
            malformed: counter("gochat_downstream_malformed_total", "Downstream items that were not understood.", &[]),
            pushes: counter("gochat_push_total", "Frames given to connections.", &[]),
            full: counter("gochat_bridge_full_total", "Batches that waited, as a shard's queue was full.", &[]),
        }
    }
}

/// Numbers of presence.
#[derive(Clone)]
pub(crate) struct PresenceStats {
    /// Calls that failed.
    pub(crate) failed: Counter,
    /// Sessions that began without being registered.
    pub(crate) degraded: Counter,
    /// Time of one call.
    pub(crate) call: Histogram,
    /// Changes that wait to be sent.
    pub(crate) waiting: Gauge,
}

impl PresenceStats {
    pub(crate) fn new() -> PresenceStats {
        PresenceStats {
            failed: counter("gochat_presence_failures_total", "Presence updates that failed.", &[]),
            degraded: counter("gochat_presence_degraded_total", "Sessions that began without being registered.", &[]),
            call: histogram("gochat_presence_update_seconds", "Time of one presence update.", &[]),
            waiting: gauge("gochat_presence_waiting", "Presence changes that wait to be sent.", &[]),
        }
    }
}

/// Numbers of rooms.
#[derive(Clone)]
pub(crate) struct RoomStats {
    /// Rooms known.
    pub(crate) rooms: Gauge,
    /// Memberships that were to be fetched.
    pub(crate) fetches: Counter,
    /// Calls for memberships that failed.
    pub(crate) failed: Counter,
    /// Frames dropped, as too many waited for a membership or there was none.
    pub(crate) lost: Counter,
    /// Rooms that were told to fetch what was dropped.
    pub(crate) hints: Counter,
}

impl RoomStats {
    pub(crate) fn new() -> RoomStats {
        RoomStats {
            rooms: gauge("gochat_rooms", "Rooms known.", &[]),
            fetches: counter("gochat_room_fetches_total", "Memberships fetched.", &[]),
            failed: counter("gochat_room_failures_total", "Calls about rooms that failed.", &[]),
            lost: counter("gochat_room_frames_lost_total", "Frames for rooms that were dropped.", &[]),
            hints: counter("gochat_room_hints_total", "Rooms told to fetch what was dropped.", &[]),
        }
    }
}
