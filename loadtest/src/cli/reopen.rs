//! Flags of the scenarios in which connections are closed and opened again. Runs nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Common, UserArgs, rate};
use crate::schedule::ArrivalProcess;
use crate::spread::duration;

/// Who is connected.
#[derive(Debug, Clone, Args)]
pub struct HolderArgs {
    /// What the server speaks; gochat needs --tokens.
    #[arg(long, default_value = "raw-echo")]
    pub protocol: HolderProtocol,
    /// Clients.
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Lines user_id,username,access_token, as from `gochat user mint`.
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// The bound of the first wait before a client tries again; it waits a random part of it.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub backoff: Duration,
    /// That bound doubles with each attempt that fails, up to this.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub backoff_max: Duration,
}

/// Servers that those scenarios know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HolderProtocol {
    /// Any WebSocket server: ready after the upgrade. Messages need one that sends them back.
    RawEcho,
    /// GoChat: ready after `connected`.
    Gochat,
}

/// `run churn`: an open loop.
#[derive(Debug, Clone, Args)]
pub struct ChurnArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Who is connected.
    #[command(flatten)]
    pub holder: HolderArgs,
    /// Connections closed and opened again per second, at intended times.
    #[arg(long, default_value = "100", value_parser = rate)]
    pub rate: f64,
    /// How the intended times lie around the rate.
    #[arg(long, default_value = "uniform")]
    pub arrivals: ArrivalProcess,
    /// Closing and opening in the measured phase.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// The same before it.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Every connection that is opened again sends one message, which must come back (raw-echo).
    #[arg(long)]
    pub echo: bool,
}

/// `run reconnect-storm`.
#[derive(Debug, Clone, Args)]
pub struct ReconnectStormArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Who is connected.
    #[command(flatten)]
    pub holder: HolderArgs,
    /// Percent of the connections that the clients cut, all at one moment.
    #[arg(long, default_value_t = 100, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub cut: u32,
    /// When, after the measured phase began.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub after: Duration,
    /// Nothing is cut: you restart the server in the measured phase, and what it ends is no failure.
    #[arg(long, conflicts_with_all = ["cut", "after"])]
    pub restart: bool,
    /// The measured phase, in which all are to come back.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Before it.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Messages per second in all that must come back (raw-echo); clients that are away send none.
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
}

/// `run presence-storm`.
#[derive(Debug, Clone, Args)]
pub struct PresenceStormArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Users.
    #[command(flatten)]
    pub users: UserArgs,
    /// Users, of whom some come and go and the others watch.
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Percent of them who come and go.
    #[arg(long, default_value_t = 10, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub flapping: u32,
    /// Users who watch each of those: they share a single chat.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub watchers: u32,
    /// Over which time they connect, when the measured phase begins; without it all at once.
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub spread: Duration,
    /// They leave after this; without it they stay.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub stay: Option<Duration>,
    /// They come again after this, and so on; up to 25s nobody is to notice, from 40s on everybody who watches.
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "stay")]
    pub away: Option<Duration>,
    /// The measured phase; that they left is told within 40s.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Before it, those who watch only stand.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
}
