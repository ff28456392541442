//! The state of one connection as the io_uring reactor sees it: its phase and what of it is in the kernel. Small,
//! as there may be a million of them; acts on nothing.

use std::os::fd::OwnedFd;

use crate::send::SendOp;
use crate::token::ListenerId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted; the peer's address is being asked for, and the caller does not know it yet.
    Announcing,
    /// `connect` is in the kernel.
    Connecting,
    /// `connect` failed; the caller has to close.
    Failed,
    Open,
    /// To be given away once nothing of it is in the kernel.
    Detaching,
    /// To be closed once nothing of it is in the kernel.
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recv {
    Idle,
    Armed,
    /// Armed, and a cancellation is on its way.
    Cancelling,
    /// Waits in the queue for free buffers.
    Starved,
    /// End of stream or an error: never armed again.
    Ended,
}

pub(super) struct Conn {
    pub(super) phase: Phase,
    pub(super) recv: Recv,
    /// Operations whose last completion has not been reaped.
    pub(super) in_kernel: u8,
    /// Not paused.
    pub(super) recv_wanted: bool,
    pub(super) shutdown_wanted: bool,
    pub(super) close_submitted: bool,
    /// The caller has been told of the end already, or never of the beginning.
    pub(super) silent: bool,
    pub(super) listener: ListenerId,
    /// To be given away once the slot is closed.
    pub(super) detached: Option<OwnedFd>,
    /// The send in flight; boxed because it must not move meanwhile.
    pub(super) send: Option<Box<SendOp>>,
}

// `RingConfig` promises 64 bytes a slot at most; the slab adds 8.
const _: () = assert!(size_of::<Conn>() <= 56);

impl Conn {
    pub(super) fn new(phase: Phase, listener: ListenerId) -> Conn {
        Conn {
            phase,
            recv: Recv::Idle,
            in_kernel: 0,
            recv_wanted: true,
            shutdown_wanted: false,
            close_submitted: false,
            silent: false,
            listener,
            detached: None,
            send: None,
        }
    }
}
