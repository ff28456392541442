//! A floor: a program that moves the bytes of an echo or a fan-out and judges nothing.

use std::io;

use clap::{Parser, ValueEnum};
use gochat_benches::floor::{epoll, uring};
use gochat_benches::serve::Arguments;

/// The least work that moves the same bytes.
#[derive(Parser)]
struct Floor {
    #[command(flatten)]
    common: Arguments,
    /// What it stands on.
    #[arg(long, default_value = "epoll")]
    reactor: Reactor,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reactor {
    Epoll,
    Uring,
}

fn main() -> io::Result<()> {
    let Floor { common, reactor } = Floor::parse();
    match reactor {
        Reactor::Epoll => epoll::serve(common.listen, common.mode),
        Reactor::Uring => uring::serve(common.listen, common.mode),
    }
}
