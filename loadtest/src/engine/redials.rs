//! Connections that are to be opened again, and those that must get somewhere in time. Opens and closes none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use gochat_ring::ConnId;

/// How long a handshake of a connection that is opened again may take, and a closing one.
const HANDSHAKE_NS: u64 = 10_000_000_000;

/// What is due when, beside the clients: nothing of it is kept for clients that only stand.
#[derive(Debug, Default)]
pub(super) struct Redials {
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// In the order of their deadlines, since all are given the same time.
    watched: VecDeque<(u64, u32, ConnId)>,
    stopped: bool,
}

impl Redials {
    /// `client` is to be connected at `at_ns`.
    pub(super) fn add(&mut self, at_ns: u64, client: u32) {
        if !self.stopped {
            self.due.push(Reverse((at_ns, client)));
        }
    }

    /// A client to connect now, and when it was meant to be.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let Reverse((at_ns, client)) = *self.due.peek().filter(|due| due.0.0 <= now_ns)?;
        self.due.pop();
        Some((client, at_ns))
    }

    /// The handshake of `conn` began.
    pub(super) fn watch(&mut self, now_ns: u64, client: u32, conn: ConnId) {
        self.watched.push_back((now_ns + HANDSHAKE_NS, client, conn));
    }

    /// A connection whose time is over, whatever became of it.
    pub(super) fn overdue(&mut self, now_ns: u64) -> Option<(u32, ConnId)> {
        let (_, client, conn) = self.watched.pop_front_if(|(at_ns, ..)| *at_ns <= now_ns)?;
        Some((client, conn))
    }

    /// When something will be due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let due = self.due.peek().map(|due| due.0.0);
        due.into_iter().chain(self.watched.front().map(|(at_ns, ..)| *at_ns)).min()
    }

    /// Whether nobody waits to be connected.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Nothing is opened any more.
    pub(super) fn stop(&mut self) {
        *self = Redials { stopped: true, ..Redials::default() };
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_first_and_deadlines_wake() {
        let mut redials = Redials::default();
        redials.add(30, 1);
        redials.add(20, 2);
        assert_eq!((redials.take(10), redials.next_ns()), (None, Some(20)));
        assert_eq!([redials.take(30), redials.take(30), redials.take(30)], [Some((2, 20)), Some((1, 30)), None]);
        let conn = ConnId { slot: 4, generation: 1 };
        redials.watch(30, 1, conn);
        assert_eq!((redials.overdue(31), redials.next_ns()), (None, Some(30 + HANDSHAKE_NS)));
        assert_eq!(redials.overdue(30 + HANDSHAKE_NS), Some((1, conn)));
        redials.add(40, 1);
        redials.stop();
        redials.add(50, 1);
        assert!(redials.is_empty() && redials.is_stopped());
    }
}
