//! The floor of the echo benches: the least work on epoll that makes a WebSocket client believe it was echoed. It finds
//! frame ends, unmasks in place and writes back; it checks nothing, and is no server for anybody else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use clap::Parser;
use gochat_ws::frame::unmask;
use gochat_ws::handshake::accept_value;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};

/// The receive buffer; the longest message is a little shorter.
const BUFFER_BYTES: usize = 1 << 20;
const EVENTS: usize = 512;

#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9002")]
    listen: SocketAddr,
}

/// What is known of a connection: whether it was upgraded, and bytes of an incomplete head or frame.
struct Conn {
    stream: TcpStream,
    upgraded: bool,
    rest: Vec<u8>,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Arguments::parse().listen)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let key = |fd: i32| EventData::new_u64(fd as u64);
    epoll::add(&epoll, &listener, key(listener.as_raw_fd()), EventFlags::IN)?;
    // By descriptor: the kernel hands out the lowest free one.
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let fd = event.data.u64();
            if fd == listener.as_raw_fd() as u64 {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let fd = stream.as_raw_fd();
                    epoll::add(&epoll, &stream, key(fd), EventFlags::IN)?;
                    let at = fd as usize;
                    conns.resize_with(conns.len().max(at + 1), || None);
                    conns[at] = Some(Conn { stream, upgraded: false, rest: Vec::new() });
                }
            } else if let Some(slot) = conns.get_mut(fd as usize)
                && let Some(conn) = slot
                && !serve(conn, &mut buffer).unwrap_or(false)
            {
                *slot = None;
            }
        }
    }
}

/// One read and one write. Whether the connection goes on.
fn serve(conn: &mut Conn, buffer: &mut [u8]) -> io::Result<bool> {
    let held = conn.rest.len();
    buffer[..held].copy_from_slice(&conn.rest);
    conn.rest.clear();
    let received = match conn.stream.read(&mut buffer[held..]) {
        Ok(0) => return Ok(false),
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    let input = &mut buffer[..held + received];
    if !conn.upgraded {
        return upgrade(conn, input);
    }
    let (echo_len, used, open) = turn_round(input);
    write_all(&conn.stream, &input[..echo_len])?;
    conn.rest.extend_from_slice(&input[used..]);
    Ok(open)
}

/// Turns whole masked frames into unmasked ones at the front of `buf`: how long these are, how much of the input they
/// took, and whether none was a close frame.
fn turn_round(buf: &mut [u8]) -> (usize, usize, bool) {
    let (mut read, mut written) = (0, 0);
    while buf.len() >= read + 6 {
        let short = usize::from(buf[read + 1] & 0x7f);
        let length_bytes = [0, 2, 8][usize::from(short >= 126) + usize::from(short == 127)];
        let header = 2 + length_bytes + 4;
        if buf.len() < read + header {
            break;
        }
        let length = match length_bytes {
            0 => short,
            _ => buf[read + 2..read + 2 + length_bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        let (start, end) = (read + header, read + header + length);
        if buf.len() < end {
            break;
        }
        let key = [buf[start - 4], buf[start - 3], buf[start - 2], buf[start - 1]];
        unmask(&mut buf[start..end], key, 0);
        let close = buf[read] & 0xf == 8;
        buf[written] = buf[read];
        buf[written + 1] = short as u8;
        buf.copy_within(read + 2..read + 2 + length_bytes, written + 2);
        buf.copy_within(start..end, written + 2 + length_bytes);
        written += 2 + length_bytes + length;
        read = end;
        if close {
            return (written, read, false);
        }
    }
    (written, read, true)
}

fn upgrade(conn: &mut Conn, head: &[u8]) -> io::Result<bool> {
    if !head.ends_with(b"\r\n\r\n") {
        conn.rest.extend_from_slice(head);
        return Ok(true);
    }
    let text = String::from_utf8_lossy(head);
    let key = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let Ok(key) = <&[u8; 24]>::try_from(key.as_bytes()) else { return Ok(false) };
    let accept = accept_value(key);
    let mut answer =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            .to_vec();
    answer.extend_from_slice(&accept);
    answer.extend_from_slice(b"\r\n\r\n");
    conn.upgraded = true;
    write_all(&conn.stream, &answer)?;
    Ok(true)
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gochat_ws::{Opcode, message::encode_frame};

    #[test]
    fn frames_are_turned_round_and_tails_left() {
        let (mut wire, mut wanted) = (Vec::new(), Vec::new());
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; size];
            encode_frame(Opcode::Binary, &payload, Some([1, 2, 3, 4]), &mut wire);
            encode_frame(Opcode::Binary, &payload, None, &mut wanted);
        }
        let whole = wire.len();
        encode_frame(Opcode::Text, b"cut", Some([9; 4]), &mut wire);
        wire.pop();
        assert_eq!(turn_round(&mut wire.clone()), (wanted.len(), whole, true));
        turn_round(&mut wire);
        assert!(wire.starts_with(&wanted));
    }
}
