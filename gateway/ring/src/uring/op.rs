//! Operations as submission entries. Those that hand memory to the kernel are unsafe to make; the rest name only
//! slots. Submits nothing.

use std::os::fd::RawFd;
use std::ptr::null_mut;

use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{opcode, squeue};
use rustix::net::SocketAddrAny;
use rustix::net::addr::SocketAddrArg;

use super::buffers::BUFFER_GROUP;
use crate::send::SendOp;
use crate::token::{ConnId, OpKind, Token};

/// SIGPIPE is never wanted, and the kernel may continue a short send by itself.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// An entry whose memory, if it names any, is good until its last completion.
pub(super) struct Op(pub(super) squeue::Entry);

/// Token of an operation of a listener.
pub(super) fn listener_token(kind: OpKind, index: u32) -> Token {
    Token { kind, slot: index, generation: 0 }
}

impl Op {
    fn of(entry: squeue::Entry, kind: OpKind, conn: ConnId) -> Op {
        Op(entry.user_data(Token::of(kind, conn).pack()))
    }

    /// Accept into a file-table slot that the kernel chooses: one peer, or all that come.
    pub(super) fn accept(listener: RawFd, index: u32, multishot: bool) -> Op {
        let entry = if multishot {
            opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build()
        } else {
            let target = Some(DestinationSlot::auto_target());
            opcode::Accept::new(Fd(listener), null_mut(), null_mut()).file_index(target).build()
        };
        Op(entry.user_data(listener_token(OpKind::Accept, index).pack()))
    }

    pub(super) fn accept_cancel(index: u32) -> Op {
        let target = listener_token(OpKind::Accept, index).pack();
        let entry = opcode::AsyncCancel::new(target).build();
        Op(entry.user_data(listener_token(OpKind::AcceptCancel, index).pack()))
    }

    /// Multishot receive into provided buffers.
    pub(super) fn recv(conn: ConnId) -> Op {
        Op::of(opcode::RecvMulti::new(Fixed(conn.slot), BUFFER_GROUP).build(), OpKind::Recv, conn)
    }

    /// Cancels one operation of a connection, which the kernel finds by its token. By the descriptor it would look
    /// through those of all connections: closing ten thousand would take time in its square.
    pub(super) fn cancel(what: OpKind, conn: ConnId) -> Op {
        let target = Token::of(what, conn).pack();
        Op::of(opcode::AsyncCancel::new(target).build(), OpKind::Cancel, conn)
    }

    /// A second, ordinary descriptor of the connection: to ask for the peer, or to give away.
    pub(super) fn install(conn: ConnId, kind: OpKind) -> Op {
        Op::of(opcode::FixedFdInstall::new(Fixed(conn.slot), 0).build(), kind, conn)
    }

    pub(super) fn shutdown(conn: ConnId) -> Op {
        Op::of(opcode::Shutdown::new(Fixed(conn.slot), libc::SHUT_WR).build(), OpKind::Shutdown, conn)
    }

    pub(super) fn close(conn: ConnId) -> Op {
        Op::of(opcode::Close::new(Fixed(conn.slot)).build(), OpKind::Close, conn)
    }

    /// # Safety
    /// `addr` stays where it is until the operation has been submitted.
    pub(super) unsafe fn connect(conn: ConnId, addr: &SocketAddrAny) -> Op {
        let entry = opcode::Connect::new(Fixed(conn.slot), addr.as_ptr().cast(), addr.addr_len()).build();
        Op::of(entry, OpKind::Connect, conn)
    }

    /// # Safety
    /// `op` neither moves nor changes, and its buffers live, until the completion has been reaped.
    pub(super) unsafe fn send(conn: ConnId, op: &mut SendOp) -> Op {
        let entry = if let [only] = op.unsent() {
            let len = u32::try_from(only.len()).unwrap_or(u32::MAX);
            opcode::Send::new(Fixed(conn.slot), only.as_ptr(), len).flags(SEND_FLAGS).build()
        } else {
            opcode::SendMsg::new(Fixed(conn.slot), op.message()).flags(SEND_FLAGS as u32).build()
        };
        Op::of(entry, OpKind::Send, conn)
    }

    /// # Safety
    /// `value` stays where it is, untouched, until the completion has been reaped.
    pub(super) unsafe fn wake(eventfd: RawFd, value: *mut u64) -> Op {
        let entry = opcode::Read::new(Fd(eventfd), value.cast(), size_of::<u64>() as u32).build();
        Op(entry.user_data(listener_token(OpKind::Wake, 0).pack()))
    }
}

/// The kernel's form of an address.
pub(super) fn socket_address(addr: std::net::SocketAddr) -> SocketAddrAny {
    addr.as_any()
}
