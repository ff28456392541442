//! The test's hand in a simulated network: peers that connect, write, read, stall, reset, and the clock. Sees the world
//! only from outside the reactor.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::world::{PeerEnd, SimFaults, World};

/// A peer of the simulated network, on the other side of one connection of the reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SimPeer(usize);

/// Handle to the network of a [`Sim`](super::Sim). Clones share it. A peer that is not read stalls: once its window is
/// full, sends to it wait.
#[derive(Debug, Clone)]
pub struct SimNet {
    pub(super) world: Rc<RefCell<World>>,
}

impl SimNet {
    /// A new peer that connects to a listener of the reactor; `None` when nothing listens on `addr`.
    pub fn connect(&self, addr: SocketAddr) -> Option<SimPeer> {
        let mut world = self.world.borrow_mut();
        world.backlogs.get(&addr)?;
        let number = world.links.len();
        let peer = SocketAddr::from(([10, (number >> 16) as u8, (number >> 8) as u8, number as u8], 30_000));
        let link = world.add_link(peer);
        world.backlogs.entry(addr).or_default().push_back(link);
        Some(SimPeer(link))
    }

    /// Lets the reactor connect to `addr`; other targets refuse.
    pub fn serve(&self, addr: SocketAddr) {
        self.world.borrow_mut().served.entry(addr).or_default();
    }

    /// The oldest connection the reactor made to a served address that was not returned before.
    pub fn accept(&self, addr: SocketAddr) -> Option<SimPeer> {
        self.world.borrow_mut().served.get_mut(&addr)?.pop_front().map(SimPeer)
    }

    /// The address the reactor sees as the peer's.
    pub fn addr(&self, peer: SimPeer) -> SocketAddr {
        self.world.borrow().links[peer.0].peer
    }

    /// Sends bytes to the reactor. Lost when the connection is reset or the peer has shut down.
    pub fn write(&self, peer: SimPeer, bytes: &[u8]) {
        let link = &mut self.world.borrow_mut().links[peer.0];
        if !link.peer_shut && link.socket_end != PeerEnd::Reset {
            link.to_socket.extend(bytes);
        }
    }

    /// Takes all bytes that have arrived from the reactor.
    pub fn read(&self, peer: SimPeer) -> Vec<u8> {
        self.world.borrow_mut().links[peer.0].to_peer.drain(..).collect()
    }

    /// Sends an end of stream; the peer can still read.
    pub fn shutdown_write(&self, peer: SimPeer) {
        self.world.borrow_mut().links[peer.0].peer_shut = true;
    }

    /// Closes the peer's side: an end of stream, and whatever the reactor sends later is answered by a reset.
    pub fn close(&self, peer: SimPeer) {
        let link = &mut self.world.borrow_mut().links[peer.0];
        link.peer_shut = true;
        link.peer_gone = true;
    }

    /// Resets the connection; bytes on their way are lost.
    pub fn reset(&self, peer: SimPeer) {
        self.world.borrow_mut().links[peer.0].reset();
    }

    /// How the reactor's side has ended, as the peer sees it.
    pub fn end(&self, peer: SimPeer) -> PeerEnd {
        self.world.borrow().links[peer.0].socket_end
    }

    /// The peer's end of the socket pair that stands for the connection after the reactor gave it away.
    pub fn take_detached(&self, peer: SimPeer) -> Option<OwnedFd> {
        self.world.borrow_mut().links[peer.0].detached.take()
    }

    /// The virtual time. Only `advance` moves it.
    pub fn now(&self) -> Instant {
        self.world.borrow().now
    }

    /// Lets virtual time pass: delayed completions and deadlines come due.
    pub fn advance(&self, by: Duration) {
        self.world.borrow_mut().now += by;
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: SimFaults) {
        self.world.borrow_mut().faults = faults;
    }

    /// Fingerprint of everything the reactor has done: equal for equal seeds and equal calls.
    pub fn trace(&self) -> u64 {
        self.world.borrow().trace()
    }
}
