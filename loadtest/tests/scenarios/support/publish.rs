//! A server that sends every message to all, one thread a connection, and does something wrong with one message.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use gochat_ws::Opcode;
use gochat_ws::message::encode_frame;

/// What happens to the tenth message, for the first receiver only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    Drop,
    Duplicate,
    /// It comes after the eleventh.
    Reorder,
    /// Its last byte is changed.
    Corrupt,
}

const AT: usize = 10;

#[derive(Default)]
struct Room {
    count: usize,
    members: Vec<TcpStream>,
    held: Option<Vec<u8>>,
}

/// Serves until the test ends.
pub(crate) fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let room = Arc::new(Mutex::new(Room::default()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let room = Arc::clone(&room);
            thread::spawn(move || session(stream.unwrap(), &room, fault));
        }
    });
    addr
}

fn session(stream: TcpStream, room: &Mutex<Room>, fault: Fault) -> Option<()> {
    let writer = stream.try_clone().ok()?;
    // Who was told that it is connected is a member: nothing is published in between.
    let mut socket = {
        let mut room = room.lock().unwrap();
        let socket = tungstenite::accept(stream).ok()?;
        room.members.push(writer);
        socket
    };
    while let Ok(message) = socket.read() {
        if let Ok(text) = message.to_text().map(str::to_owned)
            && message.is_text()
        {
            publish(&mut room.lock().unwrap(), text.into_bytes(), fault);
        }
    }
    Some(())
}

fn publish(room: &mut Room, payload: Vec<u8>, fault: Fault) {
    room.count += 1;
    let fault = if room.count == AT { fault } else { Fault::None };
    let held = room.held.take();
    for (at, member) in room.members.iter_mut().enumerate() {
        let mut payloads = vec![payload.clone()];
        if at == 0 {
            payloads.extend(held.clone());
            match fault {
                Fault::None => {}
                Fault::Drop => payloads.clear(),
                Fault::Duplicate => payloads.push(payload.clone()),
                Fault::Reorder => room.held = payloads.pop(),
                Fault::Corrupt => *payloads[0].last_mut().unwrap() ^= 1,
            }
        }
        for payload in payloads {
            let mut wire = Vec::new();
            encode_frame(Opcode::Text, &payload, None, &mut wire);
            // A member that left takes nothing any more.
            let _ = member.write_all(&wire);
        }
    }
}
