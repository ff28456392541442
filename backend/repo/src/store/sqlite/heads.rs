//! How high numbers have been stored, in memory: what preparing a batch asks of every conversation.
//!
//! Only this process writes the file, so a value here is never below what is committed: it is raised before the commit. When
//! the commit fails it stays above until the next start; those numbers stand in the log and will be stored or are used.

use crate::recent::Recent;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Conversations kept at least; at most twice as many, about 40 bytes each.
const KEPT: usize = 200_000;

/// The heads, by conversation key.
pub(super) struct Heads {
    recent: Mutex<Recent<i64, i64>>,
}

/// What is known of the heads asked for.
pub(super) struct Known {
    /// In the order asked; 0 where it must be loaded.
    pub(super) tops: Vec<i64>,
    /// Keys to be loaded.
    pub(super) missing: Vec<i64>,
    /// To be named when they have been loaded.
    version: u64,
}

impl Default for Heads {
    fn default() -> Heads {
        Heads { recent: Mutex::new(Recent::new(KEPT)) }
    }
}

impl Heads {
    pub(super) fn look(&self, conversations: &[i64]) -> Known {
        let mut recent = self.locked();
        let mut known = Known { tops: Vec::with_capacity(conversations.len()), missing: Vec::new(), version: 0 };
        for key in conversations {
            let top = recent.get(key);
            // Keys begin at 1: there is nothing to load for others.
            if top.is_none() && *key > 0 {
                known.missing.push(*key);
            }
            known.tops.push(top.unwrap_or(0));
        }
        known.version = recent.version();
        known
    }

    /// Keeps what was loaded after a [`Heads::look`], unless it may have changed meanwhile.
    pub(super) fn keep(&self, known: &Known, loaded: impl Iterator<Item = (i64, i64)>) {
        let mut recent = self.locked();
        for (key, top) in loaded {
            recent.insert_loaded(known.version, key, top);
        }
    }

    /// To be called before the commit that stores these.
    pub(super) fn raise(&self, tops: impl Iterator<Item = (i64, i64)>) {
        let mut recent = self.locked();
        for (key, top) in tops {
            match recent.get(&key) {
                Some(standing) if standing >= top => {}
                Some(_) => recent.insert(key, top),
                None => recent.outdate(),
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Recent<i64, i64>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_loaded_before_a_raise_is_not_kept() {
        let heads = Heads::default();
        let known = heads.look(&[1, 2]);
        assert_eq!((&known.tops[..], &known.missing[..]), ([0, 0].as_slice(), [1, 2].as_slice()));
        heads.raise([(1, 7)].into_iter());
        heads.keep(&known, [(1, 3), (2, 4)].into_iter());
        assert_eq!(heads.look(&[1, 2]).missing, [1, 2], "the store is asked again");
        let known = heads.look(&[1, 2]);
        heads.keep(&known, [(1, 7), (2, 4)].into_iter());
        heads.raise([(1, 9), (2, 3)].into_iter());
        let known = heads.look(&[2, 1]);
        assert_eq!((&known.tops[..], known.missing.len()), ([4, 9].as_slice(), 0), "never lowered");
    }
}
