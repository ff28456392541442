//! `cargo xtask bench micro`, and the part of it that every change must pass: builds the micro benches and starts them.

use crate::process::{Outcome, Step, target_dir};

/// Hands these arguments over.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    built()?;
    Step::program("micro benches", target_dir().join("release/micro"), arguments).run()
}

/// Fails where a step takes more instructions than its baseline allows.
pub(crate) fn gate() -> Outcome {
    built()?;
    Step::program("instructions of single steps", target_dir().join("release/micro"), ["gate"]).run()
}

fn built() -> Outcome {
    let build = ["build", "--release", "--locked", "--package", "gochat-benches", "--bin", "micro"];
    Step::cargo("build the micro benches", build).run()
}
