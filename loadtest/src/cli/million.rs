//! Flags of `serve` and `million`. Runs nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gochat_ring::ReactorChoice;

use crate::spread::duration;

/// `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// Connections held at most; further ones wait.
    #[arg(long, default_value_t = 16_384)]
    pub connections: u32,
    /// auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    pub reactor: ReactorChoice,
    /// Pin the server to this CPU.
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
}

/// `million`.
#[derive(Debug, Clone, Args)]
pub struct MillionArgs {
    /// Connections to open and hold.
    #[arg(long, default_value_t = 1_000_000)]
    pub connections: u32,
    /// How long they stand.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub hold: Duration,
    /// Every connection sends a ping once in this time, and the server has to answer.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub heartbeat: Option<Duration>,
    /// Where the server listens, in the namespace.
    #[arg(long, default_value = "ws://127.0.0.1:9001/")]
    pub url: String,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the seconds of the run as a table.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write one page with figures and plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Carry it out here: what the command calls itself with in the namespace.
    #[arg(long, hide = true)]
    pub inside: bool,
    /// The server and its arguments, started in the namespace; without it the tool's own (`serve`).
    #[arg(last = true, value_name = "SERVER ...")]
    pub server: Vec<String>,
}
