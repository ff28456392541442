//! A chat client over tungstenite: sends with a window, remembers what is not acknowledged, and records everything it
//! is told, so that a test can audit it.

use super::{STUCK, User};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

/// One WebSocket session.
pub struct Session {
    socket: WebSocket<TcpStream>,
}

/// Why a session can give no more frames.
#[derive(Debug)]
pub enum Ended {
    Closed(Option<u16>),
    Broken(String),
}

impl Session {
    /// Connects with the token in the query and waits for `connected`.
    pub fn connect(http: SocketAddr, token: &str) -> Result<Session, String> {
        let mut session = Session::open(http, token)?;
        let first = session.frame(STUCK).map_err(|e| format!("{e:?}"))?.ok_or("no frame in time")?;
        if first["type"] == "connected" { Ok(session) } else { Err(format!("{first} came before `connected`")) }
    }

    /// The handshake alone.
    pub fn open(http: SocketAddr, token: &str) -> Result<Session, String> {
        let stream = TcpStream::connect(http).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(STUCK)).map_err(|e| e.to_string())?;
        let url = format!("ws://{http}/ws?token={token}");
        let (socket, _) = tungstenite::client(url, stream).map_err(|e| e.to_string())?;
        Ok(Session { socket })
    }

    pub fn send(&mut self, frame: &Value) -> Result<(), Ended> {
        self.raw(Message::text(frame.to_string()))
    }

    /// Any message, whatever the protocol thinks of it.
    pub fn raw(&mut self, message: Message) -> Result<(), Ended> {
        self.socket.send(message).map_err(ended)
    }

    /// The next JSON frame, or `None` when none came in `wait`.
    pub fn frame(&mut self, wait: Duration) -> Result<Option<Value>, Ended> {
        let until = Instant::now() + wait;
        loop {
            // Pings do not prolong the wait.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.get_ref().set_read_timeout(Some(left)).map_err(|e| Ended::Broken(e.to_string()))?;
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let frame = serde_json::from_str(&text).map_err(|e| Ended::Broken(format!("{e}: {text}")))?;
                    return Ok(Some(frame));
                }
                Ok(Message::Close(close)) => return Err(Ended::Closed(close.map(|c| c.code.into()))),
                Ok(_) => {}
                Err(tungstenite::Error::Io(e)) if is_timeout(&e) => return Ok(None),
                Err(e) => return Err(ended(e)),
            }
        }
    }

    /// The next frame of this type; others are dropped.
    pub fn expect(&mut self, kind: &str) -> Value {
        loop {
            match self.frame(STUCK) {
                Ok(Some(frame)) if frame["type"] == kind => return frame,
                Ok(Some(_)) => {}
                other => panic!("waiting for {kind}: {other:?}"),
            }
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn ended(error: tungstenite::Error) -> Ended {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Ended::Closed(None),
        other => Ended::Broken(other.to_string()),
    }
}

/// A `send-message` frame.
pub fn send_message(conversation: &str, client_msg_id: &str, content: &str) -> Value {
    let data =
        json!({"conversationId": conversation, "client_msg_id": client_msg_id, "content": content, "messageType": 1});
    json!({"type": "send-message", "data": data})
}

/// What the server told a client about one of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    pub message_id: String,
    pub seq: i64,
    pub corrected: bool,
}

/// One user's side of one conversation over many sessions.
pub struct Talker {
    pub user: User,
    pub conversation: String,
    /// Sent and not acknowledged, in order of first sending.
    pub unacked: Vec<String>,
    /// client_msg_id to what was acknowledged.
    pub acked: BTreeMap<String, Acked>,
    /// Numbers received as `new-message` in all sessions, with the sender's client_msg_id.
    pub received: BTreeMap<i64, String>,
    /// What contradicts the rules; must stay empty.
    pub wrong: Vec<String>,
    next: u64,
    last_first_delivery: i64,
    delivered_here: BTreeSet<i64>,
}

impl Talker {
    pub fn new(user: User, conversation: String) -> Talker {
        Talker {
            user,
            conversation,
            unacked: Vec::new(),
            acked: BTreeMap::new(),
            received: BTreeMap::new(),
            wrong: Vec::new(),
            next: 0,
            last_first_delivery: 0,
            delivered_here: BTreeSet::new(),
        }
    }

    /// A session begins: order of first deliveries is judged anew.
    pub fn session_began(&mut self) {
        self.last_first_delivery = 0;
        self.delivered_here.clear();
    }

    /// A frame for a message never sent before; its content is its id, so that an audit can check it.
    pub fn fresh(&mut self) -> Value {
        self.next += 1;
        let id = format!("{}-{}", self.user.name, self.next);
        self.unacked.push(id.clone());
        self.again(&id)
    }

    /// The frame of a message that was sent before.
    pub fn again(&self, id: &str) -> Value {
        send_message(&self.conversation, id, &format!("content of {id}"))
    }

    /// Everything this user ever sent.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// Takes in one frame from the server.
    pub fn hear(&mut self, frame: &Value) {
        let data = &frame["data"];
        match frame["type"].as_str() {
            Some("message-ack") => self.hear_ack(data),
            Some("new-message") => self.hear_message(data),
            Some("error") => self.hear_error(data),
            _ => {}
        }
    }

    fn hear_ack(&mut self, data: &Value) {
        let id = data["client_msg_id"].as_str().unwrap_or_default().to_owned();
        let ack = Acked {
            message_id: data["messageId"].as_str().unwrap_or_default().to_owned(),
            seq: data["seqId"].as_i64().unwrap_or(-1),
            corrected: data["corrected"] == true,
        };
        self.unacked.retain(|other| *other != id);
        match self.acked.get(&id) {
            Some(before) if before.corrected && !ack.corrected => {}
            Some(before) if !ack.corrected && (before.message_id != ack.message_id || before.seq != ack.seq) => {
                self.wrong.push(format!("{id} acknowledged as {before:?}, then as {ack:?}"));
            }
            _ => {
                self.acked.insert(id, ack);
            }
        }
    }

    fn hear_message(&mut self, data: &Value) {
        // Nobody's message: it says what happened to the group.
        if data["messageType"] == 4 {
            return;
        }
        let (Some(seq), Some(id)) = (data["seqId"].as_i64(), data["clientMsgId"].as_str()) else {
            return self.wrong.push(format!("new-message without seqId or clientMsgId: {data}"));
        };
        if data["conversationId"] != self.conversation.as_str() {
            self.wrong.push(format!("{} received a stranger's message: {data}", self.user.name));
        }
        if data["content"] != format!("content of {id}").as_str() {
            self.wrong.push(format!("content of {id} arrived as {}", data["content"]));
        }
        let first_here = self.delivered_here.insert(seq);
        if first_here && data["redelivered"] != true {
            if seq <= self.last_first_delivery {
                self.wrong.push(format!("seq {seq} first delivered after {}", self.last_first_delivery));
            }
            self.last_first_delivery = self.last_first_delivery.max(seq);
        }
        if let Some(before) = self.received.insert(seq, id.to_owned())
            && before != id
        {
            self.wrong.push(format!("seq {seq} delivered as {before} and as {id}"));
        }
    }

    fn hear_error(&mut self, data: &Value) {
        // Refusals that ask for another try are part of life under kills; all others are not.
        let again = ["SERVICE_UNAVAILABLE", "RATE_LIMITED", "TIMEOUT"];
        if !data["code"].as_str().is_some_and(|code| again.contains(&code)) {
            self.wrong.push(format!("{} was refused: {data}", self.user.name));
        }
    }
}
