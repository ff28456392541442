//! The seam: what a shard asks of the kernel and gets back. Owns the contract, no implementation.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use bytes::Bytes;

use crate::completion::Completions;
use crate::error::RingError;
use crate::stats::Stats;
use crate::token::{ConnId, ListenerId};
use crate::waker::Waker;

/// Which implementation a reactor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReactorKind {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
    /// Simulated, for tests.
    Sim,
}

impl ReactorKind {
    /// Lower-case name, as in `--reactor` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ReactorKind::Uring => "uring",
            ReactorKind::Epoll => "epoll",
            ReactorKind::Sim => "sim",
        }
    }
}

impl std::fmt::Display for ReactorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One thread's I/O. Everything about it stays on that thread; only its [`Waker`] may leave.
///
/// The loop of a shard: submit operations, `wait`, handle what stands in the [`Completions`], repeat. Nothing is
/// handled while reaping, and no call but `wait` blocks.
///
/// Receiving is armed from the moment a connection is announced until end of stream, an error, `pause_recv`,
/// `detach` or `close`. At most one send of a connection is in the kernel.
pub trait Reactor {
    /// Which implementation this is.
    const KIND: ReactorKind;

    /// The reactor's clock: the system's, or the simulation's virtual one. Deadlines of `wait` are on it.
    fn now(&self) -> Instant;

    /// Slots there are: every `ConnId::slot` is below this.
    fn capacity(&self) -> u32;

    /// Listens on `addr` with SO_REUSEPORT and starts accepting. Call [`bind_probe`](crate::bind_probe) once per
    /// process before. `backlog` counts connections; the kernel caps it at somaxconn.
    fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<ListenerId, RingError>;

    /// Starts accepting on a socket that already listens (inherited over a restart).
    fn listen_on(&mut self, listener: OwnedFd) -> Result<ListenerId, RingError>;

    /// The address a listener is bound to.
    fn local_addr(&self, listener: ListenerId) -> Result<SocketAddr, RingError>;

    /// Stops accepting and closes the listener: `ListenerClosed` follows. Connections it already gave stay. Peers
    /// still in the kernel's queue are reset, unless another process holds the socket too.
    fn stop_accepting(&mut self, listener: ListenerId);

    /// Connects to `target`, from `source` when given (port 0 lets the kernel choose per target, so that one
    /// address can be used up to all its ports for each target). `Connected` follows.
    fn connect(&mut self, source: Option<SocketAddr>, target: SocketAddr) -> Result<ConnId, RingError>;

    /// Takes over a connected stream socket and arms receiving. No completion announces it.
    fn adopt(&mut self, fd: OwnedFd) -> Result<ConnId, RingError>;

    /// Sends from the front of `queue`: takes up to [`SEND_BUFS_MAX`](crate::SEND_BUFS_MAX) buffers and
    /// [`SEND_BYTES_MAX`](crate::SEND_BYTES_MAX) bytes (at least one buffer) and returns the number of bytes taken;
    /// the rest stays. Empty buffers are dropped; an empty queue takes nothing and is `Ok(0)`. Short sends are continued by the reactor;
    /// `Sent` follows when all was written or an error ended it. While one send is in flight: `Busy`. The buffers are
    /// dropped when the send ends. Nothing is allocated per send in steady state.
    fn send(&mut self, conn: ConnId, queue: &mut VecDeque<Bytes>) -> Result<usize, RingError>;

    /// Stops receiving, for back-pressure. Bytes already on their way up may still be reported. No completion.
    fn pause_recv(&mut self, conn: ConnId);

    /// Receives again after `pause_recv`.
    fn resume_recv(&mut self, conn: ConnId);

    /// Shuts down the sending side once the send in flight, if any, has ended. No completion; errors show in the
    /// next receive.
    fn shutdown(&mut self, conn: ConnId);

    /// Ends the connection: cancels what is in the kernel, waits for it, closes, frees the slot. `Closed` follows.
    /// What a send in flight had not yet given to the kernel is lost, and the send is not reported. Repeating it is harmless.
    fn close(&mut self, conn: ConnId);

    /// Gives the descriptor away: stops receiving, waits for a send in flight (which is reported), and reports
    /// `Detached`. Bytes received up to then are reported before it, and belong with the descriptor.
    fn detach(&mut self, conn: ConnId);

    /// A handle for other threads that makes the current or next `wait` return with `Wake`.
    fn waker(&self) -> Waker;

    /// Submits what is pending, blocks until something completed or `until` has passed (`None`: no limit; in the
    /// past: only looks), and fills `out` with at most `completions_per_wait` completions. Buffers handled since the
    /// last call go back to the kernel first. May return with nothing. An error means the reactor is broken.
    fn wait(&mut self, until: Option<Instant>, out: &mut Completions) -> Result<(), RingError>;

    /// Counters since the reactor was made.
    fn stats(&self) -> &Stats;
}
