//! `cargo xtask bench`: builds what is compared in release mode and hands over to the benches' own commands.

pub(crate) mod micro;

use clap::Args;

use crate::process::{Outcome, Step, target_dir};

/// Passed on as they are.
#[derive(Args)]
pub(crate) struct Options {
    /// echo, fanout, connect, memory, pipeline or all, or micro, and flags; `--help` behind it lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    if let Some((_, rest)) = options.arguments.split_first().filter(|(first, _)| *first == "micro") {
        return micro::run(rest);
    }
    let packages = ["-p", "gochat", "-p", "gochat-benches", "-p", "gochat-loadtest"];
    Step::cargo("build", ["build", "--release", "--locked", "--bins"].into_iter().chain(packages)).run()?;
    Step::cargo(
        "build the engine's examples",
        ["build", "--release", "--locked", "--examples", "-p", "gochat-gateway"],
    )
    .run()?;
    Step::program("bench", target_dir().join("release/bench"), &options.arguments).run()
}
