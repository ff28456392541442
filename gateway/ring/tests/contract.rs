//! The contract of `Reactor`, run against every reactor that uses real sockets. A reactor that the kernel refuses is
//! skipped with a line on stderr.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gochat_ring::{
    Completion, Completions, ConnId, Epoll, ListenerId, Reactor, ReactorChoice, RingConfig, RingError, Rings, Uring,
    probe,
};

/// Gives up on a test that hangs; says nothing about speed.
const HANG: Duration = Duration::from_secs(30);

trait Make: Reactor + Sized {
    /// Whether a slot that gets free is the next one taken, and all completions come through one queue.
    const ONE_TABLE: bool = true;

    fn make(config: &RingConfig) -> Option<Self>;
}

impl Make for Uring {
    fn make(config: &RingConfig) -> Option<Uring> {
        match probe(ReactorChoice::Uring) {
            Ok(_) => Some(Uring::new(config).unwrap()),
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                None
            }
        }
    }
}

impl Make for Rings {
    const ONE_TABLE: bool = false;

    /// Three rings, so that neighbours live in different ones.
    fn make(config: &RingConfig) -> Option<Rings> {
        Uring::make(config)?;
        Some(Rings::split(config, 3).unwrap())
    }
}

impl Make for Epoll {
    fn make(config: &RingConfig) -> Option<Epoll> {
        Some(Epoll::new(config).unwrap())
    }
}

/// What has been seen of one connection.
#[derive(Debug, Default)]
struct Seen {
    received: Vec<u8>,
    eof: bool,
    error: Option<std::io::Error>,
    sent_bytes: usize,
    sent: usize,
    send_error: Option<std::io::Error>,
    connected: Option<std::io::Result<()>>,
    closed: bool,
    detached: Option<OwnedFd>,
}

/// A reactor and a record of what it reported.
struct Rig<R> {
    reactor: R,
    completions: Completions,
    accepted: Vec<(ConnId, SocketAddr)>,
    listeners_closed: Vec<ListenerId>,
    accept_errors: usize,
    wakes: usize,
    most: usize,
    seen: BTreeMap<ConnId, Seen>,
    queues: BTreeMap<ConnId, VecDeque<Bytes>>,
    echo: bool,
    close_on_accept: bool,
    close_on_eof: bool,
}

impl<R: Make> Rig<R> {
    fn new(config: &RingConfig) -> Option<Rig<R>> {
        Some(Rig {
            reactor: R::make(config)?,
            completions: Completions::new(config),
            accepted: Vec::new(),
            listeners_closed: Vec::new(),
            accept_errors: 0,
            wakes: 0,
            most: 0,
            seen: BTreeMap::new(),
            queues: BTreeMap::new(),
            echo: false,
            close_on_accept: false,
            close_on_eof: false,
        })
    }

    fn listen(&mut self) -> (ListenerId, SocketAddr) {
        let listener = self.reactor.listen(([127, 0, 0, 1], 0).into(), 1024).unwrap();
        (listener, self.reactor.local_addr(listener).unwrap())
    }

    fn tick(&mut self, until: Option<Instant>) {
        self.reactor.wait(until, &mut self.completions).unwrap();
        self.most = self.most.max(self.completions.len());
        while let Some(completion) = self.completions.next_completion() {
            match completion {
                Completion::Accepted { conn, peer, .. } => {
                    assert!(conn.slot < self.reactor.capacity());
                    assert!(self.seen.insert(conn, Seen::default()).is_none(), "{conn} announced twice");
                    self.accepted.push((conn, peer));
                    if self.close_on_accept {
                        self.reactor.close(conn);
                    }
                }
                Completion::AcceptError { .. } => self.accept_errors += 1,
                Completion::ListenerClosed { listener } => self.listeners_closed.push(listener),
                Completion::Connected { conn, result } => {
                    self.seen.entry(conn).or_default().connected = Some(result);
                }
                Completion::Received { conn, data } => {
                    assert!(!data.is_empty());
                    let seen = self.seen.entry(conn).or_default();
                    assert!(!seen.eof && seen.error.is_none(), "bytes of {conn} after its end");
                    seen.received.extend_from_slice(data);
                    if self.echo {
                        let queue = self.queues.entry(conn).or_default();
                        queue.push_back(Bytes::copy_from_slice(data));
                        send(&mut self.reactor, conn, queue);
                    }
                    data.fill(0xEE);
                }
                Completion::RecvEof { conn } => {
                    self.seen.get_mut(&conn).unwrap().eof = true;
                    if self.close_on_eof {
                        self.reactor.close(conn);
                    }
                }
                Completion::RecvError { conn, error } => {
                    self.seen.get_mut(&conn).unwrap().error = Some(error);
                    if self.close_on_eof {
                        self.reactor.close(conn);
                    }
                }
                Completion::Sent { conn, bytes, result } => {
                    let seen = self.seen.get_mut(&conn).unwrap();
                    seen.sent_bytes += bytes;
                    seen.sent += 1;
                    match result {
                        Ok(()) => send(&mut self.reactor, conn, self.queues.entry(conn).or_default()),
                        Err(error) => seen.send_error = Some(error),
                    }
                }
                Completion::Closed { conn } => {
                    let seen = self.seen.entry(conn).or_default();
                    assert!(!std::mem::replace(&mut seen.closed, true), "{conn} closed twice");
                }
                Completion::Detached { conn, fd } => self.seen.get_mut(&conn).unwrap().detached = Some(fd.unwrap()),
                Completion::Wake => self.wakes += 1,
            }
        }
    }

    /// Ticks until `done`.
    fn run(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let give_up = Instant::now() + HANG;
        while !done(self) {
            assert!(Instant::now() < give_up, "hangs: {what}; {:?}", self.reactor.stats());
            self.tick(Some(Instant::now() + Duration::from_millis(20)));
        }
    }

    fn queue(&mut self, conn: ConnId, data: &[u8]) {
        let queue = self.queues.entry(conn).or_default();
        queue.push_back(Bytes::copy_from_slice(data));
        send(&mut self.reactor, conn, queue);
    }

    /// A client and the server's side of it.
    fn pair(&mut self, addr: SocketAddr) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(HANG)).unwrap();
        let local = client.local_addr().unwrap();
        self.run("accept", |rig| rig.accepted.iter().any(|(_, peer)| *peer == local));
        (client, self.accepted.iter().rev().find(|(_, peer)| *peer == local).unwrap().0)
    }

    fn received(&self, conn: ConnId) -> &[u8] {
        &self.seen[&conn].received
    }
}

fn send<R: Reactor>(reactor: &mut R, conn: ConnId, queue: &mut VecDeque<Bytes>) {
    match reactor.send(conn, queue) {
        Ok(_) | Err(RingError::Busy | RingError::Gone) => {}
        Err(error) => panic!("send: {error}"),
    }
}

fn config() -> RingConfig {
    RingConfig { connections_max: 1000, outgoing_max: 50, buffers: 64, buffer_bytes: 1024, ..RingConfig::default() }
}

/// Bytes that show where they stand.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

fn echo_and_close<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    rig.echo = true;
    let (mut client, conn) = rig.pair(addr);
    for message in [b"hello".as_slice(), b"", b"world, again"] {
        client.write_all(message).unwrap();
        let before = rig.seen[&conn].sent_bytes;
        rig.run("echo", |rig| rig.seen[&conn].sent_bytes == before + message.len());
        let mut answer = vec![0; message.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message);
    }
    rig.reactor.close(conn);
    rig.reactor.close(conn);
    rig.run("close", |rig| rig.seen[&conn].closed);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    let stats = rig.reactor.stats().connections;
    assert_eq!((stats.accepted, stats.closed), (1, 1));
}

fn many_connections<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    rig.echo = true;
    rig.close_on_eof = true;
    let mut clients: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.write_all(format!("I am {at}").as_bytes()).unwrap();
    }
    rig.run("echoes", |rig| rig.seen.values().filter(|seen| seen.sent > 0).count() == 400);
    for (at, client) in clients.iter_mut().enumerate() {
        let expected = format!("I am {at}");
        let mut answer = vec![0; expected.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected.as_bytes());
    }
    let slots: std::collections::BTreeSet<u32> = rig.accepted.iter().map(|(conn, _)| conn.slot).collect();
    assert_eq!(slots.len(), 400);
    drop(clients);
    rig.run("closes", |rig| rig.seen.values().all(|seen| seen.closed));
}

fn half_closed_peer_still_gets_its_answer<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (mut client, conn) = rig.pair(addr);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.run("end of stream", |rig| rig.seen[&conn].eof);
    assert_eq!(rig.received(conn), b"question");
    rig.queue(conn, b"answer");
    rig.reactor.shutdown(conn);
    rig.run("answer", |rig| rig.seen[&conn].sent == 1);
    rig.tick(Some(Instant::now()));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    assert!(!rig.seen[&conn].closed);
}

fn reset_is_an_error_in_every_state<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (client, conn) = rig.pair(addr);
    reset(client);
    rig.run("reset while idle", |rig| rig.seen[&conn].error.is_some());
    assert_eq!(rig.seen[&conn].error.as_ref().unwrap().kind(), ErrorKind::ConnectionReset);

    let (client, sending) = rig.pair(addr);
    for _ in 0..40 {
        rig.queue(sending, &vec![1; 1 << 20]);
    }
    rig.tick(Some(Instant::now()));
    reset(client);
    // The send may take the socket's error; the receive then sees an end.
    rig.run("reset while sending", |rig| {
        let seen = &rig.seen[&sending];
        seen.send_error.is_some() && (seen.error.is_some() || seen.eof)
    });
    for conn in [conn, sending] {
        rig.reactor.close(conn);
        rig.run("close", |rig| rig.seen[&conn].closed);
    }

    // Reset before the reactor has looked at all: either never announced or announced with an error.
    for _ in 0..20 {
        reset(TcpStream::connect(addr).unwrap());
    }
    rig.close_on_eof = true;
    rig.run("early resets", |rig| {
        let stats = rig.reactor.stats();
        stats.connections.accepted + stats.unusual.accept_aborted >= 22 && rig.seen.values().all(|seen| seen.closed)
    });
}

fn stalled_receiver_gets_everything_in_the_end<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (mut client, conn) = rig.pair(addr);
    let all = pattern(12 << 20);
    // Sizes from tiny to large, so that short sends end within, at, and between buffers.
    let mut rest = all.as_slice();
    for size in [1, 70_000, 13, 4096, 999_999].into_iter().cycle() {
        let (part, tail) = rest.split_at(size.min(rest.len()));
        rig.queues.entry(conn).or_default().push_back(Bytes::copy_from_slice(part));
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    send(&mut rig.reactor, conn, rig.queues.get_mut(&conn).unwrap());
    for _ in 0..5 {
        rig.tick(Some(Instant::now() + Duration::from_millis(5)));
    }
    assert!(rig.seen[&conn].sent_bytes < all.len(), "the socket took everything: the test proves nothing");
    assert!(matches!(rig.reactor.send(conn, &mut VecDeque::from([Bytes::from_static(b"x")])), Err(RingError::Busy)));
    let total = all.len();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; total];
        client.read_exact(&mut got).unwrap();
        got
    });
    rig.run("drain", |rig| rig.seen[&conn].sent_bytes == total);
    assert!(reader.join().unwrap() == all, "bytes differ");
}

fn close_drops_a_send_in_flight<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (client, conn) = rig.pair(addr);
    rig.queues.entry(conn).or_default().push_back(Bytes::from(vec![7; 32 << 20]));
    send(&mut rig.reactor, conn, rig.queues.get_mut(&conn).unwrap());
    rig.tick(Some(Instant::now()));
    rig.reactor.close(conn);
    rig.run("close", |rig| rig.seen[&conn].closed);
    assert_eq!(rig.seen[&conn].sent, 0);
    drop(client);
}

fn shutdown_comes_after_the_send_in_flight<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (mut client, conn) = rig.pair(addr);
    rig.queue(conn, &pattern(8 << 20));
    rig.reactor.shutdown(conn);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    });
    rig.run("send and shutdown", |_| reader.is_finished());
    assert!(reader.join().unwrap() == pattern(8 << 20));
}

fn greedy_senders_do_not_starve_polite_ones<R: Make>(mut rig: Rig<R>) {
    const GREEDY: usize = 4;
    const GREEDY_BYTES: usize = 2 << 20;
    const POLITE: usize = 40;
    let (_, addr) = rig.listen();
    let greedy: Vec<_> = (0..GREEDY)
        .map(|_| {
            let mut client = TcpStream::connect(addr).unwrap();
            let local = client.local_addr().unwrap();
            (local, std::thread::spawn(move || client.write_all(&pattern(GREEDY_BYTES)).map(|()| client).unwrap()))
        })
        .collect();
    rig.run("the storm", |rig| rig.seen.values().filter(|seen| seen.received.len() > 10_000).count() == GREEDY);
    let mut polite: Vec<TcpStream> = (0..POLITE).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for client in &mut polite {
        client.write_all(b"if it please you").unwrap();
    }
    let locals: Vec<SocketAddr> = polite.iter().map(|client| client.local_addr().unwrap()).collect();
    let heard = |rig: &Rig<R>| {
        rig.accepted.iter().filter(|(conn, peer)| locals.contains(peer) && rig.received(*conn).len() == 16).count()
    };
    rig.run("polite ones are heard", |rig| heard(rig) == POLITE);
    rig.run("greedy ones are heard out", |rig| {
        rig.seen.values().filter(|seen| seen.received.len() == GREEDY_BYTES).count() == GREEDY
    });
    for (local, writer) in greedy {
        drop(writer.join().unwrap());
        let conn = rig.accepted.iter().find(|(_, peer)| *peer == local).unwrap().0;
        assert!(rig.received(conn) == pattern(GREEDY_BYTES), "{conn} lost or mixed bytes");
    }
    assert!(rig.reactor.stats().unusual.no_buffers > 0, "buffers never ran out: the test proves nothing");
}

fn old_ids_mean_nothing<R: Make>(mut rig: Rig<R>) {
    if !R::ONE_TABLE {
        return;
    }
    let (_, addr) = rig.listen();
    let (_first, old) = rig.pair(addr);
    rig.reactor.close(old);
    rig.run("close", |rig| rig.seen[&old].closed);
    let (mut client, new) = rig.pair(addr);
    assert_eq!(new.slot, old.slot, "the slot was not reused: the test proves nothing");
    assert_ne!(new.generation, old.generation);
    rig.reactor.close(old);
    rig.reactor.detach(old);
    rig.reactor.shutdown(old);
    rig.reactor.pause_recv(old);
    let mut queue = VecDeque::from([Bytes::from_static(b"to a stranger")]);
    assert!(matches!(rig.reactor.send(old, &mut queue), Err(RingError::Gone)));
    assert_eq!(queue.len(), 1);
    client.write_all(b"mine").unwrap();
    rig.run("bytes", |rig| rig.received(new) == b"mine");
    rig.queue(new, b"yours");
    rig.run("send", |rig| rig.seen[&new].sent == 1);
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"yours");
    assert!(rig.reactor.stats().unusual.stale > 0);
}

fn churn_leaks_nothing<R: Make>(mut rig: Rig<R>) {
    const ROUNDS: u64 = 150;
    const BATCH: u64 = 100;
    let (_, addr) = rig.listen();
    for round in 0..ROUNDS {
        // Both sides end first in turn, with bytes in flight and without.
        rig.close_on_accept = round % 2 == 0;
        rig.close_on_eof = true;
        let clients: Vec<TcpStream> = (0..BATCH)
            .map(|at| {
                let mut client = TcpStream::connect(addr).unwrap();
                if at % 3 == 0 {
                    let _ = client.write(b"bytes");
                }
                client
            })
            .collect();
        clients.into_iter().for_each(reset);
        rig.tick(Some(Instant::now()));
        if round % 10 == 9 {
            rig.run("quiet", |rig| {
                let stats = rig.reactor.stats();
                stats.connections.accepted + stats.unusual.accept_aborted >= (round + 1) * BATCH
                    && rig.seen.values().all(|seen| seen.closed)
            });
            rig.seen.clear();
            rig.accepted.clear();
        }
    }
    let (mut client, conn) = rig.pair(addr);
    assert!(conn.slot < 4 * BATCH as u32 * 10, "slots leak: {conn}");
    client.write_all(b"still here").unwrap();
    rig.run("bytes", |rig| rig.received(conn) == b"still here");
}

fn detach_loses_no_byte_and_steals_none<R: Make>(mut rig: Rig<R>) {
    const BYTES: usize = 4 << 20;
    let (_, addr) = rig.listen();
    for stop_after in [0, 1, 5_000, 1 << 20] {
        let (mut client, conn) = rig.pair(addr);
        let writer = std::thread::spawn(move || client.write_all(&pattern(BYTES)).map(|()| client).unwrap());
        rig.run("some bytes", |rig| rig.received(conn).len() >= stop_after);
        rig.reactor.detach(conn);
        rig.run("detach", |rig| rig.seen[&conn].detached.is_some());
        let mut all = std::mem::take(&mut rig.seen.get_mut(&conn).unwrap().received);
        let fd = rig.seen.get_mut(&conn).unwrap().detached.take().unwrap();
        let mut socket = TcpStream::from(fd);
        let flags = rustix::fs::fcntl_getfl(&socket).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        let at = all.len();
        all.resize(BYTES, 0);
        socket.read_exact(&mut all[at..]).unwrap();
        assert!(all == pattern(BYTES), "bytes lost or stolen around {at}");
        // The descriptor works both ways, and the reactor has let go of it.
        let mut client = writer.join().unwrap();
        socket.write_all(b"from its new owner").unwrap();
        drop(socket);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "from its new owner");
        rig.tick(Some(Instant::now()));
        assert!(!rig.seen[&conn].closed);
    }
    assert_eq!(rig.reactor.stats().connections.detached, 4);
}

fn adopted_sockets_are_connections<R: Make>(mut rig: Rig<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"before ").unwrap();
    let conn = rig.reactor.adopt(listener.accept().unwrap().0.into()).unwrap();
    rig.seen.insert(conn, Seen::default());
    rig.echo = true;
    client.write_all(b"and after").unwrap();
    rig.run("echo", |rig| rig.seen[&conn].sent_bytes == 16);
    let mut answer = [0; 16];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"before and after");
    // And away again.
    rig.reactor.detach(conn);
    rig.run("detach", |rig| rig.seen[&conn].detached.is_some());
    let again = rig.reactor.adopt(rig.seen.get_mut(&conn).unwrap().detached.take().unwrap()).unwrap();
    assert_ne!(again, conn);
    rig.seen.insert(again, Seen::default());
    client.write_all(b"twice").unwrap();
    rig.run("echo", |rig| rig.seen[&again].sent_bytes == 5);
}

fn wakes_are_coalesced_and_never_lost<R: Make>(mut rig: Rig<R>) {
    let shared = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for round in 1..=20 {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (waker, shared) = (rig.reactor.waker(), shared.clone());
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        shared.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        waker.wake();
                    }
                })
            })
            .collect();
        let mut at_last_wake = 0;
        while at_last_wake < round * 100 {
            let before = rig.wakes;
            let limit = Instant::now() + HANG;
            rig.tick(Some(limit));
            assert!(Instant::now() < limit, "a wake-up was lost");
            if rig.wakes > before {
                at_last_wake = shared.load(std::sync::atomic::Ordering::Relaxed);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    assert!(rig.wakes <= 2000);
    let wakes = rig.wakes;
    for _ in 0..100 {
        rig.reactor.waker().wake();
    }
    rig.run("a wake-up", |rig| rig.wakes > wakes);
    rig.tick(Some(Instant::now()));
    assert!(rig.wakes <= wakes + 2, "100 wake-ups in a row were not coalesced");
}

fn connects_succeed_and_fail<R: Make>(mut rig: Rig<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let source = "127.0.0.9:0".parse().unwrap();
    let conn = rig.reactor.connect(Some(source), target).unwrap();
    assert!(matches!(
        rig.reactor.send(conn, &mut VecDeque::from([Bytes::from_static(b"early")])),
        Err(RingError::NotConnected)
    ));
    rig.run("connect", |rig| rig.seen.contains_key(&conn));
    assert!(rig.seen[&conn].connected.as_ref().unwrap().is_ok());
    let (mut peer, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), std::net::IpAddr::from([127, 0, 0, 9]));
    rig.queue(conn, b"hello from a client");
    rig.run("sent", |rig| rig.seen[&conn].sent == 1);
    peer.write_all(b"hello to a client").unwrap();
    rig.run("received", |rig| rig.received(conn) == b"hello to a client");
    peer.read_exact(&mut [0; 19]).unwrap();
    drop((peer, listener));
    rig.run("end of stream", |rig| rig.seen[&conn].eof);

    let refused = rig.reactor.connect(None, target).unwrap();
    rig.run("refusal", |rig| rig.seen.contains_key(&refused));
    let result = rig.seen[&refused].connected.as_ref().unwrap();
    assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for conn in [conn, refused] {
        rig.reactor.close(conn);
    }
    rig.run("closes", |rig| rig.seen.values().all(|seen| seen.closed));

    // Given up while on its way: 192.0.2.0/24 answers nobody.
    if let Ok(nowhere) = rig.reactor.connect(None, "192.0.2.1:9".parse().unwrap()) {
        rig.tick(Some(Instant::now()));
        rig.reactor.close(nowhere);
        rig.run("close", |rig| rig.seen.get(&nowhere).is_some_and(|seen| seen.closed));
    }
}

fn a_reactor_talks_to_itself<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let conns: Vec<ConnId> = (0..50).map(|_| rig.reactor.connect(None, addr).unwrap()).collect();
    assert!(matches!(rig.reactor.connect(None, addr), Err(RingError::Full { limit: 50 })));
    rig.run("connects", |rig| rig.accepted.len() == 50 && conns.iter().all(|conn| rig.seen.contains_key(conn)));
    for conn in &conns {
        rig.queue(*conn, format!("client {conn}").as_bytes());
    }
    rig.run("bytes", |rig| rig.accepted.iter().all(|(conn, _)| !rig.received(*conn).is_empty()));
    for conn in &conns {
        rig.reactor.close(*conn);
    }
    rig.close_on_eof = true;
    rig.run("closes", |rig| rig.seen.values().all(|seen| seen.closed));
    assert!(rig.reactor.connect(None, addr).is_ok());
}

fn a_stopped_listener_refuses<R: Make>(mut rig: Rig<R>) {
    let (listener, addr) = rig.listen();
    let (mut client, conn) = rig.pair(addr);
    rig.reactor.stop_accepting(listener);
    rig.reactor.stop_accepting(listener);
    rig.run("stop", |rig| !rig.listeners_closed.is_empty());
    assert_eq!(rig.listeners_closed, [listener]);
    assert!(matches!(rig.reactor.local_addr(listener), Err(RingError::Gone)));
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"old ones stay").unwrap();
    rig.run("bytes", |rig| rig.received(conn) == b"old ones stay");
    gochat_ring::bind_probe(addr).unwrap();
    let again = rig.reactor.listen(addr, 16).unwrap();
    assert_ne!(again, listener);
    rig.pair(addr);
}

fn a_paused_connection_reports_nothing<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (mut client, conn) = rig.pair(addr);
    rig.reactor.pause_recv(conn);
    rig.tick(Some(Instant::now()));
    rig.tick(Some(Instant::now()));
    client.write_all(&pattern(5000)).unwrap();
    for _ in 0..3 {
        rig.tick(Some(Instant::now() + Duration::from_millis(5)));
    }
    assert_eq!(rig.received(conn), b"");
    for _ in 0..5 {
        rig.reactor.resume_recv(conn);
        rig.reactor.pause_recv(conn);
    }
    rig.reactor.resume_recv(conn);
    rig.run("bytes", |rig| rig.received(conn).len() == 5000);
    assert!(rig.received(conn) == pattern(5000));
    // On and off while bytes flow.
    let writer = std::thread::spawn(move || client.write_all(&pattern(1 << 20)).map(|()| client).unwrap());
    let mut on = true;
    rig.run("all bytes", |rig| {
        on = !on;
        if on {
            rig.reactor.resume_recv(conn)
        } else {
            rig.reactor.pause_recv(conn)
        }
        rig.received(conn).len() == 5000 + (1 << 20)
    });
    assert!(rig.received(conn)[5000..] == pattern(1 << 20));
    drop(writer.join().unwrap());
}

fn peers_wait_while_all_slots_are_taken<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let (client, _) = rig.pair(addr);
        clients.push(client);
    }
    rig.tick(Some(Instant::now()));
    rig.tick(Some(Instant::now()));
    clients.extend((0..3).map(|_| TcpStream::connect(addr).unwrap()));
    for _ in 0..5 {
        rig.tick(Some(Instant::now() + Duration::from_millis(2)));
    }
    assert_eq!(rig.accepted.len(), 2);
    for round in 0..3 {
        let conn = rig.accepted[round].0;
        rig.reactor.close(conn);
        rig.run("the next one", |rig| rig.accepted.len() == round + 3);
    }
    clients[4].write_all(b"at last").unwrap();
    let last = rig.accepted[4].0;
    rig.run("bytes", |rig| rig.received(last) == b"at last");
    assert_eq!(rig.accept_errors, 0);
}

fn a_wait_returns_a_bounded_number<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let mut clients: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(addr).unwrap()).collect();
    rig.run("accepts", |rig| rig.accepted.len() == 60);
    for client in &mut clients {
        client.write_all(&pattern(3000)).unwrap();
    }
    rig.run("bytes", |rig| rig.seen.values().all(|seen| seen.received.len() == 3000));
    assert!((1..=4).contains(&rig.most), "{} completions at once", rig.most);
}

fn a_full_completion_queue_loses_nothing<R: Make>(mut rig: Rig<R>) {
    if !R::ONE_TABLE {
        return;
    }
    let (_, addr) = rig.listen();
    let mut clients: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(addr).unwrap()).collect();
    rig.run("accepts", |rig| rig.accepted.len() == 300);
    rig.tick(Some(Instant::now()));
    for _ in 0..5 {
        clients.iter_mut().for_each(|client| client.write_all(&pattern(200)).unwrap());
        rig.tick(Some(Instant::now()));
    }
    rig.run("bytes", |rig| rig.seen.values().all(|seen| seen.received.len() == 1000));
    if R::KIND == gochat_ring::ReactorKind::Uring {
        assert!(rig.reactor.stats().unusual.cq_overflows > 0, "the queue never overflowed: the test proves nothing");
    }
}

/// Also: no trace of a dropped reactor swallows connects to its port.
fn dropping_a_busy_reactor_frees_its_port<R: Make>(mut rig: Rig<R>) {
    let (_, addr) = rig.listen();
    let (mut client, conn) = rig.pair(addr);
    rig.queue(conn, &pattern(8 << 20));
    client.write_all(&pattern(5000)).unwrap();
    rig.tick(Some(Instant::now()));
    let config = config();
    drop(rig);
    drop(client);
    gochat_ring::bind_probe(addr).unwrap();
    let mut next = Rig::<R>::new(&config).unwrap();
    let listener = next.reactor.listen(addr, 16).unwrap();
    assert_eq!(next.reactor.local_addr(listener).unwrap(), addr);
    for _ in 0..20 {
        next.pair(addr);
    }
}

fn a_client_needs_no_slots_for_accepting<R: Make>(mut rig: Rig<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conns: Vec<ConnId> =
        (0..50).map(|_| rig.reactor.connect(None, listener.local_addr().unwrap()).unwrap()).collect();
    rig.run("connects", |rig| rig.seen.len() == 50);
    for conn in conns {
        assert!(rig.seen[&conn].connected.as_ref().unwrap().is_ok());
    }
}

fn a_deadline_ends_the_wait<R: Make>(mut rig: Rig<R>) {
    rig.listen();
    rig.tick(Some(Instant::now()));
    let until = rig.reactor.now() + Duration::from_millis(30);
    while rig.reactor.now() < until {
        rig.tick(Some(until));
    }
    assert_eq!((rig.most, rig.wakes), (0, 0));
    assert!(rig.reactor.stats().enters < 20, "it span instead of waiting");
}

macro_rules! contract {
    ($($name:ident $(with $($field:ident: $value:expr),+)?;)+) => {
        mod uring { $(#[test] fn $name() { contract!(@run $name Uring $($($field: $value),+)?) })+ use super::*; }
        mod rings { $(#[test] fn $name() { contract!(@run $name Rings $($($field: $value),+)?) })+ use super::*; }
        mod epoll { $(#[test] fn $name() { contract!(@run $name Epoll $($($field: $value),+)?) })+ use super::*; }
    };
    (@run $name:ident $reactor:ident $($field:ident: $value:expr),*) => {{
        let config = RingConfig { $($field: $value,)* ..config() };
        if let Some(rig) = Rig::<$reactor>::new(&config) {
            super::$name(rig);
        }
    }};
}

contract! {
    echo_and_close;
    many_connections;
    half_closed_peer_still_gets_its_answer;
    reset_is_an_error_in_every_state;
    stalled_receiver_gets_everything_in_the_end;
    close_drops_a_send_in_flight;
    shutdown_comes_after_the_send_in_flight;
    greedy_senders_do_not_starve_polite_ones with buffers: 16, buffer_bytes: 512;
    old_ids_mean_nothing;
    churn_leaks_nothing with submissions: 16;
    detach_loses_no_byte_and_steals_none;
    adopted_sockets_are_connections;
    wakes_are_coalesced_and_never_lost;
    connects_succeed_and_fail;
    a_reactor_talks_to_itself;
    a_stopped_listener_refuses;
    a_paused_connection_reports_nothing;
    peers_wait_while_all_slots_are_taken with connections_max: 2;
    a_wait_returns_a_bounded_number with completions_per_wait: 4;
    a_full_completion_queue_loses_nothing with submissions: 8;
    dropping_a_busy_reactor_frees_its_port;
    a_client_needs_no_slots_for_accepting with connections_max: 0;
    a_deadline_ends_the_wait;
}

#[test]
fn a_port_in_use_is_noticed() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    assert!(matches!(gochat_ring::bind_probe(addr), Err(RingError::AddressInUse { .. })));
    drop(taken);
    assert_eq!(gochat_ring::bind_probe(addr).unwrap(), addr);
}

#[test]
fn the_probe_says_why() {
    let epoll = probe(ReactorChoice::Epoll).unwrap();
    assert_eq!((epoll.kind.name(), epoll.reason.as_str()), ("epoll", "epoll, because it was asked for"));
    let auto = probe(ReactorChoice::Auto).unwrap();
    assert_eq!(auto.kind == gochat_ring::ReactorKind::Uring, probe(ReactorChoice::Uring).is_ok());
    assert!("kqueue".parse::<ReactorChoice>().unwrap_err().contains("auto, uring or epoll"));
}
