//! Several figures as their median and extremes.

use std::fmt;

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Spread { median: at(sorted.len() / 2), min: at(0), max: at(sorted.len().saturating_sub(1)) }
    }

    /// Of `ours` to `floor`, round by round.
    pub(crate) fn ratios(ours: &[f64], floor: &[f64]) -> Spread {
        Spread::of(&ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect::<Vec<f64>>())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.max {
            max if max >= 1000.0 => 0,
            max if max >= 10.0 => 1,
            max if max >= 1.0 => 2,
            _ => 3,
        };
        write!(f, "{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_extremes() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).to_string(), "2.00 (1.00-3.00)");
        assert_eq!(Spread::ratios(&[2.0, 3.0, 5.0], &[1.0, 2.0, 2.0]), Spread { median: 2.0, min: 1.5, max: 2.5 });
        assert_eq!(Spread::of(&[0.3337]).to_string(), "0.334 (0.334-0.334)");
    }
}
