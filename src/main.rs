//! The one command `gochat`: what was asked for on the command line, and one clear line when it cannot be done.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its standard streams")]

mod cli;
mod commands;
mod config;
mod data;
mod dev;
mod keys;
mod metrics;
mod operator;
mod readiness;
mod settings;

use clap::Parser;
use cli::{Cli, Command, UserCommand, WorldCommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        None => dev::run(&cli.dev),
        Some(Command::Dev(flags)) => dev::run(flags),
        Some(Command::User(UserCommand::List(args))) => commands::list(args),
        Some(Command::User(UserCommand::Disable(args))) => commands::set_enabled(args, false),
        Some(Command::User(UserCommand::Enable(args))) => commands::set_enabled(args, true),
        Some(Command::User(UserCommand::ResetPassword(args))) => commands::reset_password(args),
        Some(Command::User(UserCommand::Mint(args))) => commands::mint(args),
        Some(Command::World(WorldCommand::Role(args))) => commands::world_role(args),
        Some(Command::Backup(args)) => commands::backup(args),
        Some(Command::Restore(args)) => commands::restore(args),
        Some(Command::Doctor(args)) => commands::doctor(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gochat: {problem}");
            ExitCode::FAILURE
        }
    }
}
