//! The slab of connections: what a shard holds for each, and who is meant by an id. Never acts on a connection.

use std::net::SocketAddr;

use gochat_ring::ConnId;
use gochat_ws::{Decoder, Role};

use super::outbox::Outbox;
use super::timers::{NEVER, Quantum};

/// Slots that are made at once, so that growing never copies a connection.
const SEGMENT_SLOTS: usize = 1024;

/// Where a connection is in its life. It only moves downwards in this list (not every state is passed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The slot is unused.
    Free,
    /// Its request head is incomplete.
    Handshake,
    /// It is being given away.
    Detaching,
    /// Frames flow both ways.
    Open,
    /// A close frame was sent or queued; nothing but the peer's close frame is of interest.
    Closing,
    /// An HTTP refusal is on its way out.
    Refusing,
    /// Everything was sent and our side shut down; the peer's end is awaited.
    Lingering,
    /// The reactor is closing it.
    Ended,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// A send is in the kernel.
    pub(super) sending: bool,
    /// It stands in the list of connections to flush.
    pub(super) dirty: bool,
    /// Receiving is paused, as too much waits to be sent.
    pub(super) paused: bool,
    /// The peer's close frame was received, or will not be waited for.
    pub(super) close_done: bool,
    /// The peer will send nothing more.
    pub(super) eof: bool,
    /// It counts as an open WebSocket connection until its slot is free.
    pub(super) counted: bool,
}

/// Points in time, in quanta.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// Its one valid entry in the wheel.
    pub(super) due: Quantum,
    /// When anything was last received.
    pub(super) seen: Quantum,
    /// The next protocol ping.
    pub(super) ping: Quantum,
    /// End of the handshake, or of closing.
    pub(super) state: Quantum,
    /// End of the send in flight.
    pub(super) send: Quantum,
    /// The application's own.
    pub(super) app: Quantum,
}

impl Deadlines {
    fn new(now: Quantum) -> Deadlines {
        Deadlines { due: NEVER, seen: now, ping: NEVER, state: NEVER, send: NEVER, app: NEVER }
    }
}

/// What is held while a request head is incomplete or a connection is being given away.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) peer: SocketAddr,
    pub(super) received: Vec<u8>,
}

/// One slot.
#[derive(Debug)]
pub(super) struct Conn<S> {
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) flags: Flags,
    pub(super) when: Deadlines,
    pub(super) decoder: Decoder,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) handshake: Option<Box<Handshake>>,
    pub(super) session: S,
}

impl<S: Default> Conn<S> {
    fn unused() -> Conn<S> {
        Conn {
            generation: 0,
            state: State::Free,
            flags: Flags::default(),
            when: Deadlines::new(0),
            decoder: Decoder::new(Role::Server),
            outbox: None,
            handshake: None,
            session: S::default(),
        }
    }

    /// Bytes waiting and in flight.
    pub(super) fn queued_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// Whether nothing waits to be sent and nothing is being sent.
    pub(super) fn is_flushed(&self) -> bool {
        !self.flags.sending && self.outbox.as_ref().is_none_or(|outbox| outbox.is_drained())
    }
}

/// Bytes of one slot for an application whose sessions are `S`.
pub const fn slot_bytes<S>() -> usize {
    size_of::<Conn<S>>()
}

/// All connections of a shard by slot.
#[derive(Debug)]
pub(super) struct Slab<S> {
    segments: Vec<Box<[Conn<S>]>>,
}

impl<S: Default> Slab<S> {
    pub(super) fn new() -> Slab<S> {
        Slab { segments: Vec::new() }
    }

    /// The connection with this id, unless it has ended.
    #[inline]
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn<S>> {
        let conn = self.slot(id.slot)?;
        (conn.generation == id.generation && conn.state != State::Free).then_some(conn)
    }

    /// The slot, used or not; `None` beyond the last ever used.
    #[inline]
    pub(super) fn slot(&mut self, slot: u32) -> Option<&mut Conn<S>> {
        let slot = slot as usize;
        self.segments.get_mut(slot / SEGMENT_SLOTS)?.get_mut(slot % SEGMENT_SLOTS)
    }

    /// Slots there are.
    pub(super) fn len(&self) -> u32 {
        (self.segments.len() * SEGMENT_SLOTS) as u32
    }

    /// Begins a connection in its slot.
    pub(super) fn insert(&mut self, id: ConnId, now: Quantum) -> Option<&mut Conn<S>> {
        while self.len() <= id.slot {
            self.segments.push((0..SEGMENT_SLOTS).map(|_| Conn::unused()).collect());
        }
        let conn = self.slot(id.slot)?;
        conn.generation = id.generation;
        conn.state = State::Handshake;
        conn.flags = Flags::default();
        conn.when = Deadlines::new(now);
        conn.decoder = Decoder::new(Role::Server);
        Some(conn)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn an_old_id_does_not_find_the_new_connection() {
        let mut slab: Slab<()> = Slab::new();
        let old = ConnId { slot: 5, generation: 1 };
        slab.insert(old, 0).unwrap().state = State::Open;
        assert!(slab.get(old).is_some());
        let new = ConnId { slot: 5, generation: 2 };
        slab.insert(new, 0);
        assert!(slab.get(old).is_none() && slab.get(new).is_some());
        assert!(slab.get(ConnId { slot: 6, generation: 0 }).is_none(), "an unused slot");
        assert!(slab.get(ConnId { slot: 5000, generation: 0 }).is_none(), "a slot never reached");
    }

    #[test]
    fn a_slot_is_small() {
        assert!(slot_bytes::<()>() <= 80, "{}", slot_bytes::<()>());
    }
}
