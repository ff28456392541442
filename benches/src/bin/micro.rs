//! The micro benches' command, as `cargo xtask bench micro` builds and starts it.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use gochat_benches::micro::allocations::Counting;
use gochat_benches::micro::{Arguments, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let ran = std::env::current_dir().map_err(Into::into).and_then(|root| run(&Arguments::parse(), &root));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
