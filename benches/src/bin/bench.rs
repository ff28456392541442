//! The benches' command, as `cargo xtask bench` builds and starts it.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use gochat_benches::suite;

fn main() -> ExitCode {
    let ran = std::env::current_dir().and_then(|root| suite::run(&suite::Arguments::parse(), &root));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
