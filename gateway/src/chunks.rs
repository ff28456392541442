//! Append-only memory in chunks: many small pieces share one allocation, and a chunk serves again when the last piece
//! cut from it is gone. Knows nothing of what is written; never grows a chunk that holds pieces in use.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A writer of pieces. Everything written between two calls of [`take`](Self::take) is one contiguous piece.
#[derive(Debug)]
pub(crate) struct Chunks {
    current: BytesMut,
    /// The open chunk was made larger for one piece; it does not serve again.
    is_large: bool,
    used: VecDeque<BytesMut>,
    chunk_bytes: usize,
    kept_max: usize,
}

impl Chunks {
    /// Chunks of `chunk_bytes`, of which at most `kept_max` wait for reuse. Allocates on first need.
    pub(crate) fn new(chunk_bytes: usize, kept_max: usize) -> Chunks {
        Chunks {
            current: BytesMut::new(),
            is_large: false,
            used: VecDeque::with_capacity(kept_max),
            chunk_bytes,
            kept_max,
        }
    }

    /// The open piece, with room for at least `bytes` more; what it holds already may move to a fresh chunk.
    pub(crate) fn room(&mut self, bytes: usize) -> &mut BytesMut {
        if self.current.capacity() - self.current.len() < bytes {
            self.turn(bytes);
        }
        &mut self.current
    }

    /// Bytes in the open piece.
    pub(crate) fn len(&self) -> usize {
        self.current.len()
    }

    /// Cuts the open piece off; empty when nothing was written.
    pub(crate) fn take(&mut self) -> Bytes {
        if self.current.is_empty() { Bytes::new() } else { self.current.split().freeze() }
    }

    fn turn(&mut self, bytes: usize) {
        let piece = self.current.len() + bytes;
        let is_large = piece > self.chunk_bytes;
        // A piece that goes on growing is not moved for each of its parts.
        let needed = if is_large { 2 * piece } else { self.chunk_bytes };
        let mut next = match self.used.pop_front() {
            // The oldest is most likely free again.
            Some(mut chunk) => {
                if !chunk.try_reclaim(needed) {
                    self.keep(chunk);
                    chunk = BytesMut::with_capacity(needed);
                }
                chunk
            }
            None => BytesMut::with_capacity(needed),
        };
        next.extend_from_slice(&self.current);
        let mut full = std::mem::replace(&mut self.current, next);
        full.clear();
        if !std::mem::replace(&mut self.is_large, is_large) {
            self.keep(full);
        }
    }

    fn keep(&mut self, chunk: BytesMut) {
        if self.used.len() < self.kept_max {
            self.used.push_back(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_bytes_while_chunks_turn() {
        let mut chunks = Chunks::new(64, 4);
        let mut pieces = Vec::new();
        for n in 0..200u8 {
            for _ in 0..=n % 7 {
                chunks.room(3).extend_from_slice(&[n, n, n]);
            }
            pieces.push((n, chunks.take()));
            if n % 3 == 0 {
                pieces.remove(0);
            }
        }
        for (n, piece) in pieces {
            assert_eq!(piece, vec![n; 3 * (usize::from(n % 7) + 1)]);
        }
        assert!(chunks.take().is_empty());
    }

    #[test]
    fn a_piece_larger_than_a_chunk_is_one_piece() {
        let mut chunks = Chunks::new(16, 2);
        chunks.room(4).extend_from_slice(b"head");
        chunks.room(100).extend_from_slice(&[7; 100]);
        let piece = chunks.take();
        assert_eq!((&piece[..4], piece.len()), (&b"head"[..], 104));
    }

    #[test]
    fn a_free_chunk_serves_again() {
        let mut chunks = Chunks::new(64, 4);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            chunks.room(40).extend_from_slice(&[1; 40]);
            seen.insert(chunks.take().as_ptr());
        }
        assert!(seen.len() <= 5, "{} chunks for pieces that were dropped at once", seen.len());
    }
}
