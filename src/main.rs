//! The one command `gochat`: what was asked for on the command line, and one clear line when it cannot be done.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its standard streams")]

mod cli;
mod config;
mod data;
mod dev;
mod keys;
mod metrics;
mod mint;

use clap::Parser;
use cli::{Cli, Command, UserCommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        None => dev::run(&cli.dev),
        Some(Command::Dev(flags)) => dev::run(flags),
        Some(Command::User(UserCommand::Mint(flags))) => mint::run(flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gochat: {problem}");
            ExitCode::FAILURE
        }
    }
}
