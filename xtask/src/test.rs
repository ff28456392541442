//! Every test, and what it ran on. Installs the one foreign client that does not come with cargo.

use crate::browser;
use crate::process::{Outcome, Step, tools_dir};
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

const PYTHON_CLIENT: &str = "websockets==15.0.1";

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Embedded parts only (all there are today)
    #[arg(long)]
    embedded: bool,
    /// How often the server is killed under load (default: the short form of each test; 50 is the long form)
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// How many seeds the pipeline simulation runs (default: the short form)
    #[arg(long, value_name = "N")]
    sim_seeds: Option<u32>,
    /// Replay one seed of the kill test or the simulation
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Only the tests of the page, in a browser
    #[arg(long)]
    browser: bool,
    /// Take the pictures of the documentation anew
    #[arg(long)]
    pictures: bool,
}

/// Builds and runs all tests of the workspace, then those that need the installed client and a browser.
pub(crate) fn run(options: &Options) -> Outcome {
    if options.browser {
        return browser::run(options.pictures);
    }
    let python = python_client()?;
    options.apply(Step::cargo("tests", ["test", "--workspace", "--locked"])).run()?;
    let foreign = ["test", "--locked", "--package", "gochat", "--test", "foreign_client", "--", "--ignored"];
    options.apply(Step::cargo("foreign client", foreign)).env("GOCHAT_TEST_PYTHON", &python).run()?;
    browser::run(options.pictures)?;
    print_components(options);
    Ok(())
}

impl Options {
    fn apply(&self, mut step: Step) -> Step {
        let set = [
            ("GOCHAT_KILLS", self.kills.map(|n| n.to_string())),
            ("GOCHAT_SIM_SEEDS", self.sim_seeds.map(|n| n.to_string())),
            ("GOCHAT_SEED", self.seed.map(|n| n.to_string())),
            ("GOCHAT_SIM_SEED", self.seed.map(|n| n.to_string())),
        ];
        for (key, value) in set {
            if let Some(value) = value {
                step = step.env(key, value);
            }
        }
        step
    }
}

fn print_components(options: &Options) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("\nWhat the tests ran on:");
    println!("  bus      embedded log");
    println!("  cache    in memory");
    println!("  coord    in process");
    println!("  store    SQLite");
    println!("  reactor  io_uring, epoll and the simulated one, kernel {}", kernel.trim());
    println!("  clients  tungstenite; {PYTHON_CLIENT} on Python; the page");
    println!("  browser  {}", browser::COMPONENTS);
    let note = if options.embedded { "as asked with --embedded" } else { "all there are in this version" };
    println!("  components of a cluster: none, {note}");
}

/// A Python that has the client, in a virtual environment inside the target directory.
fn python_client() -> Outcome<PathBuf> {
    let venv = tools_dir().join("python");
    let python = venv.join("bin/python3");
    let has_client = |python: &PathBuf| {
        Command::new(python).args(["-c", "import websockets"]).output().is_ok_and(|out| out.status.success())
    };
    if has_client(&python) {
        return Ok(python);
    }
    let at = venv.to_string_lossy().into_owned();
    if Step::program("make a Python environment", "python3", ["-m", "venv", &at]).run().is_err() {
        Step::program("install python3-venv", "apt-get", ["install", "--yes", "python3-venv"]).run()?;
        Step::program("make a Python environment", "python3", ["-m", "venv", "--clear", &at]).run()?;
    }
    Step::program("install the Python client", &python, ["-m", "pip", "install", "--quiet", PYTHON_CLIENT]).run()?;
    if has_client(&python) { Ok(python) } else { Err(format!("{} has no websockets package", python.display())) }
}
