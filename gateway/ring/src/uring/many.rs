//! Several rings as one reactor: the table of direct descriptors of one ring ends at RLIMIT_NOFILE, that of a process
//! does not. Owns which ring a connection lives in and which rings have to be entered; everything else is [`Uring`]'s.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::{Uring, earlier, file_table_max};
use crate::completion::{Completions, Entry};
use crate::config::RingConfig;
use crate::error::RingError;
use crate::net;
use crate::reactor::{Reactor, ReactorKind};
use crate::stats::Stats;
use crate::token::{ConnId, ListenerId};
use crate::waker::Waker;

/// Rings there may be: what a receive buffer can name.
const RINGS_MAX: u32 = 1 << 16;

/// Names the waker among what is watched; rings have their number.
const WAKER: u64 = u64::MAX;

/// A [`Reactor`] of many io_uring rings on one thread, for more connections than RLIMIT_NOFILE. Receive buffers and
/// submission queues are those of the configuration in every ring. Each ring takes three descriptors of the process.
pub struct Rings {
    rings: Vec<Member>,
    /// Slots of one ring; slot n of ring r is `r * stride + n`.
    stride: u32,
    epoll: OwnedFd,
    events: Vec<Event>,
    /// Rings that hold something to submit or to reap, each once.
    touched: Vec<u32>,
    /// Where the next connect looks first.
    connecting: usize,
    /// Rings that still accept, of each listener.
    accepting: Vec<u32>,
    /// Its eventfd is watched directly: written through a ring, one eventfd would have to tell of another.
    waker: Waker,
    stats: Stats,
}

struct Member {
    uring: Uring,
    /// Written by the kernel when the ring has something to tell.
    _news: OwnedFd,
    touched: bool,
    /// Its counters as far as they are in the sum.
    counted: Stats,
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").field("rings", &self.rings.len()).field("stats", &self.stats).finish()
    }
}

impl Rings {
    /// As few rings as RLIMIT_NOFILE allows for all slots of `config`, on the calling thread, which must drive them.
    pub fn new(config: &RingConfig) -> Result<Rings, RingError> {
        let slots = u64::from(config.connections_max) + u64::from(config.outgoing_max);
        let rings = slots.div_ceil(u64::from(file_table_max().max(1))).max(1);
        Rings::split(config, u32::try_from(rings).unwrap_or(RINGS_MAX))
    }

    /// The slots of `config` shared out among so many rings.
    pub fn split(config: &RingConfig, rings: u32) -> Result<Rings, RingError> {
        config.check().map_err(RingError::Config)?;
        if !(1..=RINGS_MAX).contains(&rings) {
            return Err(RingError::Config(format!("{rings} rings, must be 1 to {RINGS_MAX}")));
        }
        let share = |of: u32, ring: u32| of / rings + u32::from(ring < of % rings);
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| RingError::os("epoll_create1", e))?;
        let waker = Waker::new()?;
        epoll::add(&epoll, waker.eventfd(), EventData::new_u64(WAKER), EventFlags::IN)
            .map_err(|e| RingError::os("watching a waker", e))?;
        let mut members = Vec::with_capacity(rings as usize);
        for ring in 0..rings {
            let (connections_max, outgoing_max) =
                (share(config.connections_max, ring), share(config.outgoing_max, ring));
            let mut uring = Uring::new(&RingConfig { connections_max, outgoing_max, ..config.clone() })?;
            // All share one backlog: none takes more of it at once than it has room for.
            uring.accept_margin = u32::MAX;
            let news = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| RingError::os("eventfd", e))?;
            uring.ring.notify(news.as_raw_fd()).map_err(|e| RingError::os("registering an eventfd", e))?;
            // Every write is news, so that nobody has to read.
            let data = EventData::new_u64(u64::from(ring));
            epoll::add(&epoll, &news, data, EventFlags::IN | EventFlags::ET)
                .map_err(|e| RingError::os("watching a ring", e))?;
            members.push(Member { uring, _news: news, touched: false, counted: Stats::default() });
        }
        let stride = members.iter().map(|member| member.uring.capacity()).max().unwrap_or(1);
        let mut all = Rings {
            rings: members,
            stride,
            epoll,
            events: Vec::with_capacity(rings as usize + 1),
            touched: Vec::with_capacity(rings as usize),
            connecting: 0,
            accepting: Vec::new(),
            waker,
            stats: Stats::default(),
        };
        // The read of its waker is not submitted yet.
        (0..rings).for_each(|ring| all.touch(ring));
        Ok(all)
    }

    fn touch(&mut self, ring: u32) {
        if let Some(member) = self.rings.get_mut(ring as usize)
            && !std::mem::replace(&mut member.touched, true)
        {
            self.touched.push(ring);
        }
    }

    /// The ring of a connection, which will have something to submit, and its name there.
    fn at(&mut self, conn: ConnId) -> Option<(&mut Uring, ConnId)> {
        let ring = conn.slot / self.stride;
        self.touch(ring);
        let inner = ConnId { slot: conn.slot % self.stride, ..conn };
        self.rings.get_mut(ring as usize).map(|member| (&mut member.uring, inner))
    }

    /// Makes a connection in the first ring that has room.
    fn open(&mut self, mut make: impl FnMut(&mut Uring) -> Result<ConnId, RingError>) -> Result<ConnId, RingError> {
        let count = self.rings.len();
        let room = |at: &usize| !self.rings[at % count].uring.slab.outgoing_full();
        let Some(at) = (self.connecting..self.connecting + count).find(room) else {
            return Err(RingError::Full { limit: self.rings.iter().map(|it| it.uring.slab.outgoing_max()).sum() });
        };
        self.connecting = at % count;
        let ring = self.connecting as u32;
        self.touch(ring);
        let conn = make(&mut self.rings[self.connecting].uring)?;
        Ok(ConnId { slot: ring * self.stride + conn.slot, ..conn })
    }

    /// Lets a ring submit and reap without blocking; names what it reports as ours.
    fn enter(&mut self, ring: u32, out: &mut Completions) -> Result<(), RingError> {
        let from = out.len();
        let base = ring * self.stride;
        let Some(member) = self.rings.get_mut(ring as usize) else { return Ok(()) };
        member.touched = false;
        let reaped = member.uring.ring.reaped;
        member.uring.wait(Some(Instant::now()), out)?;
        self.stats.add_growth(&member.counted, &member.uring.stats);
        member.counted = member.uring.stats;
        // One `enter` does a part of the deferred work, and what is left is no news: only one that finds nothing ends it.
        let found = member.uring.ring.reaped > reaped || member.uring.ring.ready() > 0;
        if found || !member.uring.pending.is_empty() || !member.uring.ring.all_submitted() {
            self.touch(ring);
        }
        let mut early = Vec::new();
        for (at, entry) in out.added_since(from).enumerate() {
            match entry {
                Entry::Accepted { conn, .. }
                | Entry::Connected { conn, .. }
                | Entry::RecvEof { conn }
                | Entry::RecvError { conn, .. }
                | Entry::Sent { conn, .. }
                | Entry::Closed { conn }
                | Entry::Detached { conn, .. } => conn.slot += base,
                Entry::Received { conn, buf, .. } => {
                    conn.slot += base;
                    buf.ring = ring as u16;
                }
                Entry::ListenerClosed { listener } => {
                    let left = self.accepting.get_mut(listener.0 as usize);
                    if left.is_some_and(|left| {
                        *left = left.saturating_sub(1);
                        *left > 0
                    }) {
                        early.push(from + at);
                    }
                }
                Entry::AcceptError { .. } | Entry::Wake => {}
            }
        }
        early.into_iter().rev().for_each(|at| out.remove(at));
        Ok(())
    }

    /// Gives handled buffers back to the rings they came from.
    fn recycle(&mut self, out: &mut Completions) {
        for buf in out.take_returned() {
            let ring = u32::from(buf.ring);
            let Some(member) = self.rings.get_mut(ring as usize) else { continue };
            member.uring.buffers.put(buf);
            // The kernel takes it from there without a call, unless somebody waits for one.
            if !member.uring.starved.is_empty() && !std::mem::replace(&mut member.touched, true) {
                self.touched.push(ring);
            }
            member.uring.buffers.publish();
        }
    }

    fn poll(&mut self, until: Option<Instant>, may_block: bool, out: &mut Completions) -> Result<(), RingError> {
        let left = match until {
            _ if !may_block => Some(Duration::ZERO),
            None => None,
            Some(at) => Some(at.saturating_duration_since(Instant::now())),
        };
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(RingError::os("epoll_wait", error)),
        }
        self.stats.enters += 1;
        for at in 0..self.events.len() {
            let data = self.events[at].data;
            if data.u64() != WAKER {
                self.touch(data.u64() as u32);
                continue;
            }
            let _ = rustix::io::read(self.waker.eventfd(), &mut [0_u8; 8]);
            if self.waker.take() {
                out.push(Entry::Wake);
            }
        }
        Ok(())
    }

    /// Enters every touched ring as long as there is room for what they report.
    fn enter_touched(&mut self, out: &mut Completions) -> Result<(), RingError> {
        for _ in 0..self.touched.len() {
            if out.room() == 0 {
                break;
            }
            let ring = self.touched.remove(0);
            self.enter(ring, out)?;
        }
        Ok(())
    }
}

impl Reactor for Rings {
    const KIND: ReactorKind = ReactorKind::Uring;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn capacity(&self) -> u32 {
        self.rings.len() as u32 * self.stride
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<ListenerId, RingError> {
        self.listen_on(net::listen_socket(addr, backlog)?)
    }

    /// All rings accept from the same socket: one that is full leaves peers to the others.
    fn listen_on(&mut self, listener: OwnedFd) -> Result<ListenerId, RingError> {
        let copies: Result<Vec<OwnedFd>, _> = (1..self.rings.len()).map(|_| listener.try_clone()).collect();
        let copies = copies.map_err(|e| RingError::os("duplicating a listener", e))?;
        let mut id = ListenerId(0);
        for (ring, socket) in copies.into_iter().chain([listener]).enumerate() {
            id = self.rings[ring].uring.listen_on(socket)?;
            self.touch(ring as u32);
        }
        self.accepting.push(self.rings.len() as u32);
        Ok(id)
    }

    fn local_addr(&self, listener: ListenerId) -> Result<SocketAddr, RingError> {
        self.rings.first().ok_or(RingError::Gone)?.uring.local_addr(listener)
    }

    fn stop_accepting(&mut self, listener: ListenerId) {
        for ring in 0..self.rings.len() {
            self.rings[ring].uring.stop_accepting(listener);
            self.touch(ring as u32);
        }
    }

    fn connect(&mut self, source: Option<SocketAddr>, target: SocketAddr) -> Result<ConnId, RingError> {
        self.open(|uring| uring.connect(source, target))
    }

    fn adopt(&mut self, fd: OwnedFd) -> Result<ConnId, RingError> {
        let mut fd = Some(fd);
        self.open(|uring| uring.adopt(fd.take().ok_or(RingError::Gone)?))
    }

    fn send(&mut self, conn: ConnId, queue: &mut VecDeque<Bytes>) -> Result<usize, RingError> {
        self.at(conn).map_or(Err(RingError::Gone), |(uring, conn)| uring.send(conn, queue))
    }

    fn pause_recv(&mut self, conn: ConnId) {
        if let Some((uring, conn)) = self.at(conn) {
            uring.pause_recv(conn);
        }
    }

    fn resume_recv(&mut self, conn: ConnId) {
        if let Some((uring, conn)) = self.at(conn) {
            uring.resume_recv(conn);
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        if let Some((uring, conn)) = self.at(conn) {
            uring.shutdown(conn);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if let Some((uring, conn)) = self.at(conn) {
            uring.close(conn);
        }
    }

    fn detach(&mut self, conn: ConnId) {
        if let Some((uring, conn)) = self.at(conn) {
            uring.detach(conn);
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn wait(&mut self, until: Option<Instant>, out: &mut Completions) -> Result<(), RingError> {
        self.recycle(out);
        self.enter_touched(out)?;
        if out.room() > 0 {
            let retry_at = self.rings.iter().filter_map(|member| member.uring.retry_at()).min();
            let may_block = out.is_empty() && self.touched.is_empty();
            self.poll(earlier(until, retry_at), may_block, out)?;
            if retry_at.is_some_and(|at| at <= Instant::now()) {
                (0..self.rings.len() as u32).for_each(|ring| self.touch(ring));
            }
            self.enter_touched(out)?;
        }
        Ok(())
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}
