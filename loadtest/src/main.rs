//! The `gochat-loadtest` binary: parses, runs, prints, and turns the verdict into an exit code. Decides nothing else.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::distributed::agent::Agent;
use gochat_loadtest::distributed::coordinator;
use gochat_loadtest::report::Verdict;
use gochat_loadtest::{LoadError, audit, compare, doctor, interrupt, million, output, run, scenario_file, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match scenario_file::expand(std::env::args_os().collect()).map(Cli::try_parse_from) {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) if error.use_stderr() => {
            let _ = writeln!(std::io::stderr(), "{}", one_line(&error.to_string()));
            return ExitCode::FAILURE;
        }
        Ok(Err(help)) => help.exit(),
        Err(error) => return failure(&error),
    };
    execute(cli.command).unwrap_or_else(|error| failure(&error))
}

fn failure(error: &LoadError) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

/// What is wrong with the command line, without the usage that `--help` shows.
fn one_line(error: &str) -> String {
    let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take_while(|line| !line.starts_with("Usage:")).chain(["(see --help)"]).collect::<Vec<_>>().join(" ")
}

fn execute(command: Command) -> Result<ExitCode, LoadError> {
    let good = match command {
        Command::Run { scenario } => {
            let common = scenario.common().clone();
            // Where signals cannot be handled, they end the process as they do everywhere.
            let _ = interrupt::listen();
            let report = run(scenario)?;
            output::write(&report, &common)?;
            report.verdict == Verdict::Ok
        }
        Command::Scenarios(args) => {
            let text = args
                .show
                .as_deref()
                .map_or_else(scenario_file::list, |name| scenario_file::show(name).map(str::to_owned))?;
            let _ = write!(std::io::stdout(), "{text}");
            true
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
            agent.serve();
            true
        }
        Command::Coordinator(args) => {
            let (report, common) = coordinator::run(&args)?;
            output::write(&report, &common)?;
            report.verdict == Verdict::Ok
        }
        Command::Million(args) if args.inside => {
            let (report, common) = million::inside(&args)?;
            output::write(&report, &common)?;
            report.verdict == Verdict::Ok
        }
        Command::Million(args) => {
            let code = million::outside(&args)?.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        Command::Serve(args) => {
            serve::run(&args)?;
            true
        }
        Command::Audit(args) => {
            let findings = audit::run(&args)?;
            let _ = write!(std::io::stdout(), "{findings}");
            findings.is_clean()
        }
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
