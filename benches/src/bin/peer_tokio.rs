//! A peer: a hand-rolled server on tokio, one task a connection, with the floor's framing. What a careful team gets without
//! a WebSocket library.

use std::io;

use clap::Parser;
use gochat_benches::floor::wire::{is_whole, turn_round, upgrade_answer};
use gochat_benches::serve::{Arguments, BUFFER_BYTES, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Messages that a receiver may lag behind.
const LAG_MAX: usize = 1024;

type Room = broadcast::Sender<std::sync::Arc<[u8]>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await?;
    let (room, _) = broadcast::channel(LAG_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        let room = (arguments.mode == Mode::Publish).then(|| room.clone());
        // A connection ends at whatever error; the load tool counts it.
        tokio::spawn(async move { session(stream, room).await.ok() });
    }
}

async fn session(mut stream: TcpStream, room: Option<Room>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    while !is_whole(&buffer) {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    let answer = upgrade_answer(&buffer).ok_or(io::ErrorKind::InvalidData)?;
    buffer.clear();
    let mut inbox = room.as_ref().map(broadcast::Sender::subscribe);
    stream.write_all(&answer).await?;
    loop {
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 || buffer.len() > BUFFER_BYTES {
                    return Ok(());
                }
                let (bytes, used, open) = turn_round(&mut buffer);
                match &room {
                    Some(room) if open && bytes > 0 => drop(room.send(buffer[..bytes].into())),
                    _ => stream.write_all(&buffer[..bytes]).await?,
                }
                buffer.drain(..used);
                if !open {
                    return Ok(());
                }
            }
            message = receive(&mut inbox) => stream.write_all(&message?).await?,
        }
    }
}

/// The next message of the room; never, without one.
async fn receive(inbox: &mut Option<broadcast::Receiver<std::sync::Arc<[u8]>>>) -> io::Result<std::sync::Arc<[u8]>> {
    match inbox {
        Some(inbox) => inbox.recv().await.map_err(io::Error::other),
        None => std::future::pending().await,
    }
}
