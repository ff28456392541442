//! Flags of the scenarios that only GoChat knows. Runs nothing.

use std::path::PathBuf;

use clap::Args;

use super::{Common, LoadArgs};

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
    /// Characters of a message, at most 5000.
    #[arg(long, default_value_t = 150)]
    pub size: usize,
}
