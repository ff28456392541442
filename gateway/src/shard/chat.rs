//! The chat application of one shard: sessions from upgrade to close. Owns the shard's side of the bridge, who is
//! connected, and what they may do how often.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gochat_infra::ratelimit::{Decision, KeyedLimiter, RateRule};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::frames::{Closing, Connected, ErrorDetails, ErrorFrame};
use gochat_proto::ids::{Address, UserId};
use gochat_ring::ConnId;
use gochat_ws::Opcode;
use gochat_ws::handshake::{Request, Upgrade};

use super::admission::{self, Revocations, refusal};
use super::inbox;
use super::marks::Marks;
use super::outlet;
use super::session::{Phase, Session};
use crate::bridge::{Alive, FrameClass, HttpHandover, Opened, OutFrame, ShardEnd, UplinkEvent};
use crate::config::ChatConfig;
use crate::engine::{App, Io, Refusal, Route, Verdict};
use crate::limits::{EXPIRY_GRACE_S, HELD_FRAMES_MAX, REGISTER_S_MAX};

/// Seconds after which a refused client should try again.
const RETRY_AFTER_S: u32 = 1;
/// The path of the chat's WebSocket.
const PATH: &str = "/ws";

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
    fn anchor(&mut self, now: Instant) {
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

/// What control allows at the moment.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) accepting: bool,
    pub(super) slow_down_s: u32,
    pub(super) drain: Option<outlet::Drain>,
    pub(super) finished: bool,
}

/// The chat on one shard.
pub(crate) struct Chat {
    pub(super) shard: u8,
    pub(super) config: Arc<ChatConfig>,
    pub(super) bridge: ShardEnd,
    pub(super) users: HashMap<i64, ConnId>,
    pub(super) marks: Marks,
    pub(super) revocations: Revocations,
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    connects: KeyedLimiter,
    marks_flushed_us: u64,
    scratch: Vec<u8>,
}

impl Chat {
    /// The chat of shard `shard` with its end of the bridge. Made on the shard's own thread.
    pub(crate) fn new(shard: u8, config: Arc<ChatConfig>, bridge: ShardEnd) -> Chat {
        Chat {
            shard,
            config,
            bridge,
            users: HashMap::new(),
            marks: Marks::default(),
            revocations: Revocations::default(),
            gate: Gate::default(),
            clock: Clock::new(Instant::now()),
            connects: KeyedLimiter::new(),
            marks_flushed_us: 0,
            scratch: Vec::new(),
        }
    }

    /// The address of a connection: a reactor's generations begin at 0, addresses at 1.
    pub(super) fn address(&self, id: ConnId) -> Address {
        Address::new(self.shard, id.slot, id.generation.wrapping_add(1))
    }

    /// The connection of an address of this shard, whether or not it still lives.
    pub(super) fn conn(&self, address: Address) -> Option<ConnId> {
        let id = ConnId { slot: address.slot(), generation: address.generation().wrapping_sub(1) };
        (address.shard() == self.shard).then_some(id)
    }

    /// Sends a frame, or holds it until the session is greeted.
    pub(super) fn deliver(&mut self, io: &mut Io<Session>, id: ConnId, frame: OutFrame) {
        let Some(session) = io.session(id).filter(|session| session.phase == Phase::Registering) else {
            io.send(id, &frame);
            return;
        };
        let held = session.held.get_or_insert_default();
        held.push(frame);
        if held.len() >= HELD_FRAMES_MAX {
            self.greet(io, id, true);
        }
    }

    /// Sends one JSON frame that `write` appends, to this connection alone.
    pub(super) fn reply(&mut self, io: &mut Io<Session>, id: ConnId, write: impl FnOnce(&mut Vec<u8>, i64)) {
        self.scratch.clear();
        write(&mut self.scratch, self.clock.unix_s(io.now()));
        if io.session(id).is_some_and(|session| session.phase == Phase::Registering) {
            let frame = OutFrame::text(&self.scratch, FrameClass::Chat);
            self.deliver(io, id, frame);
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

    /// What speaks against a new session before its credentials are looked at.
    fn gate(&self, io: &Io<Session>, peer: SocketAddr) -> Option<Refusal> {
        if !self.gate.accepting || !io.has_room() || self.bridge.uplink.is_congested() {
            return Some(refusal(503, ErrorCode::ServiceUnavailable, "", Some(RETRY_AFTER_S)));
        }
        self.limited(io, &peer.ip(), &RateRule::WS_CONNECT_PER_ADDRESS)
    }

    fn limited(&self, io: &Io<Session>, key: &impl std::hash::Hash, rule: &RateRule) -> Option<Refusal> {
        if !self.config.rate_limits {
            return None;
        }
        let now_ms = self.clock.us(io.now()) / 1000;
        match self.connects.allow(key, rule, now_ms) {
            Decision::Allowed => None,
            Decision::Limited { retry_after } => {
                let seconds = retry_after.as_millis().div_ceil(1000) as u32;
                Some(refusal(429, ErrorCode::RateLimited, "", Some(seconds)))
            }
        }
    }
}

impl App for Chat {
    type Session = Session;

    fn route(&mut self, request: &Request<'_>) -> Route {
        if request.path == PATH { Route::WebSocket } else { Route::HandOver }
    }

    fn on_upgrade(
        &mut self,
        io: &mut Io<Session>,
        id: ConnId,
        peer: SocketAddr,
        request: &Request<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Verdict<Session> {
        if let Some(refusal) = self.gate(io, peer) {
            return Verdict::Refuse(refusal);
        }
        let now_s = self.clock.unix_s(io.now());
        let admitted = match admission::admit(request, upgrade, &self.config, &self.revocations, now_s) {
            Ok(admitted) => admitted,
            Err(code) => return Verdict::Refuse(refusal(code.http_status(), code, "", None)),
        };
        if let Some(refusal) = self.limited(io, &admitted.user_id, &RateRule::WS_CONNECT_PER_USER) {
            return Verdict::Refuse(refusal);
        }
        let session = Session::new(admitted.user_id, admitted.claims.exp);
        self.bridge.uplink.event(UplinkEvent::Opened(Box::new(Opened {
            address: self.address(id),
            user_id: admitted.user_id,
            token_id: admitted.claims.jti.into(),
            token_hash: admitted.token_hash,
            token_version: admitted.claims.ver,
            expires_at_s: admitted.claims.exp,
            device: admitted.device,
            client_info: admitted.client_info,
            peer,
        })));
        Verdict::Accept { protocol: admitted.protocol, session }
    }

    fn refusal(&mut self, status: u16, reason: &str) -> Refusal {
        refusal(status, ErrorCode::InvalidParams, reason, None)
    }

    fn on_open(&mut self, io: &mut Io<Session>, id: ConnId) {
        let Some(user_id) = io.session(id).map(|session| session.user_id) else { return };
        if let Some(older) = self.users.insert(user_id, id) {
            self.bye(io, older, CloseCode::Replaced, None);
        }
        io.set_timer(id, Duration::from_secs(REGISTER_S_MAX));
    }

    fn on_text(&mut self, io: &mut Io<Session>, id: ConnId, text: &str) {
        inbox::frame(self, io, id, text);
    }

    fn on_binary(&mut self, io: &mut Io<Session>, id: ConnId, _: &[u8]) {
        self.bye(io, id, CloseCode::UnsupportedData, None);
    }

    fn on_close(&mut self, io: &mut Io<Session>, id: ConnId, code: u16) {
        let Some(session) = io.session(id) else { return };
        let user_id = session.user_id;
        session.held = None;
        if self.users.get(&user_id) == Some(&id) {
            self.users.remove(&user_id);
        }
        let handover = self.gate.drain.is_some();
        let address = self.address(id);
        self.bridge.uplink.event(UplinkEvent::Closed { address, user_id, code, handover });
    }

    fn farewell(&mut self, code: u16) -> Option<OutFrame> {
        let code = CloseCode::from_number(code)?;
        // A peer that breaks the protocol would not read it.
        if matches!(code, CloseCode::ProtocolError | CloseCode::InvalidUtf8) {
            return None;
        }
        self.scratch.clear();
        let now = self.clock.unix_s(self.clock.anchor);
        Closing { code, reason: "", reconnect_after_ms: None }.write(&mut self.scratch, now);
        Some(OutFrame::text(&self.scratch, FrameClass::Chat))
    }

    fn on_drained(&mut self, io: &mut Io<Session>, id: ConnId, shed: u32) {
        let details = ErrorDetails { shed: Some(u64::from(shed)), ..ErrorDetails::default() };
        self.error(io, id, ErrorCode::RateLimited, "frames were dropped as this connection did not keep up", details);
    }

    fn on_timer(&mut self, io: &mut Io<Session>, id: ConnId) {
        let now_s = self.clock.unix_s(io.now());
        let Some(session) = io.session(id) else { return };
        let expires_at = i64::from(session.expires_at_s);
        match session.phase {
            Phase::Registering => self.greet(io, id, true),
            Phase::Active if expires_at > now_s => self.await_expiry(io, id, expires_at),
            Phase::Active => {
                session.phase = Phase::Expired;
                let details = ErrorDetails { reason: "TOKEN_EXPIRED", ..ErrorDetails::default() };
                self.error(io, id, ErrorCode::AuthFailed, "", details);
                io.set_timer(id, Duration::from_secs(u64::from(EXPIRY_GRACE_S)));
            }
            Phase::Expired => self.bye(io, id, CloseCode::TokenInvalid, None),
        }
    }

    fn on_heartbeat(&mut self, io: &mut Io<Session>, id: ConnId) {
        let Some(user_id) = io.session(id).map(|session| session.user_id) else { return };
        let address = self.address(id);
        self.bridge.uplink.alive(Alive { address, user_id });
    }

    fn on_handover(&mut self, fd: OwnedFd, received: Vec<u8>, peer: SocketAddr) {
        if self.bridge.uplink.http(HttpHandover { fd, received: received.into(), peer }).is_err() {
            tracing::warn!(%peer, "an HTTP connection was closed: too many wait to be served");
        }
    }

    fn on_tick(&mut self, io: &mut Io<Session>) {
        self.clock.anchor(io.now());
        outlet::downlinks(self, io);
        outlet::drain(self, io);
        let now_us = self.clock.us(io.now());
        if now_us - self.marks_flushed_us >= 500_000 {
            self.marks_flushed_us = now_us;
            self.marks.flush(&mut self.bridge.uplink);
        }
        self.bridge.uplink.flush();
        let drained = self.gate.drain.is_some() && io.open_count() == 0;
        self.gate.finished = drained && self.bridge.uplink.is_flushed();
    }

    fn is_finished(&self) -> bool {
        self.gate.finished
    }
}
