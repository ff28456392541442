//! Who is compared: programs, and how each is started. Judges nobody.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::cells::{Cell, Figure};
use crate::serve::Mode;

/// A server.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) is_floor: bool,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// A floor on this reactor.
    Floor(&'static str),
    /// The gateway's engine on this reactor.
    Engine(&'static str),
    Peer(&'static str),
}

const fn of(name: &'static str, program: Program) -> Contender {
    Contender { name, is_floor: matches!(program, Program::Floor(_)), program }
}

pub(super) const CONTENDERS: &[Contender] = &[
    of("floor, epoll", Program::Floor("epoll")),
    of("floor, io_uring", Program::Floor("uring")),
    of("gochat, io_uring", Program::Engine("uring")),
    of("gochat, epoll", Program::Engine("epoll")),
    of("tokio by hand", Program::Peer("peer_tokio")),
    of("tokio-tungstenite", Program::Peer("peer_tokio_tungstenite")),
    of("fastwebsockets", Program::Peer("peer_fastwebsockets")),
];

impl Contender {
    /// The io_uring floor holds a large buffer for each connection, which is no floor of memory.
    pub(super) fn takes_part(&self, cell: &Cell) -> bool {
        !(matches!(self.program, Program::Floor("uring")) && cell.figure == Figure::Memory)
    }

    pub(super) fn command(&self, bin: &Path, mode: Mode, listen: SocketAddr) -> Command {
        let listen = listen.to_string();
        let word = match mode {
            Mode::Echo => "echo",
            Mode::Publish => "publish",
        };
        let (path, flags) = match self.program {
            Program::Floor(reactor) => (bin.join("floor"), vec!["--mode", word, "--reactor", reactor]),
            Program::Engine(reactor) => {
                (bin.join(format!("examples/engine_{word}")), vec!["--reactor", reactor, "--shards", "1"])
            }
            Program::Peer(name) => (bin.join(name), vec!["--mode", word]),
        };
        let mut command = Command::new(path);
        command.args(["--listen", &listen]).args(flags);
        command
    }
}
