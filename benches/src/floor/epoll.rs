//! The floor on epoll: one read and one write for what arrives; a message for all is one write for each.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};

use super::wire::{is_whole, turn_round, upgrade_answer};
use crate::serve::{BUFFER_BYTES, Mode};

const EVENTS: usize = 512;

/// What is known of a connection: whether it was upgraded, and bytes of an incomplete head or frame.
struct Conn {
    stream: TcpStream,
    upgraded: bool,
    rest: Vec<u8>,
}

/// What came of one read.
enum Heard {
    /// The connection is over.
    Over,
    /// It was upgraded or nothing is whole yet.
    Nothing,
    /// So many bytes of frames stand at the front of the buffer.
    Frames(usize),
}

/// Serves until it fails.
///
/// # Errors
/// The listener or epoll fails.
pub fn serve(listen: SocketAddr, mode: Mode) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    rustix::net::listen(&listener, 4096)?;
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
            let at = event.data.u64() as usize;
            if at == listener.as_raw_fd() as usize {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let fd = stream.as_raw_fd();
                    epoll::add(&epoll, &stream, key(fd), EventFlags::IN)?;
                    conns.resize_with(conns.len().max(fd as usize + 1), || None);
                    conns[fd as usize] = Some(Conn { stream, upgraded: false, rest: Vec::new() });
                }
                continue;
            }
            let Some(conn) = conns.get_mut(at).and_then(Option::as_mut) else { continue };
            match read(conn, &mut buffer).unwrap_or(Heard::Over) {
                Heard::Over => conns[at] = None,
                Heard::Nothing => {}
                Heard::Frames(bytes) => match mode {
                    Mode::Echo => write_all(&conn.stream, &buffer[..bytes])?,
                    // One that is gone is found by its own next event.
                    Mode::Publish => conns.iter().flatten().filter(|it| it.upgraded).for_each(|it| {
                        let _ = write_all(&it.stream, &buffer[..bytes]);
                    }),
                },
            }
        }
    }
}

fn read(conn: &mut Conn, buffer: &mut [u8]) -> io::Result<Heard> {
    let held = conn.rest.len();
    buffer[..held].copy_from_slice(&conn.rest);
    conn.rest.clear();
    let received = match conn.stream.read(&mut buffer[held..]) {
        Ok(0) => return Ok(Heard::Over),
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    let input = &mut buffer[..held + received];
    if !conn.upgraded {
        if !is_whole(input) {
            conn.rest.extend_from_slice(input);
            return Ok(Heard::Nothing);
        }
        let Some(answer) = upgrade_answer(input) else { return Ok(Heard::Over) };
        conn.upgraded = true;
        write_all(&conn.stream, &answer)?;
        return Ok(Heard::Nothing);
    }
    let (bytes, used, open) = turn_round(input);
    conn.rest.extend_from_slice(&input[used..]);
    match (open, bytes) {
        (false, _) => {
            write_all(&conn.stream, &input[..bytes])?;
            Ok(Heard::Over)
        }
        (true, 0) => Ok(Heard::Nothing),
        (true, bytes) => Ok(Heard::Frames(bytes)),
    }
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
