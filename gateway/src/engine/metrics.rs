//! What a shard counts: plain numbers inside it, published now and then for other threads to read.

use std::sync::atomic::{AtomicU64, Ordering};

use gochat_ring::Stats;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident = $text:literal $kind:ident;)*) => {
        /// One thing that a shard counts or measures.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric { $($(#[$doc])* $name,)* }

        impl Metric {
            /// Every metric.
            pub const ALL: &[Metric] = &[$(Metric::$name,)*];

            /// Name as exported, without prefix.
            pub fn name(self) -> &'static str {
                match self { $(Metric::$name => $text,)* }
            }

            /// Whether it can fall again (a gauge); else it only rises (a counter).
            pub fn is_gauge(self) -> bool {
                match self { $(Metric::$name => metrics!(@ $kind),)* }
            }
        }
    };
    (@ gauge) => { true };
    (@ counter) => { false };
}

metrics! {
    /// Open WebSocket connections.
    Connections = "connections" gauge;
    /// Connections whose request head is incomplete.
    Handshakes = "handshakes" gauge;
    /// Bytes waiting to be sent or being sent.
    QueuedBytes = "queued_bytes" gauge;
    /// Bytes of incomplete messages.
    PartialBytes = "partial_message_bytes" gauge;
    /// Connections accepted by the kernel.
    Accepted = "accepted_total" counter;
    /// Upgrades answered with 101.
    Upgraded = "upgraded_total" counter;
    /// Requests answered with a refusal.
    Refused = "refused_total" counter;
    /// Connections given away to HTTP.
    HandedOver = "handed_over_total" counter;
    /// Connections closed at once, as too many handshakes were in flight or nobody could take them.
    TurnedAway = "turned_away_total" counter;
    /// Handshakes that took too long.
    HandshakeTimeouts = "handshake_timeouts_total" counter;
    /// Data messages received.
    MessagesIn = "messages_received_total" counter;
    /// Frames queued for sending.
    FramesOut = "frames_queued_total" counter;
    /// Frames merged into an older one of the same key.
    Merged = "frames_merged_total" counter;
    /// Frames shed as the receiver did not keep up.
    Shed = "frames_shed_total" counter;
    /// Frames for connections that had ended.
    Stale = "frames_stale_total" counter;
    /// Connections closed as their queue overflowed.
    Overflows = "slow_consumers_total" counter;
    /// Connections closed as nothing was heard of them.
    Dead = "heartbeat_timeouts_total" counter;
    /// Connections ended as a send did not complete in time.
    WriteTimeouts = "write_timeouts_total" counter;
    /// Connections failed for a violation of RFC 6455 or a size limit.
    ProtocolErrors = "protocol_errors_total" counter;
    /// Turns of the loop.
    Ticks = "ticks_total" counter;
    /// Receives.
    Receives = "receives_total" counter;
    /// Bytes received.
    ReceivedBytes = "received_bytes_total" counter;
    /// Sends.
    Sends = "sends_total" counter;
    /// Bytes sent.
    SentBytes = "sent_bytes_total" counter;
    /// System calls to submit or wait.
    Enters = "reactor_enters_total" counter;
    /// Receives that found no free buffer.
    NoBuffers = "reactor_no_buffers_total" counter;
    /// Accepts that failed for want of descriptors, slots or memory.
    AcceptErrors = "reactor_accept_errors_total" counter;
    /// Completions and calls that named an earlier generation.
    StaleOperations = "reactor_stale_total" counter;
}

const COUNT: usize = Metric::ALL.len();

/// The shard's own numbers.
#[derive(Debug)]
pub(super) struct Counters([u64; COUNT]);

impl Counters {
    pub(super) fn new() -> Counters {
        Counters([0; COUNT])
    }

    #[inline]
    pub(super) fn add(&mut self, metric: Metric, n: u64) {
        self.0[metric as usize] += n;
    }

    pub(super) fn set(&mut self, metric: Metric, value: u64) {
        self.0[metric as usize] = value;
    }

    pub(super) fn set_reactor(&mut self, stats: &Stats) {
        self.set(Metric::Receives, stats.traffic.receives);
        self.set(Metric::ReceivedBytes, stats.traffic.received_bytes);
        self.set(Metric::Sends, stats.traffic.sends);
        self.set(Metric::SentBytes, stats.traffic.sent_bytes);
        self.set(Metric::Enters, stats.enters);
        self.set(Metric::NoBuffers, stats.unusual.no_buffers);
        self.set(Metric::AcceptErrors, stats.unusual.accept_errors);
        self.set(Metric::StaleOperations, stats.unusual.stale);
    }
}

/// The last published numbers of one shard, up to a quarter of a second old.
#[derive(Debug)]
pub struct Published([AtomicU64; COUNT]);

impl Default for Published {
    fn default() -> Published {
        Published(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Published {
    /// The value of one metric.
    pub fn get(&self, metric: Metric) -> u64 {
        self.0[metric as usize].load(Ordering::Relaxed)
    }

    pub(super) fn publish(&self, counters: &Counters) {
        for (published, value) in self.0.iter().zip(counters.0) {
            published.store(value, Ordering::Relaxed);
        }
    }
}
