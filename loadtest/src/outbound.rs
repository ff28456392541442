//! The sending half of all connections: frames of one turn are gathered in one buffer and leave as one vectored send a
//! connection. Owns queues, connection states and what the driver wants closed or opened; never reads, never decides.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use gochat_ring::{ConnId, Reactor};
use gochat_ws::Opcode;
use gochat_ws::frame::{HEADER_BYTES_MAX, build_header, unmask};

use crate::message::mix;

/// What the gathering buffer grows by.
const ARENA_BYTES: usize = 256 * 1024;
/// Empty queues kept for reuse.
const SPARE_QUEUES: usize = 1024;

/// What a driver wants done to a connection between two turns of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// By a closing handshake.
    Close(u32),
    /// Without a word.
    Cut(u32),
    /// Connect this client at that time; it has no connection then.
    Reopen { client: u32, at_ns: u64 },
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not begun, or over.
    Idle,
    /// TCP is connecting.
    Connecting,
    /// The upgrade request is on its way.
    Upgrading,
    /// A WebSocket, but the protocol's greeting has not come.
    Greeting,
    /// Ready for messages.
    Ready,
    /// Our close frame is sent.
    Leaving,
}

/// One connection: 32 bytes.
#[derive(Debug)]
struct Line {
    conn: ConnId,
    /// Allocated only while something waits for the send in flight.
    #[allow(clippy::box_collection, reason = "8 bytes instead of 32 for each idle connection")]
    queue: Option<Box<VecDeque<Bytes>>>,
    state: State,
    sending: bool,
    dirty: bool,
    /// Whether the client had another before this one.
    reopened: bool,
}

/// All connections' sending halves.
#[derive(Debug)]
pub(crate) struct Outbound {
    lines: Vec<Line>,
    arena: BytesMut,
    /// The client whose bytes stand at the end of the arena.
    gathering: Option<u32>,
    dirty: Vec<u32>,
    #[allow(clippy::vec_box, reason = "the boxes go back into the lines")]
    spare: Vec<Box<VecDeque<Bytes>>>,
    masks: u64,
    commands: VecDeque<Command>,
    /// Why the connection whose message is being handled is to end.
    end: Option<String>,
    /// Clients that stop reading or read again with the next flush.
    reading: Vec<(u32, bool)>,
}

impl Outbound {
    /// For clients 0 to `clients - 1`, none of them connected.
    pub(crate) fn new(clients: u32, seed: u64) -> Outbound {
        let nobody = ConnId { slot: u32::MAX, generation: 0 };
        let line =
            || Line { conn: nobody, queue: None, state: State::Idle, sending: false, dirty: false, reopened: false };
        Outbound {
            lines: (0..clients).map(|_| line()).collect(),
            arena: BytesMut::with_capacity(ARENA_BYTES),
            gathering: None,
            dirty: Vec::new(),
            spare: Vec::new(),
            masks: seed,
            commands: VecDeque::new(),
            end: None,
            reading: Vec::new(),
        }
    }

    /// The client's state.
    pub(crate) fn state(&self, client: u32) -> State {
        self.lines.get(client as usize).map_or(State::Idle, |line| line.state)
    }

    /// Whether messages of this client can be sent.
    pub(crate) fn is_ready(&self, client: u32) -> bool {
        self.state(client) == State::Ready
    }

    pub(crate) fn set_state(&mut self, client: u32, state: State) {
        if let Some(line) = self.lines.get_mut(client as usize) {
            line.state = state;
        }
    }

    /// The client's connection, while it has one.
    pub(crate) fn conn(&self, client: u32) -> Option<ConnId> {
        self.lines.get(client as usize).filter(|line| line.state != State::Idle).map(|line| line.conn)
    }

    /// The client's new connection, and whether it had another before.
    pub(crate) fn set_conn(&mut self, client: u32, conn: ConnId, reopened: bool) {
        if let Some(line) = self.lines.get_mut(client as usize) {
            *line = Line { conn, queue: None, state: State::Connecting, sending: false, dirty: line.dirty, reopened };
        }
    }

    /// Appends one masked frame.
    pub(crate) fn frame(&mut self, client: u32, opcode: Opcode, payload: &[u8]) {
        self.gather(client);
        self.masks = mix(self.masks);
        let mask = (self.masks as u32).to_ne_bytes();
        let mut header = [0; HEADER_BYTES_MAX];
        let header_len = build_header(&mut header, true, opcode, payload.len(), Some(mask));
        self.arena.reserve(header_len + payload.len());
        self.arena.extend_from_slice(&header[..header_len]);
        let start = self.arena.len();
        self.arena.extend_from_slice(payload);
        unmask(&mut self.arena[start..], mask, 0);
    }

    /// Appends bytes as they are: the upgrade request.
    pub(crate) fn raw(&mut self, client: u32, bytes: &[u8]) {
        self.gather(client);
        self.arena.extend_from_slice(bytes);
    }

    /// Whether the client's connection is not its first.
    pub(crate) fn is_reopened(&self, client: u32) -> bool {
        self.lines.get(client as usize).is_some_and(|line| line.reopened)
    }

    /// Has the client's connection closed by a closing handshake.
    pub(crate) fn close(&mut self, client: u32) {
        self.commands.push_back(Command::Close(client));
    }

    /// Has the client's connection closed without a word; what is on its way is lost.
    pub(crate) fn cut(&mut self, client: u32) {
        self.commands.push_back(Command::Cut(client));
    }

    /// Has the client, whose connection is over, connected at `at_ns`.
    pub(crate) fn reopen(&mut self, client: u32, at_ns: u64) {
        self.commands.push_back(Command::Reopen { client, at_ns });
    }

    pub(crate) fn take_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Has the connection ended whose message is being handled.
    pub(crate) fn end_this(&mut self, why: String) {
        self.end = Some(why);
    }

    /// Why the connection whose message was handled is to end, if it is.
    pub(crate) fn take_end(&mut self) -> Option<String> {
        self.end.take()
    }

    /// Stops receiving from the client's connection, or goes on. What is on its way up may still arrive.
    pub(crate) fn set_reading(&mut self, client: u32, on: bool) {
        self.reading.push((client, on));
    }

    /// The send in flight has ended; what waited for it goes with the next flush.
    pub(crate) fn sent(&mut self, client: u32) {
        let Some(line) = self.lines.get_mut(client as usize) else { return };
        line.sending = false;
        if line.queue.is_some() && !line.dirty {
            line.dirty = true;
            self.dirty.push(client);
        }
    }

    /// The connection is over.
    pub(crate) fn drop_line(&mut self, client: u32) {
        if let Some(line) = self.lines.get_mut(client as usize) {
            line.queue = None;
            line.state = State::Idle;
        }
    }

    /// Hands everything gathered to the reactor.
    pub(crate) fn flush<R: Reactor>(&mut self, reactor: &mut R) {
        self.cut_piece();
        for (client, on) in std::mem::take(&mut self.reading) {
            match self.conn(client) {
                Some(conn) if on => reactor.resume_recv(conn),
                Some(conn) => reactor.pause_recv(conn),
                None => {}
            }
        }
        while let Some(client) = self.dirty.pop() {
            let Some(line) = self.lines.get_mut(client as usize) else { continue };
            line.dirty = false;
            if line.sending {
                continue;
            }
            let Some(mut queue) = line.queue.take() else { continue };
            // An error means that the connection is ending: its end is reported, what was queued is lost with it.
            match line.state {
                State::Idle | State::Connecting => queue.clear(),
                State::Upgrading | State::Greeting | State::Ready | State::Leaving => {
                    match reactor.send(line.conn, &mut queue) {
                        Ok(taken) => line.sending = taken > 0,
                        Err(_) => queue.clear(),
                    }
                }
            }
            if !queue.is_empty() {
                line.queue = Some(queue);
            } else if self.spare.len() < SPARE_QUEUES {
                self.spare.push(queue);
            }
        }
    }

    fn gather(&mut self, client: u32) {
        if self.gathering != Some(client) {
            self.cut_piece();
            self.gathering = Some(client);
        }
    }

    /// Moves what was gathered for one client to its queue.
    fn cut_piece(&mut self) {
        let Some(client) = self.gathering.take() else { return };
        let bytes = self.arena.split().freeze();
        if self.arena.capacity() < 1024 {
            self.arena.reserve(ARENA_BYTES);
        }
        let Some(line) = self.lines.get_mut(client as usize) else { return };
        line.queue.get_or_insert_with(|| self.spare.pop().unwrap_or_default()).push_back(bytes);
        if !line.dirty {
            line.dirty = true;
            self.dirty.push(client);
        }
    }
}

const _: () = assert!(size_of::<Line>() <= 32, "one for each connection");
