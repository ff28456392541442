//! Instructions of a step: this program under callgrind, once with N operations and once with 2 N; the difference has no
//! start of a process in it. Owns the runs; judges nothing.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use super::Outcome;

/// Operations of the first run; the second has twice as many.
const ITERATIONS: u64 = 200;
/// Two runs that differ by more than this share do not count the same.
pub(super) const UNSTEADY: f64 = 0.001;

/// Instructions an operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) instructions: f64,
}

/// Whether valgrind is there.
pub(super) fn is_possible() -> bool {
    let asked = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Counts of these cases, in their order; as many at a time as there are processors, since counts do not feel each other.
pub(super) fn all(names: Vec<String>) -> Outcome<Vec<Count>> {
    let next = AtomicUsize::new(0);
    let (done, counted) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (done, next, names) = (done.clone(), &next, &names);
            scope.spawn(move || {
                while let Some(name) = names.get(next.fetch_add(1, Relaxed)) {
                    // The receiver outlives this scope.
                    let _ = done.send(one(name));
                }
            });
        }
    });
    drop(done);
    let counts = counted.into_iter().collect::<Outcome<Vec<Count>>>()?;
    Ok(names.iter().filter_map(|name| counts.iter().find(|count| count.name == *name).cloned()).collect())
}

fn one(name: &str) -> Outcome<Count> {
    let (once, twice) = (instructions(name, ITERATIONS)?, instructions(name, 2 * ITERATIONS)?);
    let difference = twice.checked_sub(once).ok_or_else(|| format!("{name}: twice as much took fewer instructions"))?;
    Ok(Count { name: name.to_owned(), instructions: difference as f64 / ITERATIONS as f64 })
}

fn instructions(name: &str, iterations: u64) -> Outcome<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["count", name, &iterations.to_string()])
        // The stack's alignment, and with it a few instructions, depend on the size of the environment.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|e| format!("valgrind: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = collected(&said).filter(|_| output.status.success());
    collected.ok_or_else(|| {
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        format!("{name} under callgrind: {}: {last}", output.status).into()
    })
}

/// The sum that callgrind tells at its end.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_found() {
        let said = "==7== Events    : Ir\n==7== Collected : 246891\n==7==\n==7== I   refs:      246,891\n";
        assert_eq!(collected(said), Some(246_891));
        assert_eq!(collected("==7== Command: micro"), None);
    }
}
