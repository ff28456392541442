//! When users were last active, written lazily: about once an hour a user, and many users in one transaction.
//!
//! Owns which users were written lately. What was not written yet when the process ends is lost: up to ten seconds of it.

use crate::recent::Recent;
use std::sync::{Mutex, PoisonError};

/// A user is written again after so long.
pub(crate) const EVERY_SECONDS: i64 = 3600;
/// Writes lie so far apart.
const WRITE_EVERY_SECONDS: i64 = 10;
/// Users remembered at least; one forgotten is written once more.
const KEPT: usize = 100_000;

/// The users.
pub(crate) struct Activity {
    state: Mutex<State>,
}

struct State {
    /// Unix second of each user's last write.
    noted: Recent<i64, i64>,
    waiting: Vec<i64>,
    written_at: i64,
}

impl Default for Activity {
    fn default() -> Activity {
        Activity { state: Mutex::new(State { noted: Recent::new(KEPT), waiting: Vec::new(), written_at: 0 }) }
    }
}

impl Activity {
    /// Notes that users are active; answers with those to be written now.
    pub(crate) fn note(&self, users: &[i64], now: i64) -> Vec<i64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for user in users {
            if state.noted.get(user).is_none_or(|at| now - at >= EVERY_SECONDS) {
                state.noted.insert(*user, now);
                state.waiting.push(*user);
            }
        }
        if state.waiting.is_empty() || now - state.written_at < WRITE_EVERY_SECONDS {
            return Vec::new();
        }
        state.written_at = now;
        std::mem::take(&mut state.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_written_once_an_hour_and_with_others() {
        let activity = Activity::default();
        let start = 1_000_000;
        assert_eq!(activity.note(&[1, 2], start), [1, 2]);
        assert_eq!(activity.note(&[1, 2, 3], start + 1), [] as [i64; 0], "too soon after a write");
        assert_eq!(activity.note(&[1, 4], start + 10), [3, 4]);
        assert_eq!(activity.note(&[1, 2], start + 3599), [] as [i64; 0]);
        assert_eq!(activity.note(&[1], start + 3600), [1]);
    }
}
