//! Why a reactor refuses. Outcomes of operations are completions, not errors.

use std::io;
use std::net::SocketAddr;

/// Why a reactor refused a call or cannot go on. A call that is refused has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The id names a connection or listener that has ended, or is ending.
    #[error("the connection or listener has ended")]
    Gone,
    /// A send of this connection is still in flight.
    #[error("a send of this connection is in flight")]
    Busy,
    /// `connect` has not completed, or failed.
    #[error("the connection is not established")]
    NotConnected,
    /// No free slot for a connection of our own making.
    #[error("all {limit} slots for outgoing connections are taken")]
    Full {
        /// `RingConfig::outgoing_max` as resolved.
        limit: u32,
    },
    /// Something else listens there.
    #[error("cannot listen on {addr}: the address is in use")]
    AddressInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The limits contradict each other or the kernel's.
    #[error("reactor configuration: {0}")]
    Config(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Os {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RingError {
    pub(crate) fn os(what: &'static str, source: impl Into<io::Error>) -> RingError {
        RingError::Os { what, source: source.into() }
    }
}
