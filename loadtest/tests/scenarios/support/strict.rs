//! Servers that treat clients unequally: a room that limits what waits for a slow reader, and an echo server that cuts off
//! or ignores some of its clients. One or two threads a connection.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use gochat_ws::Opcode;
use gochat_ws::message::encode_frame;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

/// What a room does when more waits for a member than it may.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Overflow {
    /// Nothing: it may be as much as it likes.
    Keep,
    /// The message does not reach it.
    Drop,
    /// It is closed with 4009 after what waits.
    Close,
    /// It never comes to that, but the member that came last gets a sender's message again after the next.
    Repeat,
}

/// Messages that may wait for a member: more than a busy machine lets pile up, fewer than a test sends while some stall.
const WAITING_MAX: usize = 300;

/// A room.
pub(crate) struct Room {
    pub(crate) addr: SocketAddr,
    dropped: Arc<AtomicU64>,
}

impl Room {
    /// Serves until the test ends.
    pub(crate) fn serve(overflow: Overflow) -> Room {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let members = Arc::new(Mutex::new(Vec::new()));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (members, count) = (Arc::clone(&members), Arc::clone(&count));
                thread::spawn(move || member(stream.unwrap(), &members, overflow, &count));
            }
        });
        Room { addr, dropped }
    }

    /// How many deliveries it dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Acquire)
    }
}

type Members = Mutex<Vec<Option<SyncSender<Vec<u8>>>>>;

fn member(stream: TcpStream, members: &Members, overflow: Overflow, dropped: &AtomicU64) -> Option<()> {
    // What the kernel holds for a reader that stalls is less than a test sends.
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, 4096).ok()?;
    let writer = stream.try_clone().ok()?;
    let mut socket = {
        let mut members = members.lock().unwrap();
        let socket = tungstenite::accept(stream).ok()?;
        let waiting_max = match overflow {
            Overflow::Keep | Overflow::Repeat => 1 << 14,
            Overflow::Drop | Overflow::Close => WAITING_MAX,
        };
        let (sender, receiver) = sync_channel(waiting_max);
        members.push(Some(sender));
        thread::spawn(move || write(writer, &receiver));
        socket
    };
    let mut before = None;
    while let Ok(message) = socket.read() {
        if !message.is_text() {
            continue;
        }
        let mut wire = Vec::new();
        encode_frame(Opcode::Text, message.to_text().ok()?.as_bytes(), None, &mut wire);
        let mut members = members.lock().unwrap();
        let last = members.len() - 1;
        for (at, member) in members.iter_mut().enumerate() {
            let Some(sender) = member else { continue };
            if sender.try_send(wire.clone()).is_err() {
                dropped.fetch_add(1, Ordering::AcqRel);
                if overflow == Overflow::Close {
                    *member = None;
                }
            } else if let Some(before) = before.take_if(|_| overflow == Overflow::Repeat && at == last) {
                sender.send(before).ok()?;
            }
        }
        before = Some(wire);
    }
    Some(())
}

/// Writes what is queued, however long the reader takes; the queue ends where the member is closed.
fn write(mut stream: TcpStream, frames: &Receiver<Vec<u8>>) -> Option<()> {
    for frame in frames {
        stream.write_all(&frame).ok()?;
    }
    let mut wire = Vec::new();
    let payload: Vec<u8> = 4009_u16.to_be_bytes().into_iter().chain(*b"too slow").collect();
    encode_frame(Opcode::Close, &payload, None, &mut wire);
    stream.write_all(&wire).ok()?;
    stream.shutdown(Shutdown::Write).ok()
}

/// What an echo server does beside echoing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    Good,
    /// Whoever sends so many messages is closed with 1008.
    CutsOff(usize),
    /// Client 0 is never answered.
    Ignores,
}

/// Serves until the test ends.
pub(crate) fn echo(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap(), manner));
        }
    });
    addr
}

fn answer(stream: TcpStream, manner: Manner) -> Option<()> {
    let mut socket = tungstenite::accept(stream).ok()?;
    let mut count = 0;
    loop {
        let message = socket.read().ok()?;
        if !message.is_text() {
            continue;
        }
        count += 1;
        match manner {
            Manner::CutsOff(limit) if count == limit => {
                let frame = CloseFrame { code: CloseCode::Policy, reason: "flood".into() };
                socket.close(Some(frame)).ok()?;
                // What is still under way is read, else the kernel takes the close frame back with a reset.
                while socket.read().is_ok() {}
            }
            // A key begins with its sender in six digits.
            Manner::Ignores if message.to_text().ok()?.starts_with("000000") => {}
            Manner::Good | Manner::CutsOff(_) | Manner::Ignores => socket.send(message).ok()?,
        }
    }
}
