//! The step "frame": a masked text message is received, parsed, unmasked, validated, and built anew as a server sends it.
//! Everybody pays one copy of the received bytes, which stands for the kernel's, and one into the answer.

use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use fastwebsockets::Frame;
use gochat_ws::{Decoder, Event, Input, Limits, Opcode, Role, Scratch, message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Outcome;
use super::case::{Case, OURS, Work, checked};

const SIZES: [usize; 5] = [16, 64, 1024, 16 * 1024, 64 * 1024];
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(super) fn cases() -> Vec<Case> {
    let of = |size: usize| {
        let step = format!("frame-{size}");
        [
            Case::new(step.clone(), OURS, move || ours(size)),
            Case::new(step.clone(), "fastwebsockets", move || fastwebsockets(size)),
            Case::new(step, "tungstenite", move || tungstenite(size)),
        ]
    };
    SIZES.into_iter().flat_map(of).collect()
}

/// What a client sends.
fn received(size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    message::encode_frame(Opcode::Text, &vec![b'x'; size], Some(MASK), &mut wire);
    wire
}

/// Bytes of the answer.
fn answered(size: usize) -> usize {
    let mut wire = Vec::new();
    message::encode_frame(Opcode::Text, &vec![b'x'; size], None, &mut wire);
    wire.len()
}

fn ours(size: usize) -> Outcome<Work> {
    let wire = received(size);
    let mut buffer = wire.clone();
    let mut answer = Vec::with_capacity(answered(size));
    let (limits, mut scratch, mut decoder) = (Limits::default(), Scratch::new(), Decoder::new(Role::Server));
    checked(&answered(size), move || {
        buffer.copy_from_slice(&wire);
        answer.clear();
        let mut input = Input::new(&mut buffer);
        while let Ok(Some(Event::Text(text))) = decoder.next(&limits, &mut scratch, &mut input) {
            message::encode_frame(Opcode::Text, text.as_bytes(), None, &mut answer);
        }
        answer.len()
    })
}

fn tungstenite(size: usize) -> Outcome<Work> {
    let stream = Endless::new(received(size));
    let mut socket = tungstenite::WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None);
    checked(&Some(answered(size)), move || {
        let before = socket.get_ref().written;
        let message = socket.read().ok()?;
        socket.send(message).ok()?;
        Some(socket.get_ref().written - before)
    })
}

fn fastwebsockets(size: usize) -> Outcome<Work> {
    let mut socket =
        fastwebsockets::WebSocket::after_handshake(Endless::new(received(size)), fastwebsockets::Role::Server);
    // Kept outside of the socket's: it does not give its stream back without ending.
    let mut context = Context::from_waker(Waker::noop());
    checked(&true, move || {
        let step = async {
            let frame = socket.read_frame().await?;
            let is_whole = frame.payload.len() == size;
            socket.write_frame(Frame::new(true, frame.opcode, None, frame.payload)).await?;
            Ok::<bool, fastwebsockets::WebSocketError>(is_whole)
        };
        matches!(pin!(step).poll(&mut context), Poll::Ready(Ok(true)))
    })
}

/// A connection on which the same message arrives again each time one was read to its end, and that takes any answer.
struct Endless {
    wire: Vec<u8>,
    at: usize,
    written: usize,
}

impl Endless {
    fn new(wire: Vec<u8>) -> Endless {
        Endless { wire, at: 0, written: 0 }
    }

    fn take(&mut self, room: usize) -> &[u8] {
        let from = self.at;
        let to = self.wire.len().min(from + room);
        self.at = if to == self.wire.len() { 0 } else { to };
        &self.wire[from..to]
    }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.take(buffer.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Endless {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        buffer.put_slice(this.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.get_mut().write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
