//! The simulated reactor, for tests: the contract of [`Reactor`] over an in-memory network, with order, sizes, delays and
//! failures drawn from a seed. Blocks never and touches no real socket, except the pair that a detach hands out.

mod act;
mod net;
mod world;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

pub use self::net::{SimNet, SimPeer};
use self::world::World;
pub use self::world::{PeerEnd, SimFaults};
use crate::completion::{Completions, Entry, RecvBuf};
use crate::config::RingConfig;
use crate::error::RingError;
use crate::reactor::{Reactor, ReactorKind};
use crate::send::{SendOp, SendPool};
use crate::slab::Slab;
use crate::stats::Stats;
use crate::token::{ConnId, ListenerId};
use crate::waker::Waker;

/// Bytes a simulated peer holds unread before sends to it wait.
pub const SIM_WINDOW_BYTES: usize = 64 * 1024;

/// First port given to a listener that asked for port 0.
const FIRST_PORT: u16 = 40_000;

/// A [`Reactor`] on a simulated network. `wait` never blocks: it reports what the virtual time and the dice allow, so a
/// test alternates between the shard's tick and [`SimNet::advance`]. `listen_on` and `adopt` are not supported.
pub struct Sim {
    world: Rc<RefCell<World>>,
    slab: Slab<Conn>,
    /// Addresses of listeners; `None` once stopped.
    listeners: Vec<Option<SocketAddr>>,
    pending: VecDeque<Entry>,
    buffers: Vec<RecvBuf>,
    sends: SendPool,
    waker: Waker,
    stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting(SocketAddr),
    Failed,
    Open,
    Detaching,
    Closing,
}

struct Conn {
    link: usize,
    phase: Phase,
    recv_wanted: bool,
    recv_ended: bool,
    shutdown_wanted: bool,
    /// Nothing happens to it before.
    held_until: Option<Instant>,
    send: Option<Box<SendOp>>,
}

impl Conn {
    fn new(link: usize, phase: Phase) -> Conn {
        Conn { link, phase, recv_wanted: true, recv_ended: false, shutdown_wanted: false, held_until: None, send: None }
    }
}

impl Sim {
    /// A reactor and the hand that plays its network. Print `seed` when a test fails: it replays the run.
    pub fn new(config: &RingConfig, seed: u64, faults: SimFaults) -> Result<(Sim, SimNet), RingError> {
        config.check().map_err(RingError::Config)?;
        let world = Rc::new(RefCell::new(World::new(seed, faults, SIM_WINDOW_BYTES)));
        let buffers = (0..config.buffers)
            .map(|id| RecvBuf { id: id as u16, ring: 0, data: vec![0; config.buffer_bytes].into_boxed_slice() })
            .collect();
        let sim = Sim {
            world: world.clone(),
            slab: Slab::new(config),
            listeners: Vec::new(),
            pending: VecDeque::new(),
            buffers,
            sends: SendPool::default(),
            waker: Waker::new()?,
            stats: Stats::default(),
        };
        Ok((sim, SimNet { world }))
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("capacity", &self.slab.capacity()).field("stats", &self.stats).finish()
    }
}

fn unsupported(what: &'static str) -> RingError {
    RingError::os(what, io::ErrorKind::Unsupported)
}

impl Reactor for Sim {
    const KIND: ReactorKind = ReactorKind::Sim;

    fn now(&self) -> Instant {
        self.world.borrow().now
    }

    fn capacity(&self) -> u32 {
        self.slab.capacity()
    }

    fn listen(&mut self, mut addr: SocketAddr, _backlog: u32) -> Result<ListenerId, RingError> {
        let index = self.listeners.len();
        if addr.port() == 0 {
            addr.set_port(FIRST_PORT + index as u16);
        }
        let mut world = self.world.borrow_mut();
        if world.backlogs.contains_key(&addr) {
            return Err(RingError::AddressInUse { addr });
        }
        world.backlogs.insert(addr, VecDeque::new());
        self.listeners.push(Some(addr));
        Ok(ListenerId(index as u32))
    }

    fn listen_on(&mut self, _listener: OwnedFd) -> Result<ListenerId, RingError> {
        Err(unsupported("listen_on in a simulation"))
    }

    fn local_addr(&self, listener: ListenerId) -> Result<SocketAddr, RingError> {
        self.listeners.get(listener.0 as usize).copied().flatten().ok_or(RingError::Gone)
    }

    fn stop_accepting(&mut self, listener: ListenerId) {
        let Some(addr) = self.listeners.get_mut(listener.0 as usize).and_then(Option::take) else { return };
        let mut world = self.world.borrow_mut();
        for link in world.backlogs.remove(&addr).unwrap_or_default() {
            world.links[link].reset();
        }
        self.pending.push_back(Entry::ListenerClosed { listener });
    }

    fn connect(&mut self, source: Option<SocketAddr>, target: SocketAddr) -> Result<ConnId, RingError> {
        if self.slab.outgoing_full() {
            return Err(RingError::Full { limit: self.slab.outgoing_max() });
        }
        let link = self.world.borrow_mut().add_link(source.unwrap_or(target));
        let limit = self.slab.outgoing_max();
        self.slab.claim_outgoing(Conn::new(link, Phase::Connecting(target))).ok_or(RingError::Full { limit })
    }

    fn adopt(&mut self, _fd: OwnedFd) -> Result<ConnId, RingError> {
        Err(unsupported("adopt in a simulation"))
    }

    fn send(&mut self, conn: ConnId, queue: &mut VecDeque<Bytes>) -> Result<usize, RingError> {
        let Some(state) = self.slab.get_mut(conn) else {
            self.stats.unusual.stale += 1;
            return Err(RingError::Gone);
        };
        match state.phase {
            Phase::Open => {}
            Phase::Connecting(_) | Phase::Failed => return Err(RingError::NotConnected),
            Phase::Detaching | Phase::Closing => return Err(RingError::Gone),
        }
        if state.send.is_some() {
            return Err(RingError::Busy);
        }
        let Some((op, bytes)) = self.sends.take(queue) else { return Ok(0) };
        state.send = Some(op);
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
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Open) else { return };
        state.shutdown_wanted = true;
        self.finish_shutdown(conn);
    }

    fn close(&mut self, conn: ConnId) {
        match self.slab.get_mut(conn) {
            Some(state) => state.phase = Phase::Closing,
            None => self.stats.unusual.stale += 1,
        }
    }

    fn detach(&mut self, conn: ConnId) {
        if let Some(state) = self.slab.get_mut(conn).filter(|state| state.phase == Phase::Open) {
            state.phase = Phase::Detaching;
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn wait(&mut self, _until: Option<Instant>, out: &mut Completions) -> Result<(), RingError> {
        self.stats.waits += 1;
        self.buffers.extend(out.take_returned());
        while out.room() > 0
            && let Some(entry) = self.pending.pop_front()
        {
            out.push(entry);
        }
        if out.room() > 0 && self.waker.take() {
            out.push(Entry::Wake);
        }
        self.act(out);
        Ok(())
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}
