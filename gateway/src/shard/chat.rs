//! The state of one shard's chat and the verbs on it: greet, deliver, refuse, say goodbye. Owns the shard's side of the
//! bridge and who is connected; never parses a frame or a request.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gochat_infra::ratelimit::KeyedLimiter;
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::frames::{Closing, Connected, ErrorDetails, ErrorFrame};
use gochat_proto::ids::{Address, UserId};
use gochat_ring::ConnId;
use gochat_ws::Opcode;

use super::admission::Revocations;
use super::marks::Marks;
use super::rooms::Rooms;
use super::session::{Phase, Session};
use super::typing::Typing;
use super::users::{Users, conn_id};
use super::world::Guests;
use crate::bridge::{FrameClass, OutFrame, ShardEnd};
use crate::config::ChatConfig;
use crate::engine::Io;
use crate::limits::HELD_FRAMES_MAX;

/// The wall clock and the shard's own, as of this turn of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    anchor: Instant,
    anchor_unix_ms: i64,
}

impl Clock {
    fn new(now: Instant) -> Clock {
        Clock { start: now, anchor: now, anchor_unix_ms: unix_ms() }
    }

    /// Follows the wall clock where that was set.
    pub(super) fn anchor(&mut self, now: Instant) {
        (self.anchor, self.anchor_unix_ms) = (now, unix_ms());
    }

    pub(super) fn unix_ms(&self, now: Instant) -> i64 {
        self.anchor_unix_ms + now.saturating_duration_since(self.anchor).as_millis() as i64
    }

    pub(super) fn unix_s(&self, now: Instant) -> i64 {
        self.unix_ms(now) / 1000
    }

    /// Microseconds since the shard began.
    pub(super) fn us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Seconds since the shard began.
    pub(super) fn s(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_secs() as u32
    }
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Closing all sessions in slices.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) percent_per_s: u64,
    pub(super) sessions: u64,
    pub(super) closed: u64,
    pub(super) started_us: u64,
    pub(super) slot: u32,
}

/// What control allows at the moment.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) accepting: bool,
    pub(super) slow_down_s: u32,
    pub(super) drain: Option<Drain>,
    pub(super) finished: bool,
}

/// Limits that are kept beside the connections.
pub(super) struct Rates {
    /// Handshakes by address and by user.
    pub(super) connects: KeyedLimiter,
    /// Guests in the world room by address.
    pub(super) guests: Guests,
    /// Typing by connection and conversation.
    pub(super) typing: Typing,
}

/// The chat on one shard.
pub(crate) struct Chat {
    pub(super) shard: u8,
    pub(super) config: Arc<ChatConfig>,
    pub(super) bridge: ShardEnd,
    pub(super) users: Users,
    pub(super) rooms: Rooms,
    pub(super) marks: Marks,
    pub(super) revocations: Revocations,
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    pub(super) rates: Rates,
    pub(super) marks_flushed_us: u64,
    scratch: Vec<u8>,
}

impl Chat {
    /// The chat of shard `shard` with its end of the bridge. Made on the shard's own thread.
    pub(crate) fn new(shard: u8, config: Arc<ChatConfig>, bridge: ShardEnd) -> Chat {
        Chat {
            shard,
            config,
            bridge,
            users: Users::default(),
            rooms: Rooms::default(),
            marks: Marks::default(),
            revocations: Revocations::default(),
            gate: Gate::default(),
            clock: Clock::new(Instant::now()),
            rates: Rates { connects: KeyedLimiter::new(), guests: Guests::new(), typing: Typing::default() },
            marks_flushed_us: 0,
            scratch: Vec::new(),
        }
    }

    /// The address of a connection.
    pub(super) fn address(&self, id: ConnId) -> Address {
        Address::new(self.shard, id.slot, id.generation.wrapping_add(1))
    }

    /// The connection of an address of this shard, whether or not it still lives.
    pub(super) fn conn(&self, address: Address) -> Option<ConnId> {
        (address.shard() == self.shard && address != Address::NONE).then(|| conn_id(address))
    }

    /// Sends a frame, or holds it until the session is greeted.
    pub(super) fn deliver(&mut self, io: &mut Io<Session>, id: ConnId, frame: &OutFrame) {
        let Some(session) = io.session(id).filter(|session| session.phase == Phase::Registering) else {
            io.send(id, frame);
            return;
        };
        let held = session.held.get_or_insert_default();
        held.push(frame.clone());
        if held.len() >= HELD_FRAMES_MAX {
            self.begin_degraded(io, id);
        }
    }

    /// Registration does not come: the session begins without it, or, as that alone tells whether its ticket is good,
    /// not at all.
    pub(super) fn begin_degraded(&mut self, io: &mut Io<Session>, id: ConnId) {
        if io.session(id).is_some_and(|session| session.has_ticket) {
            self.bye(io, id, CloseCode::TryAgainLater, None);
        } else {
            self.greet(io, id, true);
        }
    }

    /// Sends one JSON frame that `write` appends, to this connection alone.
    pub(super) fn reply(&mut self, io: &mut Io<Session>, id: ConnId, write: impl FnOnce(&mut Vec<u8>, i64)) {
        self.scratch.clear();
        write(&mut self.scratch, self.clock.unix_s(io.now()));
        if io.session(id).is_some_and(|session| session.phase == Phase::Registering) {
            let frame = OutFrame::text(&self.scratch, FrameClass::Chat);
            self.deliver(io, id, &frame);
        } else {
            io.message(id, Opcode::Text, &self.scratch);
        }
    }

    /// Sends an error frame.
    pub(super) fn error(
        &mut self,
        io: &mut Io<Session>,
        id: ConnId,
        code: ErrorCode,
        message: &str,
        details: ErrorDetails<'_>,
    ) {
        self.reply(io, id, |out, now| ErrorFrame { code, message, details }.write(out, now));
    }

    /// Sends `connected`, then what was held for it. Does nothing for a session that was greeted before.
    pub(super) fn greet(&mut self, io: &mut Io<Session>, id: ConnId, degraded: bool) {
        if !io.is_open(id) {
            return;
        }
        let Some(session) = io.session(id).filter(|session| session.phase == Phase::Registering) else { return };
        session.phase = Phase::Active;
        let (user_id, expires_at) = (UserId(session.user_id), i64::from(session.expires_at_s));
        let held = session.held.take();
        self.connected(io, id, user_id, expires_at, degraded);
        for frame in held.into_iter().flat_map(|held| *held) {
            io.send(id, &frame);
        }
        self.await_expiry(io, id, expires_at);
    }

    pub(super) fn connected(
        &mut self,
        io: &mut Io<Session>,
        id: ConnId,
        user_id: UserId,
        expires_at: i64,
        degraded: bool,
    ) {
        let (connection, heartbeat_interval) = (self.address(id), self.config.heartbeat_interval_s);
        self.reply(io, id, |out, server_time| {
            Connected { connection, user_id, server_time, heartbeat_interval, expires_at, degraded }
                .write(out, server_time);
        });
    }

    pub(super) fn await_expiry(&mut self, io: &mut Io<Session>, id: ConnId, expires_at: i64) {
        let left_ms = (expires_at * 1000 - self.clock.unix_ms(io.now())).max(0);
        io.set_timer(id, Duration::from_millis(left_ms as u64));
    }

    /// Announces the end with a `closing` frame, then closes.
    pub(super) fn bye(&mut self, io: &mut Io<Session>, id: ConnId, code: CloseCode, reconnect_after_ms: Option<u32>) {
        // Nothing but `connected` may be the first frame.
        if io.session(id).is_some_and(|session| session.phase != Phase::Registering) {
            self.reply(io, id, |out, now| Closing { code, reason: "", reconnect_after_ms }.write(out, now));
        }
        io.close(id, code.number(), code.reason());
    }

    /// The `closing` frame for a close that the engine decided on; none for a peer that breaks the protocol and would
    /// not read it.
    pub(super) fn closing_frame(&mut self, code: u16) -> Option<OutFrame> {
        let code = CloseCode::from_number(code)?;
        if matches!(code, CloseCode::ProtocolError | CloseCode::InvalidUtf8) {
            return None;
        }
        self.scratch.clear();
        let now = self.clock.unix_s(self.clock.anchor);
        Closing { code, reason: "", reconnect_after_ms: None }.write(&mut self.scratch, now);
        Some(OutFrame::text(&self.scratch, FrameClass::Chat))
    }
}
