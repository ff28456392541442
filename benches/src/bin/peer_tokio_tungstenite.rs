//! A peer: tokio-tungstenite as its examples use it, one task a connection.

use std::io;

use clap::Parser;
use futures::{SinkExt, StreamExt};
use gochat_benches::serve::{Arguments, Mode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Messages that a receiver may lag behind.
const LAG_MAX: usize = 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await?;
    let (room, _) = broadcast::channel(LAG_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let room = room.clone();
        // A connection ends at whatever error; the load tool counts it.
        tokio::spawn(async move {
            match arguments.mode {
                Mode::Echo => echo(stream).await.ok(),
                Mode::Publish => publish(stream, room).await.ok(),
            }
        });
    }
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn publish(stream: TcpStream, room: broadcast::Sender<Message>) -> Result<(), Error> {
    // Before the answer to the upgrade, so that nobody who was told that they are in misses a message.
    let mut inbox = room.subscribe();
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    loop {
        tokio::select! {
            heard = socket.next() => match heard.transpose()? {
                Some(message) if message.is_text() || message.is_binary() => drop(room.send(message)),
                Some(_) => {}
                None => return Ok(()),
            },
            message = inbox.recv() => {
                let message = message.map_err(io::Error::other)?;
                socket.feed(message).await?;
                // What is there already goes out in one flush.
                while let Ok(message) = inbox.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}
