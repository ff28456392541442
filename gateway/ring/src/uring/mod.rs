//! The io_uring reactor: multishot accept into direct descriptors, multishot receive into provided buffers, one
//! system call per `wait`. Owns the ring and every connection in it; `complete.rs` says what completions do.

mod buffers;
mod complete;
mod conn;
mod many;
mod op;
mod ring;

pub use many::Rings;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::SocketAddrAny;

use self::buffers::ProvidedBuffers;
use self::conn::{Conn, Phase, Recv};
use self::op::Op;
use self::ring::{Block, Cqe, Ring};
use crate::completion::{Completions, Entry};
use crate::config::RingConfig;
use crate::error::RingError;
use crate::net;
use crate::reactor::{Reactor, ReactorKind};
use crate::send::SendPool;
use crate::slab::Slab;
use crate::stats::Stats;
use crate::token::{ConnId, ListenerId, OpKind};
use crate::waker::Waker;

/// How long accepting rests after the process ran out of descriptors or memory, unless a connection closes sooner.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Default of [`Uring::accept_margin`].
const ACCEPT_MARGIN: u32 = 256;
/// The listener of connections that have none.
const NO_LISTENER: ListenerId = ListenerId(u32::MAX);

/// A [`Reactor`] on io_uring. Needs Linux 6.8; [`probe`](crate::probe) says whether it works here.
pub struct Uring {
    // The ring goes first: it makes the kernel let go of all that follows.
    ring: Ring,
    buffers: ProvidedBuffers,
    slab: Slab<Conn>,
    listeners: Vec<Listener>,
    /// Connections whose receive found no buffer, in the order in which they get the next ones.
    starved: VecDeque<ConnId>,
    /// Completions that do not come from the kernel.
    pending: VecDeque<Entry>,
    sends: SendPool,
    /// Targets of connects the kernel has not read yet; boxed because they must not move.
    #[allow(clippy::vec_box, reason = "the kernel holds the addresses")]
    targets: Vec<Box<SocketAddrAny>>,
    reaped: Vec<Cqe>,
    wake: Wake,
    /// Free slots below which peers are accepted one at a time.
    accept_margin: u32,
    stats: Stats,
}

struct Wake {
    waker: Waker,
    /// Where the kernel writes the eventfd's counter.
    value: Box<u64>,
}

#[derive(Debug, Default)]
struct Listener {
    /// `None` once closed.
    socket: Option<OwnedFd>,
    accept: Accept,
    stopping: bool,
    retry_at: Option<Instant>,
}

/// What of a listener is in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Accept {
    #[default]
    Idle,
    Multishot,
    One,
    Cancelling,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("capacity", &self.slab.capacity()).field("stats", &self.stats).finish()
    }
}

/// Whether this kernel has what [`Uring`] needs; if not, why, for a log line.
pub(crate) fn check_kernel() -> Result<(), String> {
    let config = RingConfig { connections_max: 1, outgoing_max: 1, buffers: 8, submissions: 8, ..Default::default() };
    let uring = Uring::new(&config).map_err(|error| match error {
        RingError::Os { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
            "it is forbidden (by kernel.io_uring_disabled, or by a seccomp profile such as Docker's default)".to_owned()
        }
        RingError::Os { source, .. } if source.raw_os_error() == Some(libc::ENOSYS) => {
            "this kernel has no io_uring".to_owned()
        }
        other => other.to_string(),
    })?;
    match uring.ring.missing() {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(format!("this kernel's io_uring lacks {what}")),
        Err(error) => Err(format!("asking the kernel for its operations: {error}")),
    }
}

impl Uring {
    /// Makes a reactor on the calling thread, which must be the one that drives it. `connections_max` is lowered so
    /// that all slots fit RLIMIT_NOFILE, the kernel's limit for one ring's file table.
    pub fn new(config: &RingConfig) -> Result<Uring, RingError> {
        config.check().map_err(RingError::Config)?;
        let config = &fit_file_table(config)?;
        let ring = Ring::new(config.submissions).map_err(|e| RingError::os("io_uring_setup", e))?;
        ring.register_files(config).map_err(|e| RingError::os("registering the file table", e))?;
        let buffers = ProvidedBuffers::register(ring.io(), config)
            .map_err(|e| RingError::os("registering receive buffers", e))?;
        let mut uring = Uring {
            ring,
            buffers,
            slab: Slab::new(config),
            listeners: Vec::new(),
            starved: VecDeque::new(),
            pending: VecDeque::new(),
            sends: SendPool::default(),
            targets: Vec::new(),
            reaped: Vec::with_capacity(config.completions_per_wait),
            wake: Wake { waker: Waker::new()?, value: Box::new(0) },
            accept_margin: ACCEPT_MARGIN,
            stats: Stats::default(),
        };
        uring.arm_wake();
        Ok(uring)
    }

    fn arm_wake(&mut self) {
        // SAFETY: the box is ours until after the ring is gone, nobody else touches its content, and this is called
        // only when no earlier read is in the kernel.
        let op = unsafe { Op::wake(self.wake.waker.eventfd().as_raw_fd(), &raw mut *self.wake.value) };
        self.ring.push(op);
    }

    /// Pushes an operation of a connection whose completion is to be waited for.
    fn push(&mut self, conn: ConnId, op: Op) {
        if let Some(state) = self.slab.get_mut(conn) {
            state.in_kernel += 1;
            self.ring.push(op);
        }
    }

    fn arm_recv(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn)
            && state.recv == Recv::Idle
            && state.recv_wanted
            && state.phase == Phase::Open
        {
            state.recv = Recv::Armed;
            self.push(conn, Op::recv(conn));
        }
    }

    fn cancel_recv(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn)
            && state.recv == Recv::Armed
        {
            state.recv = Recv::Cancelling;
            self.push(conn, Op::cancel(OpKind::Recv, conn));
        }
    }

    fn submit_send(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn)
            && let Some(send) = &mut state.send
        {
            // SAFETY: the send is boxed and stays in its slot, unchanged, until its completion has been reaped.
            let op = unsafe { Op::send(conn, send) };
            self.push(conn, op);
        }
    }

    /// Takes the next step of a connection that ends, once nothing of it is in the kernel.
    fn progress(&mut self, conn: ConnId) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.in_kernel == 0) else { return };
        match state.phase {
            Phase::Closing if !state.close_submitted => {
                state.close_submitted = true;
                self.push(conn, Op::close(conn));
            }
            Phase::Detaching => self.push(conn, Op::install(conn, OpKind::Install)),
            Phase::Announcing | Phase::Connecting | Phase::Failed | Phase::Open | Phase::Closing => {}
        }
    }

    fn begin_close(&mut self, conn: ConnId, silent: bool) {
        let Some(state) = self.slab.get_mut(conn) else {
            self.stats.unusual.stale += 1;
            return;
        };
        if state.phase == Phase::Closing {
            return;
        }
        let waits = [
            (state.phase == Phase::Connecting, OpKind::Connect),
            (state.recv == Recv::Armed, OpKind::Recv),
            (state.send.is_some(), OpKind::Send),
        ];
        state.phase = Phase::Closing;
        state.silent = silent;
        for (_, what) in waits.into_iter().filter(|(waits, _)| *waits) {
            self.push(conn, Op::cancel(what, conn));
        }
        self.progress(conn);
    }

    /// Arms every listener that can accept. Near the limit they accept one peer at a time: a multishot accept takes
    /// all that wait in the backlog at once, and drops the one that finds the file table full.
    fn arm_listeners(&mut self, now: Instant) {
        let free = self.slab.accepted_free();
        let one_by_one = free <= self.accept_margin;
        let mut budget = free;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let Some(socket) = listener.socket.as_ref().filter(|_| !listener.stopping) else { continue };
            let index = index as u32;
            match listener.accept {
                Accept::Multishot if one_by_one => {
                    listener.accept = Accept::Cancelling;
                    self.ring.push(Op::accept_cancel(index));
                }
                Accept::Idle if budget > 0 && listener.retry_at.is_none_or(|at| at <= now) => {
                    listener.accept = if one_by_one { Accept::One } else { Accept::Multishot };
                    listener.retry_at = None;
                    self.ring.push(Op::accept(socket.as_raw_fd(), index, !one_by_one));
                    budget -= 1;
                }
                Accept::One => budget = budget.saturating_sub(1),
                Accept::Idle | Accept::Multishot | Accept::Cancelling => {}
            }
        }
    }

    fn listener_mut(&mut self, listener: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(listener.0 as usize)
    }

    fn flush_pending(&mut self, out: &mut Completions) {
        while out.room() > 0
            && let Some(entry) = self.pending.pop_front()
        {
            out.push(entry);
        }
    }

    /// Gives handled buffers back, then re-arms those who wait for one, oldest first, and no more of them than
    /// there are buffers.
    fn recycle(&mut self, out: &mut Completions) {
        for buf in out.take_returned() {
            self.buffers.put(buf);
        }
        self.rearm_starved();
    }

    fn rearm_starved(&mut self) {
        self.buffers.publish();
        let served = self.starved.len().min(self.buffers.free() as usize);
        for _ in 0..served {
            let Some(conn) = self.starved.pop_front() else { break };
            if let Some(state) = self.slab.get_mut(conn)
                && state.recv == Recv::Starved
            {
                state.recv = Recv::Idle;
                self.arm_recv(conn);
            }
        }
    }

    fn enter(&mut self, until: Option<Instant>, may_block: bool) -> Result<(), RingError> {
        let now = Instant::now();
        self.arm_listeners(now);
        let until = earlier(until, self.retry_at());
        let block = match until {
            _ if !may_block => Block::No,
            None => Block::Forever,
            Some(at) if at <= now => Block::No,
            Some(at) => Block::For(at - now),
        };
        self.ring.enter(block).map_err(|e| RingError::os("io_uring_enter", e))?;
        if self.ring.all_submitted() {
            self.targets.clear();
        }
        self.stats.unusual.cq_overflows += u64::from(self.ring.overflown());
        self.stats.unusual.submissions_full = self.ring.full;
        self.stats.enters = self.ring.enters;
        Ok(())
    }

    /// When a listener that ran out of something tries again.
    fn retry_at(&self) -> Option<Instant> {
        self.listeners.iter().filter_map(|listener| listener.retry_at).min()
    }

    /// Puts a socket into the file table and takes a slot for it.
    fn place(&mut self, socket: &OwnedFd, phase: Phase) -> Result<ConnId, RingError> {
        let limit = self.slab.outgoing_max();
        let conn = self.slab.claim_outgoing(Conn::new(phase, NO_LISTENER)).ok_or(RingError::Full { limit })?;
        if let Err(error) = self.ring.register_file(conn.slot, socket.as_raw_fd()) {
            self.slab.free(conn, true);
            return Err(RingError::os("registering a socket", error));
        }
        Ok(conn)
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Entries of one ring's file table at most.
fn file_table_max() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(limit).unwrap_or(u32::MAX)
}

fn fit_file_table(config: &RingConfig) -> Result<RingConfig, RingError> {
    let limit = file_table_max();
    let mut config = config.clone();
    if config.outgoing_max > limit {
        return Err(RingError::Config(format!(
            "outgoing_max is {}, more than the limit of open files, {limit}",
            config.outgoing_max
        )));
    }
    config.connections_max = config.connections_max.min(limit - config.outgoing_max);
    Ok(config)
}

impl Reactor for Uring {
    const KIND: ReactorKind = ReactorKind::Uring;

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
        self.listeners.push(Listener { socket: Some(listener), ..Listener::default() });
        Ok(ListenerId(self.listeners.len() as u32 - 1))
    }

    fn local_addr(&self, listener: ListenerId) -> Result<SocketAddr, RingError> {
        let socket = self.listeners.get(listener.0 as usize).and_then(|listener| listener.socket.as_ref());
        net::local_addr(socket.ok_or(RingError::Gone)?.as_fd())
    }

    fn stop_accepting(&mut self, listener: ListenerId) {
        let Some(state) = self.listener_mut(listener).filter(|state| state.socket.is_some() && !state.stopping) else {
            return;
        };
        state.stopping = true;
        state.retry_at = None;
        match state.accept {
            Accept::Idle => {
                state.socket = None;
                self.pending.push_back(Entry::ListenerClosed { listener });
            }
            Accept::Multishot | Accept::One => {
                state.accept = Accept::Cancelling;
                self.ring.push(Op::accept_cancel(listener.0));
            }
            Accept::Cancelling => {}
        }
    }

    fn connect(&mut self, source: Option<SocketAddr>, target: SocketAddr) -> Result<ConnId, RingError> {
        let socket = net::connect_socket(source, target)?;
        let conn = self.place(&socket, Phase::Connecting)?;
        let target = Box::new(op::socket_address(target));
        // SAFETY: the box keeps the address in place until `enter` has seen everything submitted.
        let op = unsafe { Op::connect(conn, &target) };
        self.targets.push(target);
        self.push(conn, op);
        Ok(conn)
    }

    fn adopt(&mut self, fd: OwnedFd) -> Result<ConnId, RingError> {
        let conn = self.place(&fd, Phase::Open)?;
        self.stats.connections.adopted += 1;
        self.arm_recv(conn);
        Ok(conn)
    }

    fn send(&mut self, conn: ConnId, queue: &mut VecDeque<Bytes>) -> Result<usize, RingError> {
        let Some(state) = self.slab.get_mut(conn) else {
            self.stats.unusual.stale += 1;
            return Err(RingError::Gone);
        };
        match state.phase {
            Phase::Open => {}
            Phase::Connecting | Phase::Failed | Phase::Announcing => return Err(RingError::NotConnected),
            Phase::Detaching | Phase::Closing => return Err(RingError::Gone),
        }
        if state.send.is_some() {
            return Err(RingError::Busy);
        }
        let Some((op, bytes)) = self.sends.take(queue) else { return Ok(0) };
        state.send = Some(op);
        self.submit_send(conn);
        Ok(bytes)
    }

    fn pause_recv(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn) {
            state.recv_wanted = false;
            self.cancel_recv(conn);
        }
    }

    fn resume_recv(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn) {
            state.recv_wanted = true;
            self.arm_recv(conn);
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Open) else { return };
        if state.send.is_some() {
            state.shutdown_wanted = true;
        } else {
            self.push(conn, Op::shutdown(conn));
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.begin_close(conn, false);
    }

    fn detach(&mut self, conn: ConnId) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Open) else { return };
        state.phase = Phase::Detaching;
        self.cancel_recv(conn);
        self.progress(conn);
    }

    fn waker(&self) -> Waker {
        self.wake.waker.clone()
    }

    fn wait(&mut self, until: Option<Instant>, out: &mut Completions) -> Result<(), RingError> {
        self.stats.waits += 1;
        self.recycle(out);
        self.flush_pending(out);
        // A kernel queue that fills the array already is drained first; entering would only make it longer.
        if self.ring.ready() < out.room() {
            let may_block = out.is_empty() && self.ring.ready() == 0;
            self.enter(until, may_block)?;
        }
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(out.room(), &mut reaped);
        for cqe in reaped.drain(..) {
            self.complete(cqe, out);
        }
        self.reaped = reaped;
        Ok(())
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}
