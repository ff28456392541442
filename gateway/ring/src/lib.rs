//! Reactors: io_uring, epoll and a simulated one behind one seam, [`Reactor`].
//!
//! A shard is one pinned thread that drives one reactor: it submits operations, calls [`Reactor::wait`], then handles
//! the completions that stand in its [`Completions`]. This crate owns sockets and receive buffers; it knows nothing
//! of HTTP, WebSocket or messages. It is the only crate where `unsafe` is allowed.
//!
//! ```no_run
//! # use gochat_ring::*;
//! # fn serve(mut reactor: impl Reactor, config: &RingConfig) -> Result<(), RingError> {
//! let mut completions = Completions::new(config);
//! let mut queues: Vec<std::collections::VecDeque<bytes::Bytes>> = vec![Default::default(); reactor.capacity() as usize];
//! reactor.listen(([127, 0, 0, 1], 9000).into(), 1024)?;
//! loop {
//!     reactor.wait(None, &mut completions)?;
//!     while let Some(completion) = completions.next_completion() {
//!         match completion {
//!             Completion::Received { conn, data } => {
//!                 queues[conn.index()].push_back(bytes::Bytes::copy_from_slice(data));
//!                 let _ = reactor.send(conn, &mut queues[conn.index()]);
//!             }
//!             Completion::Sent { conn, result: Ok(()), .. } => {
//!                 let _ = reactor.send(conn, &mut queues[conn.index()]);
//!             }
//!             Completion::RecvEof { conn } | Completion::RecvError { conn, .. } => reactor.close(conn),
//!             Completion::Closed { conn } => queues[conn.index()].clear(),
//!             _ => {}
//!         }
//!     }
//! }
//! # }
//! ```

#![warn(missing_docs)]

mod completion;
mod config;
mod epoll;
mod error;
mod net;
mod probe;
mod reactor;
mod send;
mod sim;
mod slab;
mod stats;
mod token;
mod uring;
mod waker;

pub use completion::{Completion, Completions};
pub use config::{BUFFER_BYTES, BUFFERS, BUFFERS_MAX, COMPLETIONS_PER_WAIT, RingConfig, SEND_BUFS_MAX, SEND_BYTES_MAX};
pub use epoll::Epoll;
pub use error::RingError;
pub use net::{bind_probe, listen_socket, pin_current_thread};
pub use probe::{Probed, ReactorChoice, probe};
pub use reactor::{Reactor, ReactorKind};
pub use sim::{PeerEnd, SIM_WINDOW_BYTES, Sim, SimFaults, SimNet, SimPeer};
pub use stats::{ConnectionStats, Stats, TrafficStats, UnusualStats};
pub use token::{ConnId, ListenerId, SLOTS_MAX};
pub use uring::{Rings, Uring};
pub use waker::Waker;
