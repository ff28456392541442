//! Conversations and accounts in memory, in front of the store: what preparing a message asks again and again.
//!
//! Owns two bounded caches and their invalidation. Every write of this process to what is cached here calls `forget_*` after
//! its commit; what was loaded before the write and arrives after it is not kept. Absence is never cached.

use crate::store::conversation::Roster;
use crate::store::user::User;
use crate::store::{Result, Store};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Conversations and accounts kept at least, each; at most twice as many.
const KEPT: usize = 100_000;

/// The caches.
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    conversations: Mutex<Recent<String, Arc<Roster>>>,
    users: Mutex<Recent<i64, Arc<User>>>,
}

impl Directory {
    pub(crate) fn new(store: Arc<dyn Store>) -> Directory {
        Directory { store, conversations: Mutex::new(Recent::new(KEPT)), users: Mutex::new(Recent::new(KEPT)) }
    }

    /// Members and kind of conversations; those that do not exist are absent.
    pub(crate) async fn conversations<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<String, Arc<Roster>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        let version = {
            let mut cache = locked(&self.conversations);
            for id in ids {
                match cache.get(id) {
                    _ if found.contains_key(id) => {}
                    Some(roster) => drop(found.insert(id.to_owned(), roster)),
                    None => missing.push(id.to_owned()),
                }
            }
            cache.version
        };
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            let loaded = self.store.rosters(&missing).await?;
            let mut cache = locked(&self.conversations);
            for roster in loaded.into_iter().map(Arc::new) {
                cache.insert_loaded(version, roster.id.clone(), roster.clone());
                found.insert(roster.id.clone(), roster);
            }
        }
        Ok(found)
    }

    /// Accounts; those that do not exist are absent.
    pub(crate) async fn users(&self, ids: impl Iterator<Item = i64>) -> Result<HashMap<i64, Arc<User>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        let version = {
            let mut cache = locked(&self.users);
            for id in ids {
                match cache.get(&id) {
                    Some(user) => drop(found.insert(id, user)),
                    None => missing.push(id),
                }
            }
            cache.version
        };
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            let loaded = self.store.users(&missing).await?;
            let mut cache = locked(&self.users);
            for user in loaded.into_iter().map(Arc::new) {
                cache.insert_loaded(version, user.id, user.clone());
                found.insert(user.id, user);
            }
        }
        Ok(found)
    }

    /// To be called after every commit that changed an account.
    pub(crate) fn forget_user(&self, id: i64) {
        locked(&self.users).remove(&id);
    }
}

/// Keeps the last keys used: two generations, the older one is dropped whole.
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    max: usize,
    /// Moves with every removal.
    version: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    fn new(max: usize) -> Self {
        Recent { young: HashMap::new(), old: HashMap::new(), max, version: 0 }
    }

    fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Inserts what was loaded while the cache stood at a version, unless something was removed since.
    fn insert_loaded(&mut self, version: u64, key: K, value: V) {
        if version == self.version {
            self.insert(key, value);
        }
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        self.version += 1;
        self.young.remove(key);
        self.old.remove(key);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let version = recent.version;
        recent.remove(&1);
        recent.insert_loaded(version, 1, "old");
        assert_eq!(recent.get(&1), None);
    }
}
