//! The command line: what may be said, nothing of what is then done.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Instant messaging: a WebSocket gateway for millions of connections, and the chat backend behind it.
///
/// Without a command, everything runs in this one process on embedded parts (`gochat dev`).
#[derive(Parser, Debug)]
#[command(name = "gochat", version, about, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// What to do; `dev` when absent.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Flags of `dev`, so that they need no command before them.
    #[command(flatten)]
    pub(crate) dev: DevArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run everything in this process on embedded parts: log, SQLite, in-memory cache
    Dev(DevArgs),
    /// Work on user accounts of the embedded store; no server may be running on it
    #[command(subcommand)]
    User(UserCommand),
}

#[derive(Args, Debug, Default)]
pub(crate) struct DevArgs {
    /// Address of the HTTP API and of WebSocket connections [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of /live, /ready, /health and /metrics [default: 127.0.0.1:9093]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Directory of the log, the database and the signing key; made when absent [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Gateway shards, each a pinned thread with its own connections [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=255))]
    pub(crate) shards: Option<u16>,
    /// How sockets are driven [default: auto]
    #[arg(long, value_enum)]
    pub(crate) reactor: Option<Reactor>,
    /// Rate limits; `off` is for load runs only [default: on]
    #[arg(long, value_enum)]
    pub(crate) limits: Option<Limits>,
    /// Configuration file (TOML); flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Make many users with one password, and their access tokens, for load runs
    Mint(MintArgs),
}

#[derive(Args, Debug)]
pub(crate) struct MintArgs {
    /// How many users
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: u32,
    /// File to write: one line `user_id,username,access_token` for each user
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Usernames are this and a number
    #[arg(long, default_value = "load")]
    pub(crate) prefix: String,
    /// Password of all of them
    #[arg(long, default_value = "password")]
    pub(crate) password: String,
    /// Data directory of the embedded store [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(ValueEnum, serde::Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reactor {
    /// io_uring where the kernel allows it, else epoll
    Auto,
    /// io_uring or no start
    Uring,
    /// epoll
    Epoll,
}

#[derive(ValueEnum, serde::Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limits {
    /// As configured
    On,
    /// None: said loudly at start
    Off,
}
