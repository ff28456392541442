//! Instruction counts that were accepted, in a file, and what today's are beside them. Counts move with the compiler and the
//! instruction set, so the file says whose they are.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

use serde::Deserialize;

use super::Outcome;
use super::count::Count;

/// The share by which a step may get dearer.
const WORSE: f64 = 0.05;

/// The file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Baseline {
    rustc: String,
    machine: String,
    instructions: BTreeMap<String, f64>,
}

/// The compiler and the instruction set of this program.
pub(super) fn this_build() -> String {
    format!("{} on {}", env!("MICRO_RUSTC"), machine())
}

fn machine() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "x86_64 with AVX2";
    }
    std::env::consts::ARCH
}

impl Baseline {
    /// Without any count.
    pub(super) fn of_this_build() -> Baseline {
        let (rustc, machine) = (env!("MICRO_RUSTC").to_owned(), machine().to_owned());
        Baseline { rustc, machine, instructions: BTreeMap::new() }
    }

    /// `None` when there is no file.
    pub(super) fn read(file: &Path) -> Outcome<Option<Baseline>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some(toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", file.display()).into()),
        }
    }

    pub(super) fn write(&self, file: &Path) -> Outcome {
        std::fs::write(file, self.text()).map_err(|e| format!("{}: {e}", file.display()).into())
    }

    fn text(&self) -> String {
        let mut text =
            "# Instructions an operation; written by `cargo xtask bench micro --write-baseline`.\n".to_owned();
        // Writing to a string does not fail.
        let _ = writeln!(text, "rustc = {:?}\nmachine = {:?}\n\n[instructions]", self.rustc, self.machine);
        for (name, count) in &self.instructions {
            let _ = writeln!(text, "{name:?} = {count:.1}");
        }
        text
    }

    /// Whether its counts can be compared with this program's.
    pub(super) fn is_of_this_build(&self) -> bool {
        self.rustc == env!("MICRO_RUSTC") && self.machine == machine()
    }

    pub(super) fn build(&self) -> String {
        format!("{} on {}", self.rustc, self.machine)
    }

    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.instructions.get(name).copied()
    }

    pub(super) fn set(&mut self, name: &str, instructions: f64) {
        self.instructions.insert(name.to_owned(), instructions);
    }

    /// Forgets cases that are no more.
    pub(super) fn keep_only(&mut self, names: &[String]) {
        self.instructions.retain(|name, _| names.contains(name));
    }

    /// What a count is beside the one that was accepted.
    pub(super) fn judge(&self, count: &Count) -> Verdict {
        Verdict { name: count.name.clone(), is: count.instructions, was: self.get(&count.name) }
    }
}

/// A count beside the accepted one.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    name: String,
    is: f64,
    was: Option<f64>,
}

impl Verdict {
    /// By which share it changed.
    pub(super) fn change(&self) -> Option<f64> {
        self.was.map(|was| self.is / was.max(1.0) - 1.0)
    }

    pub(super) fn is_worse(&self) -> bool {
        self.change().is_some_and(|change| change > WORSE)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { name, is, was } = self;
        let (Some(was), Some(change)) = (was, self.change()) else {
            return write!(f, "    {name}: {is:.1} instructions, no baseline");
        };
        let change = 100.0 * change;
        match self.is_worse() {
            true => write!(f, "DEARER {name}: {is:.1} instructions, the baseline is {was:.1} ({change:+.1} %)"),
            false => write!(f, "    {name}: {is:.1} instructions ({change:+.1} %)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn baseline() -> Baseline {
        let mut baseline = Baseline::of_this_build();
        baseline.set("frame-64/gochat", 200.0);
        baseline
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("micro.toml");
        assert_eq!(Baseline::read(&file).unwrap(), None);
        baseline().write(&file).unwrap();
        let read = Baseline::read(&file).unwrap().unwrap();
        assert_eq!(read, baseline());
        assert!(read.is_of_this_build());
        std::fs::write(&file, "rustc = 7").unwrap();
        assert!(Baseline::read(&file).unwrap_err().to_string().contains("micro.toml"));
    }

    #[test]
    fn more_than_a_twentieth_more_is_worse() {
        let judged = |name: &str, instructions: f64| baseline().judge(&Count { name: name.to_owned(), instructions });
        assert!(!judged("frame-64/gochat", 209.9).is_worse());
        let worse = judged("frame-64/gochat", 210.2);
        assert!(worse.is_worse());
        let told = worse.to_string();
        assert!(told.contains("210.2") && told.contains("200.0") && told.contains("frame-64/gochat"), "{told}");
        assert!(!judged("frame-64/gochat", 20.0).is_worse());
        assert!(!judged("new/gochat", 999.0).is_worse());
    }

    #[test]
    fn cases_that_are_no_more_are_forgotten() {
        let mut baseline = baseline();
        baseline.set("gone/gochat", 1.0);
        baseline.keep_only(&["frame-64/gochat".to_owned()]);
        assert_eq!((baseline.get("gone/gochat"), baseline.get("frame-64/gochat")), (None, Some(200.0)));
    }
}
