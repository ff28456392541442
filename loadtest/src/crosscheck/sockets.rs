//! The connections of the second generator: opened one after another, then watched together. Owns the sockets and
//! how they ended; what messages mean is not its business.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::elapsed_ns;
use crate::driver::Plan;
use crate::engine::Census;
use crate::error::LoadError;

/// How long a connection may take to become ready.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Refusals in a row, with nothing established, after which connecting is given up.
const HOPELESS: u32 = 8;
/// The longest message accepted from a server.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Connections heard of at once.
const EVENTS_MAX: usize = 256;
/// tungstenite allocates this much for each connection.
const READ_BYTES: usize = 8 * 1024;

/// One client.
struct Line {
    /// `None`: never was, or is over.
    socket: Option<WebSocket<TcpStream>>,
    /// Something may wait to be written: it stands in the list of those.
    dirty: bool,
    /// The kernel did not take all; it tells when it takes more.
    full: bool,
    /// Our close frame is sent.
    leaving: bool,
}

/// All connections.
pub(super) struct Sockets {
    lines: Vec<Line>,
    epoll: OwnedFd,
    /// What the last wait brought.
    events: Vec<Event>,
    dirty: Vec<u32>,
    pub(super) census: Census,
    /// Ready for messages now.
    alive: u32,
}

impl Sockets {
    /// Opens all connections, or as many as the server takes.
    pub(super) fn connect(plan: &Plan, epoch: Instant) -> Result<Sockets, LoadError> {
        let mut sockets = Sockets {
            lines: Vec::new(),
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(|e| broken("epoll_create1", e))?,
            events: Vec::with_capacity(EVENTS_MAX),
            dirty: Vec::new(),
            census: Census::default(),
            alive: 0,
        };
        sockets.census.connections.target = plan.clients;
        let first_ns = elapsed_ns(epoch);
        for client in 0..plan.clients {
            let mut intended_ns = elapsed_ns(epoch);
            if let Some(rate) = plan.ramp {
                let due_ns = first_ns + (f64::from(client) * 1e9 / rate) as u64;
                thread::sleep(Duration::from_nanos(due_ns.saturating_sub(intended_ns)));
                intended_ns = due_ns;
            }
            let watched = open(plan).and_then(|socket| {
                let data = EventData::new_u64(client.into());
                let asked = epoll::add(&sockets.epoll, socket.get_ref(), data, EventFlags::IN);
                asked.map(|()| socket).map_err(|e| e.to_string())
            });
            let socket = match watched {
                Ok(socket) => {
                    sockets.census.connections.established += 1;
                    sockets.census.latency.record(elapsed_ns(epoch).saturating_sub(intended_ns));
                    sockets.alive += 1;
                    Some(socket)
                }
                Err(why) => {
                    sockets.census.connections.refused += 1;
                    sockets.note(&why);
                    None
                }
            };
            sockets.lines.push(Line { socket, dirty: false, full: false, leaving: false });
            let so_far = sockets.census.connections;
            if so_far.established == 0 && so_far.refused >= HOPELESS.min(plan.clients) {
                return Err(sockets.why_none(plan));
            }
        }
        Ok(sockets)
    }

    /// Connections that are ready for messages.
    pub(super) fn alive(&self) -> u32 {
        self.alive
    }

    /// Connections that stand, those too that are about to end.
    pub(super) fn open(&self) -> usize {
        self.lines.iter().filter(|line| line.socket.is_some()).count()
    }

    pub(super) fn is_ready(&self, client: u32) -> bool {
        self.lines.get(client as usize).is_some_and(|line| line.socket.is_some() && !line.leaving)
    }

    /// Adds a message to what [`Sockets::flush`] writes.
    pub(super) fn queue(&mut self, client: u32, message: Message) {
        let Some(line) = self.lines.get_mut(client as usize) else { return };
        let Some(socket) = &mut line.socket else { return };
        match socket.write(message) {
            Err(error) if !would_block(&error) => self.end(client, &why(&error)),
            _ => self.soil(client),
        }
    }

    /// Writes what is queued, as far as the kernel takes it; asks to be told when it takes more.
    pub(super) fn flush(&mut self) {
        for client in std::mem::take(&mut self.dirty) {
            let Some(line) = self.lines.get_mut(client as usize) else { continue };
            line.dirty = false;
            let Some(socket) = &mut line.socket else { continue };
            let full = match socket.flush() {
                Ok(()) => false,
                Err(error) if would_block(&error) => true,
                Err(error) => {
                    self.end(client, &why(&error));
                    continue;
                }
            };
            if full != line.full {
                line.full = full;
                let interest = if full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
                let asked = epoll::modify(&self.epoll, socket.get_ref(), EventData::new_u64(client.into()), interest);
                if let Err(error) = asked {
                    self.end(client, &error.to_string());
                }
            }
        }
    }

    /// Waits until something arrives, the kernel takes more of what could not be written, or `wait` has passed. Gives the
    /// clients that something happened to.
    pub(super) fn wait(&mut self, wait: Duration) -> Result<Vec<u32>, LoadError> {
        // epoll counts in milliseconds, poll in nanoseconds.
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut asked = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut asked, Some(&timeout)) {
            Ok(0) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) if error == Errno::INTR => return Ok(Vec::new()),
            Err(error) => return Err(broken("poll", error)),
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&now)).map_err(|e| broken("epoll_wait", e))?;
        let clients: Vec<u32> = self.events.iter().map(|event| event.data.u64() as u32).collect();
        clients.iter().for_each(|client| {
            if self.lines.get(*client as usize).is_some_and(|line| line.full) {
                self.soil(*client);
            }
        });
        Ok(clients)
    }

    /// Has [`Sockets::flush`] look at a client.
    fn soil(&mut self, client: u32) {
        if let Some(line) = self.lines.get_mut(client as usize).filter(|line| !line.dirty) {
            line.dirty = true;
            self.dirty.push(client);
        }
    }

    /// The next message that arrived for `client`; `None` when there is none yet, or the connection is over.
    pub(super) fn read(&mut self, client: u32) -> Option<Message> {
        let line = self.lines.get_mut(client as usize)?;
        match line.socket.as_mut()?.read() {
            Ok(Message::Close(frame)) if !line.leaving => {
                let told = frame.map_or("without a code".to_owned(), |frame| {
                    format!("{} {}", u16::from(frame.code), frame.reason).trim_end().to_owned()
                });
                self.end(client, &format!("the server closed with {told}"));
                None
            }
            Ok(message) => {
                // A pong is queued by reading a ping.
                if message.is_ping() {
                    self.soil(client);
                }
                Some(message)
            }
            Err(error) if would_block(&error) => None,
            Err(error) => {
                self.end(client, &why(&error));
                None
            }
        }
    }

    /// Sends every server a close frame; what ends from now on was meant to.
    pub(super) fn say_goodbye(&mut self) {
        for client in 0..self.lines.len() as u32 {
            let Some(line) = self.lines.get_mut(client as usize) else { continue };
            if let Some(socket) = &mut line.socket {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                line.leaving = true;
                // What does not fit now is written with the next flush; one that cannot be told is closed all the same.
                let _ = socket.close(Some(frame));
                self.soil(client);
            }
        }
        self.alive = 0;
    }

    /// Ends a connection and counts how.
    fn end(&mut self, client: u32, why: &str) {
        let Some(line) = self.lines.get_mut(client as usize) else { return };
        if line.socket.take().is_some() && !line.leaving {
            self.alive -= 1;
            self.census.connections.dropped += 1;
            self.note(why);
        }
    }

    fn note(&mut self, why: &str) {
        *self.census.endings.entry(why.to_owned()).or_default() += 1;
    }

    /// Why nothing was established.
    fn why_none(&self, plan: &Plan) -> LoadError {
        let why = self.census.endings.keys().next().cloned().unwrap_or_else(|| "no answer".to_owned());
        let target = plan.url.authority.clone();
        match why.starts_with("HTTP") || why.starts_with("no valid upgrade") {
            true => LoadError::Refused { target, why },
            false => LoadError::Unreachable { target, why },
        }
    }
}

/// How the opening of a connection fails.
type Opening = HandshakeError<ClientHandshake<TcpStream>>;

/// One connection, upgraded and from then on not blocking; or why there is none.
fn open(plan: &Plan) -> Result<WebSocket<TcpStream>, String> {
    loop {
        match attempt(plan) {
            // A machine that was suspended interrupts calls that wait; that is no answer of the server's.
            Err(error) if is_interrupted(&error) => {}
            Err(error) => return Err(refusal(error)),
            Ok(socket) => return Ok(socket),
        }
    }
}

#[allow(clippy::result_large_err, reason = "the type of tungstenite's handshake")]
fn attempt(plan: &Plan) -> Result<WebSocket<TcpStream>, Opening> {
    let io = |error: std::io::Error| HandshakeError::Failure(Error::Io(error));
    let stream = TcpStream::connect_timeout(&plan.url.addr, CONNECT_MAX).map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    stream.set_read_timeout(Some(CONNECT_MAX)).map_err(io)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let request = format!("ws://{}{}", plan.url.authority, plan.url.target);
    let (socket, _) = tungstenite::client::client_with_config(request, stream, Some(config))?;
    socket.get_ref().set_nonblocking(true).map_err(io)?;
    Ok(socket)
}

fn is_interrupted(error: &Opening) -> bool {
    matches!(error, HandshakeError::Failure(Error::Io(error)) if error.kind() == ErrorKind::Interrupted)
}

fn refusal(error: Opening) -> String {
    match error {
        HandshakeError::Interrupted(_) => "no answer to the handshake in time".to_owned(),
        HandshakeError::Failure(Error::Http(answer)) => {
            format!(
                "HTTP {} instead of an upgrade: check the URL and the limits of the server",
                answer.status().as_u16()
            )
        }
        HandshakeError::Failure(Error::Io(error)) => error.to_string(),
        HandshakeError::Failure(error) => format!("no valid upgrade: {error}"),
    }
}

fn broken(call: &'static str, error: Errno) -> LoadError {
    LoadError::Arguments(format!("{call}() failed: {error}"))
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
}

fn why(error: &Error) -> String {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the server closed the connection without a close frame".to_owned()
        }
        Error::Io(error) => error.to_string(),
        Error::Protocol(error) => format!("the server broke the WebSocket protocol: {error}"),
        other => other.to_string(),
    }
}
