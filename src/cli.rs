//! The command line: what may be said, nothing of what is then done.

use crate::operator::order::Role;
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
    /// Accounts: list, disable, enable, reset a password; with a server running or without
    #[command(subcommand)]
    User(UserCommand),
    /// The world room
    #[command(subcommand)]
    World(WorldCommand),
    /// Copy everything, while the server runs or not, into a new directory; `backup verify` checks a copy
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Backup(BackupArgs),
    /// Make a new data directory of a backup
    Restore(RestoreArgs),
    /// Look at everything an installation stands on, and say what to do; changes nothing
    Doctor(DoctorArgs),
}

/// Which installation a command is about.
#[derive(Args, Debug, Default)]
pub(crate) struct Place {
    /// Data directory of the installation [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML) of the installation
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Place {
    /// The flags of a server there.
    pub(crate) fn flags(&self) -> DevArgs {
        DevArgs { data_dir: self.data_dir.clone(), config: self.config.clone(), ..DevArgs::default() }
    }
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
    /// Show accounts in order of their ids
    List(ListArgs),
    /// No login, all tokens void, sessions closed
    Disable(UserArgs),
    /// Let a disabled user log in again
    Enable(UserArgs),
    /// Give a new password, printed once; all logins end
    ResetPassword(ResetArgs),
    /// Make many users with one password, and their access tokens, for load runs
    Mint(MintArgs),
}

#[derive(Subcommand, Debug)]
pub(crate) enum WorldCommand {
    /// Make a user member, admin or owner of the world room
    Role(RoleArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only those whose name begins so
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Only guests
    #[arg(long)]
    pub(crate) guests: bool,
    /// How many
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) limit: u32,
    /// Behind this id: the next page
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) after: Option<i64>,
    /// For programs: {"users": [...], "next": ID or null}
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Debug)]
pub(crate) struct UserArgs {
    /// The user's name
    #[arg(value_name = "USER")]
    pub(crate) user: String,
    /// USER is an id, not a name
    #[arg(long)]
    pub(crate) id: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    pub(crate) user: UserArgs,
    /// Take the new password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RoleArgs {
    #[command(flatten)]
    pub(crate) user: UserArgs,
    /// The role
    #[arg(value_enum)]
    pub(crate) role: Role,
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
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BackupCommand>,
    /// Directory to make; it may not exist
    #[arg(value_name = "DEST", required = true)]
    pub(crate) dest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Subcommand, Debug)]
pub(crate) enum BackupCommand {
    /// Check a backup: every byte, the database's structure, the log
    Verify {
        /// Directory of the backup
        #[arg(value_name = "SRC")]
        src: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// Directory of the backup
    #[arg(value_name = "SRC")]
    pub(crate) src: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) dev: DevArgs,
    /// For programs: {"ok": bool, "findings": [...]}
    #[arg(long)]
    pub(crate) json: bool,
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
