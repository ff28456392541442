//! The chat as an application of the engine: who may connect and how often, and which part handles what happens.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use gochat_infra::ratelimit::{Decision, RateRule};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::frames::ErrorDetails;
use gochat_ring::ConnId;
use gochat_ws::handshake::{Request, Upgrade};

use super::admission::{self, refusal};
use super::chat::Chat;
use super::inbox;
use super::outlet;
use super::session::{Phase, Session};
use crate::bridge::{Alive, HttpHandover, Opened, OutFrame, UplinkEvent};
use crate::config::SessionPolicy;
use crate::engine::{App, Io, Refusal, Route, Verdict};
use crate::limits::{EXPIRY_GRACE_S, REGISTER_S_MAX};

/// Seconds after which a refused client should try again.
const RETRY_AFTER_S: u32 = 1;
/// The path of the chat's WebSocket.
const PATH: &str = "/ws";

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
        let mut session = Session::new(admitted.user_id, admitted.expires_at_s);
        session.has_ticket = admitted.is_ticket;
        if admitted.claims.guest {
            self.rates.guests.add(id, peer.ip());
        }
        let jti = Box::<str>::from(admitted.claims.jti);
        let (token_id, ticket_id) = if admitted.is_ticket { (Box::default(), jti) } else { (jti, Box::default()) };
        self.bridge.uplink.event(UplinkEvent::Opened(Box::new(Opened {
            address: self.address(id),
            user_id: admitted.user_id,
            token_id,
            ticket_id,
            token_hash: admitted.token_hash,
            token_version: admitted.claims.ver,
            family_id: admitted.claims.fam.into(),
            expires_at_s: admitted.expires_at_s,
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
        let Some(session) = io.session(id) else { return };
        let (user_id, has_ticket) = (session.user_id, session.has_ticket);
        // A ticket that was used before must not end anybody's session: repo says who is replaced.
        if self.config.session_policy == SessionPolicy::Single && !has_ticket {
            let older: Vec<ConnId> = self.users.of(user_id).collect();
            older.into_iter().for_each(|older| self.bye(io, older, CloseCode::Replaced, None));
        }
        self.users.add(user_id, id);
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
        self.users.remove(user_id, id);
        self.rates.guests.remove(id);
        let handover = self.gate.drain.is_some();
        let address = self.address(id);
        self.bridge.uplink.event(UplinkEvent::Closed { address, user_id, code, handover });
    }

    fn farewell(&mut self, code: u16) -> Option<OutFrame> {
        self.closing_frame(code)
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
            Phase::Registering => self.begin_degraded(io, id),
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
        outlet::fan_out(self, io);
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

impl Chat {
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
        match self.rates.connects.allow(key, rule, now_ms) {
            Decision::Allowed => None,
            Decision::Limited { retry_after } => {
                let seconds = retry_after.as_millis().div_ceil(1000) as u32;
                Some(refusal(429, ErrorCode::RateLimited, "", Some(seconds)))
            }
        }
    }
}
