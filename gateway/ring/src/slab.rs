//! The table of connections: dense slots with generations. Owns whether an id is valid; knows nothing of sockets.

use crate::config::RingConfig;
use crate::token::ConnId;

/// Slots `0..accepted_max` are for accepted connections, the rest for those of our own making.
#[derive(Debug)]
pub(crate) struct Slab<S> {
    slots: Vec<Slot<S>>,
    accepted: Range,
    outgoing: Range,
}

#[derive(Debug)]
struct Slot<S> {
    generation: u32,
    state: Option<S>,
}

/// Free slots of one kind: those never used yet, and a stack of returned ones, so that low slots are used first.
#[derive(Debug)]
struct Range {
    next: u32,
    end: u32,
    returned: Vec<u32>,
    live: u32,
    size: u32,
}

impl Range {
    fn new(start: u32, end: u32) -> Range {
        Range { next: start, end, returned: Vec::new(), live: 0, size: end - start }
    }

    fn take(&mut self) -> Option<u32> {
        let slot = self.returned.pop().or_else(|| (self.next < self.end).then_some(self.next))?;
        self.next = self.next.max(slot + 1);
        self.live += 1;
        Some(slot)
    }
}

impl<S> Slab<S> {
    pub(crate) fn new(config: &RingConfig) -> Slab<S> {
        let capacity = config.connections_max + config.outgoing_max;
        Slab {
            slots: Vec::with_capacity(capacity as usize),
            accepted: Range::new(0, config.connections_max),
            outgoing: Range::new(config.connections_max, capacity),
        }
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.outgoing.end
    }

    pub(crate) fn outgoing_max(&self) -> u32 {
        self.outgoing.size
    }

    pub(crate) fn is_accepted(&self, conn: ConnId) -> bool {
        conn.slot < self.accepted.end
    }

    /// Accepted connections there is still room for.
    pub(crate) fn accepted_free(&self) -> u32 {
        self.accepted.size - self.accepted.live
    }

    pub(crate) fn outgoing_full(&self) -> bool {
        self.outgoing.live >= self.outgoing.size
    }

    /// A slot for an accepted connection.
    pub(crate) fn claim_accepted(&mut self, state: S) -> Option<ConnId> {
        let slot = self.accepted.take()?;
        Some(self.occupy(slot, state))
    }

    /// A slot for a connection of our own making.
    pub(crate) fn claim_outgoing(&mut self, state: S) -> Option<ConnId> {
        let slot = self.outgoing.take()?;
        Some(self.occupy(slot, state))
    }

    /// The accepted slot that the kernel chose; `None` when it is taken or not one of these. Not to be mixed with
    /// `claim_accepted`.
    pub(crate) fn claim_at(&mut self, slot: u32, state: S) -> Option<ConnId> {
        if slot >= self.accepted.end || self.at(slot).is_some() {
            return None;
        }
        self.accepted.live += 1;
        Some(self.occupy(slot, state))
    }

    fn occupy(&mut self, slot: u32, state: S) -> ConnId {
        while self.slots.len() <= slot as usize {
            self.slots.push(Slot { generation: 0, state: None });
        }
        let entry = &mut self.slots[slot as usize];
        entry.state = Some(state);
        ConnId { slot, generation: entry.generation }
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&S> {
        self.slots.get(conn.index()).filter(|slot| slot.generation == conn.generation)?.state.as_ref()
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut S> {
        self.slots.get_mut(conn.index()).filter(|slot| slot.generation == conn.generation)?.state.as_mut()
    }

    /// The connection that holds `slot` now.
    pub(crate) fn at(&self, slot: u32) -> Option<ConnId> {
        let entry = self.slots.get(slot as usize)?;
        entry.state.as_ref().map(|_| ConnId { slot, generation: entry.generation })
    }

    /// Frees the slot: from now on `conn` names nothing. The kernel keeps its own list of free accepted slots when
    /// it chooses them (`claim_at`), so `recycle` is false then.
    pub(crate) fn free(&mut self, conn: ConnId, recycle: bool) -> Option<S> {
        let slot = self.slots.get_mut(conn.index()).filter(|slot| slot.generation == conn.generation)?;
        let state = slot.state.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        let range = if conn.slot < self.accepted.end { &mut self.accepted } else { &mut self.outgoing };
        range.live -= 1;
        if recycle {
            range.returned.push(conn.slot);
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_reused_slot_has_another_generation() {
        let config = RingConfig { connections_max: 2, outgoing_max: 1, ..RingConfig::default() };
        let mut slab = Slab::new(&config);
        let first = slab.claim_accepted("a").unwrap();
        let other = slab.claim_accepted("b").unwrap();
        assert!(slab.accepted_free() == 0 && slab.claim_accepted("c").is_none());
        let own = slab.claim_outgoing("o").unwrap();
        assert_eq!((first.slot, other.slot, own.slot), (0, 1, 2));
        assert_eq!(slab.free(first, true), Some("a"));
        assert_eq!(slab.free(first, true), None);
        let again = slab.claim_accepted("c").unwrap();
        assert_eq!((again.slot, again.generation), (0, 1));
        assert_eq!((slab.get(first), slab.get(again)), (None, Some(&"c")));
        assert!(slab.claim_outgoing("p").is_none());
    }
}
