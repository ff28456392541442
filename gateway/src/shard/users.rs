//! Which connections of a shard belong to a user. Usually one: further ones stand apart, so that they cost only those
//! who have them.

use std::collections::HashMap;

use gochat_proto::ids::Address;
use gochat_ring::ConnId;

/// The connection that an address means on its shard: a reactor's generations begin at 0, addresses at 1.
pub(super) fn conn_id(address: Address) -> ConnId {
    ConnId { slot: address.slot(), generation: address.generation().wrapping_sub(1) }
}

/// Connections by user.
#[derive(Debug, Default)]
pub(super) struct Users {
    first: HashMap<i64, ConnId>,
    more: HashMap<i64, Vec<ConnId>>,
}

impl Users {
    /// A connection of the user is open.
    pub(super) fn add(&mut self, user_id: i64, id: ConnId) {
        if let Some(first) = self.first.insert(user_id, id) {
            self.more.entry(user_id).or_default().push(first);
        }
    }

    /// A connection of the user has ended.
    pub(super) fn remove(&mut self, user_id: i64, id: ConnId) {
        let more = self.more.get_mut(&user_id);
        if self.first.get(&user_id) != Some(&id) {
            more.into_iter().for_each(|more| more.retain(|other| *other != id));
        } else if let Some(next) = more.and_then(Vec::pop) {
            self.first.insert(user_id, next);
        } else {
            self.first.remove(&user_id);
        }
        if self.more.get(&user_id).is_some_and(Vec::is_empty) {
            self.more.remove(&user_id);
        }
    }

    /// The user's connections.
    pub(super) fn of(&self, user_id: i64) -> impl Iterator<Item = ConnId> {
        self.first.get(&user_id).into_iter().chain(self.more.get(&user_id).into_iter().flatten()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_of_a_user_are_found_until_they_end() {
        let id = |slot| ConnId { slot, generation: 1 };
        let slots = |users: &Users| {
            let mut slots: Vec<u32> = users.of(7).map(|id| id.slot).collect();
            slots.sort_unstable();
            slots
        };
        let mut users = Users::default();
        (1..=3).for_each(|slot| users.add(7, id(slot)));
        users.add(8, id(9));
        assert_eq!(slots(&users), [1, 2, 3]);
        users.remove(7, id(3));
        assert_eq!(slots(&users), [1, 2]);
        users.remove(7, ConnId { slot: 1, generation: 2 });
        users.remove(7, id(1));
        assert_eq!(slots(&users), [2]);
        users.remove(7, id(2));
        assert!(slots(&users).is_empty());
        assert!(users.more.is_empty() && users.first.len() == 1);
    }
}
