//! The epoll reactor: for older kernels and where io_uring is refused. Owns plain non-blocking descriptors, each
//! registered once, edge-triggered; `service.rs` reads, writes and accepts when they are ready.

mod service;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::time::Timespec;

use crate::completion::{Completions, Entry, RecvBuf};
use crate::config::RingConfig;
use crate::error::RingError;
use crate::net;
use crate::reactor::{Reactor, ReactorKind};
use crate::send::{SendOp, SendPool};
use crate::slab::Slab;
use crate::stats::Stats;
use crate::token::{ConnId, ListenerId, OpKind, Token};
use crate::waker::Waker;

/// How long accepting rests after the process ran out of descriptors or memory, unless a connection closes sooner.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A [`Reactor`] on epoll.
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<Event>,
    slab: Slab<Conn>,
    listeners: Vec<Listener>,
    /// Connections with something to read, each once, in the order in which they are served.
    ready: VecDeque<ConnId>,
    /// Completions of calls that ended at once.
    pending: VecDeque<Entry>,
    buffers: Vec<RecvBuf>,
    sends: SendPool,
    waker: Waker,
    stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    /// `connect` failed; the caller has to close.
    Failed,
    Open,
    /// To be given away once its send has ended.
    Detaching,
}

// `RingConfig` promises 64 bytes a slot at most; the slab adds 8.
const _: () = assert!(size_of::<Conn>() <= 56);

struct Conn {
    socket: OwnedFd,
    phase: Phase,
    /// There may be bytes, an end or an error to read.
    readable: bool,
    /// The peer will send no more: readable until that has been read.
    hung_up: bool,
    /// Stands in `ready`.
    queued: bool,
    recv_wanted: bool,
    recv_ended: bool,
    shutdown_wanted: bool,
    /// Has a completion in `pending`.
    unreported: bool,
    send: Option<Box<SendOp>>,
}

#[derive(Debug)]
struct Listener {
    /// `None` once closed.
    socket: Option<OwnedFd>,
    armed: bool,
    retry_at: Option<Instant>,
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll").field("capacity", &self.slab.capacity()).field("stats", &self.stats).finish()
    }
}

impl Conn {
    fn new(socket: OwnedFd, phase: Phase) -> Conn {
        Conn {
            socket,
            phase,
            readable: false,
            hung_up: false,
            queued: false,
            recv_wanted: true,
            recv_ended: false,
            shutdown_wanted: false,
            unreported: false,
            send: None,
        }
    }
}

impl Epoll {
    /// Makes a reactor.
    pub fn new(config: &RingConfig) -> Result<Epoll, RingError> {
        config.check().map_err(RingError::Config)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| RingError::os("epoll_create", e))?;
        let waker = Waker::new()?;
        let token = Token { kind: OpKind::Wake, slot: 0, generation: 0 };
        epoll::add(&epoll, waker.eventfd(), EventData::new_u64(token.pack()), EventFlags::IN)
            .map_err(|e| RingError::os("epoll_ctl", e))?;
        let buffers = (0..config.buffers)
            .map(|id| RecvBuf { id: id as u16, ring: 0, data: vec![0; config.buffer_bytes].into_boxed_slice() })
            .collect();
        Ok(Epoll {
            epoll,
            events: Vec::with_capacity(config.completions_per_wait),
            slab: Slab::new(config),
            listeners: Vec::new(),
            ready: VecDeque::new(),
            pending: VecDeque::new(),
            buffers,
            sends: SendPool::default(),
            waker,
            stats: Stats::default(),
        })
    }

    /// Registers a socket for everything it will ever report.
    fn register(&self, conn: ConnId, socket: &OwnedFd) -> Result<(), RingError> {
        let data = EventData::new_u64(Token::of(OpKind::Recv, conn).pack());
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, data, flags).map_err(|e| RingError::os("epoll_ctl", e))
    }

    /// Takes a slot of our own making for a socket.
    fn place(&mut self, socket: OwnedFd, phase: Phase) -> Result<ConnId, RingError> {
        let limit = self.slab.outgoing_max();
        let conn = self.slab.claim_outgoing(Conn::new(socket, phase)).ok_or(RingError::Full { limit })?;
        let registered = match self.slab.get(conn) {
            Some(state) => self.register(conn, &state.socket),
            None => Ok(()),
        };
        if let Err(error) = registered {
            self.slab.free(conn, true);
            return Err(error);
        }
        Ok(conn)
    }

    /// Puts a connection in line for reading, if it may be read and is not in line.
    fn queue_read(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn)
            && state.phase == Phase::Open
            && (state.readable && state.recv_wanted && !state.recv_ended && !state.queued)
        {
            state.queued = true;
            self.ready.push_back(conn);
        }
    }

    /// Reports something about a connection with the next `wait`.
    fn report(&mut self, conn: ConnId, entry: Entry) {
        if let Some(state) = self.slab.get_mut(conn) {
            state.unreported = true;
        }
        self.pending.push_back(entry);
    }

    fn free(&mut self, conn: ConnId) -> Option<Conn> {
        let state = self.slab.free(conn, true)?;
        self.stats.connections.closed += 1;
        for listener in &mut self.listeners {
            listener.retry_at = None;
        }
        Some(state)
    }

    fn finish_detach(&mut self, conn: ConnId) {
        let Some(state) = self.free(conn) else { return };
        let fd = match epoll::delete(&self.epoll, &state.socket) {
            Ok(()) => Ok(state.socket),
            Err(errno) => Err(errno.into()),
        };
        self.stats.connections.detached += u64::from(fd.is_ok());
        self.pending.push_back(Entry::Detached { conn, fd });
    }

    /// Registers every listener that can accept; takes one out while there is no slot, so that peers wait in the
    /// backlog.
    fn arm_listeners(&mut self, now: Instant) -> Result<(), RingError> {
        let full = self.slab.accepted_free() == 0;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let Some(socket) = listener.socket.as_ref() else { continue };
            if listener.armed && (full || listener.retry_at.is_some()) {
                listener.armed = false;
                epoll::delete(&self.epoll, socket).map_err(|e| RingError::os("epoll_ctl", e))?;
            } else if !listener.armed && !full && listener.retry_at.is_none_or(|at| at <= now) {
                listener.armed = true;
                listener.retry_at = None;
                let token = Token { kind: OpKind::Accept, slot: index as u32, generation: 0 };
                epoll::add(&self.epoll, socket, EventData::new_u64(token.pack()), EventFlags::IN)
                    .map_err(|e| RingError::os("epoll_ctl", e))?;
            }
        }
        Ok(())
    }

    fn flush_pending(&mut self, out: &mut Completions) {
        while out.room() > 0
            && let Some(entry) = self.pending.pop_front()
        {
            if let Entry::Sent { conn, .. } | Entry::Connected { conn, .. } = &entry
                && let Some(state) = self.slab.get_mut(*conn)
            {
                state.unreported = false;
            }
            out.push(entry);
        }
    }

    fn poll(&mut self, until: Option<Instant>, may_block: bool, room: usize) -> Result<(), RingError> {
        let now = Instant::now();
        self.arm_listeners(now)?;
        let retry_at = self.listeners.iter().filter_map(|listener| listener.retry_at).min();
        let until = match (until, retry_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let left = match until {
            _ if !may_block => Some(Duration::ZERO),
            until => until.map(|at| at.saturating_duration_since(now)),
        };
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        self.events.clear();
        self.events.reserve(room.max(1));
        self.stats.enters += 1;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(RingError::os("epoll_wait", errno)),
        }
    }
}

impl Reactor for Epoll {
    const KIND: ReactorKind = ReactorKind::Epoll;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn capacity(&self) -> u32 {
        self.slab.capacity()
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<ListenerId, RingError> {
        self.listen_on(net::listen_socket(addr, backlog)?)
    }

    fn listen_on(&mut self, listener: OwnedFd) -> Result<ListenerId, RingError> {
        net::prepare_listener(listener.as_fd())?;
        self.listeners.push(Listener { socket: Some(listener), armed: false, retry_at: None });
        Ok(ListenerId(self.listeners.len() as u32 - 1))
    }

    fn local_addr(&self, listener: ListenerId) -> Result<SocketAddr, RingError> {
        let socket = self.listeners.get(listener.0 as usize).and_then(|listener| listener.socket.as_ref());
        net::local_addr(socket.ok_or(RingError::Gone)?.as_fd())
    }

    fn stop_accepting(&mut self, listener: ListenerId) {
        let Some(state) = self.listeners.get_mut(listener.0 as usize) else { return };
        if let Some(socket) = state.socket.take() {
            if state.armed {
                // Fails only for what is not registered; another process may hold the socket, so closing is not enough.
                let _ = epoll::delete(&self.epoll, &socket);
            }
            state.retry_at = None;
            self.pending.push_back(Entry::ListenerClosed { listener });
        }
    }

    fn connect(&mut self, source: Option<SocketAddr>, target: SocketAddr) -> Result<ConnId, RingError> {
        if self.slab.outgoing_full() {
            return Err(RingError::Full { limit: self.slab.outgoing_max() });
        }
        let socket = net::connect_socket(source, target)?;
        // Before registering: an unconnected socket reports a hang-up.
        match rustix::net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => self.place(socket, Phase::Connecting),
            Err(errno) => {
                let conn = self.place(socket, Phase::Failed)?;
                self.report(conn, Entry::Connected { conn, result: Err(errno.into()) });
                Ok(conn)
            }
        }
    }

    fn adopt(&mut self, fd: OwnedFd) -> Result<ConnId, RingError> {
        net::set_nonblocking(fd.as_fd(), true).map_err(|e| RingError::os("fcntl", e))?;
        let conn = self.place(fd, Phase::Open)?;
        self.stats.connections.adopted += 1;
        Ok(conn)
    }

    fn send(&mut self, conn: ConnId, queue: &mut VecDeque<Bytes>) -> Result<usize, RingError> {
        let Some(state) = self.slab.get_mut(conn) else {
            self.stats.unusual.stale += 1;
            return Err(RingError::Gone);
        };
        match state.phase {
            Phase::Open => {}
            Phase::Connecting | Phase::Failed => return Err(RingError::NotConnected),
            Phase::Detaching => return Err(RingError::Gone),
        }
        // A send that ended at once is in flight until it has been reported, as in every other reactor.
        if state.send.is_some() || state.unreported {
            return Err(RingError::Busy);
        }
        let Some((op, bytes)) = self.sends.take(queue) else { return Ok(0) };
        state.send = Some(op);
        if let Some(sent) = self.write(conn) {
            self.report(conn, sent);
        }
        Ok(bytes)
    }

    fn pause_recv(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn) {
            state.recv_wanted = false;
        }
    }

    fn resume_recv(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn) {
            state.recv_wanted = true;
            self.queue_read(conn);
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Open) else { return };
        if state.send.is_some() {
            state.shutdown_wanted = true;
        } else {
            // A peer that is gone shows in the next read.
            let _ = rustix::net::shutdown(&state.socket, Shutdown::Write);
        }
    }

    fn close(&mut self, conn: ConnId) {
        let Some(state) = self.free(conn) else {
            self.stats.unusual.stale += 1;
            return;
        };
        if state.unreported {
            self.pending.retain(|entry| match entry {
                Entry::Sent { conn: other, .. } | Entry::Connected { conn: other, .. } => *other != conn,
                _ => true,
            });
        }
        if let Some(send) = state.send {
            self.stats.unusual.cancelled += 1;
            self.sends.put(send);
        }
        self.pending.push_back(Entry::Closed { conn });
    }

    fn detach(&mut self, conn: ConnId) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Open) else { return };
        state.phase = Phase::Detaching;
        if state.send.is_none() {
            self.finish_detach(conn);
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn wait(&mut self, until: Option<Instant>, out: &mut Completions) -> Result<(), RingError> {
        self.stats.waits += 1;
        self.buffers.extend(out.take_returned());
        self.flush_pending(out);
        if out.room() > 0 {
            let may_block = out.is_empty() && self.ready.is_empty();
            self.poll(until, may_block, out.room())?;
            self.handle_events(out);
            self.serve_ready(out);
        }
        Ok(())
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}
