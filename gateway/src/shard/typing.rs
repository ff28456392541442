//! Which typing of which connection is passed on: at most one beginning per conversation every 3 s, and its end once.
//! Remembers a bounded number of conversations; beyond it typing is not passed on.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use gochat_ring::ConnId;

use crate::limits::TYPING_MAX;

const INTERVAL_MS: u64 = 3_000;
/// How often what is old is looked for when there is no room.
const SWEEP_MS: u64 = 500;

#[derive(Clone, Copy, Debug)]
struct Passed {
    at_ms: u64,
    is_typing: bool,
}

/// What was passed on lately.
#[derive(Debug, Default)]
pub(super) struct Typing {
    passed: HashMap<(ConnId, u64), Passed>,
    hasher: RandomState,
    swept_ms: u64,
}

impl Typing {
    /// Whether this is passed on; it is remembered as such. `now_ms` is the shard's clock.
    pub(super) fn passes(&mut self, id: ConnId, conversation: &str, is_typing: bool, now_ms: u64) -> bool {
        let key = (id, self.hasher.hash_one(conversation));
        if let Some(passed) = self.passed.get_mut(&key) {
            let passes = if is_typing { now_ms >= passed.at_ms + INTERVAL_MS } else { passed.is_typing };
            if passes {
                let at_ms = if is_typing { now_ms } else { passed.at_ms };
                *passed = Passed { at_ms, is_typing };
            }
            return passes;
        }
        // Nobody was told that it had begun.
        if !is_typing || !self.has_room(now_ms) {
            return false;
        }
        self.passed.insert(key, Passed { at_ms: now_ms, is_typing });
        true
    }

    fn has_room(&mut self, now_ms: u64) -> bool {
        if self.passed.len() >= TYPING_MAX && now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.passed.retain(|_, passed| now_ms < passed.at_ms + INTERVAL_MS);
        }
        self.passed.len() < TYPING_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ConnId = ConnId { slot: 1, generation: 1 };

    #[test]
    fn one_beginning_every_three_seconds_and_its_end_once() {
        let mut typing = Typing::default();
        assert!(!typing.passes(ID, "a", false, 1_000), "it never began");
        assert!(typing.passes(ID, "a", true, 1_000));
        assert!(!typing.passes(ID, "a", true, 3_999));
        assert!(typing.passes(ID, "b", true, 3_999), "another conversation");
        assert!(typing.passes(ConnId { slot: 2, ..ID }, "a", true, 3_999), "another connection");
        assert!(typing.passes(ID, "a", false, 3_999));
        assert!(!typing.passes(ID, "a", false, 3_999), "once");
        assert!(!typing.passes(ID, "a", true, 3_999), "an end does not open the way for a beginning");
        assert!(typing.passes(ID, "a", true, 4_000));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut typing = Typing::default();
        let at = |slot, now_ms, typing: &mut Typing| typing.passes(ConnId { slot, ..ID }, "a", true, now_ms);
        let passed = (0..TYPING_MAX as u32 + 10).filter(|slot| at(*slot, 1_000, &mut typing)).count();
        assert_eq!(passed, TYPING_MAX);
        assert!(!at(1 << 20, 3_000, &mut typing));
        assert!(at(1 << 20, 4_500, &mut typing), "room is made of what is old");
        assert!(typing.passed.len() < 10);
    }
}
