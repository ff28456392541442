//! Users who were revoked or disabled while this process ran: whose open sessions a presence flush must look at (H2).
//!
//! Sessions opened later are checked against the store when they register, so this needs no memory over a restart.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The users.
#[derive(Default)]
pub(crate) struct RevokedUsers {
    users: Mutex<HashSet<i64>>,
}

impl RevokedUsers {
    pub(crate) fn add(&self, user: i64) {
        self.locked().insert(user);
    }

    /// Those among some users who are in the set.
    pub(crate) fn among(&self, users: impl Iterator<Item = i64>) -> Vec<i64> {
        let set = self.locked();
        if set.is_empty() { Vec::new() } else { users.filter(|user| set.contains(user)).collect() }
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
