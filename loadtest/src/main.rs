//! The `gochat-loadtest` binary: parses, runs, prints, and turns the verdict into an exit code. Decides nothing else.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::distributed::agent::Agent;
use gochat_loadtest::distributed::coordinator;
use gochat_loadtest::report::Verdict;
use gochat_loadtest::{LoadError, audit, compare, doctor, output, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, LoadError> {
    let good = match command {
        Command::Run { scenario } => {
            let common = scenario.common().clone();
            let report = run(scenario)?;
            output::write(&report, &common)?;
            report.verdict == Verdict::Ok
        }
        Command::Doctor(args) => {
            let diagnosis = doctor::run(args.connections);
            let _ = write!(std::io::stdout(), "{diagnosis}");
            diagnosis.can_run()
        }
        Command::Compare(args) => {
            let comparison = compare::run(&args.a, &args.b)?;
            let _ = write!(std::io::stdout(), "{comparison}");
            true
        }
        Command::Agent(args) => {
            let agent = Agent::listen(&args)?;
            let _ = writeln!(std::io::stdout(), "listening on {}", agent.addr()?);
            agent.serve()?;
            true
        }
        Command::Coordinator(args) => {
            let (report, common) = coordinator::run(&args)?;
            output::write(&report, &common)?;
            report.verdict == Verdict::Ok
        }
        Command::Audit(args) => {
            let findings = audit::run(&args)?;
            let _ = write!(std::io::stdout(), "{findings}");
            findings.is_clean()
        }
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
