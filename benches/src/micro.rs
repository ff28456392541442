//! Micro benches: single steps of a message's way, each alone, by instructions (callgrind) and by the clock, beside floors
//! and peers that do the same step. Owns the command line and the list of cases; see [`case`] for what a case is.

use std::error::Error;
use std::path::Path;

use clap::{Parser, Subcommand};

pub mod allocations;
mod baseline;
mod bridge;
pub mod case;
mod count;
mod frame;
mod ids;
mod json;
mod table;
mod time;
mod token;
mod upgrade;
mod utf8;

use baseline::{Baseline, Verdict};
use case::{Case, OURS};

use crate::suite::page;

/// A failure in one line.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Single steps of a message's way: instructions and nanoseconds.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench micro", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only cases whose name holds this.
    filter: Option<String>,
    /// Accept today's instruction counts as those to compare with.
    #[arg(long)]
    write_baseline: bool,
    /// Write the tables into docs/performance.md.
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Names of all cases.
    List,
    /// Nanoseconds an operation only.
    Time {
        /// Only cases whose name holds this.
        filter: Option<String>,
    },
    /// Runs one case so many times and says nothing: for valgrind.
    Count {
        /// Its name.
        case: String,
        /// How many times.
        iterations: u64,
    },
    /// Counts instructions and fails where a step takes over 5 % more of them than its baseline.
    Gate,
}

/// Runs the command.
///
/// # Errors
/// A case does not do its step, valgrind is missing or fails, a baseline cannot be read, or the gate is shut.
pub fn run(arguments: &Arguments, root: &Path) -> Outcome {
    let file = root.join("benches/baselines/micro.toml");
    match &arguments.command {
        Some(Command::List) => table::names(&cases()),
        Some(Command::Time { filter }) => table::times(&time::all(&chosen(filter.as_deref())?)?),
        Some(Command::Count { case, iterations }) => return once(case, *iterations),
        Some(Command::Gate) => return gate(&file),
        None => return whole(arguments, root, &file),
    }
    Ok(())
}

/// All cases, those that do the same step next to each other.
#[must_use]
pub fn cases() -> Vec<Case> {
    [frame::cases(), utf8::cases(), upgrade::cases(), json::cases(), token::cases(), ids::cases(), bridge::cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn chosen(filter: Option<&str>) -> Outcome<Vec<Case>> {
    let chosen: Vec<Case> =
        cases().into_iter().filter(|case| filter.is_none_or(|part| case.name().contains(part))).collect();
    if chosen.is_empty() {
        return Err(format!("no case has {:?} in its name; `list` shows all", filter.unwrap_or_default()).into());
    }
    Ok(chosen)
}

fn once(name: &str, iterations: u64) -> Outcome {
    let case = cases().into_iter().find(|case| case.name() == name);
    let case = case.ok_or_else(|| format!("no case {name:?}; `list` shows all"))?;
    case.make()?(iterations);
    Ok(())
}

/// Counts and times; the table of everything.
fn whole(arguments: &Arguments, root: &Path, file: &Path) -> Outcome {
    let chosen = chosen(arguments.filter.as_deref())?;
    let counts = if count::is_possible() {
        let names = chosen.iter().filter(|case| case.is_counted).map(Case::name);
        count::all(names.collect())?
    } else {
        table::line("instructions are NOT counted: valgrind is not installed");
        Vec::new()
    };
    let old = Baseline::read(file)?;
    let timed = time::all(&chosen)?;
    let table = table::whole(&timed, &counts, old.as_ref());
    table::line(&table);
    if arguments.write {
        page::put(root, "micro", &format!("\n{table}"))?;
    }
    if arguments.write_baseline {
        write_baseline(file, old, &chosen)?;
    }
    Ok(())
}

/// Counts twice: only what comes out equal can be judged.
fn write_baseline(file: &Path, old: Option<Baseline>, chosen: &[Case]) -> Outcome {
    if !count::is_possible() {
        return Err("a baseline needs valgrind: apt-get install valgrind".into());
    }
    let names: Vec<String> = chosen.iter().filter(|case| case.is_gated()).map(Case::name).collect();
    let (first, second) = (count::all(names.clone())?, count::all(names)?);
    let mut new = old.filter(Baseline::is_of_this_build).unwrap_or_else(Baseline::of_this_build);
    let all: Vec<String> = cases().iter().filter(|case| case.is_gated()).map(Case::name).collect();
    new.keep_only(&all);
    for (one, other) in first.iter().zip(&second) {
        if (one.instructions - other.instructions).abs() <= one.instructions * count::UNSTEADY {
            new.set(&one.name, one.instructions);
        } else {
            table::line(&format!("{}: counts differ from run to run: no baseline", one.name));
        }
    }
    new.write(file)
}

fn gate(file: &Path) -> Outcome {
    if !count::is_possible() {
        table::line("instructions of single steps: NOT checked, valgrind is not installed");
        return Ok(());
    }
    let Some(baseline) = Baseline::read(file)? else {
        return Err(format!("{} is missing: `cargo xtask bench micro --write-baseline`", file.display()).into());
    };
    let names = cases().into_iter().filter(Case::is_gated).map(|case| case.name());
    let verdicts: Vec<Verdict> = count::all(names.collect())?.iter().map(|count| baseline.judge(count)).collect();
    for verdict in &verdicts {
        table::line(&verdict.to_string());
    }
    let worse = verdicts.iter().filter(|verdict| verdict.is_worse()).count();
    if worse == 0 {
        return Ok(());
    }
    if !baseline.is_of_this_build() {
        table::line(&format!(
            "not judged: the baseline is of {}, this is {}",
            baseline.build(),
            baseline::this_build()
        ));
        return Ok(());
    }
    let accept = "where that is meant: `cargo xtask bench micro --write-baseline`, and commit the file";
    Err(format!("{worse} of {OURS}'s steps got dearer by over 5 %; {accept}").into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_does_its_step() {
        for case in cases() {
            case.make().unwrap_or_else(|e| panic!("{}: {e}", case.name()))(3);
        }
    }

    #[test]
    fn names_are_unique_and_every_step_is_ours_once() {
        let names: BTreeSet<String> = cases().iter().map(Case::name).collect();
        assert_eq!(names.len(), cases().len());
        for case in cases() {
            assert!(names.contains(&format!("{}/{OURS}", case.step)), "{}", case.step);
        }
    }
}
