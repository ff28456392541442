//! The connections of one room on one shard: an open-addressed table of slot and generation, about 12 bytes a member and
//! nothing in the connection's own slot. Places follow slots, so that walking them walks the connections in the order
//! they lie in. Never knows whether a connection still lives: whoever walks the table drops what does not.

use gochat_ring::ConnId;

/// A place never used since the last rebuild: a search ends here.
const EMPTY: u64 = u64::MAX;
/// A place whose member was dropped: a search goes on. Slots have 24 bits, so neither is a member.
const GONE: u64 = u64::MAX - 1;
const PLACES_MIN: usize = 8;

/// One room's members.
#[derive(Debug, Default)]
pub(super) struct Members {
    places: Box<[u64]>,
    /// Places that are not empty.
    used: usize,
    gone: usize,
}

impl Members {
    /// Members, those that have ended meanwhile included.
    pub(super) fn len(&self) -> usize {
        self.used - self.gone
    }

    /// Adds a connection; one that had its slot before gives way.
    pub(super) fn insert(&mut self, id: ConnId) {
        if let Some(place) = self.find(id.slot) {
            self.places[place] = pack(id);
            return;
        }
        if (self.used + 1) * 5 > self.places.len() * 4 {
            self.rebuild(self.len() + 1);
        }
        self.put(id);
    }

    /// Removes exactly this connection.
    pub(super) fn remove(&mut self, id: ConnId) {
        if let Some(place) = self.find(id.slot).filter(|place| self.places[*place] == pack(id)) {
            self.drop_at(place);
        }
    }

    /// Replaces all members.
    pub(super) fn reset(&mut self, ids: impl ExactSizeIterator<Item = ConnId>) {
        *self = Members::default();
        self.rebuild(ids.len());
        ids.for_each(|id| self.insert(id));
    }

    /// Places to walk over.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// The member at a place.
    pub(super) fn at(&self, place: usize) -> Option<ConnId> {
        match self.places.get(place) {
            None | Some(&(EMPTY | GONE)) => None,
            Some(&packed) => Some(ConnId { slot: (packed >> 32) as u32, generation: packed as u32 }),
        }
    }

    /// Drops the member at a place; nobody moves.
    pub(super) fn drop_at(&mut self, place: usize) {
        self.places[place] = GONE;
        self.gone += 1;
    }

    /// Gives memory back when many were dropped; members move.
    pub(super) fn tidy(&mut self) {
        if self.gone * 4 > self.places.len() {
            self.rebuild(self.len());
        }
    }

    fn find(&self, slot: u32) -> Option<usize> {
        let places = self.places.len();
        if places == 0 {
            return None;
        }
        let mut place = slot as usize % places;
        loop {
            match self.places[place] {
                EMPTY => return None,
                GONE => {}
                packed if (packed >> 32) as u32 == slot => return Some(place),
                _ => {}
            }
            place = if place + 1 == places { 0 } else { place + 1 };
        }
    }

    /// Into the first empty place; there is one, as a fifth of them always is.
    fn put(&mut self, id: ConnId) {
        let places = self.places.len();
        let mut place = id.slot as usize % places;
        while self.places[place] != EMPTY {
            place = if place + 1 == places { 0 } else { place + 1 };
        }
        self.places[place] = pack(id);
        self.used += 1;
    }

    /// Makes a table for so many members, five eighths full.
    fn rebuild(&mut self, members: usize) {
        let places = if members == 0 { 0 } else { (members * 8 / 5 + 1).max(PLACES_MIN) };
        let before = std::mem::replace(&mut self.places, vec![EMPTY; places].into_boxed_slice());
        (self.used, self.gone) = (0, 0);
        for packed in before.into_iter().filter(|packed| !matches!(*packed, EMPTY | GONE)) {
            self.put(ConnId { slot: (packed >> 32) as u32, generation: packed as u32 });
        }
    }
}

fn pack(id: ConnId) -> u64 {
    u64::from(id.slot) << 32 | u64::from(id.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn all(members: &Members) -> BTreeMap<u32, u32> {
        let each = (0..members.places()).filter_map(|place| members.at(place));
        let all: Vec<_> = each.map(|id| (id.slot, id.generation)).collect();
        let by_slot: BTreeMap<u32, u32> = all.iter().copied().collect();
        assert_eq!(by_slot.len(), all.len(), "nobody stands there twice");
        assert_eq!(by_slot.len(), members.len());
        by_slot
    }

    /// Against a map, from a fixed seed.
    #[test]
    fn it_holds_what_a_map_would() {
        let (mut members, mut model) = (Members::default(), BTreeMap::new());
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        for step in 0..40_000 {
            // Slots that meet in one place too.
            let slot = (next(300) * if next(2) == 0 { 1 } else { 1024 }) as u32;
            let id = ConnId { slot, generation: next(3) as u32 };
            match next(8) {
                0..4 => {
                    members.insert(id);
                    model.insert(id.slot, id.generation);
                }
                4..7 => {
                    members.remove(id);
                    if model.get(&id.slot) == Some(&id.generation) {
                        model.remove(&id.slot);
                    }
                }
                _ => {
                    let place = next(members.places().max(1) as u64) as usize;
                    if let Some(id) = members.at(place) {
                        members.drop_at(place);
                        model.remove(&id.slot);
                    }
                    members.tidy();
                }
            }
            if step % 64 == 0 {
                assert_eq!(all(&members), model, "step {step}");
            }
        }
    }

    #[test]
    fn a_membership_takes_at_most_sixteen_bytes() {
        let mut members = Members::default();
        for slot in 0..100_000 {
            members.insert(ConnId { slot, generation: 1 });
            if slot > 100 {
                assert!(
                    members.places() * 8 <= members.len() * 16,
                    "{} places for {}",
                    members.places(),
                    members.len()
                );
            }
        }
        let ids: Vec<_> = (0..10).map(|slot| ConnId { slot: slot * 7, generation: 2 }).collect();
        members.reset(ids.iter().copied());
        assert_eq!(all(&members).len(), 10);
        assert!(members.places() < 40);
        members.reset(std::iter::empty());
        assert_eq!((members.len(), members.places()), (0, 0));
    }

    #[test]
    fn walking_follows_slots() {
        let mut members = Members::default();
        for slot in [5, 900, 3, 77, 4] {
            members.insert(ConnId { slot, generation: 0 });
        }
        members.reset((0..1000u32).rev().map(|slot| ConnId { slot, generation: 0 }).collect::<Vec<_>>().into_iter());
        let walked: Vec<u32> = (0..members.places()).filter_map(|place| Some(members.at(place)?.slot)).collect();
        assert!(walked.is_sorted(), "{walked:?}");
    }
}
