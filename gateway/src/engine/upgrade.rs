//! Bytes of a new connection to a judged request: upgraded, refused, or given away. Owns the request head until then.

use std::net::SocketAddr;

use gochat_ring::ConnId;
use gochat_ws::handshake::{RequestLimits, Upgrade, parse_request};

use super::app::{App, Route, Verdict};
use super::conn::State;
use super::inbound::{Decoding, frames};
use super::io::Io;
use super::metrics::Metric;
use crate::limits::HEAD_BYTES_MAX;

/// Takes bytes of a connection whose request head is incomplete.
pub(super) fn head<A: App>(app: &mut A, io: &mut Io<A::Session>, decoding: &mut Decoding, id: ConnId, data: &mut [u8]) {
    let Some(handshake) = io.slab.get(id).and_then(|conn| conn.handshake.as_mut()) else { return };
    let peer = handshake.peer;
    if handshake.received.is_empty() {
        // Most heads arrive in one piece and are judged where they lie.
        match judge(app, io, id, peer, data) {
            Judged::Opened { head_len } => frames(app, io, decoding, id, &mut data[head_len..]),
            Judged::Kept => keep(io, id, data),
            Judged::Refused => {}
        }
        return;
    }
    handshake.received.extend_from_slice(data);
    let mut received = std::mem::take(&mut handshake.received);
    match judge(app, io, id, peer, &received) {
        Judged::Opened { head_len } => frames(app, io, decoding, id, &mut received[head_len..]),
        Judged::Kept => {
            if let Some(handshake) = io.slab.get(id).and_then(|conn| conn.handshake.as_mut()) {
                handshake.received = received;
            }
        }
        Judged::Refused => {}
    }
}

/// Keeps bytes of an incomplete head, or of a connection that is being given away.
pub(super) fn keep<S: Default>(io: &mut Io<S>, id: ConnId, data: &[u8]) {
    if let Some(handshake) = io.slab.get(id).and_then(|conn| conn.handshake.as_mut()) {
        handshake.received.extend_from_slice(data);
    }
}

enum Judged {
    /// The bytes are still needed: the head is incomplete, or the connection is being given away.
    Kept,
    Refused,
    Opened {
        head_len: usize,
    },
}

fn judge<A: App>(app: &mut A, io: &mut Io<A::Session>, id: ConnId, peer: SocketAddr, bytes: &[u8]) -> Judged {
    debug_assert!(io.slab.get(id).is_some_and(|conn| conn.state == State::Handshake));
    let limits = RequestLimits { head_bytes_max: HEAD_BYTES_MAX, ..RequestLimits::default() };
    let request = match parse_request(bytes, &limits) {
        Ok(Some(request)) => request,
        Ok(None) => return Judged::Kept,
        Err(error) => {
            let refusal = app.refusal(error.status(), &error.to_string());
            io.refuse(id, &refusal);
            return Judged::Refused;
        }
    };
    if app.route(&request) == Route::HandOver {
        io.counters.add(Metric::HandedOver, 1);
        io.detach(id);
        return Judged::Kept;
    }
    let refusal = match Upgrade::from_request(&request) {
        Ok(upgrade) => match app.on_upgrade(io, id, peer, &request, &upgrade) {
            Verdict::Accept { protocol, session } => {
                io.open(id, upgrade.key, protocol, session);
                app.on_open(io, id);
                return Judged::Opened { head_len: request.head_len };
            }
            Verdict::Refuse(refusal) => refusal,
        },
        Err(error) => {
            let mut refusal = app.refusal(error.status(), &error.to_string());
            refusal.headers.extend(error.headers().iter().map(|(name, value)| (*name, (*value).to_owned())));
            refusal
        }
    };
    io.refuse(id, &refusal);
    Judged::Refused
}
