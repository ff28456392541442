//! What waits to be sent to one connection, and what gives way when that is too much (gateway-engine.md section 5).
//! Decides per frame; never touches a socket, never closes anything.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::bridge::FrameClass;

/// Bounds that an outbox is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    pub(super) frames_max: usize,
    /// Of this connection, or what the shard's total leaves when that is less.
    pub(super) bytes_max: usize,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits; the outbox grew by this many bytes.
    Queued(usize),
    /// It took the place of an older frame with the same key; the outbox changed by this many bytes.
    Merged(isize),
    /// It was dropped and counted.
    Shed,
    /// It may not be dropped and does not fit: the connection has to go.
    Overflow,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    bytes: usize,
    class: FrameClass,
}

/// The queue of one connection; exists only while something waits or is in the kernel.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Bytes>,
    pieces: VecDeque<Piece>,
    bytes: usize,
    in_flight: usize,
    shed: u32,
}

impl Outbox {
    /// Bytes waiting and in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.in_flight
    }

    /// Whether nothing waits; a send may be in flight.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds `wire`: one complete frame, or several replies of one tick in one piece, which count as one.
    pub(super) fn push(&mut self, wire: Bytes, class: FrameClass, limits: &OutboxLimits) -> Pushed {
        let bytes = wire.len();
        if let FrameClass::Coalescible { key } = class
            && let Some(merged) = self.merge(key, &wire)
        {
            return merged;
        }
        let share = if class == FrameClass::Ephemeral { 2 } else { 1 };
        let fits = self.queue.len() < limits.frames_max / share && self.bytes() + bytes <= limits.bytes_max / share;
        match (fits, class) {
            (true, _) => {
                self.append(wire, class);
                Pushed::Queued(bytes)
            }
            (false, FrameClass::Chat) => Pushed::Overflow,
            (false, FrameClass::Ephemeral | FrameClass::Coalescible { .. }) => {
                self.shed += 1;
                Pushed::Shed
            }
        }
    }

    /// Adds a last frame whatever the limits say: a close frame, which is small.
    pub(super) fn push_last(&mut self, wire: Bytes) -> usize {
        let bytes = wire.len();
        self.append(wire, FrameClass::Chat);
        bytes
    }

    fn append(&mut self, wire: Bytes, class: FrameClass) {
        self.bytes += wire.len();
        self.pieces.push_back(Piece { bytes: wire.len(), class });
        self.queue.push_back(wire);
    }

    fn merge(&mut self, key: u64, wire: &Bytes) -> Option<Pushed> {
        let at = self.pieces.iter().rposition(|p| p.class == FrameClass::Coalescible { key })?;
        let (piece, place) = (self.pieces.get_mut(at)?, self.queue.get_mut(at)?);
        let change = wire.len() as isize - piece.bytes as isize;
        self.bytes = self.bytes.wrapping_add_signed(change);
        piece.bytes = wire.len();
        *place = wire.clone();
        Some(Pushed::Merged(change))
    }

    /// Drops what waits (not what is in flight) and returns its bytes.
    pub(super) fn clear(&mut self) -> usize {
        self.queue.clear();
        self.pieces.clear();
        std::mem::take(&mut self.bytes)
    }

    /// The queue for a reactor to take from the front of; [`taken`](Self::taken) has to follow.
    pub(super) fn queue(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.queue
    }

    /// The reactor took the front of the queue into a send.
    pub(super) fn taken(&mut self, bytes: usize) {
        let waiting = self.queue.len();
        self.pieces.drain(..self.pieces.len() - waiting);
        self.bytes -= bytes;
        self.in_flight += bytes;
    }

    /// The send ended; returns the bytes it held.
    pub(super) fn sent(&mut self) -> usize {
        std::mem::take(&mut self.in_flight)
    }

    /// Pieces that fit without new memory.
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Frames shed since the last call.
    pub(super) fn take_shed(&mut self) -> u32 {
        std::mem::take(&mut self.shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { frames_max: 4, bytes_max: 100 };
    const MARK: FrameClass = FrameClass::Coalescible { key: 7 };

    fn wire(bytes: usize) -> Bytes {
        Bytes::from(vec![bytes as u8; bytes])
    }

    #[test]
    fn chat_frames_fill_it_and_then_overflow() {
        let mut outbox = Outbox::default();
        for _ in 0..4 {
            assert_eq!(outbox.push(wire(10), FrameClass::Chat, &LIMITS), Pushed::Queued(10));
        }
        assert_eq!(outbox.push(wire(10), FrameClass::Chat, &LIMITS), Pushed::Overflow, "frames");
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(wire(100), FrameClass::Chat, &LIMITS), Pushed::Queued(100));
        assert_eq!(outbox.push(wire(1), FrameClass::Chat, &LIMITS), Pushed::Overflow, "bytes");
        assert_eq!(outbox.bytes(), 100);
    }

    #[test]
    fn ephemeral_frames_are_shed_from_half_on_and_counted() {
        let mut outbox = Outbox::default();
        for _ in 0..2 {
            assert_eq!(outbox.push(wire(10), FrameClass::Ephemeral, &LIMITS), Pushed::Queued(10));
        }
        assert_eq!(outbox.push(wire(10), FrameClass::Ephemeral, &LIMITS), Pushed::Shed);
        assert_eq!(outbox.push(wire(10), FrameClass::Chat, &LIMITS), Pushed::Queued(10));
        assert_eq!((outbox.take_shed(), outbox.take_shed()), (1, 0));
    }

    #[test]
    fn coalescible_frames_merge_by_key_even_when_full() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(wire(10), MARK, &LIMITS), Pushed::Queued(10));
        assert_eq!(outbox.push(wire(90), FrameClass::Chat, &LIMITS), Pushed::Queued(90));
        assert_eq!(outbox.push(wire(8), MARK, &LIMITS), Pushed::Merged(-2));
        assert_eq!(outbox.push(wire(8), FrameClass::Coalescible { key: 8 }, &LIMITS), Pushed::Shed);
        assert_eq!(outbox.queue().iter().map(Bytes::len).collect::<Vec<_>>(), [8, 90], "in the place of the older one");
        assert_eq!(outbox.bytes(), 98);
    }

    #[test]
    fn what_is_in_flight_counts_until_it_is_sent() {
        let mut outbox = Outbox::default();
        outbox.push(wire(60), MARK, &LIMITS);
        outbox.queue().pop_front();
        outbox.taken(60);
        assert!(outbox.is_drained());
        assert_eq!(outbox.push(wire(60), FrameClass::Chat, &LIMITS), Pushed::Overflow);
        assert_eq!(outbox.push(wire(30), MARK, &LIMITS), Pushed::Queued(30), "no merging into what was sent");
        assert_eq!((outbox.sent(), outbox.bytes()), (60, 30));
        assert_eq!((outbox.clear(), outbox.bytes()), (30, 0));
    }
}
