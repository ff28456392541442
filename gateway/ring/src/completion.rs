//! The fixed array of completions that `wait` fills and the shard then handles, one borrowed completion at a time.
//! Owns received bytes between the kernel and their handler; never calls back into a reactor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::config::RingConfig;
use crate::token::{ConnId, ListenerId};

/// One thing that happened. `Received` borrows its bytes from the [`Completions`] it came from, mutable so that a
/// protocol can unmask in place; the buffer goes back to the reactor when the next completion is taken.
///
/// Every connection ends with exactly one `Closed` or `Detached`, after which its id is never named again. After
/// `close` the reactor reports nothing but `Closed`, except what already stood in the array being handled: the
/// caller compares ids with its own table.
#[derive(Debug)]
pub enum Completion<'a> {
    /// A peer connected to a listener. Receiving is armed.
    Accepted {
        /// The listener it came through.
        listener: ListenerId,
        /// The new connection.
        conn: ConnId,
        /// The peer's address; not kept by the reactor.
        peer: SocketAddr,
    },
    /// Accepting failed for want of descriptors, slots or memory. The reactor retries by itself, when a connection
    /// closes or 100 ms later: this is information.
    AcceptError {
        /// The listener concerned.
        listener: ListenerId,
        /// What the kernel said.
        error: io::Error,
    },
    /// A listener asked to stop is closed; nothing more comes from it.
    ListenerClosed {
        /// The listener concerned.
        listener: ListenerId,
    },
    /// A `connect` ended. On success receiving is armed; on failure the caller still has to `close`.
    Connected {
        /// The connection that `connect` returned.
        conn: ConnId,
        /// Whether it is established.
        result: io::Result<()>,
    },
    /// Bytes arrived: 1 to `buffer_bytes` of them.
    Received {
        /// Where they came from.
        conn: ConnId,
        /// The bytes.
        data: &'a mut [u8],
    },
    /// The peer shut down its sending side; sending to it may still work. Comes once; receiving has ended.
    RecvEof {
        /// The connection concerned.
        conn: ConnId,
    },
    /// Receiving failed (connection reset, timed out). Comes once; the caller has to `close`.
    RecvError {
        /// The connection concerned.
        conn: ConnId,
        /// What the kernel said.
        error: io::Error,
    },
    /// A `send` ended: all of it was taken, or an error came after `bytes` of it. The next may be submitted.
    Sent {
        /// The connection concerned.
        conn: ConnId,
        /// Bytes of this send that the kernel took.
        bytes: usize,
        /// Whether all was taken.
        result: io::Result<()>,
    },
    /// A `close` is done: nothing of the connection is in the kernel, and the slot may be reused.
    Closed {
        /// The connection that ended.
        conn: ConnId,
    },
    /// A `detach` is done: every byte received before it was reported, every later one is still in the socket. The
    /// slot is free. On an error (no descriptor left) the connection was closed instead.
    Detached {
        /// The connection that ended.
        conn: ConnId,
        /// The socket, non-blocking and close-on-exec.
        fd: io::Result<OwnedFd>,
    },
    /// A [`Waker`](crate::Waker) was used, once or many times since the last of these.
    Wake,
}

/// A receive buffer on its way between reactor and handler.
#[derive(Debug)]
pub(crate) struct RecvBuf {
    pub(crate) id: u16,
    /// Which of several rings it belongs to.
    pub(crate) ring: u16,
    pub(crate) data: Box<[u8]>,
}

/// What stands in the array.
#[derive(Debug)]
pub(crate) enum Entry {
    Accepted { listener: ListenerId, conn: ConnId, peer: SocketAddr },
    AcceptError { listener: ListenerId, error: io::Error },
    ListenerClosed { listener: ListenerId },
    Connected { conn: ConnId, result: io::Result<()> },
    Received { conn: ConnId, buf: RecvBuf, len: usize },
    RecvEof { conn: ConnId },
    RecvError { conn: ConnId, error: io::Error },
    Sent { conn: ConnId, bytes: usize, result: io::Result<()> },
    Closed { conn: ConnId },
    Detached { conn: ConnId, fd: io::Result<OwnedFd> },
    Wake,
}

/// The array. Made once per shard and passed to every `wait` of the same reactor.
#[derive(Debug)]
pub struct Completions {
    entries: std::collections::VecDeque<Entry>,
    capacity: usize,
    lent: Option<RecvBuf>,
    returned: Vec<RecvBuf>,
}

impl Completions {
    /// An array of `config.completions_per_wait` entries.
    pub fn new(config: &RingConfig) -> Completions {
        let capacity = config.completions_per_wait.max(1);
        Completions {
            entries: std::collections::VecDeque::with_capacity(capacity),
            capacity,
            lent: None,
            returned: Vec::with_capacity(capacity),
        }
    }

    /// The next completion in the order the reactor reaped them; `None` when all are handled. Takes back the buffer
    /// of the previous one. Handle all before the next `wait`: what is left stays at the front and takes up room.
    pub fn next_completion(&mut self) -> Option<Completion<'_>> {
        self.returned.extend(self.lent.take());
        Some(match self.entries.pop_front()? {
            Entry::Accepted { listener, conn, peer } => Completion::Accepted { listener, conn, peer },
            Entry::AcceptError { listener, error } => Completion::AcceptError { listener, error },
            Entry::ListenerClosed { listener } => Completion::ListenerClosed { listener },
            Entry::Connected { conn, result } => Completion::Connected { conn, result },
            Entry::Received { conn, buf, len } => {
                let data = self.lent.insert(buf).data.get_mut(..len).unwrap_or_default();
                Completion::Received { conn, data }
            }
            Entry::RecvEof { conn } => Completion::RecvEof { conn },
            Entry::RecvError { conn, error } => Completion::RecvError { conn, error },
            Entry::Sent { conn, bytes, result } => Completion::Sent { conn, bytes, result },
            Entry::Closed { conn } => Completion::Closed { conn },
            Entry::Detached { conn, fd } => Completion::Detached { conn, fd },
            Entry::Wake => Completion::Wake,
        })
    }

    /// Completions not yet taken.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all are taken.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many more completions fit.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.entries.len())
    }

    /// Adds one. A reactor asks for `room` before it reaps; the few events that make two completions may go over it.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// The completions that were added after the first `from`, to be renamed.
    pub(crate) fn added_since(&mut self, from: usize) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().skip(from)
    }

    /// Takes one of the completions back.
    pub(crate) fn remove(&mut self, at: usize) {
        self.entries.remove(at);
    }

    /// The buffers whose bytes have been handled since the last call.
    pub(crate) fn take_returned(&mut self) -> std::vec::Drain<'_, RecvBuf> {
        self.returned.extend(self.lent.take());
        self.returned.drain(..)
    }
}
