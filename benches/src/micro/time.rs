//! Nanoseconds of a step: contenders of one step in turns, round by round, so that a machine that warms or slows favours
//! nobody. Owns the rounds; prints nothing.

use std::time::{Duration, Instant};

use super::Outcome;
use super::allocations;
use super::case::{Case, OURS, Work};
use crate::spread::Spread;

const ROUNDS: usize = 11;
/// How long one contender is measured in one round.
const ROUND: Duration = Duration::from_millis(20);

/// What the clock says of one case.
pub(super) struct Timed {
    pub(super) name: String,
    pub(super) step: String,
    pub(super) who: &'static str,
    /// Nanoseconds an operation.
    pub(super) ns: Spread,
    /// Its time to ours, round by round; ours has none.
    pub(super) to_ours: Option<Spread>,
    /// How often the heap was asked, an operation.
    pub(super) allocations: f64,
}

pub(super) fn all(cases: &[Case]) -> Outcome<Vec<Timed>> {
    let mut timed = Vec::new();
    for step in cases.chunk_by(|one, next| one.step == next.step) {
        timed.extend(one_step(step)?);
    }
    Ok(timed)
}

fn one_step(cases: &[Case]) -> Outcome<Vec<Timed>> {
    let mut works = cases.iter().map(Case::make).collect::<Outcome<Vec<Work>>>()?;
    let batches: Vec<u64> = works.iter_mut().map(batch).collect();
    let mut rounds = vec![Vec::new(); works.len()];
    let mut allocated = vec![0.0; works.len()];
    for round in 0..ROUNDS {
        for turn in 0..works.len() {
            let at = (turn + round) % works.len();
            let (before, started) = (allocations::asked(), Instant::now());
            works[at](batches[at]);
            rounds[at].push(started.elapsed().as_secs_f64() * 1e9 / batches[at] as f64);
            allocated[at] = (allocations::asked() - before) as f64 / batches[at] as f64;
        }
    }
    let ours = cases.iter().position(|case| case.who == OURS);
    let timed = cases.iter().enumerate().map(|(at, case)| {
        let base = ours.filter(|ours| *ours != at).map(|ours| &rounds[ours]);
        let to_ours = base.map(|base| rounds[at].iter().zip(base).map(|(one, ours)| one / ours).collect::<Vec<_>>());
        Timed {
            name: case.name(),
            step: case.step.clone(),
            who: case.who,
            ns: Spread::of(&rounds[at]),
            to_ours: to_ours.map(|ratios| Spread::of(&ratios)),
            allocations: allocated[at],
        }
    });
    Ok(timed.collect())
}

/// Operations that take about a round.
fn batch(work: &mut Work) -> u64 {
    let mut operations = 1;
    loop {
        let started = Instant::now();
        work(operations);
        let spent = started.elapsed();
        if spent * 2 >= ROUND {
            let scaled = operations as f64 * ROUND.as_secs_f64() / spent.as_secs_f64();
            return (scaled as u64).max(1);
        }
        operations *= 2;
    }
}
