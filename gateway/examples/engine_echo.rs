//! The engine without the chat: echoes every message, text and binary, of up to 16 MiB.
//!
//! `cargo run --release -p gochat-gateway --example engine_echo -- --listen 127.0.0.1:9001 --reactor uring --shards 1`

use std::net::SocketAddr;

use gochat_gateway::engine::{App, AppMaker, Io, Verdict};
use gochat_ring::ConnId;
use gochat_ws::Opcode;
use gochat_ws::handshake::{Request, Upgrade};

#[path = "common/arguments.rs"]
mod arguments;

struct Echo;

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

fn main() {
    arguments::serve(|shards| (0..shards).map(|_| Box::new(|| Echo) as AppMaker<Echo>).collect());
}
