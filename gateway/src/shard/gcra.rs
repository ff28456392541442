//! A rate limit in eight bytes, for state that lies in every connection's slot (generic cell rate algorithm).
//! Never reads a clock.

use gochat_infra::ratelimit::RateRule;

/// When the bucket would be full again, in microseconds of the shard's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gcra(u64);

impl Gcra {
    /// Takes one token at `now_us`.
    ///
    /// # Errors
    /// Nothing was taken; there is a token after this many seconds, at least one.
    pub(super) fn take(&mut self, rule: &RateRule, now_us: u64) -> Result<(), u32> {
        // An infinite rate gives an interval of 0: everything passes.
        let interval = (1_000_000.0 / rule.rate_per_s) as u64;
        let full_at = self.0.max(now_us);
        let allowed_ahead = interval.saturating_mul(u64::from(rule.capacity));
        if (full_at - now_us).saturating_add(interval) > allowed_ahead && interval > 0 {
            let wait_us = full_at - now_us + interval - allowed_ahead;
            return Err(wait_us.div_ceil(1_000_000).clamp(1, 86_400) as u32);
        }
        self.0 = full_at + interval;
        Ok(())
    }

    /// Whether nothing was taken lately.
    pub(super) fn is_full(&self, now_us: u64) -> bool {
        self.0 <= now_us
    }
}

/// The same in four bytes, in tenths of a second: for rates of a few a minute. Full for ever after 13 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlowGcra(u32);

impl SlowGcra {
    const UNIT_US: u64 = 100_000;

    /// As [`Gcra::take`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn take(&mut self, rule: &RateRule, now_us: u64) -> Result<(), u32> {
        let mut bucket = Gcra(u64::from(self.0) * Self::UNIT_US);
        bucket.take(rule, now_us)?;
        self.0 = u32::try_from(bucket.0 / Self::UNIT_US).unwrap_or(u32::MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute_in_four_bytes() {
        let rule = RateRule::new(10.0 / 60.0, 10);
        let (mut bucket, now) = (SlowGcra::default(), 123_456_789);
        assert!((0..10).all(|_| bucket.take(&rule, now) == Ok(())));
        assert!(bucket.take(&rule, now).is_err_and(|wait_s| (5..=6).contains(&wait_s)));
        assert!(bucket.take(&rule, now + 5_000_000).is_err());
        assert_eq!(bucket.take(&rule, now + 6_000_000), Ok(()));
        assert!(bucket.take(&rule, now + 6_000_000).is_err());
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rule = RateRule::new(10.0, 3);
        let mut bucket = Gcra::default();
        let now = 5_000_000;
        for _ in 0..3 {
            assert_eq!(bucket.take(&rule, now), Ok(()));
        }
        assert_eq!(bucket.take(&rule, now), Err(1));
        assert_eq!(bucket.take(&rule, now + 99_999), Err(1));
        assert_eq!(bucket.take(&rule, now + 100_000), Ok(()));
        assert!(!bucket.is_full(now + 100_000));
        assert!(bucket.is_full(now + 1_000_000));
    }

    #[test]
    fn a_slow_rule_says_how_long_to_wait() {
        let rule = RateRule::new(0.1, 1);
        let mut bucket = Gcra::default();
        assert_eq!(bucket.take(&rule, 0), Ok(()));
        assert_eq!(bucket.take(&rule, 1_500_000), Err(9));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut bucket = Gcra::default();
        assert!((0..10_000).all(|_| bucket.take(&RateRule::OFF, 7).is_ok()));
    }
}
