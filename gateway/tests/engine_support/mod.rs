//! Servers in this process and a client that can send what no well-behaved client would.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

pub mod gateway;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gochat_gateway::engine::{App, AppMaker, EngineConfig, Shards, start};
use gochat_gateway::limits::{Limits, Timeouts};
use gochat_ring::{ReactorChoice, RingConfig};

/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The reactors that work on this machine; epoll always does.
pub fn reactors() -> Vec<ReactorChoice> {
    let mut reactors = vec![ReactorChoice::Epoll];
    if gochat_ring::probe(ReactorChoice::Uring).is_ok() {
        reactors.push(ReactorChoice::Uring);
    }
    reactors
}

/// A configuration for one small shard.
pub fn config(reactor: ReactorChoice) -> EngineConfig {
    EngineConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        backlog: 128,
        reactor,
        shards: 1,
        pin: false,
        ring: RingConfig { connections_max: 512, outgoing_max: 0, ..RingConfig::default() },
        limits: Limits { connections_max: 480, ..Limits::default() },
        timeouts: Timeouts::default(),
    }
}

/// Starts shards that run until the process ends.
pub fn serve<A: App + 'static>(config: &EngineConfig, make: impl Fn() -> A + Send + Copy + 'static) -> Shards {
    start(config, |wakers| wakers.iter().map(|_| Box::new(make) as AppMaker<A>).collect()).unwrap()
}

/// One frame as a client sends it, with any first byte.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ MASK[i % 4]));
    frame
}

pub fn text(payload: &str) -> Vec<u8> {
    client_frame(0x81, payload.as_bytes())
}

pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    client_frame(0x88, &payload)
}

/// What came from the server.
#[derive(Clone, PartialEq, Eq)]
pub enum Got {
    Frame(u8, Vec<u8>),
    Eof,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Got::Frame(first, payload) if payload.len() <= 200 => {
                write!(f, "{first:#x} {:?}", String::from_utf8_lossy(payload))
            }
            Got::Frame(first, payload) => write!(f, "{first:#x} with {} bytes", payload.len()),
            Got::Eof => f.write_str("end of stream"),
        }
    }
}

/// A connection of the client.
pub struct Wire {
    pub stream: TcpStream,
    inbox: Vec<u8>,
}

impl Wire {
    pub fn raw(addr: SocketAddr) -> Wire {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, inbox: Vec::new() }
    }

    /// Connects and upgrades.
    pub fn open(addr: SocketAddr) -> Wire {
        let (wire, head) = Wire::request(addr, "/", &[]);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        wire
    }

    /// Sends an upgrade request with more header fields; returns the head of the answer.
    pub fn request(addr: SocketAddr, target: &str, fields: &[(&str, &str)]) -> (Wire, String) {
        let mut wire = Wire::raw(addr);
        wire.send(upgrade_request(target, fields).as_bytes());
        let head = wire.read_head();
        (wire, head)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn read_head(&mut self) -> String {
        loop {
            if let Some(at) = self.inbox.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.inbox.split_off(at + 4);
                return String::from_utf8(std::mem::replace(&mut self.inbox, rest)).unwrap();
            }
            assert!(self.fill(), "the connection ended inside a response head");
        }
    }

    /// Everything until the server shuts down its side.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.inbox)
    }

    pub fn read(&mut self) -> Got {
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            if !self.fill() {
                assert!(self.inbox.is_empty(), "the connection ended inside a frame");
                return Got::Eof;
            }
        }
    }

    fn take_frame(&mut self) -> Option<Got> {
        let (&first, &second) = (self.inbox.first()?, self.inbox.get(1)?);
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (len, start) = match second {
            126 => (usize::from(u16::from_be_bytes(*self.inbox.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*self.inbox.get(2..)?.first_chunk()?) as usize, 10),
            len => (usize::from(len), 2),
        };
        if self.inbox.len() < start + len {
            return None;
        }
        let rest = self.inbox.split_off(start + len);
        let frame = std::mem::replace(&mut self.inbox, rest);
        Some(Got::Frame(first, frame[start..].to_vec()))
    }

    /// `false` at the end of the stream; a reset counts as one.
    fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 256 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(n) => {
                self.inbox.extend_from_slice(&chunk[..n]);
                true
            }
            // The end of the ring that the probe made on this thread interrupts it.
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => self.fill(),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(e) => panic!("nothing came: {e}"),
        }
    }
}

pub fn upgrade_request(target: &str, fields: &[(&str, &str)]) -> String {
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    );
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request + "\r\n"
}
