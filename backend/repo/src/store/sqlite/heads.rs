//! How high numbers have been stored, in memory: what preparing a batch asks of every conversation.
//!
//! Only this process writes the file, so a value here is never below what is committed: it is raised before the commit. When
//! the commit fails it stays above until the next start; those numbers stand in the log and will be stored or are used.

use super::batch::Batched;
use crate::recent::Recent;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Reads them.
pub(super) static HEADS: Batched =
    Batched::new("SELECT key, max(last_seq, stored_through_seq) FROM conversations WHERE key IN (", "?", ")");

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
            if recent.get(&key).is_none_or(|standing| standing < top) {
                recent.insert_loaded(known.version, key, top);
            }
        }
    }

    /// To be called inside the transaction that stores these. What it gives back is not in memory: those heads are to be
    /// read in the same transaction and given to [`Heads::set`] before it commits.
    pub(super) fn raise(&self, tops: impl Iterator<Item = (i64, i64)>) -> Vec<i64> {
        let mut recent = self.locked();
        let mut missing = Vec::new();
        for (key, top) in tops {
            match recent.get(&key) {
                Some(standing) if standing >= top => {}
                Some(_) => recent.insert(key, top),
                None => missing.push(key),
            }
        }
        missing
    }

    /// Heads as they will be when the transaction that read them commits. What others are loading now is older and is
    /// not kept.
    pub(super) fn set(&self, heads: &[(i64, i64)]) {
        let mut recent = self.locked();
        recent.outdate();
        for (key, top) in heads {
            let standing = recent.get(key).unwrap_or(0);
            recent.insert(*key, standing.max(*top));
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
    fn a_head_loaded_before_a_change_is_not_kept() {
        let heads = Heads::default();
        let before = heads.look(&[1, 2]);
        assert_eq!((&before.tops[..], &before.missing[..]), ([0, 0].as_slice(), [1, 2].as_slice()));
        assert_eq!(heads.raise([(1, 7)].into_iter()), [1], "not known, so to be read");
        let between = heads.look(&[1]);
        heads.set(&[(1, 7)]);
        heads.keep(&before, [(1, 3), (2, 4)].into_iter());
        heads.keep(&between, [(1, 3)].into_iter());
        let known = heads.look(&[1, 2]);
        assert_eq!((&known.tops[..], &known.missing[..]), ([7, 0].as_slice(), [2].as_slice()));
    }

    #[test]
    fn a_head_is_never_lowered() {
        let heads = Heads::default();
        let (first, second) = (heads.look(&[1]), heads.look(&[1]));
        heads.keep(&first, [(1, 3)].into_iter());
        assert!(heads.raise([(1, 7)].into_iter()).is_empty());
        heads.keep(&second, [(1, 3)].into_iter());
        assert!(heads.raise([(1, 5)].into_iter()).is_empty());
        heads.set(&[(1, 2)]);
        assert_eq!(heads.look(&[1]).tops, [7]);
    }
}
