//! The echo application: every message comes back to its sender.

use std::net::SocketAddr;

use gochat_gateway::engine::{App, Io, Verdict};
use gochat_ring::ConnId;
use gochat_ws::Opcode;
use gochat_ws::handshake::{Request, Upgrade};

pub(crate) struct Echo;

impl App for Echo {
    type Session = ();

    fn on_upgrade(
        &mut self,
        _: &mut Io<()>,
        _: ConnId,
        _: SocketAddr,
        _: &Request<'_>,
        _: &Upgrade<'_>,
    ) -> Verdict<()> {
        Verdict::Accept { protocol: None, session: () }
    }

    fn on_text(&mut self, io: &mut Io<()>, id: ConnId, text: &str) {
        io.message(id, Opcode::Text, text.as_bytes());
    }

    fn on_binary(&mut self, io: &mut Io<()>, id: ConnId, data: &[u8]) {
        io.message(id, Opcode::Binary, data);
    }
}
