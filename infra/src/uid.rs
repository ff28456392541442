//! Identifiers: snowflake ids (41 bits of milliseconds, 10 of instance, 12 of sequence) and UUID v7.
//!
//! Never leases the instance id itself (coord does) and never waits: a caller that is told to wait decides how.

use crate::clock::Clock;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Milliseconds between 1970 and the first snowflake, 2010-11-04T01:42:54.657Z.
pub const EPOCH_MS: i64 = 1_288_834_974_657;

/// Highest instance id.
pub const INSTANCE_MAX: u16 = 1023;

const SEQUENCE_BITS: u32 = 12;
const INSTANCE_BITS: u32 = 10;
const SEQUENCES: u64 = 1 << SEQUENCE_BITS;
const TIMESTAMP_MAX: u64 = (1 << 41) - 1;

/// A clock this far behind the last id is waited for.
const STEP_WAITED_MS: u64 = 10;
/// Up to here ids go on from the last timestamp's spare sequence numbers; beyond, the clock is an error.
const STEP_TOLERATED_MS: u64 = 5_000;
/// Times [`Snowflake::next`] looks at the clock again before it gives up: about 0.1 ms of spinning in all.
const SPINS: u32 = 4_096;

/// Why no id was made. Nothing was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// This millisecond's numbers are used up, or the clock stands behind the last id: ask again after `wait`.
    #[error("ids of this millisecond are used up: wait {wait:?}")]
    Exhausted {
        /// Until the next number.
        wait: Duration,
    },
    /// The clock went back by more than 5 s.
    #[error("the clock is {behind_ms} ms behind the last id: correct it or wait")]
    ClockBehind {
        /// Distance to the last id's millisecond.
        behind_ms: u64,
    },
    /// Instance ids are 1..=1023 (0 for a process without coordination).
    #[error("instance id {0} is above 1023")]
    BadInstance(u16),
    /// The clock or the highest known id lies outside of what 41 bits hold (2010 to 2080).
    #[error("time outside of 2010-2080")]
    OutOfRange,
}

/// A generator of unique, increasing 63-bit ids for one instance. Lock-free: one word holds the last id given.
pub struct Snowflake {
    instance: u64,
    /// `timestamp << 12 | sequence` of the last id given.
    last: AtomicU64,
    /// Ids begin at this timestamp though the clock be behind it; set by [`Snowflake::start_above`].
    base: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// What an id is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnowflakeParts {
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// 0..=1023.
    pub instance: u16,
    /// 0..=4095.
    pub sequence: u16,
}

impl Snowflake {
    /// A generator for an instance id from coordination, 0..=1023.
    pub fn new(instance: u16, clock: Arc<dyn Clock>) -> Result<Self, UidError> {
        if instance > INSTANCE_MAX {
            return Err(UidError::BadInstance(instance));
        }
        Ok(Snowflake { instance: u64::from(instance), last: AtomicU64::new(0), base: AtomicU64::new(0), clock })
    }

    /// Every later id is above `highest`, whatever instance made that one (pipeline.md C3). Called at start with the
    /// highest id in log and store. Where the clock stepped back over the restart, timestamps go on from there, moving
    /// only as numbers are used up, until the clock has caught up.
    pub fn start_above(&self, highest: i64) -> Result<(), UidError> {
        let Ok(highest) = u64::try_from(highest) else { return Ok(()) };
        let base = (highest >> (SEQUENCE_BITS + INSTANCE_BITS)) + 1;
        if base > TIMESTAMP_MAX {
            return Err(UidError::OutOfRange);
        }
        self.base.fetch_max(base, SeqCst);
        self.last.fetch_max((base << SEQUENCE_BITS) - 1, SeqCst);
        Ok(())
    }

    /// The next id. Never blocks, but may spin for about 0.1 ms at the end of an exhausted millisecond.
    pub fn next(&self) -> Result<i64, UidError> {
        self.take_spinning(1).map(|slots| self.id_of(slots.start))
    }

    /// `n` ids in increasing order. Fewer (but at least one) when the millisecond has no more: ask again for the rest.
    pub fn next_many(&self, n: usize) -> Result<Vec<i64>, UidError> {
        let mut ids = Vec::with_capacity(n);
        while ids.len() < n {
            match self.take_spinning((n - ids.len()) as u64) {
                Ok(slots) => ids.extend(slots.map(|slot| self.id_of(slot))),
                Err(error) if ids.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(ids)
    }

    /// The next id, sleeping where [`Snowflake::next`] says to wait. Fails only for a clock that is wrong.
    pub async fn next_or_wait(&self) -> Result<i64, UidError> {
        loop {
            match self.next() {
                Err(UidError::Exhausted { wait }) => tokio::time::sleep(wait).await,
                answer => return answer,
            }
        }
    }

    fn take_spinning(&self, n: u64) -> Result<Range<u64>, UidError> {
        for _ in 0..SPINS {
            match self.try_take(n) {
                Err(UidError::Exhausted { wait }) if wait <= Duration::from_millis(1) => std::hint::spin_loop(),
                answer => return answer,
            }
        }
        self.try_take(n)
    }

    /// Takes 1 to `n` slots of one millisecond.
    fn try_take(&self, n: u64) -> Result<Range<u64>, UidError> {
        loop {
            let last = self.last.load(SeqCst);
            let first = self.first_after(last)?;
            let count = n.min(SEQUENCES - first % SEQUENCES).max(1);
            if self.last.compare_exchange_weak(last, first + count - 1, SeqCst, SeqCst).is_ok() {
                return Ok(first..first + count);
            }
        }
    }

    /// The slot that may follow `last` at this moment.
    fn first_after(&self, last: u64) -> Result<u64, UidError> {
        let now = self.clock.unix_ms().checked_sub(EPOCH_MS).and_then(|ms| u64::try_from(ms).ok());
        let now = now.filter(|ms| *ms <= TIMESTAMP_MAX).ok_or(UidError::OutOfRange)?;
        let last_ms = last >> SEQUENCE_BITS;
        if now > last_ms {
            return Ok(now << SEQUENCE_BITS);
        }
        let has_spare = last % SEQUENCES != SEQUENCES - 1;
        if now < self.base.load(SeqCst) && last_ms < TIMESTAMP_MAX {
            if !has_spare {
                self.base.fetch_max(last_ms + 1, SeqCst);
            }
            return Ok(last + 1);
        }
        let behind_ms = last_ms - now;
        if behind_ms > STEP_TOLERATED_MS {
            return Err(UidError::ClockBehind { behind_ms });
        }
        if has_spare && (behind_ms == 0 || behind_ms > STEP_WAITED_MS) {
            return Ok(last + 1);
        }
        Err(UidError::Exhausted { wait: Duration::from_millis(behind_ms.max(1)) })
    }

    fn id_of(&self, slot: u64) -> i64 {
        let (timestamp, sequence) = (slot >> SEQUENCE_BITS, slot % SEQUENCES);
        let id = (timestamp << (SEQUENCE_BITS + INSTANCE_BITS)) | (self.instance << SEQUENCE_BITS) | sequence;
        // 41 + 10 + 12 bits: the sign bit is free.
        id as i64
    }
}

/// Takes an id apart; `None` for a negative one.
pub fn parse_snowflake(id: i64) -> Option<SnowflakeParts> {
    let bits = u64::try_from(id).ok()?;
    Some(SnowflakeParts {
        timestamp_ms: (bits >> (SEQUENCE_BITS + INSTANCE_BITS)) as i64 + EPOCH_MS,
        instance: (bits >> SEQUENCE_BITS) as u16 & INSTANCE_MAX,
        sequence: (bits % SEQUENCES) as u16,
    })
}

/// A new UUID v7 (RFC 9562), lower case with hyphens.
pub fn uuid_v7() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Whether a string is a UUID of any version in the hyphenated form.
pub fn is_valid_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

#[cfg(test)]
// Tests fail by panicking.
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use std::collections::HashSet;

    const NOW: i64 = 1_800_000_000_000;

    fn at(clock: &Arc<ManualClock>) -> Snowflake {
        Snowflake::new(7, clock.clone()).unwrap()
    }

    #[test]
    fn parse_is_the_inverse() {
        let ids = at(&ManualClock::at(NOW));
        ids.next().unwrap();
        let parts = parse_snowflake(ids.next().unwrap()).unwrap();
        assert_eq!(parts, SnowflakeParts { timestamp_ms: NOW, instance: 7, sequence: 1 });
        assert_eq!(parse_snowflake(-1), None);
        assert_eq!(Snowflake::new(1024, SystemClock::shared()).err(), Some(UidError::BadInstance(1024)));
    }

    #[test]
    fn unique_across_threads_and_instances_and_increasing_in_each() {
        let clock = SystemClock::shared();
        let mut seen = HashSet::new();
        let generators: Vec<_> = (1..=2).map(|i| Arc::new(Snowflake::new(i, clock.clone()).unwrap())).collect();
        let threads: Vec<_> = (0..6)
            .map(|i| {
                let ids = generators[i % 2].clone();
                std::thread::spawn(move || {
                    let mut mine = Vec::new();
                    while mine.len() < 5_000 {
                        match ids.next_many(if mine.len() % 2 == 0 { 1 } else { 97 }) {
                            Ok(more) => mine.extend(more),
                            Err(UidError::Exhausted { wait }) => std::thread::sleep(wait),
                            Err(error) => panic!("{error}"),
                        }
                    }
                    mine
                })
            })
            .collect();
        for thread in threads {
            let ids = thread.join().unwrap();
            assert!(ids.is_sorted(), "one caller sees increasing ids");
            assert!(ids.into_iter().all(|id| seen.insert(id)), "no id twice");
        }
    }

    #[test]
    fn an_exhausted_millisecond_says_to_wait() {
        let clock = ManualClock::at(NOW);
        let ids = at(&clock);
        assert_eq!(ids.next_many(5_000).unwrap().len(), 4096);
        assert_eq!(ids.next(), Err(UidError::Exhausted { wait: Duration::from_millis(1) }));
        clock.advance(Duration::from_millis(1));
        assert_eq!(parse_snowflake(ids.next().unwrap()).unwrap().timestamp_ms, NOW + 1);
    }

    #[test]
    fn a_clock_that_steps_back_is_waited_for_bridged_or_refused() {
        let clock = ManualClock::at(NOW);
        let ids = at(&clock);
        let before = ids.next().unwrap();
        clock.step_wall(-10);
        assert_eq!(ids.next(), Err(UidError::Exhausted { wait: Duration::from_millis(10) }));
        clock.step_wall(-1_000);
        let bridged = ids.next().unwrap();
        assert!(bridged > before);
        assert_eq!(parse_snowflake(bridged).unwrap().timestamp_ms, NOW);
        ids.next_many(4096).unwrap();
        assert_eq!(ids.next(), Err(UidError::Exhausted { wait: Duration::from_millis(1_010) }));
        clock.step_wall(-5_000);
        assert_eq!(ids.next(), Err(UidError::ClockBehind { behind_ms: 6_010 }));
        clock.step_wall(6_011);
        assert!(ids.next().unwrap() > bridged);
    }

    #[test]
    fn ids_start_above_the_highest_known_one_whatever_the_clock_says() {
        let clock = ManualClock::at(NOW);
        let highest = Snowflake::new(1023, clock.clone()).unwrap().next().unwrap();
        for step in [0, -3, -86_400_000] {
            let clock = ManualClock::at(NOW + step);
            let ids = Snowflake::new(1, clock.clone()).unwrap();
            ids.start_above(highest).unwrap();
            let mut last = highest;
            for _ in 0..3 {
                for id in ids.next_many(4096).unwrap() {
                    assert!(id > last, "step {step}");
                    last = id;
                }
            }
            clock.step_wall(-step + 1_000);
            let id = ids.next().unwrap();
            assert!(id > last);
            assert_eq!(parse_snowflake(id).unwrap().timestamp_ms, NOW + 1_000, "the clock leads again");
        }
        assert_eq!(at(&clock).start_above(i64::MAX), Err(UidError::OutOfRange));
        assert_eq!(at(&clock).start_above(-1), Ok(()));
    }

    #[test]
    fn a_clock_outside_of_41_bits_is_refused() {
        assert_eq!(at(&ManualClock::at(0)).next(), Err(UidError::OutOfRange));
        assert_eq!(at(&ManualClock::at(i64::MAX)).next(), Err(UidError::OutOfRange));
    }

    #[test]
    fn uuids_are_version_7_and_checked() {
        let uuid = uuid_v7();
        assert!(is_valid_uuid(&uuid) && uuid.as_bytes()[14] == b'7', "{uuid}");
        assert!(uuid < uuid_v7());
        for bad in ["", "x", &uuid[1..], &uuid.replace('-', ""), &uuid.replace('-', "_"), &format!("{{{uuid}}}")] {
            assert!(!is_valid_uuid(bad), "{bad}");
        }
    }
}
