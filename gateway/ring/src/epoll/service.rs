//! What the epoll reactor does with ready descriptors: read, write, accept, finish connects. Waiting is elsewhere.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{Event, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, sockopt};

use super::{ACCEPT_RETRY, Conn, Epoll, Phase};
use crate::completion::{Completions, Entry};
use crate::config::SEND_BUFS_MAX;
use crate::send::SendOp;
use crate::token::{ConnId, ListenerId, OpKind, Token};

/// Accepts of one listener per `wait`, so that a storm of peers does not keep others waiting.
const ACCEPTS_MAX: usize = 64;

/// One system call for what is unsent.
fn send_some(socket: &OwnedFd, op: &SendOp) -> Result<usize, Errno> {
    if let [only] = op.unsent() {
        return rustix::net::send(socket, only, SendFlags::NOSIGNAL);
    }
    let mut slices = [IoSlice::new(&[]); SEND_BUFS_MAX];
    let used = slices.iter_mut().zip(op.unsent()).map(|(slice, buf)| *slice = IoSlice::new(buf)).count();
    rustix::net::sendmsg(socket, &slices[..used], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}

impl Epoll {
    pub(super) fn handle_events(&mut self, out: &mut Completions) {
        let mut events = std::mem::take(&mut self.events);
        for Event { flags, data } in events.drain(..) {
            let Some(token) = Token::unpack(data.u64()) else { continue };
            match token.kind {
                OpKind::Wake => self.woken(out),
                OpKind::Accept => self.accept(ListenerId(token.slot), out),
                _ => self.connection_ready(token.conn(), flags, out),
            }
        }
        self.events = events;
    }

    fn woken(&mut self, out: &mut Completions) {
        let mut counter = [0; 8];
        // Only resets the counter.
        let _ = rustix::io::read(self.waker.eventfd(), &mut counter);
        if self.waker.take() {
            out.push(Entry::Wake);
        }
    }

    fn accept(&mut self, listener: ListenerId, out: &mut Completions) {
        for _ in 0..ACCEPTS_MAX.min(out.room()) {
            let Some(state) = self.listeners.get_mut(listener.0 as usize) else { return };
            let Some(socket) = state.socket.as_ref().filter(|_| self.slab.accepted_free() > 0) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (socket, peer) = match rustix::net::acceptfrom_with(socket, flags) {
                Ok((socket, peer)) => (socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok())),
                Err(Errno::AGAIN) => return,
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)) => {
                    state.retry_at = Some(Instant::now() + ACCEPT_RETRY);
                    self.stats.unusual.accept_errors += 1;
                    return out.push(Entry::AcceptError { listener, error: errno.into() });
                }
                // Errors of one connection that died in the queue.
                Err(_) => {
                    self.stats.unusual.accept_aborted += 1;
                    continue;
                }
            };
            let Some(peer) = peer else { continue };
            let Some(conn) = self.slab.claim_accepted(Conn::new(socket, Phase::Open)) else { return };
            let registered = self.slab.get(conn).map_or(Ok(()), |state| self.register(conn, &state.socket));
            if registered.is_err() {
                self.stats.unusual.accept_errors += 1;
                self.slab.free(conn, true);
                continue;
            }
            self.stats.connections.accepted += 1;
            out.push(Entry::Accepted { listener, conn, peer });
        }
    }

    fn connection_ready(&mut self, conn: ConnId, flags: EventFlags, out: &mut Completions) {
        let Some(state) = self.slab.get_mut(conn) else {
            self.stats.unusual.stale += 1;
            return;
        };
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        state.hung_up |= ended;
        state.readable |= ended || flags.contains(EventFlags::IN);
        if state.phase == Phase::Connecting && (ended || flags.contains(EventFlags::OUT)) {
            let result = match sockopt::socket_error(&state.socket) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(errno)) | Err(errno) => Err(io::Error::from(errno)),
            };
            state.phase = if result.is_ok() { Phase::Open } else { Phase::Failed };
            self.stats.connections.connected += u64::from(result.is_ok());
            out.push(Entry::Connected { conn, result });
        } else if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
            && let Some(sent) = self.write(conn)
        {
            out.push(sent);
            if self.slab.get(conn).is_some_and(|state| state.phase == Phase::Detaching) {
                self.finish_detach(conn);
            }
        }
        self.queue_read(conn);
    }

    /// Gives the kernel as much of the send in flight as it takes. Returns its completion if it ended.
    pub(super) fn write(&mut self, conn: ConnId) -> Option<Entry> {
        let state = self.slab.get_mut(conn)?;
        let send = state.send.as_mut()?;
        let result = loop {
            match send_some(&state.socket, send) {
                Ok(0) => break Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(taken) => {
                    self.stats.traffic.sent_bytes += taken as u64;
                    if send.advance(taken) {
                        break Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.stats.unusual.short_sends += 1;
                    return None;
                }
                Err(errno) => break Err(errno.into()),
            }
        };
        self.stats.traffic.sends += 1;
        let op = state.send.take()?;
        let bytes = op.sent();
        self.sends.put(op);
        if std::mem::take(&mut state.shutdown_wanted) {
            let _ = rustix::net::shutdown(&state.socket, Shutdown::Write);
        }
        Some(Entry::Sent { conn, bytes, result })
    }

    /// Reads one buffer of each connection in line, in turn, while there is room and there are buffers.
    pub(super) fn serve_ready(&mut self, out: &mut Completions) {
        while out.room() > 0 && !self.ready.is_empty() {
            let Some(mut buf) = self.buffers.pop() else {
                self.stats.unusual.no_buffers += 1;
                return;
            };
            let entry = loop {
                let Some(conn) = self.ready.pop_front() else { break None };
                let Some(state) = self.slab.get_mut(conn) else { continue };
                state.queued = false;
                if state.phase != Phase::Open || !state.recv_wanted || state.recv_ended {
                    continue;
                }
                break Some((conn, rustix::net::recv(&state.socket, &mut buf.data[..], RecvFlags::empty())));
            };
            match entry {
                Some((conn, Ok((_, len)))) if len > 0 => {
                    let full = len == buf.data.len();
                    self.stats.traffic.receives += 1;
                    self.stats.traffic.received_bytes += len as u64;
                    out.push(Entry::Received { conn, buf, len });
                    if let Some(state) = self.slab.get_mut(conn) {
                        // A short read emptied the socket; the next bytes make a new edge, but an end seen does not.
                        state.readable = full || state.hung_up;
                    }
                    self.queue_read(conn);
                }
                Some((conn, result)) => {
                    self.buffers.push(buf);
                    self.receive_ended(conn, result.map(|(_, len)| len), out);
                }
                None => return self.buffers.push(buf),
            }
        }
    }

    fn receive_ended(&mut self, conn: ConnId, result: Result<usize, Errno>, out: &mut Completions) {
        let Some(state) = self.slab.get_mut(conn) else { return };
        match result {
            Err(Errno::AGAIN) => state.readable = false,
            Err(Errno::INTR) => self.queue_read(conn),
            Ok(_) => {
                state.recv_ended = true;
                out.push(Entry::RecvEof { conn });
            }
            Err(errno) => {
                state.recv_ended = true;
                out.push(Entry::RecvError { conn, error: errno.into() });
            }
        }
    }
}
