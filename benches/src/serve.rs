//! The command line of floors and peers: where they listen and what they do with a message.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Longest message that floors and peers take, a little less.
pub const BUFFER_BYTES: usize = 1 << 20;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It goes back to its sender.
    Echo,
    /// It goes to every connection, its sender's too.
    Publish,
}

/// Flags of a server to compare to. It serves until it is killed.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9002")]
    pub listen: SocketAddr,
    /// What becomes of a message.
    #[arg(long, default_value = "echo")]
    pub mode: Mode,
}
