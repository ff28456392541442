//! A filter in front of one claims table: says that a place is free without asking the table (pipeline.md B3).
//!
//! Never wrongly says free: a place is added before the statement that takes it, one process writes the file, and until the
//! places of an earlier process are loaded nothing is free. What was rolled back stays in it and costs a look-up.
//!
//! A chain of blocked Bloom filters, each four times as large as the one before: 16 bits a place, so that about one free
//! place in a thousand is looked up. Full, it takes 170 MiB for 89 million places; more of them cost more look-ups.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock};

/// A block is one cache line.
const BLOCK_WORDS: usize = 8;
/// Bits set a place, all in one block.
const PROBES: u32 = 7;
const FIRST_BLOCKS: usize = 1 << 13;
const GROWTH: usize = 4;
const PARTS_MAX: usize = 5;
const PLACES_PER_BLOCK: usize = 32;

/// The filter.
pub(super) struct PlaceFilter {
    parts: RwLock<Vec<Arc<Part>>>,
    /// All places of the table are in it.
    complete: AtomicBool,
}

struct Part {
    words: Vec<AtomicU64>,
    added: AtomicU64,
}

impl PlaceFilter {
    /// For a table without rows, or, not complete, for one whose rows are still to be added.
    pub(super) fn new(complete: bool) -> PlaceFilter {
        PlaceFilter { parts: RwLock::new(vec![Part::with_blocks(FIRST_BLOCKS)]), complete: AtomicBool::new(complete) }
    }

    /// All rows of the table have been added.
    pub(super) fn set_complete(&self) {
        self.complete.store(true, SeqCst);
    }

    /// To be called before the places are taken.
    pub(super) fn add(&self, places: impl Iterator<Item = i64>) {
        let mut part = self.youngest();
        for place in places {
            if part.is_full() {
                part = self.grow();
            }
            part.add(mixed(place));
        }
    }

    /// Is nobody in a place, for certain?
    pub(super) fn is_free(&self, place: i64) -> bool {
        if !self.complete.load(SeqCst) {
            return false;
        }
        let hash = mixed(place);
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        !parts.iter().any(|part| part.has(hash))
    }

    fn youngest(&self) -> Arc<Part> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts[parts.len() - 1].clone()
    }

    /// The part that the next place goes to.
    fn grow(&self) -> Arc<Part> {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let last = parts[parts.len() - 1].clone();
        // Another may have been here first.
        if !last.is_full() || parts.len() == PARTS_MAX {
            return last;
        }
        let next = Part::with_blocks(last.words.len() / BLOCK_WORDS * GROWTH);
        parts.push(next.clone());
        next
    }
}

impl Part {
    fn with_blocks(blocks: usize) -> Arc<Part> {
        let words = std::iter::repeat_with(|| AtomicU64::new(0)).take(blocks * BLOCK_WORDS).collect();
        Arc::new(Part { words, added: AtomicU64::new(0) })
    }

    fn is_full(&self) -> bool {
        self.added.load(Relaxed) >= (self.words.len() / BLOCK_WORDS * PLACES_PER_BLOCK) as u64
    }

    fn add(&self, hash: u64) {
        self.added.fetch_add(1, Relaxed);
        for (word, bit) in self.bits(hash) {
            word.fetch_or(bit, SeqCst);
        }
    }

    fn has(&self, hash: u64) -> bool {
        self.bits(hash).all(|(word, bit)| word.load(SeqCst) & bit != 0)
    }

    /// The upper half of a hash picks the block, the lower one, stretched, 9 bits for each probe.
    fn bits(&self, hash: u64) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        let first = (((hash >> 32) * blocks) >> 32) as usize * BLOCK_WORDS;
        let stretched = (hash & 0xffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..PROBES).map(move |probe| {
            let at = (stretched >> (probe * 9)) & 511;
            (&self.words[first + (at >> 6) as usize], 1 << (at & 63))
        })
    }
}

/// Spreads places, which tests make small, over all bits (the finaliser of splitmix64).
fn mixed(place: i64) -> u64 {
    let mut x = place.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_place_is_never_free_and_most_free_ones_are() {
        let filter = PlaceFilter::new(true);
        assert!(filter.is_free(0), "empty");
        // Three parts of it.
        let taken = 2_000_000;
        for chunk in (0..taken).collect::<Vec<i64>>().chunks(1000) {
            filter.add(chunk.iter().copied());
        }
        assert!((0..taken).all(|place| !filter.is_free(place)));
        let wrong = (taken..2 * taken).filter(|place| !filter.is_free(*place)).count();
        assert!(wrong < taken as usize / 300, "{wrong} of {taken} would be looked up");
    }

    #[test]
    fn nothing_is_free_before_all_is_loaded() {
        let filter = PlaceFilter::new(false);
        filter.add([1].into_iter());
        assert!(!filter.is_free(1) && !filter.is_free(2));
        filter.set_complete();
        assert!(!filter.is_free(1) && filter.is_free(2));
    }
}
