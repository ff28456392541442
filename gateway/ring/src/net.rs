//! Socket set-up and the few other system calls around a reactor: listeners, connects, descriptor flags, pinning.
//! Owns no socket: everything made here is returned.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::RingError;

/// How long [`bind_probe`] waits for an address in use to become free.
const BIND_PROBE_MAX: Duration = Duration::from_secs(2);
const BIND_PROBE_STEP: Duration = Duration::from_millis(50);

/// Binds and listens once without SO_REUSEPORT and closes again, so that a port in use is noticed: listeners with
/// SO_REUSEPORT would silently share it. Retries for 2 s, which also outlasts the dying ring of a killed predecessor.
/// Call once per process before the shards listen. Returns the address, with port 0 resolved.
pub fn bind_probe(addr: SocketAddr) -> Result<SocketAddr, RingError> {
    let give_up = Instant::now() + BIND_PROBE_MAX;
    loop {
        match bind_and_listen(addr, 1, false) {
            Ok(socket) => return local_addr(socket.as_fd()),
            Err(RingError::AddressInUse { .. }) if Instant::now() < give_up => sleep(BIND_PROBE_STEP),
            Err(error) => return Err(error),
        }
    }
}

/// A listening socket with SO_REUSEADDR and SO_REUSEPORT; close-on-exec, non-blocking, TCP_NODELAY for what it accepts.
pub fn listen_socket(addr: SocketAddr, backlog: u32) -> Result<OwnedFd, RingError> {
    bind_and_listen(addr, backlog, true)
}

fn bind_and_listen(addr: SocketAddr, backlog: u32, share: bool) -> Result<OwnedFd, RingError> {
    let socket = tcp_socket(addr)?;
    sockopt::set_socket_reuseaddr(&socket, true).map_err(|e| RingError::os("SO_REUSEADDR", e))?;
    if share {
        sockopt::set_socket_reuseport(&socket, true).map_err(|e| RingError::os("SO_REUSEPORT", e))?;
    }
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let bound = rustix::net::bind(&socket, &addr).and_then(|()| rustix::net::listen(&socket, backlog));
    match bound {
        Ok(()) => Ok(socket),
        Err(Errno::ADDRINUSE) => Err(RingError::AddressInUse { addr }),
        Err(errno) => Err(RingError::os("bind and listen", errno)),
    }
}

/// Makes a listener from elsewhere behave as our own: non-blocking, and TCP_NODELAY for what it accepts.
pub(crate) fn prepare_listener(listener: BorrowedFd<'_>) -> Result<(), RingError> {
    // Fails for sockets that are not TCP, which need it not.
    let _ = sockopt::set_tcp_nodelay(listener, true);
    set_nonblocking(listener, true).map_err(|e| RingError::os("fcntl", e))
}

/// A non-blocking TCP socket for connecting, bound to `source` when given.
pub(crate) fn connect_socket(source: Option<SocketAddr>, target: SocketAddr) -> Result<OwnedFd, RingError> {
    let socket = tcp_socket(target)?;
    if let Some(source) = source {
        if source.port() == 0 {
            set_bind_address_no_port(&socket).map_err(|e| RingError::os("IP_BIND_ADDRESS_NO_PORT", e))?;
        }
        rustix::net::bind(&socket, &source).map_err(|e| RingError::os("bind to the source address", e))?;
    }
    Ok(socket)
}

fn tcp_socket(addr: SocketAddr) -> Result<OwnedFd, RingError> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(|e| RingError::os("socket", e))?;
    sockopt::set_tcp_nodelay(&socket, true).map_err(|e| RingError::os("TCP_NODELAY", e))?;
    Ok(socket)
}

/// Lets the kernel choose the port at connect time, when it knows the target: ports are then shared among targets.
fn set_bind_address_no_port(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the whole call; the pointer and length describe `on`, which outlives it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn local_addr(socket: BorrowedFd<'_>) -> Result<SocketAddr, RingError> {
    let addr = rustix::net::getsockname(socket).map_err(|e| RingError::os("getsockname", e))?;
    SocketAddr::try_from(addr).map_err(|e| RingError::os("getsockname", e))
}

/// The peer of a connected socket; an error when it is gone already or is no IP peer.
pub(crate) fn peer_addr(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let addr = rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?;
    Ok(SocketAddr::try_from(addr)?)
}

/// Sets or clears O_NONBLOCK. The flag belongs to the open file, so every descriptor of it sees the change.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    let wanted = if on { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK };
    if wanted != flags {
        fcntl_setfl(fd, wanted)?;
    }
    Ok(())
}

/// Pins the calling thread to one CPU, numbered as the kernel does.
pub fn pin_current_thread(cpu: usize) -> Result<(), RingError> {
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(RingError::Config(format!("there is no CPU {cpu}")));
    }
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).map_err(|e| RingError::os("sched_setaffinity", e))
}
