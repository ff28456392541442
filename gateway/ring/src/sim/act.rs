//! What the simulated reactor does in one `wait`: lists what could happen, lets the dice choose order, size and failure,
//! and reports it. Keeps the contract's promises whatever the dice say.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::world::PeerEnd;
use super::{Conn, Phase, Sim};
use crate::completion::{Completions, Entry};
use crate::token::{ConnId, ListenerId};

/// Something that can happen now.
#[derive(Debug, Clone, Copy)]
enum Act {
    Accept(ListenerId),
    Connect(ConnId),
    Receive(ConnId),
    Send(ConnId),
    Close(ConnId),
    Detach(ConnId),
}

impl Sim {
    /// Does what can be done, in an order drawn by the dice; of one connection at most one receive and one send.
    pub(super) fn act(&mut self, out: &mut Completions) {
        let mut acts = self.possible();
        self.world.borrow_mut().dice.shuffle(&mut acts);
        for act in acts {
            if out.room() == 0 {
                return;
            }
            match act {
                Act::Accept(listener) => self.accept(listener, out),
                Act::Connect(conn) if self.on_time(conn) => self.finish_connect(conn, out),
                Act::Receive(conn) if self.on_time(conn) => self.receive(conn, out),
                Act::Send(conn) if self.on_time(conn) => self.send_some(conn, out),
                Act::Close(conn) if self.on_time(conn) => self.finish_close(conn, out),
                Act::Detach(conn) if self.on_time(conn) => self.finish_detach(conn, out),
                Act::Connect(_) | Act::Receive(_) | Act::Send(_) | Act::Close(_) | Act::Detach(_) => {}
            }
        }
    }

    fn possible(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for (index, addr) in self.listeners.iter().enumerate() {
            let waiting = addr.and_then(|addr| self.world.borrow().backlogs.get(&addr).map(|peers| peers.len()));
            let room = self.slab.accepted_free() as usize;
            acts.extend((0..waiting.unwrap_or(0).min(room)).map(|_| Act::Accept(ListenerId(index as u32))));
        }
        for conn in (0..self.slab.capacity()).filter_map(|slot| self.slab.at(slot)) {
            let Some(state) = self.slab.get(conn) else { continue };
            match state.phase {
                Phase::Connecting(_) => acts.push(Act::Connect(conn)),
                Phase::Failed => {}
                Phase::Open => {
                    acts.extend(self.readable(state).then_some(Act::Receive(conn)));
                    acts.extend(state.send.is_some().then_some(Act::Send(conn)));
                }
                Phase::Detaching if state.send.is_some() => acts.push(Act::Send(conn)),
                Phase::Detaching => acts.push(Act::Detach(conn)),
                Phase::Closing => acts.push(Act::Close(conn)),
            }
        }
        acts
    }

    fn readable(&self, state: &Conn) -> bool {
        let world = self.world.borrow();
        let link = &world.links[state.link];
        let something = !link.to_socket.is_empty() || link.peer_shut || link.socket_end == PeerEnd::Reset;
        something && state.recv_wanted && !state.recv_ended
    }

    /// Whether a connection may act now; the dice may hold it back for a while.
    fn on_time(&mut self, conn: ConnId) -> bool {
        let mut world = self.world.borrow_mut();
        let Some(state) = self.slab.get_mut(conn) else { return false };
        if state.held_until.is_some_and(|at| at > world.now) {
            return false;
        }
        let (delay, delay_max) = (world.faults.delay, world.faults.delay_max);
        if state.held_until.take().is_none() && world.dice.chance(delay) {
            let micros = world.dice.below(delay_max.as_micros() as usize) as u64 + 1;
            state.held_until = Some(world.now + Duration::from_micros(micros));
            return false;
        }
        true
    }

    fn accept(&mut self, listener: ListenerId, out: &mut Completions) {
        let mut world = self.world.borrow_mut();
        let Some(addr) = self.listeners[listener.0 as usize] else { return };
        let chance = world.faults.accept_error;
        if world.dice.chance(chance) {
            self.stats.unusual.accept_errors += 1;
            return out.push(Entry::AcceptError { listener, error: io::Error::from_raw_os_error(libc::EMFILE) });
        }
        let Some(link) = world.backlogs.get_mut(&addr).and_then(|backlog| backlog.pop_front()) else { return };
        let peer = world.links[link].peer;
        if world.links[link].socket_end == PeerEnd::Reset {
            self.stats.unusual.accept_aborted += 1;
            return;
        }
        if let Some(conn) = self.slab.claim_accepted(Conn::new(link, Phase::Open)) {
            world.note(&[1, conn.slot.into(), conn.generation.into(), link as u64]);
            self.stats.connections.accepted += 1;
            out.push(Entry::Accepted { listener, conn, peer });
        }
    }

    fn finish_connect(&mut self, conn: ConnId, out: &mut Completions) {
        let mut world = self.world.borrow_mut();
        let Some(state) = self.slab.get_mut(conn) else { return };
        let Phase::Connecting(target) = state.phase else { return };
        let chance = world.faults.connect_error;
        let refused = world.dice.chance(chance);
        let result = match world.served.get_mut(&target).filter(|_| !refused) {
            Some(queue) => {
                queue.push_back(state.link);
                Ok(())
            }
            None => Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
        };
        state.phase = if result.is_ok() { Phase::Open } else { Phase::Failed };
        world.note(&[2, conn.slot.into(), u64::from(result.is_ok())]);
        self.stats.connections.connected += u64::from(result.is_ok());
        out.push(Entry::Connected { conn, result });
    }

    fn receive(&mut self, conn: ConnId, out: &mut Completions) {
        let mut guard = self.world.borrow_mut();
        let world = &mut *guard;
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.recv_wanted && state.phase == Phase::Open)
        else {
            return;
        };
        let link = &mut world.links[state.link];
        if world.dice.chance(world.faults.recv_error) {
            link.reset();
        }
        if link.socket_end == PeerEnd::Reset {
            state.recv_ended = true;
            world.note(&[3, conn.slot.into()]);
            return out.push(Entry::RecvError { conn, error: io::Error::from_raw_os_error(libc::ECONNRESET) });
        }
        if link.to_socket.is_empty() {
            state.recv_ended = true;
            world.note(&[4, conn.slot.into()]);
            return out.push(Entry::RecvEof { conn });
        }
        let denied = world.dice.chance(world.faults.no_buffers);
        let Some(mut buf) = (if denied { None } else { self.buffers.pop() }) else {
            self.stats.unusual.no_buffers += 1;
            return;
        };
        let mut len = link.to_socket.len().min(buf.data.len());
        if world.dice.chance(world.faults.short_recv) {
            len = world.dice.below(len) + 1;
        }
        for (place, byte) in buf.data.iter_mut().zip(link.to_socket.drain(..len)) {
            *place = byte;
        }
        world.note(&[5, conn.slot.into(), len as u64]);
        self.stats.traffic.receives += 1;
        self.stats.traffic.received_bytes += len as u64;
        out.push(Entry::Received { conn, buf, len });
    }

    fn send_some(&mut self, conn: ConnId, out: &mut Completions) {
        let mut guard = self.world.borrow_mut();
        let world = &mut *guard;
        let Some(state) = self.slab.get_mut(conn) else { return };
        let Some(op) = &mut state.send else { return };
        let link = &mut world.links[state.link];
        if world.dice.chance(world.faults.send_error) || link.peer_gone {
            link.reset();
        }
        let mut error = None;
        if link.socket_end != PeerEnd::Open {
            error = Some(io::Error::from_raw_os_error(libc::EPIPE));
        } else {
            let mut left = world.window_bytes.saturating_sub(link.to_peer.len());
            if left > 0 && world.dice.chance(world.faults.short_send) {
                left = world.dice.below(left.min(4096)) + 1;
            }
            let before = link.to_peer.len();
            link.to_peer.extend(op.unsent().iter().flatten().take(left));
            let taken = link.to_peer.len() - before;
            world.note(&[6, conn.slot.into(), taken as u64]);
            self.stats.traffic.sent_bytes += taken as u64;
            if !op.advance(taken) {
                self.stats.unusual.short_sends += 1;
                return;
            }
        }
        self.stats.traffic.sends += 1;
        let bytes = op.sent();
        self.sends.put(state.send.take().unwrap_or_default());
        drop(guard);
        out.push(Entry::Sent { conn, bytes, result: error.map_or(Ok(()), Err) });
        self.finish_shutdown(conn);
    }

    /// Shuts the sending side down if that was asked for and no send is in flight.
    pub(super) fn finish_shutdown(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn)
            && state.shutdown_wanted
            && state.send.is_none()
        {
            let link = &mut self.world.borrow_mut().links[state.link];
            if link.socket_end == PeerEnd::Open {
                link.socket_end = PeerEnd::Eof;
            }
        }
    }

    fn finish_close(&mut self, conn: ConnId, out: &mut Completions) {
        let Some(state) = self.slab.free(conn, true) else { return };
        let mut world = self.world.borrow_mut();
        let link = &mut world.links[state.link];
        if link.socket_end == PeerEnd::Open {
            link.socket_end = PeerEnd::Eof;
        }
        // The peer finds nobody left to read what it sends.
        link.to_socket.clear();
        link.peer_shut = true;
        world.note(&[7, conn.slot.into(), conn.generation.into()]);
        self.stats.connections.closed += 1;
        if let Some(send) = state.send {
            self.stats.unusual.cancelled += 1;
            self.sends.put(send);
        }
        out.push(Entry::Closed { conn });
    }

    fn finish_detach(&mut self, conn: ConnId, out: &mut Completions) {
        let Some(state) = self.slab.free(conn, true) else { return };
        let mut guard = self.world.borrow_mut();
        let world = &mut *guard;
        let link = &mut world.links[state.link];
        let pair = if world.dice.chance(world.faults.detach_error) {
            link.reset();
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        } else {
            UnixStream::pair().and_then(|(given, mut peer)| {
                given.set_nonblocking(true)?;
                peer.set_nonblocking(true)?;
                peer.write_all(link.to_socket.make_contiguous())?;
                if link.peer_shut {
                    peer.shutdown(std::net::Shutdown::Write)?;
                }
                link.to_socket.clear();
                link.detached = Some(peer.into());
                Ok(given.into())
            })
        };
        world.note(&[8, conn.slot.into(), u64::from(pair.is_ok())]);
        self.stats.connections.closed += 1;
        self.stats.connections.detached += u64::from(pair.is_ok());
        out.push(Entry::Detached { conn, fd: pair });
    }
}
