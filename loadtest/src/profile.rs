//! Arrival rates over time: how many messages an open loop has sent by when, and the other way round. Knows no clock and
//! draws nothing at random.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::spread;

/// One phase of an open loop.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Phase {
    length: Duration,
    /// Messages a second at its begin.
    from: f64,
    /// And at its end; between them the rate changes evenly.
    to: f64,
}

/// Phases as they are written: `10s@100,30s@100..2000`.
#[derive(Debug, Clone, PartialEq)]
pub struct Phases {
    phases: Vec<Phase>,
    text: String,
}

impl Phases {
    /// The same phases at a share of the rates, as they are written.
    pub(crate) fn share(&self, part: f64) -> String {
        let one = |phase: &Phase| format!("{}s@{}..{}", phase.length.as_secs_f64(), phase.from * part, phase.to * part);
        self.phases.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// Of all phases together.
    pub fn duration(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }
}

impl FromStr for Phases {
    type Err = String;

    fn from_str(text: &str) -> Result<Phases, String> {
        let phases = text.split(',').map(phase).collect::<Result<Vec<Phase>, String>>()?;
        if phases.iter().all(|phase| phase.from + phase.to == 0.0) {
            return Err(format!("{text:?} sends nothing: a phase needs a rate above 0"));
        }
        Ok(Phases { phases, text: text.to_owned() })
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn phase(text: &str) -> Result<Phase, String> {
    let (length, rates) = text
        .trim()
        .split_once('@')
        .ok_or_else(|| format!("{text:?} is no phase: write LENGTH@RATE or LENGTH@RATE..RATE, as in 30s@100..2000"))?;
    let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
    let phase = Phase { length: spread::duration(length)?, from: rate(from)?, to: rate(to)? };
    match phase.length.is_zero() {
        true => Err(format!("{text:?} is a phase without length")),
        false => Ok(phase),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches("/s").parse().ok();
    number.filter(|it| (0.0..=1e9).contains(it)).ok_or_else(|| format!("{text:?} is not a rate of 0 to 1e9 a second"))
}

/// A phase with where it stands in the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    phase: Phase,
    start_ns: f64,
    /// Messages due before it.
    before: f64,
}

impl Step {
    fn messages(&self) -> f64 {
        (self.phase.from + self.phase.to) / 2.0 * self.phase.length.as_secs_f64()
    }
}

/// The rates of a whole run, from the begin of its warm-up on.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    steps: Vec<Step>,
    /// Messages a second on average over the phases, without the warm-up.
    mean: f64,
    phases: Option<String>,
}

impl Profile {
    /// `rate` messages a second, above 0, without end.
    pub fn constant(rate: f64) -> Profile {
        let phase = Phase { length: Duration::MAX, from: rate, to: rate };
        Profile { steps: vec![Step { phase, start_ns: 0.0, before: 0.0 }], mean: rate, phases: None }
    }

    /// The phases after a warm-up at the rate with which they begin.
    pub fn phased(warmup: Duration, phases: &Phases) -> Profile {
        let first = phases.phases.first().map_or(0.0, |phase| phase.from);
        let warmup = Phase { length: warmup, from: first, to: first };
        let (mut start_ns, mut before) = (0.0, 0.0);
        let mut steps = Vec::new();
        for phase in std::iter::once(&warmup).chain(&phases.phases) {
            let step = Step { phase: *phase, start_ns, before };
            start_ns += phase.length.as_nanos() as f64;
            before += step.messages();
            steps.push(step);
        }
        let warmed = steps.first().map_or(0.0, Step::messages);
        let mean = (before - warmed) / phases.duration().as_secs_f64();
        Profile { steps, mean, phases: Some(phases.text.clone()) }
    }

    /// The same shape at a share of the rates.
    pub fn scaled(&self, share: f64) -> Profile {
        let scale = |step: &Step| Step {
            phase: Phase { from: step.phase.from * share, to: step.phase.to * share, ..step.phase },
            before: step.before * share,
            ..*step
        };
        Profile { steps: self.steps.iter().map(scale).collect(), mean: self.mean * share, phases: self.phases.clone() }
    }

    /// Messages a second on average.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The phases as they were written.
    pub fn phases(&self) -> Option<&str> {
        self.phases.as_deref()
    }

    /// When `count` messages have been due, in nanoseconds from the begin; `u64::MAX` when so many never are. Computed from
    /// the count, so that rounding does not add up.
    pub fn due_ns(&self, count: f64) -> u64 {
        let Some(step) = self.steps.iter().find(|step| count < step.before + step.messages()) else { return u64::MAX };
        let Phase { length, from, to } = step.phase;
        let count = (count - step.before).max(0.0);
        let into_ns = if from == to {
            count * 1e9 / from
        } else if count == 0.0 {
            0.0
        } else {
            // The root of from·t + slope·t² = count that needs no subtraction of nearly equal numbers.
            let slope = (to - from) / (2.0 * length.as_secs_f64());
            2e9 * count / (from + (from * from + 4.0 * slope * count).max(0.0).sqrt())
        };
        (step.start_ns + into_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn phased(warmup_s: u64, text: &str) -> Profile {
        Profile::phased(Duration::from_secs(warmup_s), &text.parse().unwrap())
    }

    /// Messages due before each second.
    fn by_second(profile: &Profile) -> Vec<usize> {
        let due: Vec<u64> =
            (0..100_000).map(|n| profile.due_ns(f64::from(n))).take_while(|at| *at < u64::MAX).collect();
        assert!(due.is_sorted());
        (1..=8).map(|s| due.partition_point(|at| *at < s * 1_000_000_000)).collect()
    }

    #[test]
    fn a_profile_is_the_integral_of_its_rates() {
        assert_eq!(by_second(&phased(1, "2s@100")), [100, 200, 300, 300, 300, 300, 300, 300]);
        let ramp = phased(0, "4s@0..400,1s@0,1s@1000");
        // 50 t² while it ramps, nothing in the pause.
        assert_eq!(by_second(&ramp), [50, 200, 450, 800, 800, 1800, 1800, 1800]);
        assert_eq!(by_second(&phased(0, "4s@400..0")), [350, 600, 750, 800, 800, 800, 800, 800]);
        assert_eq!((ramp.mean(), ramp.phases()), (300.0, Some("4s@0..400,1s@0,1s@1000")));
        assert_eq!(by_second(&ramp.scaled(0.5)), [25, 100, 225, 400, 400, 900, 900, 900]);
        assert_eq!(phased(3, "1s@10").mean(), 10.0, "the warm-up does not count");
    }

    #[test]
    fn what_is_no_profile_says_why() {
        let error = |text: &str| text.parse::<Phases>().unwrap_err();
        assert!(error("10s").contains("LENGTH@RATE"));
        assert!(error("10@5").contains("needs a unit"));
        assert!(error("10s@-5").contains("\"-5\""));
        assert!(error("10s@0,5s@0").contains("sends nothing"));
        assert!(error("0s@5").contains("without length"));
        assert_eq!("10s@1..5/s".parse::<Phases>().unwrap().duration(), Duration::from_secs(10));
    }
}
