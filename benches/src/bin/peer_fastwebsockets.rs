//! A peer: fastwebsockets, one task a connection (two where a message goes to all). The upgrade is the floor's, so that only
//! its frames are compared.

use std::io;

use bytes::BytesMut;
use clap::Parser;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use gochat_benches::floor::wire::{is_whole, upgrade_answer};
use gochat_benches::serve::{Arguments, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Messages that a receiver may lag behind.
const LAG_MAX: usize = 1024;

/// A message for all.
type Shared = (OpCode, bytes::Bytes);

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

async fn upgraded(mut stream: TcpStream) -> Result<WebSocket<TcpStream>, WebSocketError> {
    let mut head = BytesMut::with_capacity(1024);
    while !is_whole(&head) {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(WebSocketError::UnexpectedEOF);
        }
    }
    let answer = upgrade_answer(&head).ok_or(WebSocketError::UnexpectedEOF)?;
    stream.write_all(&answer).await?;
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    socket.set_auto_close(true);
    socket.set_auto_pong(true);
    Ok(socket)
}

async fn echo(stream: TcpStream) -> Result<(), WebSocketError> {
    let mut socket = upgraded(stream).await?;
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => {
                socket.write_frame(Frame::new(true, frame.opcode, None, frame.payload)).await?;
            }
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

async fn publish(stream: TcpStream, room: broadcast::Sender<Shared>) -> Result<(), WebSocketError> {
    // Before the answer to the upgrade, so that nobody who was told that they are in misses a message.
    let mut inbox = room.subscribe();
    let (mut reader, mut writer) = upgraded(stream).await?.split(tokio::io::split);
    let writing = tokio::spawn(async move {
        while let Ok((opcode, bytes)) = inbox.recv().await {
            let frame = Frame::new(true, opcode, None, Payload::Borrowed(&bytes));
            if writer.write_frame(frame).await.is_err() {
                return;
            }
        }
    });
    let heard = async {
        loop {
            // Pongs and closes are not answered: the load tool sends no pings and does not wait for the close.
            let frame = reader.read_frame::<_, WebSocketError>(&mut |_| async { Ok(()) }).await?;
            match frame.opcode {
                OpCode::Text | OpCode::Binary => {
                    drop(room.send((frame.opcode, bytes::Bytes::copy_from_slice(&frame.payload))));
                }
                OpCode::Close => return Ok(()),
                _ => {}
            }
        }
    };
    let outcome = heard.await;
    writing.abort();
    outcome
}
