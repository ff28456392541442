//! The simulated network: byte pipes between peers and sockets, a virtual clock and the dice. Owns all chance, so that
//! one seed gives one run; decides nothing about what a reactor reports.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often things go wrong, in thousandths of the chances they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimFaults {
    /// A send takes only part of what it could.
    pub short_send: u32,
    /// A receive returns only part of what is there.
    pub short_recv: u32,
    /// What could happen now happens only after up to `delay_max`.
    pub delay: u32,
    /// Longest delay.
    pub delay_max: Duration,
    /// A receive finds no buffer and tries again later.
    pub no_buffers: u32,
    /// Accepting fails for want of descriptors; the peer stays in the backlog.
    pub accept_error: u32,
    /// A connect is refused.
    pub connect_error: u32,
    /// A send resets the connection instead.
    pub send_error: u32,
    /// A receive finds the connection reset.
    pub recv_error: u32,
    /// A detach fails for want of descriptors.
    pub detach_error: u32,
}

impl SimFaults {
    /// Nothing goes wrong. Order among connections is still by chance.
    pub fn none() -> SimFaults {
        SimFaults {
            short_send: 0,
            short_recv: 0,
            delay: 0,
            delay_max: Duration::ZERO,
            no_buffers: 0,
            accept_error: 0,
            connect_error: 0,
            send_error: 0,
            recv_error: 0,
            detach_error: 0,
        }
    }

    /// Much is slow and partial, but no connection breaks: every byte must arrive.
    pub fn rough() -> SimFaults {
        SimFaults {
            short_send: 400,
            short_recv: 300,
            delay: 200,
            delay_max: Duration::from_millis(20),
            no_buffers: 100,
            accept_error: 100,
            ..SimFaults::none()
        }
    }

    /// As `rough`, and connections break.
    pub fn hostile() -> SimFaults {
        SimFaults { connect_error: 50, send_error: 20, recv_error: 20, detach_error: 50, ..SimFaults::rough() }
    }
}

/// SplitMix64: small, seedable, the same everywhere.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % (end as u64).max(1)) as usize
    }

    pub(super) fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.below(1000) < thousandths as usize
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// How a peer sees its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnd {
    /// The reactor's side may send more.
    Open,
    /// The reactor's side shut down or closed; what it sent before can still be read.
    Eof,
    /// The connection was reset.
    Reset,
}

/// One connection: two pipes and how far each side has ended.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: SocketAddr,
    pub(super) to_socket: VecDeque<u8>,
    pub(super) to_peer: VecDeque<u8>,
    /// The peer sends no more.
    pub(super) peer_shut: bool,
    /// The peer reads no more either.
    pub(super) peer_gone: bool,
    pub(super) socket_end: PeerEnd,
    /// The peer's end of a socket pair, once the reactor gave the connection away.
    pub(super) detached: Option<OwnedFd>,
}

impl Link {
    pub(super) fn new(peer: SocketAddr) -> Link {
        Link {
            peer,
            to_socket: VecDeque::new(),
            to_peer: VecDeque::new(),
            peer_shut: false,
            peer_gone: false,
            socket_end: PeerEnd::Open,
            detached: None,
        }
    }

    pub(super) fn reset(&mut self) {
        self.socket_end = PeerEnd::Reset;
        self.to_socket.clear();
        self.to_peer.clear();
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) dice: Dice,
    pub(super) faults: SimFaults,
    /// Bytes a peer's side holds that it has not read; then sends of the socket wait.
    pub(super) window_bytes: usize,
    pub(super) links: Vec<Link>,
    /// Peers that wait for the reactor to accept them, by its listening address.
    pub(super) backlogs: BTreeMap<SocketAddr, VecDeque<usize>>,
    /// Connections the reactor made and the test has not taken, by the address the test serves.
    pub(super) served: BTreeMap<SocketAddr, VecDeque<usize>>,
    trace: u64,
}

impl World {
    pub(super) fn new(seed: u64, faults: SimFaults, window_bytes: usize) -> World {
        World {
            now: Instant::now(),
            dice: Dice::new(seed),
            faults,
            window_bytes,
            links: Vec::new(),
            backlogs: BTreeMap::new(),
            served: BTreeMap::new(),
            trace: 0xCBF2_9CE4_8422_2325,
        }
    }

    pub(super) fn add_link(&mut self, peer: SocketAddr) -> usize {
        self.links.push(Link::new(peer));
        self.links.len() - 1
    }

    /// Mixes what happened into the fingerprint of the run.
    pub(super) fn note(&mut self, what: &[u64]) {
        for value in what {
            self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }
}
