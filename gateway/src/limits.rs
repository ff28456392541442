//! Every bound of the data plane: named constants, the resolved configuration, and what they add up to at worst.
//! Never enforces one: the owner of the thing that is bounded does.

use std::time::Duration;

use gochat_proto::frames::{CLIENT_MSG_ID_CHARS_MAX, CONTENT_CHARS_MAX, CONVERSATION_ID_CHARS_MAX, EXTRA_BYTES_MAX};

/// Bytes of an HTTP request head.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a text or binary message from a client, by default.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Frames waiting for one connection, by default.
pub const QUEUE_FRAMES_MAX: usize = 256;
/// Bytes waiting for one connection, by default.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Bytes waiting for all connections of a shard, by default.
pub const SHARD_QUEUE_BYTES_MAX: usize = 256 << 20;
/// Connections of a shard whose request head is not complete or not answered, by default.
pub const HANDSHAKES_MAX: usize = 4096;
/// Bytes of incomplete messages held by all connections of a shard, by default.
pub const SHARD_PARTIAL_BYTES_MAX: usize = 256 << 20;

/// Records in one uplink batch.
pub const UPLINK_RECORDS_MAX: usize = 16 * 1024;
/// Bytes of the records of one uplink batch. A queue full of small batches leaves one batch to wait in: it holds 16
/// messages each of 500 busy connections.
pub const UPLINK_BYTES_MAX: usize = 4 << 20;
/// Bytes of a buffer that uplink records are written into, unless one batch needs more.
pub const UPLINK_CHUNK_BYTES: usize = 256 * 1024;
/// Connections in one uplink batch that are to be served over HTTP.
pub const UPLINK_HTTP_MAX: usize = 1024;
/// Uplink batches in the queue, times the number of shards.
pub const UPLINK_BATCHES_PER_SHARD: usize = 16;
/// Batches in a shard's downlink queue.
pub const DOWNLINK_BATCHES_MAX: usize = 64;

/// Bytes of the buffer that replies of one tick are written into, and that serves again when all of them are sent.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Such buffers kept for reuse.
pub const CHUNKS_KEPT_MAX: usize = 64;
/// Handshake buffers kept for reuse by a shard.
pub const SPARES_MAX: usize = 1024;
/// Queues kept for reuse by a shard: those of two slices of a fan-out, one being sent and one being filled.
pub const SPARE_QUEUES_MAX: usize = 4096;

/// Members of rooms that are given frames in one tick, so that a large room does not hold up everybody else.
pub const ROOM_TARGETS_PER_TICK: usize = 1024;
/// Frames that one pass over a room gives to each member.
pub const ROOM_FRAMES_PER_PASS: usize = 32;
/// Bytes of the frames of one pass over a room, but for its first frame.
pub const ROOM_BYTES_PER_PASS: usize = 128 * 1024;
/// Frames and changes that wait for rooms of a shard; it takes no further batches from control beyond that.
pub const ROOM_STEPS_MAX: usize = 4096;
/// Conversations in which typing is remembered by a shard, to pass it on at most every 3 s.
pub const TYPING_MAX: usize = 65_536;

/// Granularity of all timers, milliseconds.
pub const QUANTUM_MS: u64 = 250;
/// Connections whose timers are looked at in one tick, so that no tick is long.
pub const TIMERS_PER_TICK: usize = 1024;
/// Connections closed in one tick while draining.
pub const DRAINS_PER_TICK: usize = 512;

// A record is smaller than a batch: 5,000 characters of four bytes, 4 KiB of extra, and ids.
const _: () = assert!(RECORD_BYTES_MAX * 4 <= UPLINK_CHUNK_BYTES && UPLINK_CHUNK_BYTES <= UPLINK_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX >= 1024 && HEAD_BYTES_MAX <= CHUNK_BYTES);
const _: () = assert!(QUEUE_BYTES_MAX < SHARD_QUEUE_BYTES_MAX && MESSAGE_BYTES_MAX <= SHARD_PARTIAL_BYTES_MAX);
const _: () = assert!(ROOM_FRAMES_PER_PASS <= QUEUE_FRAMES_MAX / 4 && ROOM_BYTES_PER_PASS <= QUEUE_BYTES_MAX / 4);
const _: () = assert!(2 * ROOM_TARGETS_PER_TICK <= SPARE_QUEUES_MAX);
const _: () = assert!(UPLINK_BYTES_MAX < u32::MAX as usize, "offsets in a batch have 32 bits");

/// Bytes of `device` in the query.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Bytes of `client` in the query.
pub const CLIENT_INFO_BYTES_MAX: usize = 255;
/// Bytes of an encoded upstream record: content, extra, three ids of at most four bytes a character, and room for tags,
/// lengths and numbers.
pub const RECORD_BYTES_MAX: usize = CONTENT_CHARS_MAX * 4
    + EXTRA_BYTES_MAX
    + (2 * CLIENT_MSG_ID_CHARS_MAX + CONVERSATION_ID_CHARS_MAX) * 4
    + RECORD_OVERHEAD_BYTES;
/// Bytes of an upstream record besides its texts, at most.
pub const RECORD_OVERHEAD_BYTES: usize = 128;
/// Frames held for a session that is not registered yet.
pub const HELD_FRAMES_MAX: usize = 64;
/// Read marks waiting in a shard to be merged.
pub const MARKS_MAX: usize = 65_536;
/// Seconds for control to register a session before it is greeted as degraded.
pub const REGISTER_S_MAX: u64 = 5;
/// Seconds a session lives on after its token expired, for `auth-refresh`.
pub const EXPIRY_GRACE_S: u32 = 60;
/// Seconds of sustained flooding before 1008.
pub const FLOOD_S_MAX: u32 = 10;
/// Frames a minute that are not understood, before 1008.
pub const GARBAGE_PER_MINUTE_MAX: u8 = 10;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to a complete request head.
    pub handshake: Duration,
    /// Between protocol pings, jittered by 10 % either way.
    pub ping_interval: Duration,
    /// Silence after which a connection is dead (4008).
    pub dead_after: Duration,
    /// For one send to be taken by the kernel in full.
    pub write: Duration,
    /// From the close frame to the end of the connection.
    pub closing: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            dead_after: Duration::from_secs(40),
            write: Duration::from_secs(10),
            closing: Duration::from_secs(5),
        }
    }
}

/// Bounds of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open WebSocket connections; a further upgrade is refused with 503.
    pub connections_max: usize,
    /// See [`HANDSHAKES_MAX`]; a connection beyond it is closed at once.
    pub handshakes_max: usize,
    /// See [`MESSAGE_BYTES_MAX`].
    pub message_bytes_max: usize,
    /// See [`QUEUE_FRAMES_MAX`].
    pub queue_frames_max: usize,
    /// See [`QUEUE_BYTES_MAX`].
    pub queue_bytes_max: usize,
    /// See [`SHARD_QUEUE_BYTES_MAX`].
    pub shard_queue_bytes_max: usize,
    /// See [`SHARD_PARTIAL_BYTES_MAX`]; a connection whose message goes beyond it is closed with 1013.
    pub shard_partial_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 16_384,
            handshakes_max: HANDSHAKES_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
            queue_frames_max: QUEUE_FRAMES_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            shard_queue_bytes_max: SHARD_QUEUE_BYTES_MAX,
            shard_partial_bytes_max: SHARD_PARTIAL_BYTES_MAX,
        }
    }
}

impl Limits {
    /// Bytes one shard holds when every bound is reached at once; `slot_bytes` of each connection, and the reactor's
    /// receive buffers, included. The kernel's socket buffers are not.
    pub fn worst_case_memory(&self, slot_bytes: usize, ring: &gochat_ring::RingConfig) -> usize {
        let slots = (ring.connections_max + ring.outgoing_max) as usize * (slot_bytes + 64);
        let receive = ring.buffers as usize * ring.buffer_bytes;
        let handshakes = (self.handshakes_max + SPARES_MAX) * HEAD_BYTES_MAX + TYPING_MAX * 32;
        let queues = self.shard_queue_bytes_max + self.shard_partial_bytes_max + CHUNKS_KEPT_MAX * CHUNK_BYTES;
        let uplink = (UPLINK_BATCHES_PER_SHARD + 1) * UPLINK_BYTES_MAX + CHUNKS_KEPT_MAX * UPLINK_CHUNK_BYTES;
        slots + receive + handshakes + queues + uplink
    }
}
