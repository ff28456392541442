//! The floor on io_uring: one receive and one send in the kernel for each connection, handed over in batches. It uses the
//! ring directly, so that it shares nothing with the reactor that is compared to it.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::wire::{is_whole, turn_round, upgrade_answer};
use crate::serve::Mode;

/// Submissions that one enter hands over.
const SUBMISSIONS: u32 = 4096;
/// Of one connection: the longest message is a little shorter.
const RECEIVE_BYTES: usize = 64 * 1024;

/// What a completion was about, in the low bits of its user data.
const ACCEPT: u64 = 0;
const RECV: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;

/// One connection. Its receive goes into `input`, behind what is held; its send reads from the front of `out`.
struct Conn {
    input: Box<[u8]>,
    held: usize,
    upgraded: bool,
    closing: bool,
    out: VecDeque<Rc<[u8]>>,
    sent: usize,
}

struct Floor {
    ring: IoUring,
    mode: Mode,
    /// By descriptor.
    conns: Vec<Option<Box<Conn>>>,
}

/// Serves until it fails.
///
/// # Errors
/// The listener or the ring fails.
pub fn serve(listen: SocketAddr, mode: Mode) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    rustix::net::listen(&listener, 4096)?;
    let ring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_cqsize(65_536).build(SUBMISSIONS)?;
    let mut floor = Floor { ring, mode, conns: Vec::new() };
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPT);
    floor.push(&accept)?;
    let mut completions = Vec::new();
    loop {
        floor.ring.submit_and_wait(1)?;
        completions.extend(floor.ring.completion().map(|it| (it.user_data(), it.result(), it.flags())));
        for (data, result, flags) in completions.drain(..) {
            let fd = (data >> 8) as i32;
            match data & 0xff {
                ACCEPT => {
                    if result >= 0 {
                        floor.accepted(result)?;
                    }
                    if !cqueue::more(flags) {
                        floor.push(&accept)?;
                    }
                }
                RECV => floor.received(fd, result)?,
                SEND => floor.sent(fd, result)?,
                _ => {}
            }
        }
    }
}

impl Floor {
    #[allow(unsafe_code, reason = "the kernel works on memory of the connections until it says that it is done")]
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: a buffer belongs to a boxed connection, or to an Rc that it holds; a connection is dropped only when
        // neither its receive nor its send is in the kernel.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn conn(&mut self, fd: i32) -> Option<&mut Box<Conn>> {
        self.conns.get_mut(fd as usize)?.as_mut()
    }

    fn accepted(&mut self, fd: i32) -> io::Result<()> {
        let at = fd as usize;
        self.conns.resize_with(self.conns.len().max(at + 1), || None);
        let input = vec![0; RECEIVE_BYTES].into_boxed_slice();
        let conn = Conn { input, held: 0, upgraded: false, closing: false, out: VecDeque::new(), sent: 0 };
        self.conns[at] = Some(Box::new(conn));
        set_nodelay(fd)?;
        self.receive(fd)
    }

    fn receive(&mut self, fd: i32) -> io::Result<()> {
        let Some(conn) = self.conn(fd) else { return Ok(()) };
        let free = &mut conn.input[conn.held..];
        let entry = opcode::Recv::new(types::Fd(fd), free.as_mut_ptr(), free.len() as u32);
        let entry = entry.build().user_data((fd as u64) << 8 | RECV);
        self.push(&entry)
    }

    fn send(&mut self, fd: i32) -> io::Result<()> {
        let Some(conn) = self.conn(fd) else { return Ok(()) };
        let Some(front) = conn.out.front() else { return Ok(()) };
        let rest = &front[conn.sent..];
        let entry = opcode::Send::new(types::Fd(fd), rest.as_ptr(), rest.len() as u32);
        let entry = entry.build().user_data((fd as u64) << 8 | SEND);
        self.push(&entry)
    }

    /// Queues bytes; a connection has one send in the kernel.
    fn queue(&mut self, fd: i32, bytes: Rc<[u8]>) -> io::Result<()> {
        let Some(conn) = self.conn(fd) else { return Ok(()) };
        conn.out.push_back(bytes);
        if conn.out.len() == 1 { self.send(fd) } else { Ok(()) }
    }

    fn received(&mut self, fd: i32, result: i32) -> io::Result<()> {
        let mode = self.mode;
        let Some(conn) = self.conn(fd) else { return Ok(()) };
        if result <= 0 {
            conn.closing = true;
            return self.end(fd);
        }
        let whole = conn.held + result as usize;
        let input = &mut conn.input[..whole];
        if !conn.upgraded {
            conn.held = whole;
            if !is_whole(input) {
                return self.receive(fd);
            }
            let answer = upgrade_answer(input);
            (conn.held, conn.upgraded, conn.closing) = (0, true, answer.is_none());
            if let Some(answer) = answer {
                self.queue(fd, answer.into())?;
            }
            return if self.conn(fd).is_some_and(|it| it.closing) { self.end(fd) } else { self.receive(fd) };
        }
        let (bytes, used, open) = turn_round(input);
        let frames: Rc<[u8]> = Rc::from(&input[..bytes]);
        input.copy_within(used.., 0);
        conn.held = whole - used;
        conn.closing = !open;
        match mode {
            _ if bytes == 0 => {}
            Mode::Publish if open => {
                let is_member = |at: &usize| self.conns[*at].as_ref().is_some_and(|it| it.upgraded);
                let members: Vec<usize> = (0..self.conns.len()).filter(is_member).collect();
                for member in members {
                    self.queue(member as i32, Rc::clone(&frames))?;
                }
            }
            Mode::Publish | Mode::Echo => self.queue(fd, frames)?,
        }
        if open { self.receive(fd) } else { self.end(fd) }
    }

    fn sent(&mut self, fd: i32, result: i32) -> io::Result<()> {
        let Some(conn) = self.conn(fd) else { return Ok(()) };
        if result < 0 {
            conn.out.clear();
            return if conn.closing { self.end(fd) } else { Ok(()) };
        }
        conn.sent += result as usize;
        if conn.out.front().is_some_and(|front| conn.sent == front.len()) {
            conn.out.pop_front();
            conn.sent = 0;
        }
        match (conn.out.is_empty(), conn.closing) {
            (false, _) => self.send(fd),
            (true, true) => self.end(fd),
            (true, false) => Ok(()),
        }
    }

    /// Closes a connection whose receive is over, once its send is.
    fn end(&mut self, fd: i32) -> io::Result<()> {
        if self.conn(fd).is_some_and(|conn| conn.out.is_empty()) {
            self.conns[fd as usize] = None;
            let entry = opcode::Close::new(types::Fd(fd)).build().user_data((fd as u64) << 8 | CLOSE);
            self.push(&entry)?;
        }
        Ok(())
    }
}

#[allow(unsafe_code, reason = "the descriptor is owned by the ring's program, not by a type")]
fn set_nodelay(fd: i32) -> io::Result<()> {
    // SAFETY: the descriptor was accepted and is closed by this program alone.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(rustix::net::sockopt::set_tcp_nodelay(socket, true)?)
}
