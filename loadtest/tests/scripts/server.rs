//! Connections, channels and planted faults of a small server, one thread a connection. What it speaks is a [`Protocol`].

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use gochat_ws::Opcode;
use gochat_ws::message::encode_frame;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::{HeaderValue, StatusCode};

/// What a server speaks.
pub(crate) struct Protocol {
    /// Where it listens, query included; anything else is not found.
    pub(crate) target: &'static str,
    pub(crate) subprotocol: Option<&'static str>,
    /// What it says first.
    pub(crate) greeting: Option<&'static str>,
    /// A member said something.
    pub(crate) heard: fn(&mut Room, usize, &str),
}

/// What happens to the tenth message, for its first receiver only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    Drop,
    Duplicate,
    /// Nobody gets it and its sender is told so.
    Refuse,
}

const AT: usize = 10;

struct Member {
    wire: TcpStream,
    opcode: Opcode,
    channels: Vec<String>,
}

/// Who is connected and what was said.
#[derive(Default)]
pub(crate) struct Room {
    members: Vec<Member>,
    fault: Fault,
    /// Messages so far.
    pub(crate) count: usize,
    /// Answers to the server's own pings.
    pub(crate) pongs: usize,
    /// Members that said that they are alive.
    pub(crate) beats: Vec<usize>,
    /// Targets and X-Token headers of upgrade requests.
    pub(crate) asked: Vec<(String, String)>,
}

impl Room {
    pub(crate) fn say(&mut self, member: usize, text: &str) {
        let Some(member) = self.members.get_mut(member) else { return };
        let mut wire = Vec::new();
        encode_frame(member.opcode, text.as_bytes(), None, &mut wire);
        // A member that left takes nothing any more.
        let _ = member.wire.write_all(&wire);
    }

    pub(crate) fn join(&mut self, member: usize, channel: &str) {
        self.members[member].channels.push(channel.to_owned());
    }

    /// Whether the next message is to be refused.
    pub(crate) fn refuses(&mut self) -> bool {
        let refuses = self.fault == Fault::Refuse && self.count + 1 == AT;
        self.count += usize::from(refuses);
        refuses
    }

    /// Sends a message to its sender alone.
    pub(crate) fn echo(&mut self, member: usize, text: &str) {
        self.count += 1;
        (0..self.copies(true)).for_each(|_| self.say(member, text));
    }

    /// Sends a message to everybody in a channel but `except`.
    pub(crate) fn publish(&mut self, channel: &str, except: Option<usize>, text: &str) {
        self.count += 1;
        let receivers: Vec<usize> = (0..self.members.len())
            .filter(|at| Some(*at) != except && self.members[*at].channels.iter().any(|its| its == channel))
            .collect();
        for (at, receiver) in receivers.into_iter().enumerate() {
            (0..self.copies(at == 0)).for_each(|_| self.say(receiver, text));
        }
    }

    fn copies(&self, is_first: bool) -> usize {
        match self.fault {
            Fault::Drop if is_first && self.count == AT => 0,
            Fault::Duplicate if is_first && self.count == AT => 2,
            _ => 1,
        }
    }
}

/// Serves until the test ends.
pub(crate) fn serve(protocol: &'static Protocol, fault: Fault) -> (SocketAddr, Arc<Mutex<Room>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let room = Arc::new(Mutex::new(Room { fault, ..Room::default() }));
    let shared = Arc::clone(&room);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let room = Arc::clone(&shared);
            thread::spawn(move || session(stream.unwrap(), protocol, &room));
        }
    });
    (addr, room)
}

fn session(stream: TcpStream, protocol: &Protocol, room: &Mutex<Room>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let wire = stream.try_clone().ok()?;
    let mut asked = (String::new(), String::new());
    let mut socket = tungstenite::accept_hdr(stream, |request: &Request, response: Response| {
        let token = request.headers().get("x-token").map_or("", |value| value.to_str().unwrap());
        asked = (request.uri().to_string(), token.to_owned());
        upgrade(protocol, request, response)
    })
    .ok()?;
    let me = {
        let mut room = room.lock().unwrap();
        room.asked.push(asked);
        room.members.push(Member { wire, opcode: Opcode::Text, channels: Vec::new() });
        let me = room.members.len() - 1;
        protocol.greeting.into_iter().for_each(|greeting| room.say(me, greeting));
        me
    };
    while let Ok(message) = socket.read() {
        if let Ok(text) = message.to_text()
            && (message.is_text() || message.is_binary())
        {
            let mut room = room.lock().unwrap();
            room.members[me].opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
            (protocol.heard)(&mut room, me, text);
        }
    }
    Some(())
}

fn upgrade(protocol: &Protocol, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
    if request.uri().to_string().split("&who=").next() != Some(protocol.target) || offered != protocol.subprotocol {
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        return Err(refusal);
    }
    if let Some(name) = protocol.subprotocol {
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(name));
    }
    Ok(response)
}
