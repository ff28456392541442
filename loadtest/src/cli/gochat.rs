//! Flags of the scenarios that only GoChat knows. Runs nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Common, LoadArgs, rate};
use crate::profile::{Phases, Profile};
use crate::spread::{Sizes, duration};

/// Where a scenario has its users from.
#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    /// Lines user_id,username,access_token, as from `gochat user mint`; without it the run registers users of its own.
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Write the users of the run there, for another run.
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub tokens_out: Option<PathBuf>,
}

/// `run group`.
#[derive(Debug, Clone, Args)]
pub struct GroupArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Users.
    #[command(flatten)]
    pub users: UserArgs,
    /// Users of one group; each user is one connection and in one group.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    pub members: u32,
    /// Groups.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub groups: u32,
    /// How many of each group send; without it all.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub writers: Option<u32>,
    /// Characters of a message, at most 5000: 150, 16..4096 or 90%:64,10%:1000..4096.
    #[arg(long, default_value = "150")]
    pub size: Sizes,
}

/// Load of scenarios that are made of HTTP requests: an open loop.
#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// The measured phase.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Requests before the measured phase.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Requests per second in all, at intended times.
    #[arg(long, default_value = "20", value_parser = rate)]
    pub rate: f64,
    /// In place of --rate and --duration: lengths with requests per second, 10s@100,30s@100..2000.
    #[arg(long, value_name = "LENGTH@RATE[..RATE],...", conflicts_with_all = ["rate", "duration"])]
    pub phases: Option<Phases>,
    /// Keep-alive connections, one thread each; a request waits while all are busy, and its latency counts the wait.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub connections: u32,
}

impl HttpArgs {
    /// When requests are due.
    pub fn profile(&self) -> Profile {
        let constant = || Profile::constant(self.rate);
        self.phases.as_ref().map_or_else(constant, |phases| Profile::phased(self.warmup, phases))
    }

    /// Length of the measured phase.
    pub fn measured(&self) -> Duration {
        self.phases.as_ref().map_or(self.duration, Phases::duration)
    }
}

/// `run history`.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Users, two for each conversation.
    #[command(flatten)]
    pub users: UserArgs,
    /// Single chats that are read.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub conversations: u32,
    /// Messages in each; what is missing is written first.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub messages: u32,
    /// Percent of requests for a page at any depth; the others ask for the newest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub cold_percent: u32,
}

/// `run login-storm`.
#[derive(Debug, Clone, Args)]
pub struct LoginStormArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Users.
    #[command(flatten)]
    pub users: UserArgs,
    /// Users that log in, in turn.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub accounts: u32,
    /// Of the users in --tokens, as given to `gochat user mint --password`; users that a run registered need none.
    #[arg(long, value_name = "TEXT")]
    pub password: Option<String>,
}

/// Percent of messages by where they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// In single chats.
    pub single: u32,
    /// In groups.
    pub group: u32,
    /// In the world room.
    pub world: u32,
}

/// `run mixed`: an open loop.
#[derive(Debug, Clone, Args)]
pub struct MixedArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load; needs --rate.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Users.
    #[command(flatten)]
    pub users: UserArgs,
    /// Clients, an even number and a multiple of --members; each is in one single chat, one group and the world room.
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Users of one group.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    pub members: u32,
    /// Percent of messages in single chats, groups and the world room.
    #[arg(long, value_name = "SINGLE/GROUP/WORLD", default_value = "70/25/5", value_parser = mix)]
    pub mix: Mix,
    /// Characters of a message, at most 5000: 150, 16..4096 or 90%:64,10%:1000..4096.
    #[arg(long, default_value = "150")]
    pub size: Sizes,
}

/// `70/25/5`.
fn mix(text: &str) -> Result<Mix, String> {
    let shares: Option<Vec<u32>> = text.split('/').map(|share| share.parse().ok().filter(|it| *it <= 100)).collect();
    match shares.as_deref() {
        Some(&[single, group, world]) if single + group + world == 100 => Ok(Mix { single, group, world }),
        _ => Err("it must be three shares that make 100, as in 70/25/5".to_owned()),
    }
}
