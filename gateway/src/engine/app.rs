//! What an application of the engine decides. The engine never knows what a message means; an application never
//! touches a socket.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use gochat_ring::ConnId;
use gochat_ws::handshake::{Request, Upgrade};

use super::io::{Io, Refusal};
use crate::bridge::OutFrame;

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It has to be an upgrade to WebSocket.
    WebSocket,
    /// HTTP: the connection is given away with every byte received.
    HandOver,
}

/// What becomes of an upgrade request that follows RFC 6455.
#[derive(Debug)]
pub enum Verdict<S> {
    /// It is answered with 101.
    Accept {
        /// One of the subprotocols the client offered.
        protocol: Option<&'static str>,
        /// What the application keeps for the connection.
        session: S,
    },
    /// It is answered with this, and the connection closed.
    Refuse(Refusal),
}

/// An application: one value per shard, called only from the shard's thread.
pub trait App {
    /// What it keeps for every connection, inside the connection's slot: small, and without heap memory while idle.
    type Session: Default;

    /// Who answers this request.
    fn route(&mut self, request: &Request<'_>) -> Route {
        let _ = request;
        Route::WebSocket
    }

    /// Judges an upgrade. [`Io::session`] of the id is not set yet.
    fn on_upgrade(
        &mut self,
        io: &mut Io<Self::Session>,
        id: ConnId,
        peer: SocketAddr,
        request: &Request<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Verdict<Self::Session>;

    /// Words a refusal that the engine decides: a malformed request, or one that is no upgrade.
    fn refusal(&mut self, status: u16, reason: &str) -> Refusal {
        let body = format!("{reason}\n").into_bytes();
        Refusal { status, headers: Vec::new(), content_type: "text/plain", body }
    }

    /// The 101 is queued; frames may follow.
    fn on_open(&mut self, io: &mut Io<Self::Session>, id: ConnId) {
        let _ = (io, id);
    }

    /// A text message; it borrows the receive buffer.
    fn on_text(&mut self, io: &mut Io<Self::Session>, id: ConnId, text: &str);

    /// A binary message; it borrows the receive buffer.
    fn on_binary(&mut self, io: &mut Io<Self::Session>, id: ConnId, data: &[u8]);

    /// The connection is not open any more: called once for each `on_open`. `code` is that of the close frame sent or
    /// received, 1005 when the peer's had none, 1006 when the connection broke.
    fn on_close(&mut self, io: &mut Io<Self::Session>, id: ConnId, code: u16) {
        let _ = (io, id, code);
    }

    /// A last frame before a close frame that the engine decided on.
    fn farewell(&mut self, code: u16) -> Option<OutFrame> {
        let _ = code;
        None
    }

    /// The connection's queue has drained after `shed` frames for it were dropped.
    fn on_drained(&mut self, io: &mut Io<Self::Session>, id: ConnId, shed: u32) {
        let _ = (io, id, shed);
    }

    /// The time set with [`Io::set_timer`] has come.
    fn on_timer(&mut self, io: &mut Io<Self::Session>, id: ConnId) {
        let _ = (io, id);
    }

    /// A ping is sent to the connection, which was heard of lately: every 30 s, jittered.
    fn on_heartbeat(&mut self, io: &mut Io<Self::Session>, id: ConnId) {
        let _ = (io, id);
    }

    /// A connection given away: its socket, what was received from it, its peer.
    fn on_handover(&mut self, fd: OwnedFd, received: Vec<u8>, peer: SocketAddr) {
        let _ = (fd, received, peer);
    }

    /// Once a turn of the loop, behind everything received in it and before anything is sent: at least every 250 ms,
    /// and after a wake-up.
    fn on_tick(&mut self, io: &mut Io<Self::Session>) {
        let _ = io;
    }

    /// Whether the shard may end.
    fn is_finished(&self) -> bool {
        false
    }
}
