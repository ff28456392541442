//! What a completion queue entry does to its connection or listener, and what of it the shard is told. Reaping and
//! waiting are elsewhere.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::cqueue;

use super::conn::{Conn, Phase, Recv};
use super::op::Op;
use super::ring::Cqe;
use super::{ACCEPT_RETRY, Accept, Uring};
use crate::completion::{Completions, Entry, RecvBuf};
use crate::net;
use crate::token::{ConnId, ListenerId, OpKind, Token};

impl Uring {
    /// Applies one entry.
    pub(super) fn complete(&mut self, cqe: Cqe, out: &mut Completions) {
        // The buffer first: it must come back whatever has become of the connection.
        let buf = cqueue::buffer_select(cqe.flags).and_then(|id| self.buffers.take(id));
        let Some(token) = Token::unpack(cqe.user_data) else {
            self.stats.unusual.stale += 1;
            return;
        };
        match token.kind {
            OpKind::Accept => return self.accepted(cqe, ListenerId(token.slot), out),
            OpKind::AcceptCancel => return,
            OpKind::Wake => return self.woken(out),
            _ => {}
        }
        let conn = token.conn();
        let more = cqueue::more(cqe.flags);
        match self.slab.get_mut(conn) {
            Some(state) if !more => state.in_kernel = state.in_kernel.saturating_sub(1),
            Some(_) => {}
            None => {
                self.stats.unusual.stale += 1;
                if let Some(buf) = buf {
                    self.buffers.put(buf);
                }
                return;
            }
        }
        match token.kind {
            OpKind::Recv => self.received(cqe, conn, buf, more, out),
            OpKind::Send => self.sent(cqe.result, conn, out),
            OpKind::Peer => self.announced(cqe.result, conn, out),
            OpKind::Connect => self.connected(cqe.result, conn, out),
            OpKind::Install => self.installed(cqe.result, conn, out),
            OpKind::Close => return self.closed(conn, out),
            OpKind::Cancel | OpKind::Shutdown => {}
            OpKind::Accept | OpKind::AcceptCancel | OpKind::Wake => {}
        }
        self.progress(conn);
    }

    fn woken(&mut self, out: &mut Completions) {
        self.arm_wake();
        if self.wake.waker.take() {
            out.push(Entry::Wake);
        }
    }

    fn accepted(&mut self, cqe: Cqe, listener: ListenerId, out: &mut Completions) {
        if let Ok(slot) = u32::try_from(cqe.result) {
            // A slot can be given out again before the completion of its close is seen; the close is done then.
            if let Some(old) = self.slab.at(slot)
                && self.slab.get(old).is_some_and(|state| state.close_submitted)
            {
                self.closed(old, out);
            }
            match self.slab.claim_at(slot, Conn::new(Phase::Announcing, listener)) {
                Some(conn) => self.push(conn, Op::install(conn, OpKind::Peer)),
                None => self.stats.unusual.stale += 1,
            }
        } else {
            self.accept_failed(-cqe.result, listener, out);
        }
        if cqueue::more(cqe.flags) {
            return;
        }
        let Some(state) = self.listener_mut(listener) else { return };
        state.accept = Accept::Idle;
        if state.stopping {
            state.socket = None;
            out.push(Entry::ListenerClosed { listener });
        }
    }

    fn accept_failed(&mut self, errno: i32, listener: ListenerId, out: &mut Completions) {
        match errno {
            libc::ECANCELED => self.stats.unusual.cancelled += 1,
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => {
                self.stats.unusual.accept_errors += 1;
                if let Some(state) = self.listener_mut(listener) {
                    state.retry_at = Some(Instant::now() + ACCEPT_RETRY);
                }
                out.push(Entry::AcceptError { listener, error: io::Error::from_raw_os_error(errno) });
            }
            // Errors of one connection that died in the queue; the next accept may succeed.
            _ => self.stats.unusual.accept_aborted += 1,
        }
    }

    /// The second descriptor of an accepted connection is here: ask it for the peer and drop it.
    fn announced(&mut self, result: i32, conn: ConnId, out: &mut Completions) {
        let Some(listener) = self.slab.get(conn).map(|state| state.listener) else { return };
        let fd = match owned(result) {
            Ok(fd) => fd,
            Err(error) => {
                self.stats.unusual.accept_errors += 1;
                out.push(Entry::AcceptError { listener, error });
                return self.begin_close(conn, true);
            }
        };
        let Ok(peer) = net::peer_addr(fd.as_fd()) else {
            self.stats.unusual.accept_aborted += 1;
            return self.begin_close(conn, true);
        };
        if let Some(state) = self.slab.get_mut(conn) {
            state.phase = Phase::Open;
        }
        self.stats.connections.accepted += 1;
        out.push(Entry::Accepted { listener, conn, peer });
        self.arm_recv(conn);
    }

    fn connected(&mut self, result: i32, conn: ConnId, out: &mut Completions) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Connecting) else { return };
        let result = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) };
        state.phase = if result.is_ok() { Phase::Open } else { Phase::Failed };
        self.stats.connections.connected += u64::from(result.is_ok());
        out.push(Entry::Connected { conn, result });
        self.arm_recv(conn);
    }

    fn received(&mut self, cqe: Cqe, conn: ConnId, buf: Option<RecvBuf>, more: bool, out: &mut Completions) {
        let Some(state) = self.slab.get_mut(conn) else { return };
        let reported = matches!(state.phase, Phase::Open | Phase::Detaching);
        if !more {
            state.recv = Recv::Idle;
        }
        match (cqe.result, buf) {
            (1.., Some(buf)) if reported => {
                let len = cqe.result as usize;
                self.stats.traffic.receives += 1;
                self.stats.traffic.received_bytes += len as u64;
                out.push(Entry::Received { conn, buf, len });
            }
            (result, unused) => {
                if let Some(unused) = unused {
                    self.buffers.put(unused);
                }
                if result <= 0 {
                    self.receive_ended(result, conn, reported, out);
                }
            }
        }
        if !more {
            self.arm_recv(conn);
        }
    }

    /// A receive completed without bytes.
    fn receive_ended(&mut self, result: i32, conn: ConnId, reported: bool, out: &mut Completions) {
        let Some(state) = self.slab.get_mut(conn) else { return };
        match -result {
            libc::ENOBUFS => {
                self.stats.unusual.no_buffers += 1;
                if reported {
                    state.recv = Recv::Starved;
                    self.starved.push_back(conn);
                }
            }
            libc::ECANCELED => self.stats.unusual.cancelled += 1,
            libc::EINTR | libc::EAGAIN => {}
            _ if !reported => {}
            errno => {
                state.recv = Recv::Ended;
                let entry = match errno {
                    0 => Entry::RecvEof { conn },
                    _ => Entry::RecvError { conn, error: io::Error::from_raw_os_error(errno) },
                };
                out.push(entry);
            }
        }
    }

    fn sent(&mut self, result: i32, conn: ConnId, out: &mut Completions) {
        let Some(state) = self.slab.get_mut(conn) else { return };
        let Some(mut op) = state.send.take() else { return };
        let taken = usize::try_from(result).unwrap_or(0);
        let done = op.advance(taken);
        self.stats.traffic.sent_bytes += taken as u64;
        let reported = state.phase != Phase::Closing;
        let again = matches!(-result, libc::EINTR | libc::EAGAIN);
        if !done && reported && (taken > 0 || again) {
            self.stats.unusual.short_sends += 1;
            state.send = Some(op);
            return self.submit_send(conn);
        }
        let result = match (done, result) {
            (true, _) => Ok(()),
            (false, ..0) => Err(io::Error::from_raw_os_error(-result)),
            (false, _) => Err(io::Error::from(io::ErrorKind::WriteZero)),
        };
        self.stats.traffic.sends += 1;
        let bytes = op.sent();
        self.sends.put(op);
        if !reported {
            self.stats.unusual.cancelled += u64::from(!done);
            return;
        }
        let shutdown = std::mem::take(&mut state.shutdown_wanted);
        out.push(Entry::Sent { conn, bytes, result });
        if shutdown {
            self.push(conn, Op::shutdown(conn));
        }
    }

    /// The descriptor to be given away is here. It is given once the slot's own reference is closed: while that is
    /// open, the new owner's close would not reach the peer.
    fn installed(&mut self, result: i32, conn: ConnId, out: &mut Completions) {
        let fd = owned(result).and_then(|fd| net::set_nonblocking(fd.as_fd(), true).map(|()| fd));
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Detaching) else { return };
        match fd {
            Ok(fd) => state.detached = Some(fd),
            Err(error) => out.push(Entry::Detached { conn, fd: Err(error) }),
        }
        self.begin_close(conn, true);
    }

    fn closed(&mut self, conn: ConnId, out: &mut Completions) {
        let recycle = !self.slab.is_accepted(conn);
        let Some(state) = self.slab.free(conn, recycle) else { return };
        self.stats.connections.closed += 1;
        for listener in &mut self.listeners {
            listener.retry_at = None;
        }
        if let Some(fd) = state.detached {
            self.stats.connections.detached += 1;
            out.push(Entry::Detached { conn, fd: Ok(fd) });
        } else if !state.silent {
            out.push(Entry::Closed { conn });
        }
    }
}

fn owned(result: i32) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}
