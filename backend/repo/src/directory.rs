//! Conversations and accounts in memory, in front of the store: what preparing a message asks again and again.
//!
//! Owns three bounded caches and their invalidation. Every write of this process to what is cached here calls `forget_*` after
//! its commit; what was loaded before the write and arrives after it is not kept. Absence is never cached.

use crate::recent::Recent;
use crate::store::conversation::{Roster, Standing};
use crate::store::user::User;
use crate::store::{Result, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Conversations, accounts and members of the world room kept at least, each; at most twice as many.
const KEPT: usize = 100_000;

/// The caches.
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    conversations: Mutex<Recent<String, Arc<Roster>>>,
    users: Mutex<Recent<i64, Arc<User>>>,
    /// Members of the world room.
    world: Mutex<Recent<i64, Standing>>,
}

impl Directory {
    pub(crate) fn new(store: Arc<dyn Store>) -> Directory {
        Directory {
            store,
            conversations: Mutex::new(Recent::new(KEPT)),
            users: Mutex::new(Recent::new(KEPT)),
            world: Mutex::new(Recent::new(KEPT)),
        }
    }

    /// Members and kind of conversations; those that do not exist are absent.
    pub(crate) async fn conversations<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<&'a str, Arc<Roster>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        let version = {
            let mut cache = locked(&self.conversations);
            for id in ids {
                if found.contains_key(id) {
                    continue;
                }
                match cache.get(id) {
                    Some(roster) => drop(found.insert(id, roster)),
                    None => missing.push(id),
                }
            }
            cache.version()
        };
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            let asked: Vec<String> = missing.iter().map(|id| (*id).to_owned()).collect();
            let loaded = self.store.rosters(&asked).await?;
            let mut cache = locked(&self.conversations);
            for roster in loaded.into_iter().map(Arc::new) {
                cache.insert_loaded(version, roster.id.clone(), roster.clone());
                if let Ok(at) = missing.binary_search(&roster.id.as_str()) {
                    found.insert(missing[at], roster);
                }
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
                if found.contains_key(&id) {
                    continue;
                }
                match cache.get(&id) {
                    Some(user) => drop(found.insert(id, user)),
                    None => missing.push(id),
                }
            }
            cache.version()
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

    /// What some users are in the world room; those who are not in it are absent.
    pub(crate) async fn world_standings(
        &self,
        world: &str,
        users: impl Iterator<Item = i64>,
    ) -> Result<HashMap<i64, Standing>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        let version = {
            let mut cache = locked(&self.world);
            for id in users {
                match cache.get(&id) {
                    Some(standing) => drop(found.insert(id, standing)),
                    None => missing.push(id),
                }
            }
            cache.version()
        };
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            let loaded = self.store.members(world, &missing).await?;
            let mut cache = locked(&self.world);
            for member in loaded {
                cache.insert_loaded(version, member.user.id, member.standing());
                found.insert(member.user.id, member.standing());
            }
        }
        Ok(found)
    }

    /// To be called after every commit that changed a conversation's members, their roles, its settings, or a block between
    /// the two of a single chat.
    pub(crate) fn forget_conversation(&self, id: &str) {
        locked(&self.conversations).remove(id);
    }

    /// To be called after every commit that took a member out of the world room or changed one.
    pub(crate) fn forget_world_member(&self, user: i64) {
        locked(&self.world).remove(&user);
    }

    /// To be called after every commit that changed an account.
    pub(crate) fn forget_user(&self, id: i64) {
        locked(&self.users).remove(&id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
