//! A server that speaks enough of GoChat for `run single` and `audit`: chats, acknowledgements, deliveries and history
//! in memory, with a fault planted at one message of every conversation.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use gochat_ws::Opcode;
use gochat_ws::message::encode_frame;
use serde_json::{Value, json};

/// What happens to the message with sequence number 5 of every conversation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    NotDelivered,
    NotAcked,
    DeliveredTwice,
    /// It is delivered after the next.
    Reordered,
    Corrupted,
    /// Its sender gets it too.
    ToStranger,
    /// It is acknowledged with another number.
    Renumbered,
    RateLimited,
    /// It is acknowledged, delivered and not stored.
    NotStored,
}

const AT: i64 = 5;

#[derive(Default)]
struct Chat {
    seq: i64,
    stored: Vec<Value>,
    /// A delivery that waits for the next to the same user.
    held: Option<(String, Value)>,
}

#[derive(Default)]
struct State {
    /// By user id, which is the token too.
    online: HashMap<String, TcpStream>,
    chats: HashMap<String, Chat>,
}

type Shared = Arc<Mutex<State>>;

/// Serves until the test ends.
pub(crate) fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let state = Shared::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let stream = stream.unwrap();
                let mut first = [0; 7];
                while stream.peek(&mut first).unwrap() < first.len() {}
                if &first == b"GET /ws" { session(stream, &state, fault) } else { http(stream, &state) }
            });
        }
    });
    addr
}

/// Answers API requests until the client leaves.
fn http(stream: TcpStream, state: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut token, mut length) = (String::new(), String::new(), 0);
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            match field.trim().split_once(": ") {
                Some(("Authorization", value)) => token = value.strip_prefix("Bearer ")?.to_owned(),
                Some(("Content-Length", value)) => length = value.parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let answer = json!({"success": true, "message": "", "data": answer(state, &path, &token, &body)}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        reader.get_mut().write_all((head + &answer).as_bytes()).ok()?;
    }
}

fn answer(state: &Shared, path: &str, token: &str, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if path == "/api/auth/register" {
        return json!({"user": {"id": format!("id-of-{}", body["username"].as_str().unwrap())}});
    }
    if path == "/api/auth/login" {
        return json!({"accessToken": format!("id-of-{}", body["username"].as_str().unwrap())});
    }
    if path == "/api/conversations" {
        return json!({"id": format!("s~{token}~{}", body["members"][0].as_str().unwrap())});
    }
    let (path, query) = path.split_once('?').unwrap();
    let after: i64 = query.split_once("after_seq=").unwrap().1.split('&').next().unwrap().parse().unwrap();
    let chat = path.strip_prefix("/api/conversations/").unwrap().strip_suffix("/messages").unwrap();
    let state = state.lock().unwrap();
    let later: Vec<_> = state.chats[chat].stored.iter().filter(|row| row["seqId"].as_i64().unwrap() > after).collect();
    let page: Vec<_> = later.iter().take(7).collect();
    json!({"messages": page, "hasMore": later.len() > page.len(), "complete": later.len() == page.len()})
}

/// A WebSocket: tungstenite reads, frames are written by whoever has something to say.
#[allow(clippy::result_large_err, reason = "the type of tungstenite's callback")]
fn session(stream: TcpStream, state: &Shared, fault: Fault) -> Option<()> {
    let writer = stream.try_clone().ok()?;
    let mut token = String::new();
    let mut socket = tungstenite::accept_hdr(stream, |request: &tungstenite::handshake::server::Request, response| {
        let value = request.headers().get("Authorization").map(|value| value.to_str().unwrap());
        token = value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
        Ok(response)
    })
    .ok()?;
    state.lock().unwrap().online.insert(token.clone(), writer);
    tell(state, &token, &json!({"type": "connected", "data": {"userId": token, "message": "hi"}}));
    while let Ok(message) = socket.read() {
        let Ok(text) = message.to_text() else { continue };
        let Ok(frame) = serde_json::from_str::<Value>(text) else { continue };
        if frame["type"] == "send-message" {
            accept(state, &token, &frame["data"], fault);
        }
    }
    Some(())
}

fn accept(state: &Shared, sender: &str, data: &Value, fault: Fault) {
    let id = data["conversationId"].as_str().unwrap();
    let mut users = id.strip_prefix("s~").unwrap().split('~');
    let peer = users.find(|user| *user != sender).unwrap();
    let mut guard = state.lock().unwrap();
    let chat = guard.chats.entry(id.to_owned()).or_default();
    chat.seq += 1;
    let (seq, fault) = (chat.seq, if chat.seq == AT { fault } else { Fault::None });
    let client_id = &data["client_msg_id"];
    if fault == Fault::RateLimited {
        drop(guard);
        let details = json!({"client_msg_id": client_id, "retryAfter": 0});
        return tell(state, sender, &json!({"type": "error", "data": {"code": "RATE_LIMITED", "details": details}}));
    }
    let row = json!({"id": format!("{id}-{seq}"), "seqId": seq, "clientMsgId": client_id, "content": data["content"]});
    if fault != Fault::NotStored {
        chat.stored.push(row.clone());
    }
    let mut push = json!({"type": "new-message", "data": row});
    if fault == Fault::Corrupted {
        push["data"]["content"] = "something else, with an \" escape".into();
    }
    let mut pushes = match fault {
        Fault::NotDelivered => vec![],
        Fault::DeliveredTwice => vec![push.clone(), push.clone()],
        Fault::Reordered => {
            chat.held = Some((peer.to_owned(), push.clone()));
            vec![]
        }
        _ => vec![push.clone()],
    };
    if fault != Fault::Reordered {
        pushes.extend(chat.held.take_if(|(held_for, _)| held_for == peer).map(|(_, push)| push));
    }
    // Pushed under the lock, so that a conversation's order is that of its numbers.
    let told = if fault == Fault::Renumbered { seq + 1000 } else { seq };
    for push in &pushes {
        write(&mut guard, peer, push);
    }
    if fault == Fault::ToStranger {
        write(&mut guard, sender, &push);
    }
    if fault != Fault::NotAcked {
        let ack = json!({"client_msg_id": client_id, "messageId": format!("{id}-{seq}"), "seqId": told});
        write(&mut guard, sender, &json!({"type": "message-ack", "data": ack}));
    }
}

fn tell(state: &Shared, user: &str, frame: &Value) {
    write(&mut state.lock().unwrap(), user, frame);
}

fn write(state: &mut State, user: &str, frame: &Value) {
    let mut wire = Vec::new();
    encode_frame(Opcode::Text, frame.to_string().as_bytes(), None, &mut wire);
    if let Some(stream) = state.online.get_mut(user) {
        let _ = stream.write_all(&wire);
    }
}
