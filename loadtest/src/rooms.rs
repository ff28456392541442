//! The account of several rooms of one size: clients 0 to `size - 1` are in the first, the next `size` in the second, and so
//! on. Owns which client is in which room; what happens inside one is its [`Audience`]'s.

use crate::audience::{Arrival, Audience, Reach};
use crate::ledger::{Delivery, Messages, Sent};
use crate::message::Key;
use crate::traffic::Account;

/// The account of all rooms.
#[derive(Debug)]
pub(crate) struct Rooms {
    size: u32,
    rooms: Vec<Audience>,
}

impl Rooms {
    /// `clients` in rooms of `size`, which divides them; the first `writers` of each room send.
    pub(crate) fn new(reach: Reach, clients: u32, size: u32, writers: u32) -> Rooms {
        let size = size.max(1);
        let rooms = (0..clients / size).map(|_| Audience::new(reach, size, writers)).collect();
        Rooms { size, rooms }
    }

    /// The clients that send, neighbours in this list in different rooms.
    pub(crate) fn writers(clients: u32, size: u32, writers: u32) -> Vec<u32> {
        let size = size.max(1);
        (0..writers).flat_map(|at| (0..clients / size).map(move |room| room * size + at)).collect()
    }

    /// The number of a client's room.
    pub(crate) fn room_of(&self, client: u32) -> usize {
        (client / self.size) as usize
    }

    /// An acknowledgement reached `client`. `Some` when it is the first of its message.
    pub(crate) fn acked(&mut self, client: u32, key: Key, seq: impl Into<Option<u32>>) -> Option<Sent> {
        let (room, key) = self.inside(client, key)?;
        room.acked(key.0, key.1, seq)
    }

    /// The server refused a message of `client`. Whether it was open.
    pub(crate) fn refused(&mut self, client: u32, key: Key) -> bool {
        self.inside(client, key).is_some_and(|(room, key)| room.refused(key.0, key.1))
    }

    /// A message was delivered. `Some` when it is this client's first delivery of it, intact.
    pub(crate) fn delivered(&mut self, delivery: Delivery) -> Option<Arrival> {
        let (room, (client, key)) = self.inside(delivery.client, delivery.key)?;
        room.delivered(Delivery { client, key, ..delivery })
    }

    /// Something arrived at `client` that should have been a message and cannot be read.
    pub(crate) fn unreadable(&mut self, client: u32) {
        let at = self.room_of(client);
        if let Some(room) = self.rooms.get_mut(at) {
            room.unreadable();
        }
    }

    /// Messages sent that somebody still misses, or that were not answered.
    pub(crate) fn unfinished(&self) -> u64 {
        self.rooms.iter().map(Audience::unfinished).sum()
    }

    /// The room of `client`, and client and key as that room counts; `None` when the key is of another room, which
    /// counts against the room that it reached.
    fn inside(&mut self, client: u32, key: Key) -> Option<(&mut Audience, (u32, Key))> {
        let room = self.rooms.get_mut((client / self.size) as usize)?;
        if client / self.size != key.client() / self.size {
            room.foreign();
            return None;
        }
        Some((room, (client % self.size, Key::new(key.client() % self.size, key.number()))))
    }
}

impl Account for Rooms {
    fn send(&mut self, client: u32, sent: Sent) -> Key {
        let size = self.size;
        let number = self.rooms.get_mut((client / size) as usize).map(|room| room.send(client % size, sent));
        Key::new(client, number.map_or(0, Key::number))
    }

    fn close(self) -> Vec<Messages> {
        self.rooms.into_iter().map(Audience::close).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn deliver(rooms: &mut Rooms, client: u32, key: Key, seq: u32) -> Option<bool> {
        let delivery = Delivery { client, key, seq: Some(seq), intact: true, redelivered: false };
        rooms.delivered(delivery).map(|arrival| arrival.is_last)
    }

    #[test]
    fn each_room_keeps_its_own_numbers_and_order() {
        let mut rooms = Rooms::new(Reach::OTHERS, 6, 3, 3);
        assert_eq!(Rooms::writers(6, 3, 2), [0, 3, 1, 4]);
        let (a, b) = (rooms.send(1, 5.into()), rooms.send(4, 6.into()));
        assert_eq!([a.client(), b.client(), a.number() as u32, b.number() as u32], [1, 4, 0, 0]);
        assert_eq!(rooms.acked(1, a, 9).map(|first| first.intended_ns), Some(5));
        assert_eq!(rooms.acked(4, b, 1).map(|first| first.intended_ns), Some(6));
        assert_eq!([deliver(&mut rooms, 0, a, 9), deliver(&mut rooms, 2, a, 9)], [Some(false), Some(true)]);
        assert_eq!([deliver(&mut rooms, 3, b, 1), deliver(&mut rooms, 5, b, 1)], [Some(false), Some(true)]);
        assert_eq!(rooms.unfinished(), 0);
        assert_eq!(rooms.close(), [Messages { sent: 1, acked: 1, delivered: 2, ..Messages::default() }; 2]);
    }

    #[test]
    fn what_crosses_rooms_or_is_missing_is_counted() {
        let mut rooms = Rooms::new(Reach::OTHERS, 6, 3, 3);
        let key = rooms.send(0, 0.into());
        rooms.acked(0, key, 1).unwrap();
        assert_eq!(deliver(&mut rooms, 4, key, 1), None, "to another room");
        assert_eq!(deliver(&mut rooms, 1, key, 1), Some(false));
        assert_eq!(deliver(&mut rooms, 1, key, 1), None, "twice");
        let refused = rooms.send(5, 0.into());
        assert!(!rooms.refused(1, refused) && rooms.refused(5, refused));
        let first =
            Messages { sent: 1, acked: 1, delivered: 1, lost: 1, duplicated: 1, foreign: 1, ..Messages::default() };
        let second = Messages { sent: 1, refused: 1, foreign: 1, ..Messages::default() };
        assert_eq!(rooms.close(), [first, second]);
    }
}
