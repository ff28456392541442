//! `cargo xtask`: the developer's commands. Owns what runs in which order; never holds a check itself.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its standard streams")]

mod bench;
mod browser;
mod deny;
mod process;
mod test;

use clap::{Parser, Subcommand};
use process::{Outcome, Step};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of GoChat")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything a change must pass: format, clippy, docs, dependency rules, every test, instructions of single steps
    Ci,
    /// Format, clippy, docs and dependency rules
    Lint,
    /// Every test, on embedded parts; installs what the tests need into the target directory
    Test(test::Options),
    /// Ours, floors and peers in interleaved rounds, as ratios
    Bench(bench::Options),
}

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().command {
        Command::Ci => lint().and_then(|()| test::run(&test::Options::default())).and_then(|()| bench::micro::gate()),
        Command::Lint => lint(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn lint() -> Outcome {
    Step::cargo("format", ["fmt", "--all", "--check"]).run()?;
    Step::cargo("clippy", ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]).run()?;
    Step::cargo("docs", ["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings").run()?;
    deny::run()
}
