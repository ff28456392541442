//! The engine without the chat: every message of any client goes to all clients, encoded once per message.
//!
//! `cargo run --release -p gochat-gateway --example engine_publish -- --listen 127.0.0.1:9002 --reactor uring --shards 1`

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use gochat_gateway::bridge::{FrameClass, OutFrame};
use gochat_gateway::engine::{App, AppMaker, Io, Verdict};
use gochat_ring::ConnId;
use gochat_ws::Opcode;
use gochat_ws::handshake::{Request, Upgrade};

#[path = "common/arguments.rs"]
mod arguments;

/// Other shards hear of a message through their channel, at their next turn: at once when they are busy, else within
/// 250 ms. The comparison is of one shard; the chat has a bridge with wake-ups instead.
struct Publish {
    members: Vec<ConnId>,
    inbox: Receiver<OutFrame>,
    others: Vec<Sender<OutFrame>>,
}

impl Publish {
    fn publish(&self, io: &mut Io<u32>, opcode: Opcode, payload: &[u8]) {
        let frame = io.encode(opcode, payload, FrameClass::Chat);
        for other in &self.others {
            let _ = other.send(frame.clone());
        }
        self.deliver(io, &frame);
    }

    fn deliver(&self, io: &mut Io<u32>, frame: &OutFrame) {
        for &member in &self.members {
            io.send(member, frame);
        }
    }
}

impl App for Publish {
    /// Place of the connection in `members`.
    type Session = u32;

    fn on_upgrade(
        &mut self,
        _: &mut Io<u32>,
        _: ConnId,
        _: SocketAddr,
        _: &Request<'_>,
        _: &Upgrade<'_>,
    ) -> Verdict<u32> {
        Verdict::Accept { protocol: None, session: self.members.len() as u32 }
    }

    fn on_open(&mut self, _: &mut Io<u32>, id: ConnId) {
        self.members.push(id);
    }

    fn on_close(&mut self, io: &mut Io<u32>, id: ConnId, _: u16) {
        let Some(place) = io.session(id).map(|place| *place) else { return };
        self.members.swap_remove(place as usize);
        if let Some(&moved) = self.members.get(place as usize)
            && let Some(session) = io.session(moved)
        {
            *session = place;
        }
    }

    fn on_text(&mut self, io: &mut Io<u32>, _: ConnId, text: &str) {
        self.publish(io, Opcode::Text, text.as_bytes());
    }

    fn on_binary(&mut self, io: &mut Io<u32>, _: ConnId, data: &[u8]) {
        self.publish(io, Opcode::Binary, data);
    }

    fn on_tick(&mut self, io: &mut Io<u32>) {
        while let Ok(frame) = self.inbox.try_recv() {
            self.deliver(io, &frame);
        }
    }
}

fn main() {
    arguments::serve(|shards| {
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| channel()).unzip();
        let makers = inboxes.into_iter().enumerate().map(|(number, inbox)| {
            let others = senders.iter().enumerate().filter(|(other, _)| *other != number);
            let others = others.map(|(_, sender)| sender.clone()).collect();
            Box::new(move || Publish { members: Vec::new(), inbox, others }) as AppMaker<Publish>
        });
        makers.collect()
    });
}
