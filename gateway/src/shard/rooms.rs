//! Rooms of one shard: frames for a whole room, given to its members slice by slice in the order they came, and changes
//! of membership between them. Never decides who belongs to a room: control does.

use std::collections::{HashMap, VecDeque};

use gochat_proto::ids::Address;
use gochat_ring::ConnId;

use super::members::Members;
use super::session::Session;
use super::users::{Users, conn_id};
use crate::bridge::{OutFrame, RoomKey};
use crate::engine::Io;
use crate::limits::{ROOM_BYTES_PER_PASS, ROOM_FRAMES_PER_PASS, ROOM_TARGETS_PER_TICK};

/// What is done to a room, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// Everybody but one gets this.
    Frame(Option<ConnId>, OutFrame),
    /// A connection comes.
    Join(ConnId),
    /// A user goes.
    Leave(i64),
    /// These are the members.
    Reset(Box<[Address]>),
    /// The room is forgotten.
    Drop,
}

/// A walk over the members with the frames that stand first.
#[derive(Clone, Copy, Debug)]
struct Pass {
    frames: usize,
    place: usize,
}

#[derive(Debug, Default)]
struct Room {
    members: Members,
    /// Empty, or a frame stands first.
    waiting: VecDeque<Step>,
    pass: Option<Pass>,
}

/// All rooms of a shard.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: HashMap<RoomKey, Room>,
    /// Rooms with frames that wait, each once.
    active: VecDeque<RoomKey>,
    waiting: usize,
    /// Members that may still be given frames in this tick without waiting for their turn.
    at_once: usize,
}

impl Rooms {
    /// Steps that wait, of all rooms.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a step: a change at once when nothing waits before it. Answers whether the room is to be finished now: it is
    /// small, and frames for its members may come by another way behind this one.
    pub(super) fn step(&mut self, key: RoomKey, step: Step, users: &Users) -> bool {
        let room = match &step {
            Step::Join(_) | Step::Reset(_) => self.rooms.entry(key).or_default(),
            Step::Frame(..) | Step::Leave(_) | Step::Drop => match self.rooms.get_mut(&key) {
                Some(room) => room,
                None => return false,
            },
        };
        if room.waiting.is_empty() && !matches!(step, Step::Frame(..)) {
            room.apply(step, users);
            if room.is_over() {
                self.rooms.remove(&key);
            }
            return false;
        }
        let finish = if room.waiting.is_empty() {
            // A few frames a tick at most, however small the room: its members' queues have to drain in between.
            let cost = room.members.len().max(ROOM_TARGETS_PER_TICK / ROOM_FRAMES_PER_PASS);
            let has_turn = self.active.is_empty() && cost <= self.at_once;
            self.at_once -= if has_turn { cost } else { 0 };
            self.active.push_back(key);
            has_turn
        } else {
            let is_small = room.waiting.len() <= ROOM_FRAMES_PER_PASS && room.members.len() <= ROOM_TARGETS_PER_TICK;
            is_small && matches!(step, Step::Drop)
        };
        room.waiting.push_back(step);
        self.waiting += 1;
        finish
    }
}

/// What rooms need to give frames to members.
pub(super) struct Hands<'h, G> {
    pub(super) io: &'h mut Io<Session>,
    pub(super) users: &'h Users,
    /// Gives one frame to one open connection.
    pub(super) give: G,
}

impl Rooms {
    /// Goes on with every room that has frames, as far as one tick allows; answers whether there is more to do.
    pub(super) fn fan_out<G>(&mut self, hands: &mut Hands<'_, G>) -> bool
    where
        G: FnMut(&mut Io<Session>, ConnId, &OutFrame),
    {
        let mut budget = ROOM_TARGETS_PER_TICK;
        // Each room once: what it got has to leave before its members are given more.
        for _ in 0..self.active.len() {
            if budget == 0 {
                break;
            }
            let Some(key) = self.active.pop_front() else { break };
            let Some(room) = self.rooms.get_mut(&key) else { continue };
            let before = room.waiting.len();
            room.slice(hands, &mut budget);
            self.waiting -= before - room.waiting.len();
            match (room.waiting.is_empty(), room.is_over()) {
                (false, _) => self.active.push_back(key),
                (true, true) => drop(self.rooms.remove(&key)),
                (true, false) => {}
            }
        }
        self.at_once = ROOM_TARGETS_PER_TICK;
        !self.active.is_empty()
    }

    /// Brings everything that waits for one room to an end.
    pub(super) fn finish<G>(&mut self, key: RoomKey, hands: &mut Hands<'_, G>)
    where
        G: FnMut(&mut Io<Session>, ConnId, &OutFrame),
    {
        let Some(room) = self.rooms.get_mut(&key) else { return };
        self.waiting -= room.waiting.len();
        let mut budget = usize::MAX;
        while !room.waiting.is_empty() {
            room.slice(hands, &mut budget);
        }
        if room.is_over() {
            self.rooms.remove(&key);
        }
        self.active.retain(|active| *active != key);
    }
}

impl Room {
    /// Nobody is in it and nothing waits: it is made anew when somebody comes.
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.members.len() == 0
    }

    fn apply(&mut self, step: Step, users: &Users) {
        match step {
            Step::Frame(..) => {}
            Step::Join(id) => self.members.insert(id),
            Step::Leave(user_id) => users.of(user_id).for_each(|id| self.members.remove(id)),
            Step::Reset(addresses) => self.members.reset(addresses.iter().map(|address| conn_id(*address))),
            Step::Drop => self.members = Members::default(),
        }
    }

    /// Gives the frames that stand first to the next members, at most `budget` of them; behind the last member come the
    /// changes up to the next frame.
    fn slice<G>(&mut self, hands: &mut Hands<'_, G>, budget: &mut usize)
    where
        G: FnMut(&mut Io<Session>, ConnId, &OutFrame),
    {
        let mut pass = self.pass.take().unwrap_or_else(|| Pass { frames: self.frames_of_a_pass(), place: 0 });
        while pass.place < self.members.places() && *budget > 0 {
            let place = pass.place;
            pass.place += 1;
            let Some(id) = self.members.at(place) else { continue };
            *budget -= 1;
            if !hands.io.is_open(id) {
                self.members.drop_at(place);
                continue;
            }
            for step in self.waiting.range(..pass.frames) {
                if let Step::Frame(exclude, frame) = step
                    && *exclude != Some(id)
                {
                    (hands.give)(hands.io, id, frame);
                }
            }
        }
        if pass.place < self.members.places() {
            self.pass = Some(pass);
            return;
        }
        self.waiting.drain(..pass.frames);
        while let Some(step) = self.waiting.pop_front_if(|step| !matches!(step, Step::Frame(..))) {
            self.apply(step, hands.users);
        }
        self.members.tidy();
        if self.waiting.is_empty() && self.waiting.capacity() > 2 * ROOM_FRAMES_PER_PASS {
            self.waiting = VecDeque::new();
        }
    }

    fn frames_of_a_pass(&self) -> usize {
        let mut bytes = 0;
        let fits = |step: &&Step| match step {
            Step::Frame(_, frame) => {
                bytes += frame.wire.len();
                bytes <= ROOM_BYTES_PER_PASS || bytes == frame.wire.len()
            }
            Step::Join(_) | Step::Leave(_) | Step::Reset(_) | Step::Drop => false,
        };
        self.waiting.iter().take(ROOM_FRAMES_PER_PASS).take_while(fits).count()
    }
}
