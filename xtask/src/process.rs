//! Running one step: prints what runs and how long it took. Never decides what comes next.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// `Err` holds one line that says what failed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// One command with a name for its reader.
pub(crate) struct Step {
    name: String,
    command: Command,
}

impl Step {
    /// A step of the same cargo that runs this program.
    pub(crate) fn cargo<I: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = I>) -> Step {
        Step::program(name, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
    }

    /// A step of any program, run in the workspace's root.
    pub(crate) fn program<I: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = I>,
    ) -> Step {
        let mut command = Command::new(program);
        command.args(args).current_dir(workspace_root());
        Step { name: name.to_owned(), command }
    }

    /// Sets a variable of the step's environment.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Step {
        self.command.env(key, value);
        self
    }

    /// Runs it with our standard streams; fails unless it exits with 0.
    pub(crate) fn run(mut self) -> Outcome {
        println!("==> {}", self.name);
        let started = Instant::now();
        let status = self.command.status().map_err(|e| format!("{}: cannot start: {e}", self.name))?;
        println!("<== {} ({:.0} s)", self.name, started.elapsed().as_secs_f32());
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.name)) }
    }
}

/// Root of the workspace.
pub(crate) fn workspace_root() -> PathBuf {
    // Asked at run time: two checkouts may share a target directory, and with it this binary.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(here).join("..")
}

/// Where tools that a step needs are installed: inside the target directory, so that cleaning it removes them.
pub(crate) fn tools_dir() -> PathBuf {
    target_dir().join("tools")
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}
