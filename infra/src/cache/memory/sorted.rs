//! One sorted set: members by score, each member once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Sorted {
    scores: HashMap<Arc<str>, i64>,
    order: BTreeSet<(i64, Arc<str>)>,
}

impl Sorted {
    /// Adds a member or gives it another score.
    pub(super) fn add(&mut self, member: &str, score: i64) {
        let member = match self.scores.get_key_value(member) {
            Some((known, old)) => {
                let known = known.clone();
                self.order.remove(&(*old, known.clone()));
                known
            }
            None => Arc::from(member),
        };
        self.scores.insert(member.clone(), score);
        self.order.insert((score, member));
    }

    /// Takes a member out; tells whether it was there.
    pub(super) fn remove(&mut self, member: &str) -> bool {
        match self.scores.remove_entry(member) {
            Some((member, score)) => self.order.remove(&(score, member)),
            None => false,
        }
    }

    /// Takes out the member with the lowest score, if that is low enough.
    pub(super) fn take(&mut self, up_to: i64) -> Option<(String, i64)> {
        if self.order.first()?.0 > up_to {
            return None;
        }
        let (score, member) = self.order.pop_first()?;
        self.scores.remove(&member);
        Some((member.as_ref().to_owned(), score))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
