//! An echo server on the tool's own engine: something to try the tool on, and what `million` holds its connections with.
//! Speaks WebSocket and nothing else; measures nothing.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::mem;

use bytes::Bytes;
use gochat_ring::{
    Completion, Completions, ConnId, Epoll, Reactor, ReactorKind, RingConfig, RingError, Rings, Uring, bind_probe,
    pin_current_thread, probe,
};
use gochat_ws::handshake::{HeadLimits, Upgrade, parse_request, write_accept, write_refusal};
use gochat_ws::message::{encode_close, encode_frame};
use gochat_ws::{Decoder, Event, Input, Limits, Opcode, Role, Scratch};

use crate::cli::ServeArgs;
use crate::error::LoadError;
use crate::run::raise_descriptors;

const BACKLOG: u32 = 65_535;
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Answers that wait for one connection before it is no longer read.
const QUEUE_MAX: usize = 256;

/// Serves until the process is stopped.
///
/// # Errors
/// The address cannot be bound, the reactor does not work here, or the limit on descriptors is too low.
pub fn run(args: &ServeArgs) -> Result<(), LoadError> {
    let kind = probe(args.reactor)?.kind;
    let one_ring = raise_descriptors(args.connections, kind)?;
    if let Some(cpu) = args.cpu {
        pin_current_thread(cpu)?;
    }
    let buffers = if one_ring { 2048 } else { 64 };
    let config = RingConfig {
        connections_max: args.connections,
        outgoing_max: 0,
        buffers,
        submissions: 512,
        ..RingConfig::default()
    };
    match kind {
        ReactorKind::Uring if !one_ring => serve(Rings::new(&config)?, &config, args),
        ReactorKind::Uring => serve(Uring::new(&config)?, &config, args),
        ReactorKind::Epoll | ReactorKind::Sim => serve(Epoll::new(&config)?, &config, args),
    }
    .map_err(LoadError::from)
}

fn serve<R: Reactor>(mut reactor: R, config: &RingConfig, args: &ServeArgs) -> Result<(), RingError> {
    let addr = bind_probe(args.listen)?;
    reactor.listen(addr, BACKLOG)?;
    // Whoever started it may have closed the other end.
    let _ = writeln!(std::io::stdout(), "echo server on ws://{addr}/ with {}", R::KIND.name());
    let slots = (0..reactor.capacity()).map(|_| Slot::default()).collect();
    let mut server = Server {
        reactor,
        slots,
        heads: HashMap::new(),
        scratch: Scratch::new(),
        answer: Vec::new(),
        queue: VecDeque::new(),
    };
    let mut completions = Completions::new(config);
    loop {
        server.reactor.wait(None, &mut completions)?;
        while let Some(completion) = completions.next_completion() {
            server.handle(completion);
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// No connection, or one that is being closed.
    #[default]
    Over,
    /// The upgrade request has not come, or not whole.
    Asking,
    Open,
    /// The last answer is on its way.
    Leaving,
}

/// What is kept of a connection.
#[derive(Debug)]
struct Slot {
    decoder: Decoder,
    /// Answers that wait for the send in flight.
    #[allow(clippy::box_collection, reason = "8 bytes instead of 32 for each idle connection")]
    queue: Option<Box<VecDeque<Bytes>>>,
    state: State,
    sending: bool,
    paused: bool,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { decoder: Decoder::new(Role::Server), queue: None, state: State::Over, sending: false, paused: false }
    }
}

struct Server<R> {
    reactor: R,
    slots: Vec<Slot>,
    /// Request heads that did not arrive in one piece.
    heads: HashMap<usize, Vec<u8>>,
    scratch: Scratch,
    answer: Vec<u8>,
    /// Hands one answer to the reactor; empty in between.
    queue: VecDeque<Bytes>,
}

impl<R: Reactor> Server<R> {
    fn handle(&mut self, completion: Completion<'_>) {
        match completion {
            Completion::Accepted { conn, .. } => {
                if let Some(slot) = self.slots.get_mut(conn.index()) {
                    *slot = Slot { state: State::Asking, ..Slot::default() };
                }
            }
            Completion::Received { conn, data } => match self.slots.get(conn.index()).map(|slot| slot.state) {
                Some(State::Asking) => self.upgrade(conn, data),
                Some(State::Open) => self.read(conn, data),
                Some(State::Over | State::Leaving) | None => {}
            },
            Completion::Sent { conn, result, .. } => match result {
                Ok(()) => self.sent(conn),
                Err(_) => self.close(conn),
            },
            Completion::RecvEof { conn } | Completion::RecvError { conn, .. } => self.close(conn),
            _ => {}
        }
    }

    fn upgrade(&mut self, conn: ConnId, data: &mut [u8]) {
        let mut held = self.heads.remove(&conn.index());
        if let Some(held) = &mut held {
            held.extend_from_slice(data);
        }
        let bytes = held.as_deref_mut().unwrap_or(data);
        let mut answer = mem::take(&mut self.answer);
        let head_len = match parse_request(bytes, &HeadLimits::default()) {
            Ok(None) => {
                let bytes = bytes.to_vec();
                self.heads.insert(conn.index(), bytes);
                self.answer = answer;
                return;
            }
            Ok(Some(request)) => match Upgrade::from_request(&request) {
                Ok(upgrade) => {
                    write_accept(upgrade.key, None, &mut answer);
                    Some(request.head_len)
                }
                Err(error) => {
                    let why = error.to_string();
                    write_refusal(error.status(), error.headers(), "text/plain", why.as_bytes(), &mut answer);
                    None
                }
            },
            Err(error) => {
                write_refusal(error.status(), &[], "text/plain", error.to_string().as_bytes(), &mut answer);
                None
            }
        };
        if let Some(slot) = self.slots.get_mut(conn.index()) {
            slot.state = if head_len.is_some() { State::Open } else { State::Leaving };
        }
        self.answer = answer;
        self.send(conn);
        let rest = head_len.and_then(|head_len| bytes.get_mut(head_len..));
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            self.read(conn, rest);
        }
    }

    /// Answers all that `data` completes, in one send.
    fn read(&mut self, conn: ConnId, data: &mut [u8]) {
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX };
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        let (mut input, out) = (Input::new(data), &mut self.answer);
        while slot.state == State::Open {
            match slot.decoder.next(&limits, &mut self.scratch, &mut input) {
                Ok(Some(Event::Text(text))) => encode_frame(Opcode::Text, text.as_bytes(), None, out),
                Ok(Some(Event::Binary(bytes))) => encode_frame(Opcode::Binary, bytes, None, out),
                Ok(Some(Event::Ping(payload))) => encode_frame(Opcode::Pong, payload, None, out),
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close { code, .. })) => {
                    encode_close(code, "", None, out);
                    slot.state = State::Leaving;
                }
                Ok(None) => break,
                Err(error) => {
                    encode_close(Some(error.close_code()), "", None, out);
                    slot.state = State::Leaving;
                }
            }
        }
        self.send(conn);
    }

    /// Sends the answer gathered, behind what waits.
    fn send(&mut self, conn: ConnId) {
        if self.answer.is_empty() {
            return;
        }
        let answer = Bytes::from(mem::take(&mut self.answer));
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        if slot.sending {
            let queue = slot.queue.get_or_insert_default();
            queue.push_back(answer);
            if queue.len() >= QUEUE_MAX && !slot.paused {
                slot.paused = true;
                self.reactor.pause_recv(conn);
            }
            return;
        }
        self.queue.push_back(answer);
        let taken = self.reactor.send(conn, &mut self.queue);
        slot.sending = taken.is_ok();
        self.queue.clear();
        if taken.is_err() {
            self.close(conn);
        }
    }

    /// The send in flight has ended: the next goes out, or the connection is over.
    fn sent(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        slot.sending = false;
        let Some(queue) = &mut slot.queue else {
            if slot.state == State::Leaving {
                self.close(conn);
            }
            return;
        };
        let taken = self.reactor.send(conn, queue);
        slot.sending = taken.is_ok();
        if queue.is_empty() {
            slot.queue = None;
        }
        if slot.queue.is_none() && mem::take(&mut slot.paused) {
            self.reactor.resume_recv(conn);
        }
        if taken.is_err() {
            self.close(conn);
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.heads.remove(&conn.index());
        let Some(slot) = self.slots.get_mut(conn.index()).filter(|slot| slot.state != State::Over) else { return };
        slot.decoder.release(&mut self.scratch);
        *slot = Slot::default();
        self.reactor.close(conn);
    }
}
