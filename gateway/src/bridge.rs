//! The only crossing between shards and control: two bounded queues of batches of closed enums, one wake-up per batch.
//! Never blocks a shard, never decides what a full queue means for a client, and shares nothing but what stands here.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crossbeam_queue::ArrayQueue;
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::Address;
use gochat_ring::Waker;
use tokio::sync::mpsc;

use crate::chunks::Chunks;
use crate::limits::{
    CHUNKS_KEPT_MAX, DOWNLINK_BATCHES_MAX, UPLINK_BATCHES_PER_SHARD, UPLINK_BYTES_MAX, UPLINK_CHUNK_BYTES,
    UPLINK_HTTP_MAX, UPLINK_RECORDS_MAX,
};

/// Class of an outgoing frame: what happens to it when the receiver does not keep up (gateway-engine.md section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameClass {
    /// Typing, presence: shed first, from half of the connection's limit on.
    Ephemeral,
    /// Read marks, conversation updates: a queued frame with the same key is replaced by the newer one.
    Coalescible {
        /// Names what the frame is about; equal for frames of which only the last matters.
        key: u64,
    },
    /// Chat messages, acknowledgements, refusals, control: never dropped silently; one that does not fit closes the
    /// connection with 4009.
    Chat,
}

/// A complete WebSocket frame, encoded once and shared by every connection it goes to.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Header and payload as they go over the wire (a server's frames are not masked).
    pub wire: Bytes,
    /// What may happen to it under pressure.
    pub class: FrameClass,
}

impl OutFrame {
    /// A text frame around `payload`, which must be UTF-8 (it is the JSON of one envelope).
    pub fn text(payload: &[u8], class: FrameClass) -> OutFrame {
        let mut wire = Vec::with_capacity(payload.len() + gochat_ws::frame::HEADER_BYTES_MAX);
        gochat_ws::message::encode_frame(gochat_ws::Opcode::Text, payload, None, &mut wire);
        OutFrame { wire: wire.into(), class }
    }
}

/// A connection whose token was verified and whose upgrade was answered. It waits for [`Downlink::Registered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The connection.
    pub address: Address,
    /// Its user.
    pub user_id: i64,
    /// `jti` of its access token.
    pub token_id: Box<str>,
    /// `token_hash` of its access token: presence is asked by it whether the token was revoked.
    pub token_hash: Box<str>,
    /// `ver` of its access token.
    pub token_version: i64,
    /// Login its access token belongs to (claim `fam`).
    pub family_id: Box<str>,
    /// `jti` of the ticket it came with; empty when it came with an access token. A ticket is good once: registration
    /// decides, so such a session never begins without it.
    pub ticket_id: Box<str>,
    /// Expiry of that token, Unix seconds.
    pub expires_at_s: i64,
    /// `device` of the query, at most 64 bytes; empty when not given.
    pub device: Box<str>,
    /// `client` of the query, at most 255 bytes; empty when not given.
    pub client_info: Box<str>,
    /// The peer.
    pub peer: SocketAddr,
}

/// A connection that is not a WebSocket: control serves HTTP on it.
#[derive(Debug)]
pub struct HttpHandover {
    /// The socket, non-blocking.
    pub fd: OwnedFd,
    /// Every byte received from it so far: it begins with a request head.
    pub received: Bytes,
    /// The peer.
    pub peer: SocketAddr,
}

/// What a shard tells control, in order per connection.
#[derive(Debug)]
pub enum UplinkEvent {
    /// A session began.
    Opened(Box<Opened>),
    /// A session that was announced with `Opened` ended.
    Closed {
        /// The connection.
        address: Address,
        /// Its user.
        user_id: i64,
        /// Close code sent or received; 1006 when the connection just broke.
        code: u16,
        /// The gateway is draining: the user is expected to reappear elsewhere, no offline event is to be scheduled.
        handover: bool,
    },
    /// A session goes on under a new access token of the same user.
    Reauthorized {
        /// The connection.
        address: Address,
        /// Its user.
        user_id: i64,
        /// `jti` of the new token.
        token_id: Box<str>,
        /// `token_hash` of the new token.
        token_hash: Box<str>,
        /// `ver` of the new token.
        token_version: i64,
        /// Login the new token belongs to.
        family_id: Box<str>,
        /// Its expiry, Unix seconds.
        expires_at_s: i64,
    },
    /// A user read up to a message; at most one per conversation and connection every 500 ms, the highest wins.
    MarkRead {
        /// The connection that asks.
        address: Address,
        /// Its user.
        user_id: i64,
        /// Conversation id as the client sent it (checked for size and characters).
        conversation: Box<str>,
        /// Read through this sequence number.
        seq_id: i64,
    },
    /// A user types or has stopped; at most once per conversation and connection every 3 s. Never added while congested.
    Typing {
        /// The connection it comes from.
        address: Address,
        /// Its user.
        user_id: i64,
        /// Conversation id as the client sent it (checked for size).
        conversation: Box<str>,
        /// Began, or stopped.
        is_typing: bool,
    },
    /// A connection to be served over HTTP.
    Http(HttpHandover),
}

/// A user who was heard of since the last such report; every 30 s per connection, spread over the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// The connection.
    pub address: Address,
    /// Its user.
    pub user_id: i64,
}

#[derive(Clone, Copy, Debug)]
struct RecordSpan {
    partition: u32,
    start: u32,
    len: u32,
    /// Of the conversation id, inside the record.
    key_start: u32,
    key_len: u32,
}

/// One client message, encoded as `gochat.bus.v1.UpstreamMessage`. Both parts are slices of the batch's one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkRecord {
    /// Partition of `gochat.messages.upstream`.
    pub partition: u32,
    /// The conversation id.
    pub key: Bytes,
    /// The encoded record.
    pub value: Bytes,
}

/// What one shard has for control after a tick. Apply `events` first: a record's connection was opened before it.
#[derive(Debug, Default)]
pub struct UplinkBatch {
    /// The shard it comes from.
    pub shard: u8,
    /// What happened to connections, in order.
    pub events: Vec<UplinkEvent>,
    /// Users to refresh in presence.
    pub alive: Vec<Alive>,
    bytes: Bytes,
    records: Vec<RecordSpan>,
}

impl UplinkBatch {
    /// The client messages, in the order they were received.
    pub fn records(&self) -> impl ExactSizeIterator<Item = UplinkRecord> + '_ {
        self.records.iter().map(|span| UplinkRecord {
            partition: span.partition,
            key: self.slice(span.key_start, span.key_len),
            value: self.slice(span.start, span.len),
        })
    }

    fn slice(&self, start: u32, len: u32) -> Bytes {
        self.bytes.slice(start as usize..(start + len) as usize)
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.alive.is_empty() && self.records.is_empty()
    }

    fn clear(&mut self) {
        self.events.clear();
        self.alive.clear();
        self.bytes = Bytes::new();
        self.records.clear();
    }
}

/// What became void, pushed to every shard so that handshakes need no round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// One access token.
    Token {
        /// Its `jti`.
        token_id: Box<str>,
        /// Its expiry, Unix seconds: the entry may be forgotten then.
        expires_at_s: i64,
    },
    /// All access tokens of a user whose `ver` is below this.
    User {
        /// The user.
        user_id: i64,
        /// The lowest version that still counts.
        version_min: i64,
    },
    /// An account is disabled, as of its last registration.
    Disabled {
        /// The user.
        user_id: i64,
        /// Until then a handshake is refused without asking, Unix seconds: the account may be enabled again meanwhile.
        until_s: i64,
    },
}

/// Names a room on one gateway for the life of the process; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(pub u32);

/// What control tells a shard. Whatever names a connection that has ended is counted and ignored.
#[derive(Debug)]
pub enum Downlink {
    /// Presence registration was answered: the shard sends `connected` now (pipeline.md D5).
    Registered {
        /// The connection.
        address: Address,
        /// Registration failed or timed out: pushes may be missed, the client is told to pull.
        degraded: bool,
    },
    /// A frame for the connections `targets[from..to]` of the batch; made by [`DownlinkBatch::frame`].
    Frame {
        /// First target.
        from: u32,
        /// Behind the last target.
        to: u32,
        /// The frame.
        frame: OutFrame,
    },
    /// Adds a connection of this shard to a room, made when there is none. Idempotent.
    RoomJoin {
        /// The room.
        room: RoomKey,
        /// The connection.
        address: Address,
    },
    /// Removes a user's connections of this shard from a room.
    RoomLeave {
        /// The room.
        room: RoomKey,
        /// The user.
        user_id: i64,
    },
    /// From now on these connections of this shard are the room.
    RoomReset {
        /// The room.
        room: RoomKey,
        /// The connections, each once.
        addresses: Box<[Address]>,
    },
    /// Forgets a room, behind every frame for it that came before.
    RoomDrop {
        /// The room.
        room: RoomKey,
    },
    /// One frame for a whole room.
    RoomFrame {
        /// The room.
        room: RoomKey,
        /// A connection that does not get it; [`Address::NONE`] for none.
        exclude: Address,
        /// The frame.
        frame: OutFrame,
    },
    /// Ends a session: `closing` frame, then a close frame with this code.
    Close {
        /// The connection.
        address: Address,
        /// Why.
        code: CloseCode,
        /// Hint in the `closing` frame, milliseconds.
        reconnect_after_ms: Option<u32>,
    },
    /// A token or all tokens of a user are void; open sessions are ended by `Close`.
    Revoked(Revocation),
    /// Whether new handshakes are accepted (503 otherwise). A shard starts with `false`: control allows it once its
    /// downstream consumer is positioned.
    Accepting(bool),
    /// Sends are refused with RATE_LIMITED and this `retryAfter` in seconds, while persistence lags (pipeline.md E3);
    /// 0 ends that.
    SlowDown {
        /// Seconds until a client should try again.
        retry_after_s: u32,
    },
    /// Stop accepting and close all sessions with 1001 in slices; then the shard ends. Irrevocable.
    Drain {
        /// Connections to close per second, in percent of those open at the start of draining.
        percent_per_s: u8,
    },
}

/// A batch for one shard.
#[derive(Debug, Default)]
pub struct DownlinkBatch {
    items: Vec<Downlink>,
    targets: Vec<Address>,
}

impl DownlinkBatch {
    /// An empty batch.
    pub fn new() -> DownlinkBatch {
        DownlinkBatch::default()
    }

    /// Adds anything but a frame.
    pub fn push(&mut self, item: Downlink) {
        self.items.push(item);
    }

    /// Adds one frame for connections of this shard.
    pub fn frame(&mut self, targets: impl IntoIterator<Item = Address>, frame: OutFrame) {
        let from = self.targets.len() as u32;
        self.targets.extend(targets);
        let to = self.targets.len() as u32;
        self.items.push(Downlink::Frame { from, to, frame });
    }

    /// Items and targets, for the shard.
    pub fn parts(&mut self) -> (std::vec::Drain<'_, Downlink>, &[Address]) {
        (self.items.drain(..), &self.targets)
    }

    /// Items in it; a frame counts once.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn clear(&mut self) {
        self.items.clear();
        self.targets.clear();
    }
}

/// The shard has ended; nothing can be sent to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard has ended")]
pub struct ShardEnded;

/// Control's end of one shard's downlink. One owner per shard keeps the order.
#[derive(Clone, Debug)]
pub struct ShardSender {
    queue: mpsc::Sender<DownlinkBatch>,
    spares: Arc<ArrayQueue<DownlinkBatch>>,
    waker: Waker,
}

impl ShardSender {
    /// An empty batch, a used one where there is one.
    pub fn batch(&self) -> DownlinkBatch {
        self.spares.pop().unwrap_or_default()
    }

    /// Gives the batch to the shard and wakes it once; waits while its queue is full. Cancel safe: a cancelled send
    /// has not happened, and the batch is lost.
    ///
    /// # Errors
    /// The shard has ended.
    pub async fn send(&self, batch: DownlinkBatch) -> Result<(), ShardEnded> {
        if batch.is_empty() {
            return Ok(());
        }
        self.queue.send(batch).await.map_err(|_| ShardEnded)?;
        self.waker.wake();
        Ok(())
    }

    /// As [`send`](Self::send), but gives the batch back when the queue is full.
    ///
    /// # Errors
    /// The queue is full; a batch for a shard that has ended is dropped as if sent.
    pub fn try_send(&self, batch: DownlinkBatch) -> Result<(), DownlinkBatch> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.queue.try_send(batch) {
            Ok(()) => self.waker.wake(),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(batch)) => return Err(batch),
        }
        Ok(())
    }
}

/// Control's end of all uplinks.
#[derive(Debug)]
pub struct UplinkReceiver {
    queue: mpsc::Receiver<UplinkBatch>,
    spares: Arc<ArrayQueue<UplinkBatch>>,
}

impl UplinkReceiver {
    /// The next batch of any shard; batches of one shard come in order. `None` when all shards have ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<UplinkBatch> {
        self.queue.recv().await
    }

    /// A batch that is already there.
    pub fn try_recv(&mut self) -> Option<UplinkBatch> {
        self.queue.try_recv().ok()
    }

    /// Takes a handled batch back so that its memory serves again.
    pub fn recycle(&self, mut batch: UplinkBatch) {
        batch.clear();
        let _ = self.spares.push(batch);
    }
}

/// Control's side of the bridge.
#[derive(Debug)]
pub struct ControlEnd {
    /// What the shards say.
    pub uplinks: UplinkReceiver,
    /// One sender per shard, by shard number.
    pub shards: Vec<ShardSender>,
}

/// The uplink has no room: control does not keep up. What was offered was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkFull;

/// A shard's end of the uplink: collects during a tick, hands over with [`flush`](Self::flush).
#[derive(Debug)]
pub struct Uplink {
    queue: mpsc::Sender<UplinkBatch>,
    spares: Arc<ArrayQueue<UplinkBatch>>,
    pending: UplinkBatch,
    buffer: Chunks,
    https_pending: usize,
}

impl Uplink {
    fn new(shard: u8, queue: mpsc::Sender<UplinkBatch>, spares: Arc<ArrayQueue<UplinkBatch>>) -> Uplink {
        let pending = UplinkBatch { shard, ..UplinkBatch::default() };
        Uplink { queue, spares, pending, buffer: Chunks::new(UPLINK_CHUNK_BYTES, CHUNKS_KEPT_MAX), https_pending: 0 }
    }

    /// Adds one record: `encode` appends it to the buffer and returns where in the buffer its key stands.
    ///
    /// # Errors
    /// No room; nothing was added, `encode` was not called.
    pub fn record(
        &mut self,
        partition: u32,
        bytes_max: usize,
        encode: impl FnOnce(&mut BytesMut) -> std::ops::Range<usize>,
    ) -> Result<(), UplinkFull> {
        let full = |this: &Uplink| {
            this.pending.records.len() >= UPLINK_RECORDS_MAX || this.buffer.len() + bytes_max > UPLINK_BYTES_MAX
        };
        if full(self) {
            self.flush();
            if full(self) {
                return Err(UplinkFull);
            }
        }
        let buffer = self.buffer.room(bytes_max);
        let start = buffer.len();
        let key = encode(buffer);
        let len = buffer.len() - start;
        self.pending.records.push(RecordSpan {
            partition,
            start: start as u32,
            len: len as u32,
            key_start: key.start as u32,
            key_len: key.len() as u32,
        });
        Ok(())
    }

    /// Adds an event. Bounded by the number of connections: a shard that finds [`is_congested`](Self::is_congested)
    /// opens no further ones.
    pub fn event(&mut self, event: UplinkEvent) {
        self.pending.events.push(event);
    }

    /// Hands a connection over to HTTP.
    ///
    /// # Errors
    /// Too many wait already; the connection is given back, to be closed.
    pub fn http(&mut self, handover: HttpHandover) -> Result<(), HttpHandover> {
        if self.https_pending >= UPLINK_HTTP_MAX {
            return Err(handover);
        }
        self.https_pending += 1;
        self.pending.events.push(UplinkEvent::Http(handover));
        Ok(())
    }

    /// Reports that a user was heard of; skipped while congested, the next interval reports again.
    pub fn alive(&mut self, alive: Alive) {
        if !self.is_congested() {
            self.pending.alive.push(alive);
        }
    }

    /// Whether control is behind: its queue is full, and what is added now waits here.
    pub fn is_congested(&self) -> bool {
        self.queue.capacity() == 0
    }

    /// Hands over what was collected, one wake-up; keeps it when the queue is full. Called once per tick.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let Ok(permit) = self.queue.try_reserve() else { return };
        let mut batch = self.spares.pop().unwrap_or_default();
        batch.shard = self.pending.shard;
        std::mem::swap(&mut self.pending, &mut batch);
        batch.bytes = self.buffer.take();
        self.https_pending = 0;
        permit.send(batch);
    }

    /// Whether everything was handed over (or can never be, as control is gone).
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty() || self.queue.is_closed()
    }
}

/// A shard's end of its downlink.
#[derive(Debug)]
pub struct DownlinkReceiver {
    queue: mpsc::Receiver<DownlinkBatch>,
    spares: Arc<ArrayQueue<DownlinkBatch>>,
}

impl DownlinkReceiver {
    /// The next batch, if there is one.
    pub fn try_recv(&mut self) -> Option<DownlinkBatch> {
        self.queue.try_recv().ok()
    }

    /// Whether control has gone and nothing is left to read.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() && self.queue.is_empty()
    }

    /// Takes a handled batch back so that its memory serves again.
    pub fn recycle(&self, mut batch: DownlinkBatch) {
        batch.clear();
        let _ = self.spares.push(batch);
    }
}

/// A shard's side of the bridge.
#[derive(Debug)]
pub struct ShardEnd {
    /// What it says.
    pub uplink: Uplink,
    /// What it is told.
    pub downlink: DownlinkReceiver,
}

/// Makes the bridge for shards with these wakers, in order of shard number (at most 256).
pub fn bridge(wakers: Vec<Waker>) -> (ControlEnd, Vec<ShardEnd>) {
    let queued_max = UPLINK_BATCHES_PER_SHARD * wakers.len().max(1);
    let (uplink, uplinks) = mpsc::channel(queued_max);
    let spares = Arc::new(ArrayQueue::new(queued_max));
    let mut shards = Vec::new();
    let mut ends = Vec::new();
    for (number, waker) in wakers.into_iter().enumerate() {
        let (sender, receiver) = mpsc::channel(DOWNLINK_BATCHES_MAX);
        let used = Arc::new(ArrayQueue::new(DOWNLINK_BATCHES_MAX));
        shards.push(ShardSender { queue: sender, spares: Arc::clone(&used), waker });
        ends.push(ShardEnd {
            uplink: Uplink::new(number as u8, uplink.clone(), Arc::clone(&spares)),
            downlink: DownlinkReceiver { queue: receiver, spares: used },
        });
    }
    (ControlEnd { uplinks: UplinkReceiver { queue: uplinks, spares }, shards }, ends)
}
