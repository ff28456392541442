//! What a case is: one step, done by one contender, as often as asked. Never measures.

use std::hint::black_box;

use super::Outcome;

/// The contender whose cost is watched.
pub const OURS: &str = "gochat";

/// Does the step so many times.
pub type Work = Box<dyn FnMut(u64)>;

/// One step, done by one contender.
pub struct Case {
    /// The step; its contenders are compared with each other.
    pub step: String,
    /// Who does it.
    pub who: &'static str,
    /// Whether its instructions say anything: not where it waits for a clock or for another thread.
    pub is_counted: bool,
    make: Box<dyn Fn() -> Outcome<Work>>,
}

impl Case {
    /// A case; `make` prepares the work and checks that it does what it should.
    pub fn new(step: impl Into<String>, who: &'static str, make: impl Fn() -> Outcome<Work> + 'static) -> Case {
        Case { step: step.into(), who, is_counted: true, make: Box::new(make) }
    }

    /// The same, measured by the clock only.
    #[must_use]
    pub fn timed_only(self) -> Case {
        Case { is_counted: false, ..self }
    }

    /// Its name on command lines and in baselines.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.step, self.who)
    }

    /// Whether it has a baseline.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.is_counted && self.who == OURS
    }

    /// Prepares it.
    ///
    /// # Errors
    /// It cannot be prepared, or does not do its step.
    pub fn make(&self) -> Outcome<Work> {
        (self.make)().map_err(|e| format!("{}: {e}", self.name()).into())
    }
}

/// Work that calls `once` again and again; the compiler may not drop what it answers.
pub fn repeat<T>(mut once: impl FnMut() -> T + 'static) -> Work {
    Box::new(move |times| {
        for _ in 0..times {
            black_box(once());
        }
    })
}

/// The same, once the first answer was found right.
///
/// # Errors
/// It was not.
pub fn checked<T: PartialEq + std::fmt::Debug>(expected: &T, mut once: impl FnMut() -> T + 'static) -> Outcome<Work> {
    // The second time too: what is reused between calls is then in use.
    for _ in 0..2 {
        let answer = once();
        if answer != *expected {
            return Err(format!("answers {answer:?}, not {expected:?}").into());
        }
    }
    Ok(repeat(once))
}
