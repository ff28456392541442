//! The simulated reactor keeps the contract under every fault it makes, and one seed gives one run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use gochat_ring::{
    Completion, Completions, ConnId, PeerEnd, Reactor, RingConfig, RingError, SIM_WINDOW_BYTES, Sim, SimFaults, SimNet,
    SimPeer,
};

const STEP: Duration = Duration::from_millis(1);

fn config() -> RingConfig {
    RingConfig {
        connections_max: 8,
        outgoing_max: 2,
        buffers: 4,
        buffer_bytes: 64,
        completions_per_wait: 4,
        ..RingConfig::default()
    }
}

/// An echo server that checks the order of what it is told.
struct Echo {
    sim: Sim,
    net: SimNet,
    addr: SocketAddr,
    completions: Completions,
    live: BTreeMap<ConnId, VecDeque<Bytes>>,
    closing: Vec<ConnId>,
    wakes: usize,
    ended: usize,
}

impl Echo {
    fn new(seed: u64, faults: SimFaults) -> Echo {
        let (mut sim, net) = Sim::new(&config(), seed, faults).unwrap();
        let listener = sim.listen(([127, 0, 0, 1], 0).into(), 16).unwrap();
        let addr = sim.local_addr(listener).unwrap();
        let completions = Completions::new(&config());
        Echo { sim, net, addr, completions, live: BTreeMap::new(), closing: Vec::new(), wakes: 0, ended: 0 }
    }

    fn close(&mut self, conn: ConnId) {
        self.sim.close(conn);
        self.closing.push(conn);
    }

    fn tick(&mut self) {
        self.net.advance(STEP);
        self.sim.wait(None, &mut self.completions).unwrap();
        assert!(self.completions.len() <= 4);
        let mut ended = Vec::new();
        while let Some(completion) = self.completions.next_completion() {
            match completion {
                Completion::Accepted { conn, .. } => {
                    assert!(self.live.insert(conn, VecDeque::new()).is_none());
                }
                Completion::Received { conn, data } => {
                    let queue = self.live.get_mut(&conn).unwrap();
                    queue.push_back(Bytes::copy_from_slice(data));
                    let _ = self.sim.send(conn, queue);
                }
                Completion::Sent { conn, result: Ok(()), .. } => {
                    let _ = self.sim.send(conn, self.live.get_mut(&conn).unwrap());
                }
                Completion::RecvEof { conn }
                | Completion::RecvError { conn, .. }
                | Completion::Sent { conn, result: Err(_), .. } => {
                    assert!(self.live.contains_key(&conn));
                    ended.push(conn);
                }
                Completion::Closed { conn } => {
                    assert!(self.live.remove(&conn).is_some() && self.closing.contains(&conn));
                    self.ended += 1;
                }
                Completion::Wake => self.wakes += 1,
                Completion::AcceptError { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // Only now, so that what stood in the array behind an end has been seen too.
        for conn in ended {
            if !self.closing.contains(&conn) {
                self.close(conn);
            }
        }
    }
}

/// Writes in pieces, reads now and then, and returns what came back to each peer.
fn converse(echo: &mut Echo, bytes: &[u8], peers: usize, ticks: usize) -> Vec<Vec<u8>> {
    let clients: Vec<SimPeer> = (0..peers).map(|_| echo.net.connect(echo.addr).unwrap()).collect();
    let mut back = vec![Vec::new(); peers];
    for (round, piece) in bytes.chunks(37).enumerate() {
        for (at, client) in clients.iter().enumerate() {
            echo.net.write(*client, piece);
            if round % (at + 1) == 0 {
                back[at].extend(echo.net.read(*client));
            }
        }
        echo.tick();
    }
    for _ in 0..ticks {
        echo.tick();
        for (at, client) in clients.iter().enumerate() {
            back[at].extend(echo.net.read(*client));
        }
    }
    for client in &clients {
        echo.net.close(*client);
    }
    back
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn rough_weather_loses_no_byte() {
    let mut unusual = [0; 3];
    for seed in 0..100 {
        let mut echo = Echo::new(seed, SimFaults::rough());
        let bytes = pattern(3000);
        let back = converse(&mut echo, &bytes, 12, 3000);
        let all = back.iter().filter(|back| **back == bytes).count();
        // Eight slots for twelve peers: the others wait until somebody leaves.
        assert_eq!(all, 8, "seed {seed}");
        assert!(back.iter().all(|back| back.is_empty() || *back == bytes), "seed {seed}");
        for _ in 0..500 {
            echo.tick();
        }
        assert_eq!((echo.ended, echo.live.len()), (12, 0), "seed {seed}");
        let stats = echo.sim.stats().unusual;
        unusual = [unusual[0] + stats.short_sends, unusual[1] + stats.no_buffers, unusual[2] + stats.accept_errors];
    }
    assert!(unusual.iter().all(|count| *count > 100), "faults are too rare: {unusual:?}");
}

#[test]
fn hostile_weather_ends_every_connection_once() {
    let mut broken = 0;
    for seed in 0..100 {
        let mut echo = Echo::new(seed, SimFaults::hostile());
        let bytes = pattern(1000);
        let back = converse(&mut echo, &bytes, 8, 600);
        for _ in 0..500 {
            echo.tick();
        }
        assert_eq!((echo.ended, echo.live.len()), (8, 0), "seed {seed}");
        assert!(back.iter().all(|back| bytes.starts_with(back)), "seed {seed}");
        broken += back.iter().filter(|back| back.len() < bytes.len()).count();
    }
    assert!(broken > 50, "hardly anything broke: {broken}");
}

#[test]
fn one_seed_gives_one_run() {
    let run = |seed| {
        let mut echo = Echo::new(seed, SimFaults::hostile());
        let back = converse(&mut echo, &pattern(500), 5, 200);
        (echo.net.trace(), back, *echo.sim.stats())
    };
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed).0, run(seed + 1).0, "seeds {seed} and {}", seed + 1);
    }
}

#[test]
fn a_peer_that_does_not_read_stalls_the_send() {
    let mut echo = Echo::new(1, SimFaults::none());
    let client = echo.net.connect(echo.addr).unwrap();
    echo.tick();
    let conn = *echo.live.keys().next().unwrap();
    let bytes = pattern(SIM_WINDOW_BYTES * 2);
    let mut queue = VecDeque::from([Bytes::from(bytes.clone())]);
    assert_eq!(echo.sim.send(conn, &mut queue).unwrap(), bytes.len());
    for _ in 0..10 {
        echo.tick();
    }
    queue.push_back(Bytes::from_static(b"more"));
    assert!(matches!(echo.sim.send(conn, &mut queue), Err(RingError::Busy)));
    let mut got = echo.net.read(client);
    assert_eq!(got.len(), SIM_WINDOW_BYTES);
    echo.tick();
    got.extend(echo.net.read(client));
    assert!(got == bytes);
    echo.sim.shutdown(conn);
    assert_eq!(echo.net.end(client), PeerEnd::Eof);
    echo.net.reset(client);
    echo.tick();
    echo.tick();
    assert_eq!(echo.ended, 1);
}

#[test]
fn a_detached_connection_keeps_its_bytes() {
    let (mut sim, net) = Sim::new(&config(), 7, SimFaults::none()).unwrap();
    let mut completions = Completions::new(&config());
    let listener = sim.listen("10.9.9.9:80".parse().unwrap(), 1).unwrap();
    let client = net.connect(sim.local_addr(listener).unwrap()).unwrap();
    sim.wait(None, &mut completions).unwrap();
    let Some(Completion::Accepted { conn, peer, .. }) = completions.next_completion() else { panic!() };
    assert_eq!(peer, net.addr(client));
    sim.detach(conn);
    net.write(client, b"GET / HTTP/1.1\r\n");
    sim.wait(None, &mut completions).unwrap();
    let Some(Completion::Detached { fd, .. }) = completions.next_completion() else { panic!() };
    let (mut server, mut client) =
        (UnixStream::from(fd.unwrap()), UnixStream::from(net.take_detached(client).unwrap()));
    let mut head = [0; 16];
    server.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"GET / HTTP/1.1\r\n");
    server.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
    client.read_exact(&mut [0; 17]).unwrap();
    sim.stop_accepting(listener);
    sim.wait(None, &mut completions).unwrap();
    assert!(matches!(completions.next_completion(), Some(Completion::ListenerClosed { .. })));
    assert!(net.connect("10.9.9.9:80".parse().unwrap()).is_none());
}

#[test]
fn outgoing_connections_reach_served_addresses_only() {
    let mut echo = Echo::new(3, SimFaults::none());
    let served = "10.1.1.1:9".parse().unwrap();
    echo.net.serve(served);
    let good = echo.sim.connect(None, served).unwrap();
    let bad = echo.sim.connect(None, "10.1.1.2:9".parse().unwrap()).unwrap();
    assert!(matches!(echo.sim.connect(None, served), Err(RingError::Full { limit: 2 })));
    echo.sim.wait(None, &mut echo.completions).unwrap();
    let mut results = BTreeMap::new();
    while let Some(completion) = echo.completions.next_completion() {
        let Completion::Connected { conn, result } = completion else { panic!() };
        results.insert(conn, result.is_ok());
    }
    assert_eq!(results, BTreeMap::from([(good, true), (bad, false)]));
    let peer = echo.net.accept(served).unwrap();
    echo.live.extend([(good, VecDeque::new()), (bad, VecDeque::new())]);
    echo.net.write(peer, b"welcome");
    for _ in 0..5 {
        echo.tick();
    }
    assert_eq!(echo.net.read(peer), b"welcome");
    echo.sim.waker().wake();
    echo.sim.waker().wake();
    echo.tick();
    assert_eq!(echo.wakes, 1);
    for conn in [good, bad] {
        echo.close(conn);
    }
    echo.tick();
    assert_eq!(echo.ended, 2);
}
