//! Which conversations have a room on this gateway, how far each room's membership is known, and what waits until it is
//! (pipeline.md F2). Pure: no calls, no clocks. A frame for a room leaves only under a membership at least as new as the
//! one it was made under; of one conversation nothing overtakes anything.

use std::collections::{HashMap, VecDeque};

use gochat_proto::bus::v1::RoomChange;
use gochat_proto::ids::{Address, WORLD};
use gochat_proto::rooms::MEMBERS_WITHOUT_ROOM;

use crate::bridge::{FrameClass, OutFrame, RoomKey};

/// Rooms known at once; beyond it one that is idle gives way and is fetched again when it is needed.
const ROOMS_MAX: usize = 262_144;
/// Entries that wait for the membership of one room.
const WAITING_MAX: usize = 4_096;
/// Bytes that wait for the membership of all rooms.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Fetches in a row that may bring a membership older than what waits for it.
const ROUNDS_MAX: u32 = 5;

/// Shards that have members of a room, or had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet([u64; 4]);

impl ShardSet {
    fn add(&mut self, shard: u8) {
        self.0[usize::from(shard) / 64] |= 1 << (shard % 64);
    }

    pub(crate) fn contains(self, shard: usize) -> bool {
        self.0.get(shard / 64).is_some_and(|bits| bits >> (shard % 64) & 1 == 1)
    }
}

/// What is to happen in a conversation, in the order of its records.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A frame for its room.
    Frame {
        /// Of the membership it was made under; 0 is not compared.
        version: i64,
        exclude: Address,
        frame: OutFrame,
    },
    /// A frame for connections that were named.
    Direct { addresses: Vec<u64>, frame: OutFrame },
    /// The membership changes.
    Change(RoomChange),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Frame { frame, .. } => frame.wire.len(),
            Entry::Direct { frame, addresses } => frame.wire.len() + 8 * addresses.len(),
            Entry::Change(change) => 8 * (change.joined.len() + change.left.len()) + 64,
        }
    }
}

/// What shards are to be told, in order.
#[derive(Debug)]
pub(crate) enum Out {
    Join(RoomKey, Address),
    Leave(RoomKey, i64, ShardSet),
    /// Every shard is told its part.
    Reset(RoomKey, Vec<Address>),
    Drop(RoomKey, ShardSet),
    Frame(RoomKey, Address, OutFrame, ShardSet),
    Direct(Vec<u64>, OutFrame),
    /// Frames for this room were lost.
    Hint(RoomKey, Box<str>, ShardSet),
}

/// A room's membership as repo has it.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) version: i64,
    pub(crate) member_count: i32,
    pub(crate) addresses: Vec<Address>,
    pub(crate) exists: bool,
}

#[derive(Debug)]
enum State {
    /// The world room.
    World,
    /// Known by name only; whatever shards hold of it is not used.
    Unfetched,
    /// Complete as of this version.
    Complete(i64),
    /// Being fetched; connections that were registered meanwhile, with the version they were registered under.
    Fetching(Vec<(Address, i64)>),
}

#[derive(Debug)]
struct Room {
    key: RoomKey,
    state: State,
    shards: ShardSet,
    waiting: VecDeque<Entry>,
    /// Frames were dropped that its members are to be told about.
    has_lost: bool,
    /// Fetches in a row without everything that waited having left.
    rounds: u32,
}

/// All rooms of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: HashMap<Box<str>, Room>,
    keys: u32,
    wanted: VecDeque<Box<str>>,
    waiting_bytes: usize,
    /// Frames dropped since the last look.
    lost: u64,
}

impl Rooms {
    /// The next room to fetch, with the number of fetches before it that brought too old a membership.
    pub(crate) fn next_wanted(&mut self) -> Option<(Box<str>, u32)> {
        let conversation = self.wanted.pop_front()?;
        let rounds = self.rooms.get(&conversation).map_or(0, |room| room.rounds);
        Some((conversation, rounds))
    }

    /// Frames that were dropped since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Rooms known.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Every room with its version, 0 where there is none: what is reconciled.
    pub(crate) fn versions(&self) -> Vec<(Box<str>, i64)> {
        let version = |room: &Room| if let State::Complete(version) = room.state { version } else { 0 };
        self.rooms.iter().map(|(conversation, room)| (conversation.clone(), version(room))).collect()
    }

    /// A connection was registered whose user belongs to a conversation, as of this version.
    pub(crate) fn registered(&mut self, conversation: &str, version: i64, address: Address, outs: &mut Vec<Out>) {
        let room = self.room(conversation, outs);
        match &mut room.state {
            State::Fetching(joined) => return joined.push((address, version)),
            // It is fetched with all others when it is needed.
            State::Unfetched => return,
            State::World => {}
            State::Complete(own) if *own == version => {}
            // Registered under another membership than the one known here: which of the two says more about this user
            // cannot be told from here.
            State::Complete(_) => return room.state = State::Unfetched,
        }
        room.shards.add(address.shard());
        outs.push(Out::Join(room.key, address));
    }

    /// The next entry of a conversation.
    pub(crate) fn take(&mut self, conversation: &str, entry: Entry, outs: &mut Vec<Out>) {
        match entry {
            Entry::Direct { addresses, frame } => self.direct(conversation, addresses, frame, outs),
            Entry::Change(change) => self.change(conversation, change, outs),
            Entry::Frame { version, exclude, frame } => {
                let room = self.room(conversation, outs);
                let is_known = match room.state {
                    State::World => true,
                    State::Complete(own) => version <= own,
                    State::Unfetched | State::Fetching(_) => false,
                };
                if is_known {
                    outs.push(Out::Frame(room.key, exclude, frame, room.shards));
                } else if frame.class != FrameClass::Ephemeral {
                    // What is of the moment only is not worth waiting for.
                    self.hold(conversation, Entry::Frame { version, exclude, frame });
                }
            }
        }
    }

    /// The answer to a fetch; everything that waited for it goes on.
    pub(crate) fn fetched(&mut self, conversation: &str, fetched: Fetched, outs: &mut Vec<Out>) {
        let Some(room) = self.rooms.get_mut(conversation) else { return };
        let State::Fetching(joined) = &mut room.state else { return };
        let joined = std::mem::take(joined);
        if !fetched.exists {
            return self.forget(conversation, outs);
        }
        let waiting = std::mem::take(&mut room.waiting);
        self.waiting_bytes -= waiting.iter().map(Entry::bytes).sum::<usize>();
        let version = fetched.version;
        let mut addresses = fetched.addresses;
        // Repo registers before it reads what a user belongs to: who was registered under this version or a later one may
        // have come behind the fetch, who was under an earlier one stands in its answer or does not belong any more.
        addresses.extend(joined.iter().filter(|(_, at)| *at >= version).map(|(address, _)| *address));
        addresses.sort_unstable();
        addresses.dedup();
        room.shards = ShardSet::default();
        addresses.iter().for_each(|address| room.shards.add(address.shard()));
        room.state = State::Complete(version);
        outs.push(Out::Reset(room.key, addresses));
        for entry in waiting {
            self.take(conversation, entry, outs);
        }
        let Some(room) = self.rooms.get_mut(conversation) else { return };
        let State::Complete(own) = room.state else { return };
        room.rounds = 0;
        if std::mem::take(&mut room.has_lost) {
            outs.push(Out::Hint(room.key, conversation.into(), room.shards));
        }
        if joined.iter().any(|(_, at)| *at > own) {
            room.state = State::Unfetched;
        }
        if fetched.member_count <= MEMBERS_WITHOUT_ROOM && own == version {
            self.forget(conversation, outs);
        }
    }

    /// Repo knows another membership than `version`, which was complete here.
    pub(crate) fn outdated(&mut self, conversation: &str, version: i64) {
        let Some(room) = self.rooms.get_mut(conversation) else { return };
        if matches!(room.state, State::Complete(own) if own == version) {
            room.state = State::Fetching(Vec::new());
            self.wanted.push_back(conversation.into());
        }
    }

    fn direct(&mut self, conversation: &str, addresses: Vec<u64>, frame: OutFrame, outs: &mut Vec<Out>) {
        let waits = self.rooms.get(conversation).is_some_and(|room| !room.waiting.is_empty());
        if waits {
            self.hold(conversation, Entry::Direct { addresses, frame });
        } else {
            outs.push(Out::Direct(addresses, frame));
        }
    }

    fn change(&mut self, conversation: &str, change: RoomChange, outs: &mut Vec<Out>) {
        if change.dissolved {
            return self.forget(conversation, outs);
        }
        let is_small = change.member_count <= MEMBERS_WITHOUT_ROOM && conversation != WORLD;
        if is_small && !self.rooms.contains_key(conversation) {
            return;
        }
        let room = self.room(conversation, outs);
        match room.state {
            State::World => {}
            State::Fetching(_) => return self.hold(conversation, Entry::Change(change)),
            State::Unfetched if is_small => return self.forget(conversation, outs),
            State::Unfetched => return,
            State::Complete(own) if change.version <= own => return,
            State::Complete(own) if change.version == own + 1 => room.state = State::Complete(change.version),
            State::Complete(_) => return room.state = State::Unfetched,
        }
        for user_id in change.left {
            outs.push(Out::Leave(room.key, user_id, room.shards));
        }
        for address in change.joined.into_iter().map(Address) {
            room.shards.add(address.shard());
            outs.push(Out::Join(room.key, address));
        }
        if is_small {
            self.forget(conversation, outs);
        }
    }

    /// Keeps an entry until the room is fetched, which begins here when it has not.
    fn hold(&mut self, conversation: &str, entry: Entry) {
        let Some(room) = self.rooms.get_mut(conversation) else { return };
        let bytes = entry.bytes();
        let is_full = room.waiting.len() >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_BYTES_MAX;
        let begins = matches!(room.state, State::Unfetched | State::Complete(_)) && room.rounds < ROUNDS_MAX;
        if begins {
            room.state = State::Fetching(Vec::new());
            room.rounds += 1;
            self.wanted.push_back(conversation.into());
        }
        if !is_full && matches!(room.state, State::Fetching(_)) {
            self.waiting_bytes += bytes;
            room.waiting.push_back(entry);
        } else if !matches!(entry, Entry::Change(_)) {
            // A change that is lost shows as a gap in versions; a lost frame does not show unless it is told.
            self.lost += 1;
            room.has_lost = true;
        }
    }

    fn room(&mut self, conversation: &str, outs: &mut Vec<Out>) -> &mut Room {
        if self.rooms.len() >= ROOMS_MAX && !self.rooms.contains_key(conversation) {
            self.give_way(outs);
        }
        let keys = &mut self.keys;
        self.rooms.entry(conversation.into()).or_insert_with(|| {
            // Every registration belongs to it: complete by construction, without versions.
            let state = if conversation == WORLD { State::World } else { State::Unfetched };
            *keys = keys.wrapping_add(1);
            let (shards, waiting) = Default::default();
            Room { key: RoomKey(*keys), state, shards, waiting, has_lost: false, rounds: 0 }
        })
    }

    /// Forgets some room that is not in use at the moment.
    fn give_way(&mut self, outs: &mut Vec<Out>) {
        let is_idle = |room: &Room| matches!(room.state, State::Unfetched | State::Complete(_));
        let idle = self.rooms.iter().find(|(_, room)| is_idle(room)).map(|(conversation, _)| conversation.clone());
        if let Some(conversation) = idle {
            self.forget(&conversation, outs);
        }
    }

    /// Frames for its members that still waited are lost: nobody can say who they were.
    fn forget(&mut self, conversation: &str, outs: &mut Vec<Out>) {
        let Some(room) = self.rooms.remove(conversation) else { return };
        outs.push(Out::Drop(room.key, room.shards));
        for entry in room.waiting {
            self.waiting_bytes -= entry.bytes();
            match entry {
                Entry::Direct { addresses, frame } => outs.push(Out::Direct(addresses, frame)),
                Entry::Frame { .. } => self.lost += 1,
                Entry::Change(_) => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "rooms_tests.rs"]
mod tests;
