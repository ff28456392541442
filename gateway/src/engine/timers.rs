//! One coarse wheel of timers for all connections of a shard: it names slots whose time may have come. The connection
//! itself holds its deadlines; an entry that does not match the one it holds is stale and ignored.

/// Buckets, and so quanta, that the wheel sees ahead; what is due later is looked at on the way.
const BUCKETS: usize = 256;
/// Entries up to which an emptied bucket keeps its memory.
const KEPT_ENTRIES: usize = 256;

/// A point in time in quanta since the shard began.
pub(crate) type Quantum = u32;

/// A deadline that never comes.
pub(crate) const NEVER: Quantum = Quantum::MAX;

#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<u32>>,
    /// The bucket being emptied: all before it are empty.
    cursor: Quantum,
}

impl Wheel {
    pub(super) fn new() -> Wheel {
        Wheel { buckets: vec![Vec::new(); BUCKETS], cursor: 0 }
    }

    /// Enters a slot and returns the quantum it was entered for: `due`, unless that is past or too far ahead.
    pub(super) fn schedule(&mut self, slot: u32, due: Quantum) -> Quantum {
        let due = due.clamp(self.cursor + 1, self.cursor + BUCKETS as u32 - 1);
        self.buckets[due as usize % BUCKETS].push(slot);
        due
    }

    /// The next slot entered for `now` or before, with the quantum it was entered for.
    pub(super) fn pop(&mut self, now: Quantum) -> Option<(u32, Quantum)> {
        while self.cursor <= now {
            let bucket = &mut self.buckets[self.cursor as usize % BUCKETS];
            if let Some(slot) = bucket.pop() {
                return Some((slot, self.cursor));
            }
            if bucket.capacity() > KEPT_ENTRIES {
                *bucket = Vec::new();
            }
            if self.cursor == now {
                return None;
            }
            self.cursor += 1;
        }
        None
    }

    /// Whether everything due at `now` was popped.
    pub(super) fn is_caught_up(&self, now: Quantum) -> bool {
        self.cursor >= now && self.buckets[now as usize % BUCKETS].is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_out_in_their_quantum_and_far_ones_on_the_way() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.schedule(1, 0), 1, "never in the quantum that is being emptied");
        assert_eq!(wheel.schedule(2, 5), 5);
        assert_eq!(wheel.schedule(3, NEVER), 255);
        let mut seen = Vec::new();
        for now in 0..=300 {
            while let Some((slot, due)) = wheel.pop(now) {
                assert_eq!(due, now);
                seen.push((slot, now));
            }
            assert!(wheel.is_caught_up(now));
        }
        assert_eq!(seen, [(1, 1), (2, 5), (3, 255)]);
    }

    #[test]
    fn a_late_look_finds_everything_missed() {
        let mut wheel = Wheel::new();
        for slot in 0..100 {
            wheel.schedule(slot, 1 + slot);
        }
        let mut count = 0;
        while wheel.pop(1000).is_some() {
            count += 1;
        }
        assert_eq!(count, 100);
        assert_eq!(wheel.schedule(7, 10), 1001);
    }
}
