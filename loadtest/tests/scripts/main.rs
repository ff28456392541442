//! `--protocol script`: whole runs against small servers that speak other protocols. Good servers pass, planted faults are
//! reported as what they are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::result_large_err, reason = "the type is tungstenite's")]

mod built_in;
mod own;
mod server;
mod speech;

use clap::Parser;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::report::Report;
use gochat_loadtest::{LoadError, run};

/// Runs a command line given without the name of the binary.
fn load(line: &str) -> Result<Report, LoadError> {
    match Cli::try_parse_from(std::iter::once("gochat-loadtest").chain(line.split_whitespace())).unwrap().command {
        Command::Run { scenario } => run(scenario),
        _ => panic!("{line} is no run"),
    }
}
