//! Sizes and waits that are not all the same: how they are written and which one a message gets. Draws nothing itself:
//! whoever asks brings the random bits.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::mix::mix;

/// Sizes of messages: `64`, `16..4096` (each as likely) or shares, `90%:64,10%:1000..4096`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    choices: Vec<Choice>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    /// Of a hundred messages, those up to this one that no choice before has.
    percent_to: u64,
    min: usize,
    max: usize,
}

impl Sizes {
    /// The size of the message with these random bits.
    pub(crate) fn pick(&self, bits: u64) -> usize {
        let chance = bits % 100;
        let Some(choice) = self.choices.iter().find(|choice| chance < choice.percent_to) else { return self.max() };
        match choice.max - choice.min {
            0 => choice.min,
            more => choice.min + (mix(bits) % (more as u64 + 1)) as usize,
        }
    }

    /// The largest.
    pub fn max(&self) -> usize {
        self.choices.iter().map(|choice| choice.max).max().unwrap_or_default()
    }

    /// The smallest.
    pub fn min(&self) -> usize {
        self.choices.iter().map(|choice| choice.min).min().unwrap_or_default()
    }

    /// On average, rounded.
    pub fn mean(&self) -> usize {
        let mut before = 0;
        let share = |choice: &Choice| {
            let percent = choice.percent_to - std::mem::replace(&mut before, choice.percent_to);
            percent as f64 / 100.0 * (choice.min + choice.max) as f64 / 2.0
        };
        self.choices.iter().map(share).sum::<f64>().round() as usize
    }

    /// As written, unless all messages have one size.
    pub fn text(&self) -> Option<&str> {
        (self.min() != self.max()).then_some(self.text.as_str())
    }

    /// Each less by so many bytes that a message has besides.
    pub(crate) fn less(&self, bytes: usize) -> Sizes {
        let less = |it: &Choice| Choice { min: it.min.saturating_sub(bytes), max: it.max.saturating_sub(bytes), ..*it };
        Sizes { choices: self.choices.iter().map(less).collect(), text: self.text.clone() }
    }

    /// Whether all lie in a range.
    pub(crate) fn within(&self, range: &RangeInclusive<usize>) -> bool {
        range.contains(&self.min()) && range.contains(&self.max())
    }
}

impl From<usize> for Sizes {
    fn from(size: usize) -> Sizes {
        Sizes { choices: vec![Choice { percent_to: 100, min: size, max: size }], text: size.to_string() }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let mut choices: Vec<Choice> = Vec::new();
        for part in text.split(',') {
            let (percent, sizes) = part.trim().split_once("%:").unwrap_or(("100", part.trim()));
            let percent: u64 = percent.parse().map_err(|_| format!("{percent:?} is not a whole percentage"))?;
            let (min, max) = sizes.split_once("..").unwrap_or((sizes, sizes));
            let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is not a number of bytes"));
            let (min, max) = (number(min)?, number(max)?);
            if min > max {
                return Err(format!("{sizes:?} ends before it begins"));
            }
            let before = choices.last().map_or(0, |choice| choice.percent_to);
            choices.push(Choice { percent_to: before.saturating_add(percent), min, max });
        }
        match choices.last() {
            Some(Choice { percent_to: 100, .. }) => Ok(Sizes { choices, text: text.to_owned() }),
            _ => Err(format!("the shares of {text:?} must make 100 %, as in 90%:64,10%:4096")),
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Time between an answer and the next message: `100ms` or `50ms..200ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Think {
    min: Duration,
    max: Duration,
    text: String,
}

impl Think {
    /// One wait, in nanoseconds.
    pub(crate) fn pick_ns(&self, bits: u64) -> u64 {
        let more = (self.max - self.min).as_nanos() as u64;
        self.min.as_nanos() as u64 + bits % (more + 1)
    }

    /// When one of many begins, so that they do not all at once.
    pub(crate) fn start_ns(&self, bits: u64) -> u64 {
        bits % (self.max.as_nanos() as u64 + 1)
    }
}

impl FromStr for Think {
    type Err = String;

    fn from_str(text: &str) -> Result<Think, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (duration(min)?, duration(max)?);
        match min <= max && max <= Duration::from_secs(3600) {
            true => Ok(Think { min, max, text: text.to_owned() }),
            false => Err(format!("{text:?} must be a wait of at most 1h or two, the shorter first: 50ms..200ms")),
        }
    }
}

impl fmt::Display for Think {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `500ms`, `10s`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} needs a unit: ms, s, m or h, as in 10s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a duration such as 10s"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn sizes_come_in_their_shares() {
        let sizes: Sizes = "90%:64,10%:1000..4000".parse().unwrap();
        assert_eq!((sizes.min(), sizes.max(), sizes.mean()), (64, 4000, 308));
        let picked: Vec<usize> = (0..100_000).map(|n| sizes.pick(mix(n))).collect();
        let small = picked.iter().filter(|size| **size == 64).count();
        assert!((89_000..91_000).contains(&small), "{small}");
        assert!(picked.iter().all(|size| *size == 64 || (1000..=4000).contains(size)));
        assert!(picked.iter().filter(|size| **size > 64).collect::<std::collections::BTreeSet<_>>().len() > 2000);
        let fixed: Sizes = "64".parse().unwrap();
        assert_eq!((fixed.pick(77), fixed.text(), fixed.less(16).max()), (64, None, 48));
        assert_eq!("16..4096".parse::<Sizes>().unwrap().text(), Some("16..4096"));
    }

    #[test]
    fn what_is_no_size_says_why() {
        let error = |text: &str| text.parse::<Sizes>().unwrap_err();
        assert!(error("big").contains("\"big\""));
        assert!(error("90%:64").contains("100 %"));
        assert!(error("64,64").contains("100 %"));
        assert!(error("9..3").contains("ends before"));
        assert!("200ms..50ms".parse::<Think>().is_err() && "5".parse::<Think>().is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("s").is_err() && duration("5").is_err() && duration("1e3s").is_err());
    }

    #[test]
    fn waits_lie_in_their_range() {
        let think: Think = "50ms..200ms".parse().unwrap();
        assert!((0..1000).map(|n| think.pick_ns(mix(n))).all(|wait| (50_000_000..=200_000_000).contains(&wait)));
        assert_eq!("100ms".parse::<Think>().unwrap().pick_ns(12345), 100_000_000);
    }
}
