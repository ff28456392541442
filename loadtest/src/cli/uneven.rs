//! Flags of the scenarios in which some clients misbehave. Runs nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Common, LoadArgs, UserArgs, rate};
use crate::spread::{Sizes, duration};

/// `run slow-reader`: an open loop.
#[derive(Debug, Clone, Args)]
pub struct SlowReaderArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load; needs --rate or --phases.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What the server speaks; gochat needs --tokens.
    #[arg(long, default_value = "raw-publish")]
    pub protocol: RoomProtocol,
    /// Clients, all in one room.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// How many of them send; they keep reading.
    #[arg(long, default_value_t = 1)]
    pub publishers: u32,
    /// Percent of the clients that stop reading when the measured phase begins.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub slow_percent: u32,
    /// How long they do not read; without it until the measured phase ends.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub stall: Option<Duration>,
    /// Between the warm-up and the measured phase: everybody reads, for comparison; 0s: left out.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub baseline: Duration,
    /// gochat: characters of a message, at most 5000; raw-publish: bytes, at least 16.
    #[arg(long, default_value = "1000")]
    pub size: Sizes,
    /// Lines user_id,username,access_token, as from `gochat user mint`.
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

/// Servers that `run slow-reader` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoomProtocol {
    /// Sends every message to all connections, the sender's too, unchanged.
    RawPublish,
    /// GoChat's world room.
    Gochat,
}

/// `run greedy`: an open loop of the polite clients, beside it a closed loop of the greedy ones or a high rate.
#[derive(Debug, Clone, Args)]
pub struct GreedyArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load of the polite clients; needs --rate or --phases.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Users.
    #[command(flatten)]
    pub users: UserArgs,
    /// What the server speaks; with gochat polite and greedy users each write in single chats among themselves.
    #[arg(long, default_value = "raw-echo")]
    pub protocol: GreedyProtocol,
    /// Polite clients; gochat: an even number.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Greedy clients besides, which begin with the measured phase; gochat: an even number.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub greedy: u32,
    /// Unanswered messages that each greedy client keeps.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub greedy_in_flight: u32,
    /// In place of --greedy-in-flight: messages per second of all greedy clients, however slowly they are answered.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "greedy_in_flight", value_parser = rate)]
    pub greedy_rate: Option<f64>,
    /// Between the warm-up and the measured phase: the polite are alone, for comparison; 0s: left out.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub baseline: Duration,
    /// raw-echo: bytes of a message, at least 16; gochat: characters, at most 5000.
    #[arg(long, default_value = "150")]
    pub size: Sizes,
}

/// Servers that `run greedy` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GreedyProtocol {
    /// Sends every message back to its sender, unchanged.
    RawEcho,
    /// GoChat's single chats.
    Gochat,
}
