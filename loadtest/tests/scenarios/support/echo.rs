//! An echo server on tungstenite, one thread a connection, that does something wrong with one message.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tungstenite::{Message, WebSocket};

/// What happens to the tenth message of every connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    Drop,
    Duplicate,
    /// It is echoed after the eleventh.
    Reorder,
    /// Its last byte is changed.
    Corrupt,
    /// Its key is no key any more.
    Garble,
    /// The connection is closed.
    Close,
}

const AT: usize = 10;

/// Serves until the test ends.
pub(crate) fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || echo(stream.unwrap(), fault));
        }
    });
    addr
}

/// Ends at whatever error: the tool sees it.
fn echo(stream: TcpStream, fault: Fault) -> Option<()> {
    let mut socket: WebSocket<TcpStream> = tungstenite::accept(stream).ok()?;
    let mut held = None;
    let mut at = 0;
    loop {
        let message = socket.read().ok()?;
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        at += 1;
        match (fault, at) {
            (Fault::Drop, AT) => {}
            (Fault::Duplicate, AT) => {
                socket.send(message.clone()).ok()?;
                socket.send(message).ok()?;
            }
            (Fault::Reorder, AT) => held = Some(message),
            (Fault::Corrupt, AT) => socket.send(changed(&message, message.len() - 1)).ok()?,
            (Fault::Garble, AT) => socket.send(changed(&message, 3)).ok()?,
            (Fault::Close, AT) => socket.close(None).ok()?,
            _ => {
                socket.send(message).ok()?;
                if let Some(held) = held.take() {
                    socket.send(held).ok()?;
                }
            }
        }
    }
}

fn changed(message: &Message, at: usize) -> Message {
    let mut text = message.to_text().unwrap().to_owned();
    text.replace_range(at..=at, "~");
    Message::text(text)
}
