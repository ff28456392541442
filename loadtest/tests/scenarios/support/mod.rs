//! Small servers with planted faults, and a way to run the tool against them. Owns no assertions.

pub(crate) mod chat;
pub(crate) mod doors;
pub(crate) mod echo;
pub(crate) mod faulty;
pub(crate) mod publish;
pub(crate) mod schema;
pub(crate) mod strict;

use clap::Parser;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::report::Report;
use gochat_loadtest::{LoadError, run};

/// Runs a command line given without the name of the binary. Its result has the form that all have.
pub(crate) fn load(line: &str) -> Result<Report, LoadError> {
    match Cli::try_parse_from(std::iter::once("gochat-loadtest").chain(line.split_whitespace())).unwrap().command {
        Command::Run { scenario } => {
            run(scenario).inspect(|report| schema::check(&serde_json::to_value(report).unwrap()))
        }
        _ => panic!("{line} is no run"),
    }
}
