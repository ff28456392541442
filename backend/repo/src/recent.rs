//! A bounded map of what was used last: two generations, the older one is dropped whole.
//!
//! Never holds what was loaded before a change and arrives after it: whoever loads names the version it began at.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps at least so many of the last keys used, at most twice as many.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    max: usize,
    version: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Recent { young: HashMap::new(), old: HashMap::new(), max, version: 0 }
    }

    /// Moves with every [`Recent::remove`] and [`Recent::outdate`].
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Inserts what was loaded while the map stood at a version, unless something was outdated since.
    pub(crate) fn insert_loaded(&mut self, version: u64, key: K, value: V) {
        if version == self.version {
            self.insert(key, value);
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.outdate();
        self.young.remove(key);
        self.old.remove(key);
    }

    /// What is being loaded is not to be kept.
    pub(crate) fn outdate(&mut self) {
        self.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent = Recent::new(2);
        for key in 0..3 {
            recent.insert(key, key);
        }
        assert_eq!(recent.get(&0), Some(0), "of the older generation");
        recent.insert(3, 3);
        recent.insert(4, 4);
        assert_eq!(recent.get(&0), Some(0), "moved up when it was used");
        assert_eq!(recent.get(&1), None, "dropped with its generation");
    }

    #[test]
    fn what_was_loaded_before_a_removal_is_not_kept() {
        let mut recent = Recent::new(2);
        let version = recent.version();
        recent.remove(&1);
        recent.insert_loaded(version, 1, "old");
        assert_eq!(recent.get(&1), None);
    }
}
