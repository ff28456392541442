//! What an application may do with the connections of its shard: send, close, set timers. Everything is only queued
//! here and reaches the reactor at the end of the tick; nothing here calls back into the application.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gochat_ring::ConnId;
use gochat_ws::frame::{HEADER_BYTES_MAX, build_header};
use gochat_ws::{Opcode, Scratch, handshake, message};

use super::conn::{Conn, Handshake, Slab, State};
use super::metrics::{Counters, Metric};
use super::outbox::{Outbox, OutboxLimits, Pushed};
use super::timers::{NEVER, Quantum, Wheel};
use crate::bridge::{FrameClass, OutFrame};
use crate::chunks::Chunks;
use crate::limits::{CHUNK_BYTES, CHUNKS_KEPT_MAX, Limits, QUANTUM_MS, SPARE_QUEUES_MAX, SPARES_MAX, Timeouts};

/// A reply longer than this gets memory of its own; shorter ones of a tick share a chunk.
const CORKED_BYTES_MAX: usize = CHUNK_BYTES / 2;
/// Pieces up to which an unused queue keeps its memory.
const SPARE_QUEUE_PIECES_MAX: usize = 64;

/// An answer to a request that is not upgraded; the connection is closed behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Further header fields, free of line ends.
    pub headers: Vec<(&'static str, String)>,
    /// Of the body.
    pub content_type: &'static str,
    /// May be empty.
    pub body: Vec<u8>,
}

/// [`Timeouts`] in quanta.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quanta {
    pub(super) handshake: Quantum,
    pub(super) ping_interval: Quantum,
    pub(super) dead_after: Quantum,
    pub(super) write: Quantum,
    pub(super) closing: Quantum,
}

#[derive(Debug)]
struct Clock {
    start: Instant,
    now: Instant,
    quantum: Quantum,
}

/// Replies to one connection are written one behind the other and queued as one piece.
#[derive(Debug)]
struct Cork {
    chunks: Chunks,
    conn: Option<ConnId>,
    scratch: Vec<u8>,
}

/// A connection that is not open any more and of which the application has to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) id: ConnId,
    pub(super) code: u16,
    /// The engine closes it for this reason; the close frame is still to be queued.
    pub(super) notice: Option<&'static str>,
}

/// What is left to do in this tick.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) dirty: Vec<ConnId>,
    pub(super) left: VecDeque<Left>,
    pub(super) drained: VecDeque<(ConnId, u32)>,
    pub(super) ended: Vec<ConnId>,
    pub(super) detach: Vec<ConnId>,
    pub(super) stop_accepting: bool,
    /// The application has more to do: the next wait only looks.
    pub(super) again: bool,
}

#[derive(Debug, Default)]
struct Pools {
    // Boxed because a queue moves between here and a connection as one pointer.
    #[allow(clippy::vec_box, reason = "see above")]
    outboxes: Vec<Box<Outbox>>,
    #[allow(clippy::vec_box, reason = "see above")]
    handshakes: Vec<Box<Handshake>>,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) open: usize,
    pub(super) handshakes: usize,
    pub(super) queued: usize,
    pub(super) partial: usize,
}

/// The connections of a shard. `S` is what the application keeps for each.
#[derive(Debug)]
pub struct Io<S> {
    pub(super) slab: Slab<S>,
    pub(super) wheel: Wheel,
    pub(super) counters: Counters,
    pub(super) limits: Limits,
    pub(super) quanta: Quanta,
    pub(super) work: Work,
    pub(super) totals: Totals,
    clock: Clock,
    cork: Cork,
    pools: Pools,
    random: u64,
}

impl<S: Default> Io<S> {
    pub(super) fn new(limits: Limits, timeouts: &Timeouts, now: Instant, seed: u64) -> Io<S> {
        let quanta = Quanta {
            handshake: quanta(timeouts.handshake),
            ping_interval: quanta(timeouts.ping_interval),
            dead_after: quanta(timeouts.dead_after),
            write: quanta(timeouts.write),
            closing: quanta(timeouts.closing),
        };
        Io {
            slab: Slab::new(),
            wheel: Wheel::new(),
            counters: Counters::new(),
            limits,
            quanta,
            work: Work::default(),
            totals: Totals::default(),
            clock: Clock { start: now, now, quantum: 0 },
            cork: Cork { chunks: Chunks::new(CHUNK_BYTES, CHUNKS_KEPT_MAX), conn: None, scratch: Vec::new() },
            pools: Pools::default(),
            random: seed | 1,
        }
    }

    /// The reactor's clock at the start of this tick.
    pub fn now(&self) -> Instant {
        self.clock.now
    }

    /// Open WebSocket connections, those being closed included.
    pub fn open_count(&self) -> usize {
        self.totals.open
    }

    /// Whether another WebSocket connection may be opened.
    pub fn has_room(&self) -> bool {
        self.totals.open < self.limits.connections_max
    }

    /// The application's part of a connection, until `on_close` has returned.
    #[inline]
    pub fn session(&mut self, id: ConnId) -> Option<&mut S> {
        self.slab.get(id).map(|conn| &mut conn.session)
    }

    /// Whether frames can be sent to it.
    #[inline]
    pub fn is_open(&mut self, id: ConnId) -> bool {
        self.slab.get(id).is_some_and(|conn| conn.state == State::Open)
    }

    /// The open connection with the lowest slot from `slot` on.
    pub fn next_open(&mut self, slot: u32) -> Option<ConnId> {
        (slot..self.slab.len()).find_map(|slot| {
            let conn = self.slab.slot(slot)?;
            (conn.state == State::Open).then_some(ConnId { slot, generation: conn.generation })
        })
    }

    /// Queues a shared frame. `false` when it was not queued: the connection is not open (counted), the frame was shed
    /// (counted, and told once the connection drains), or the connection had to be closed for it.
    pub fn send(&mut self, id: ConnId, frame: &OutFrame) -> bool {
        if self.cork.conn == Some(id) {
            self.uncork();
        }
        self.counters.add(Metric::FramesOut, 1);
        self.enqueue(id, frame.wire.clone(), frame.class)
    }

    /// Encodes a frame to be sent to many; its memory is shared with other frames of the shard.
    pub fn encode(&mut self, opcode: Opcode, payload: &[u8], class: FrameClass) -> OutFrame {
        self.uncork();
        let mut header = [0; HEADER_BYTES_MAX];
        let header_len = build_header(&mut header, true, opcode, payload.len(), None);
        let piece = self.cork.chunks.room(header_len + payload.len());
        piece.extend_from_slice(&header[..header_len]);
        piece.extend_from_slice(payload);
        OutFrame { wire: self.cork.chunks.take(), class }
    }

    /// Encodes and queues a frame for this connection alone, of class `Chat`.
    pub fn message(&mut self, id: ConnId, opcode: Opcode, payload: &[u8]) {
        if self.cork.conn != Some(id) {
            self.uncork();
        }
        self.counters.add(Metric::FramesOut, 1);
        let mut header = [0; HEADER_BYTES_MAX];
        let header_len = build_header(&mut header, true, opcode, payload.len(), None);
        let header = &header[..header_len];
        if payload.len() > CORKED_BYTES_MAX {
            self.uncork();
            let mut wire = Vec::with_capacity(header_len + payload.len());
            wire.extend_from_slice(header);
            wire.extend_from_slice(payload);
            self.enqueue(id, wire.into(), FrameClass::Chat);
            return;
        }
        if self.cork.chunks.len() + header_len + payload.len() > CORKED_BYTES_MAX {
            self.uncork();
        }
        let piece = self.cork.chunks.room(header_len + payload.len());
        piece.extend_from_slice(header);
        piece.extend_from_slice(payload);
        self.cork.conn = Some(id);
    }

    /// Starts the close handshake; what was queued before is still sent. `on_close` follows with this code.
    pub fn close(&mut self, id: ConnId, code: u16, reason: &str) {
        self.uncork();
        if self.leave(id, code, None) {
            self.queue_close(id, Some(code), reason);
        }
    }

    /// Asks for `on_timer` of this connection after `delay`; a later call replaces an earlier one.
    pub fn set_timer(&mut self, id: ConnId, delay: Duration) {
        let due = self.after(quanta(delay));
        if let Some(conn) = self.slab.get(id) {
            conn.when.app = due;
        }
        self.reschedule(id);
    }

    /// Stops accepting connections, for good.
    pub fn stop_accepting(&mut self) {
        self.work.stop_accepting = true;
    }

    /// The application has more to do: its `on_tick` is called again without waiting.
    pub fn again(&mut self) {
        self.work.again = true;
    }

    pub(super) fn set_now(&mut self, now: Instant) {
        self.clock.now = now;
        self.clock.quantum = (now.duration_since(self.clock.start).as_millis() as u64 / QUANTUM_MS) as Quantum;
    }

    pub(super) fn quantum(&self) -> Quantum {
        self.clock.quantum
    }

    /// When the next quantum begins.
    pub(super) fn next_quantum_at(&self) -> Instant {
        self.clock.start + Duration::from_millis((u64::from(self.clock.quantum) + 1) * QUANTUM_MS)
    }

    pub(super) fn after(&self, quanta: Quantum) -> Quantum {
        self.clock.quantum.saturating_add(quanta)
    }

    /// The next ping: after the interval, 10 % earlier or later, so that connections made together spread out.
    pub(super) fn next_ping(&mut self) -> Quantum {
        let interval = self.quanta.ping_interval;
        let jitter = self.random(u64::from(interval / 5) + 1) as Quantum;
        self.after(interval - interval / 10 + jitter)
    }

    /// A number below `bound`, good enough to spread things.
    pub(crate) fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    /// Enters the earliest of the connection's deadlines into the wheel unless an entry stands before it.
    pub(super) fn reschedule(&mut self, id: ConnId) {
        let dead_after = self.quanta.dead_after;
        let Some(conn) = self.slab.get(id) else { return };
        let when = &mut conn.when;
        let silence = if conn.state == State::Open { when.seen.saturating_add(dead_after) } else { NEVER };
        let next = silence.min(when.ping).min(when.state).min(when.send).min(when.app);
        if next < when.due {
            when.due = self.wheel.schedule(id.slot, next);
        }
    }

    /// Begins a connection; `false` when too many handshakes are in flight.
    pub(super) fn accepted(&mut self, id: ConnId, peer: SocketAddr) -> bool {
        self.counters.add(Metric::Accepted, 1);
        let deadline = self.after(self.quanta.handshake);
        let fits = self.totals.handshakes < self.limits.handshakes_max;
        let Some(conn) = self.slab.insert(id, self.clock.quantum) else { return false };
        self.totals.handshakes += 1;
        if fits {
            let mut spare =
                self.pools.handshakes.pop().unwrap_or_else(|| Box::new(Handshake { peer, received: Vec::new() }));
            spare.peer = peer;
            conn.handshake = Some(spare);
            conn.when.state = deadline;
            self.reschedule(id);
        } else {
            self.counters.add(Metric::TurnedAway, 1);
            self.end(id, 1006);
        }
        fits
    }

    /// The upgrade is answered with 101; frames flow from here on.
    pub(super) fn open(&mut self, id: ConnId, key: &[u8], protocol: Option<&str>, session: S) {
        let (now, ping) = (self.clock.quantum, self.next_ping());
        let Some(conn) = self.slab.get(id) else { return };
        conn.state = State::Open;
        conn.session = session;
        conn.flags.counted = true;
        conn.when.state = NEVER;
        conn.when.seen = now;
        conn.when.ping = ping;
        let handshake = conn.handshake.take();
        self.totals.handshakes -= 1;
        self.totals.open += 1;
        self.counters.add(Metric::Upgraded, 1);
        self.keep_handshake(handshake);
        self.uncork();
        self.cork.scratch.clear();
        handshake::write_accept(key, protocol, &mut self.cork.scratch);
        let wire = self.scratch_piece();
        self.enqueue(id, wire, FrameClass::Chat);
        self.reschedule(id);
    }

    /// Answers with an HTTP response and closes behind it.
    pub(super) fn refuse(&mut self, id: ConnId, refusal: &Refusal) {
        let deadline = self.after(self.quanta.closing);
        let Some(conn) = self.slab.get(id) else { return };
        conn.state = State::Refusing;
        conn.when.state = deadline;
        let handshake = conn.handshake.take();
        self.totals.handshakes -= 1;
        self.counters.add(Metric::Refused, 1);
        self.keep_handshake(handshake);
        let headers: Vec<_> = refusal.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut wire = Vec::new();
        handshake::write_refusal(refusal.status, &headers, refusal.content_type, &refusal.body, &mut wire);
        self.push_last(id, wire.into());
        self.reschedule(id);
    }

    /// Gives the connection away once the reactor lets go of it.
    pub(super) fn detach(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get(id) else { return };
        conn.state = State::Detaching;
        conn.when.state = NEVER;
        self.totals.handshakes -= 1;
        self.work.detach.push(id);
    }

    /// Takes what was received from a connection that is given away.
    pub(super) fn detached(&mut self, id: ConnId) -> Option<(Vec<u8>, SocketAddr)> {
        let handshake = self.slab.get(id)?.handshake.take()?;
        Some((handshake.received, handshake.peer))
    }

    /// Fails the connection on the engine's initiative: the application may say farewell, then a close frame follows.
    /// The peer's close frame is not awaited.
    pub(super) fn fail(&mut self, id: ConnId, code: u16, reason: &'static str) {
        self.uncork();
        self.leave(id, code, Some(reason));
        if let Some(conn) = self.slab.get(id) {
            conn.flags.close_done = true;
        }
        self.mark_dirty(id);
    }

    /// The peer's close frame came; answers it unless it is the answer to ours.
    pub(super) fn peer_closed(&mut self, id: ConnId, code: Option<u16>) {
        self.uncork();
        if self.leave(id, code.unwrap_or(1005), None) {
            self.queue_close(id, code, "");
        }
        if let Some(conn) = self.slab.get(id) {
            conn.flags.close_done = true;
        }
        self.mark_dirty(id);
    }

    /// Ends the connection at once; what was not sent is lost.
    pub(super) fn end(&mut self, id: ConnId, code: u16) {
        let Some(conn) = self.slab.get(id) else { return };
        let state = std::mem::replace(&mut conn.state, State::Ended);
        match state {
            State::Ended | State::Detaching | State::Free => {
                conn.state = state;
                return;
            }
            State::Handshake => self.totals.handshakes -= 1,
            State::Open => self.work.left.push_back(Left { id, code, notice: None }),
            State::Closing | State::Refusing | State::Lingering => {}
        }
        self.work.ended.push(id);
    }

    /// The reactor has let go of the connection: its slot is free.
    pub(super) fn release(&mut self, id: ConnId, scratch: &mut Scratch) {
        let Some(conn) = self.slab.get(id) else { return };
        self.totals.partial -= conn.decoder.held_bytes();
        conn.decoder.release(scratch);
        conn.state = State::Free;
        conn.session = S::default();
        if conn.flags.counted {
            self.totals.open -= 1;
        }
        let (outbox, handshake) = (conn.outbox.take(), conn.handshake.take());
        if let Some(mut outbox) = outbox {
            self.totals.queued -= outbox.clear() + outbox.sent();
            outbox.take_shed();
            self.keep_outbox(outbox);
        }
        self.keep_handshake(handshake);
    }

    /// A send has ended; the queue goes back when nothing waits.
    pub(super) fn sent(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get(id) else { return };
        conn.flags.sending = false;
        conn.when.send = NEVER;
        if let Some(outbox) = conn.outbox.as_mut() {
            self.totals.queued -= outbox.sent();
        }
        self.mark_dirty(id);
    }

    /// Gives an empty queue back and remembers to tell of what was shed from it.
    pub(super) fn drain(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get(id) else { return };
        if !conn.is_flushed() {
            return;
        }
        let Some(mut outbox) = conn.outbox.take() else { return };
        let shed = outbox.take_shed();
        if shed > 0 && conn.state == State::Open {
            self.work.drained.push_back((id, shed));
        }
        self.keep_outbox(outbox);
    }

    /// Adds a frame behind everything else of a connection that is being closed.
    pub(super) fn push_last(&mut self, id: ConnId, wire: Bytes) {
        let Some(conn) = self.slab.get(id) else { return };
        let outbox = conn.outbox.get_or_insert_with(|| self.pools.outboxes.pop().unwrap_or_default());
        self.totals.queued += outbox.push_last(wire);
        self.mark_dirty(id);
    }

    pub(super) fn queue_close(&mut self, id: ConnId, code: Option<u16>, reason: &str) {
        self.cork.scratch.clear();
        message::encode_close(code, reason, None, &mut self.cork.scratch);
        let wire = self.scratch_piece();
        self.push_last(id, wire);
    }

    /// Queues what was written for the connection being answered.
    pub(super) fn uncork(&mut self) {
        if let Some(id) = self.cork.conn.take() {
            let wire = self.cork.chunks.take();
            self.enqueue(id, wire, FrameClass::Chat);
        }
    }

    fn scratch_piece(&mut self) -> Bytes {
        self.cork.chunks.room(self.cork.scratch.len()).extend_from_slice(&self.cork.scratch);
        self.cork.chunks.take()
    }

    fn enqueue(&mut self, id: ConnId, wire: Bytes, class: FrameClass) -> bool {
        let Some(conn) = self.slab.get(id).filter(|conn| conn.state == State::Open) else {
            self.counters.add(Metric::Stale, 1);
            return false;
        };
        let outbox = conn.outbox.get_or_insert_with(|| self.pools.outboxes.pop().unwrap_or_default());
        let shard_rest = self.limits.shard_queue_bytes_max.saturating_sub(self.totals.queued);
        let limits = OutboxLimits {
            frames_max: self.limits.queue_frames_max,
            bytes_max: self.limits.queue_bytes_max.min(outbox.bytes() + shard_rest),
        };
        match outbox.push(wire, class, &limits) {
            Pushed::Queued(bytes) => self.totals.queued += bytes,
            Pushed::Merged(change) => {
                self.totals.queued = self.totals.queued.wrapping_add_signed(change);
                self.counters.add(Metric::Merged, 1);
            }
            Pushed::Shed => {
                self.counters.add(Metric::Shed, 1);
                self.mark_dirty(id);
                return false;
            }
            Pushed::Overflow => {
                self.overflow(id);
                return false;
            }
        }
        self.mark_dirty(id);
        true
    }

    /// Drops what waits and closes with 4009: the client comes back and fetches what it missed.
    fn overflow(&mut self, id: ConnId) {
        self.counters.add(Metric::Overflows, 1);
        if let Some(outbox) = self.slab.get(id).and_then(|conn| conn.outbox.as_mut()) {
            self.totals.queued -= outbox.clear();
        }
        self.leave(id, 4009, Some("slow consumer, queue overflow"));
    }

    /// Ends the open state, once; `false` when it had ended.
    fn leave(&mut self, id: ConnId, code: u16, notice: Option<&'static str>) -> bool {
        let deadline = self.after(self.quanta.closing);
        let Some(conn) = self.slab.get(id).filter(|conn| conn.state == State::Open) else { return false };
        conn.state = State::Closing;
        conn.when.state = deadline;
        conn.when.ping = NEVER;
        conn.when.app = NEVER;
        self.work.left.push_back(Left { id, code, notice });
        self.reschedule(id);
        true
    }

    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.slab.get(id)
            && !conn.flags.dirty
        {
            conn.flags.dirty = true;
            self.work.dirty.push(id);
        }
    }

    fn keep_outbox(&mut self, outbox: Box<Outbox>) {
        if self.pools.outboxes.len() < SPARE_QUEUES_MAX && outbox.capacity() <= SPARE_QUEUE_PIECES_MAX {
            self.pools.outboxes.push(outbox);
        }
    }

    fn keep_handshake(&mut self, handshake: Option<Box<Handshake>>) {
        if let Some(mut handshake) = handshake
            && self.pools.handshakes.len() < SPARES_MAX
        {
            handshake.received.clear();
            self.pools.handshakes.push(handshake);
        }
    }

    /// Publishes nothing; refreshes the gauges.
    pub(super) fn refresh_gauges(&mut self) {
        self.counters.set(Metric::Connections, self.totals.open as u64);
        self.counters.set(Metric::Handshakes, self.totals.handshakes as u64);
        self.counters.set(Metric::QueuedBytes, self.totals.queued as u64);
        self.counters.set(Metric::PartialBytes, self.totals.partial as u64);
    }
}

fn quanta(duration: Duration) -> Quantum {
    (duration.as_millis() as u64).div_ceil(QUANTUM_MS).clamp(1, u64::from(NEVER - 1)) as Quantum
}

/// Whether the connection has said everything and can shut down.
pub(super) fn is_done<S: Default>(conn: &Conn<S>) -> bool {
    conn.is_flushed()
        && match conn.state {
            State::Refusing => true,
            State::Closing => conn.flags.close_done || conn.flags.eof,
            State::Free | State::Handshake | State::Detaching | State::Open | State::Lingering | State::Ended => false,
        }
}
