//! Rooms: some clients write, everybody else in their room receives each message once. GoChat's world room, its groups, its
//! single chats as rooms of two, or any server that sends every message to all.

use std::collections::BTreeMap;
use std::rc::Rc;

use gochat_ws::Opcode;

use super::frames::{Data, Frame, write_send};
use crate::audience::Reach;
use crate::contrast::Contrast;
use crate::driver::{Driver, Incoming, Place};
use crate::guests::Guests;
use crate::ledger::Delivery;
use crate::message::{KEY_DIGITS, Key, Pattern, parse_id, write_id};
use crate::outbound::{Outbound, State};
use crate::rooms::Rooms;
use crate::schedule::Load;
use crate::spread::Sizes;
use crate::timeline::Interval;
use crate::tokens::User;
use crate::traffic::{Measured, Traffic, Window};

/// The room that everybody may join.
pub(crate) const ROOM: &str = "world";
/// How long a sender waits after a refusal that says nothing about it.
const RETRY_NS: u64 = 100_000_000;

/// Conversations in which something went wrong that a report names.
const ROOMS_TOLD_MAX: usize = 8;

/// What the server speaks.
#[derive(Debug)]
pub(crate) enum Speech {
    /// GoChat: one user for each client, and the conversation of each room.
    Gochat { users: Rc<[User]>, rooms: Vec<String>, run: u32 },
    /// Every message goes to every connection, its sender too, as it is. A message begins with its key.
    Raw,
}

/// Bytes of a raw message at least.
pub(crate) const RAW_SIZE_MIN: usize = KEY_DIGITS;

/// What the scenario needs from its preparation.
#[derive(Debug)]
pub(crate) struct PublishSetup {
    pub(crate) speech: Speech,
    pub(crate) clients: u32,
    /// Clients of one room: neighbours; it divides `clients`.
    pub(crate) room_size: u32,
    /// The first so many of each room send.
    pub(crate) publishers: u32,
    pub(crate) load: Load,
    /// Characters of a message; raw: bytes, at least [`RAW_SIZE_MIN`].
    pub(crate) sizes: Sizes,
}

/// The `publish` and `group` scenarios, and each part of `mixed`.
#[derive(Debug)]
pub(crate) struct Publish {
    traffic: Traffic<Rooms>,
    pattern: Pattern,
    speech: Speech,
    payload: Vec<u8>,
    errors: BTreeMap<String, u64>,
    sent: u64,
    refused: u64,
    clients: u32,
    shared: Option<Shared>,
}

/// A room that clients of other agents are in too: keys name clients of all agents.
#[derive(Debug)]
struct Shared {
    first_client: u32,
    clients: u32,
    guests: Guests,
}

impl Publish {
    pub(crate) fn new(setup: PublishSetup) -> Publish {
        let (reach, key_bytes) = match setup.speech {
            Speech::Gochat { .. } => (Reach::OTHERS, 0),
            Speech::Raw => (Reach::ALL, KEY_DIGITS),
        };
        let (clients, room_size, publishers) = (setup.clients, setup.room_size, setup.publishers);
        let rooms = Rooms::new(reach, clients, room_size, publishers);
        Publish {
            traffic: Traffic::new(rooms, setup.load, Rooms::writers(clients, room_size, publishers)),
            pattern: Pattern::new(setup.sizes.less(key_bytes)),
            speech: setup.speech,
            payload: Vec::with_capacity(512),
            errors: BTreeMap::new(),
            sent: 0,
            refused: 0,
            clients,
            shared: None,
        }
    }

    /// The same with the room shared among agents, if it is.
    pub(crate) fn among(mut self, place: Place) -> Publish {
        let (first_client, clients) = (place.first_client, self.clients);
        self.shared = place.shared_run.map(|_| Shared { first_client, clients, guests: Guests::new(clients) });
        self
    }

    /// The same with the load set against itself.
    pub(crate) fn against(mut self, contrast: Contrast) -> Publish {
        self.traffic.contrast(contrast);
        self
    }

    pub(crate) fn finish(self) -> Measured {
        let remarks = self.errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
        let mut measured = self.traffic.finish(remarks);
        if let Speech::Gochat { rooms, .. } = &self.speech {
            let faults = rooms.iter().zip(&measured.each).filter_map(|(room, it)| Some((room, it.faults()?)));
            let told = faults.take(ROOMS_TOLD_MAX).map(|(room, faults)| format!("conversation {room}: {faults}"));
            measured.remarks.extend(told);
        }
        measured.errors = self.errors;
        measured.guests = self.shared.map(|shared| shared.guests.close());
        measured
    }

    /// Messages that everybody in the only room should have by now, but for those on their way.
    pub(super) fn for_everybody(&self) -> u64 {
        self.sent - self.refused
    }

    /// What arrived at a client that has no account here, if it is a message of this run.
    pub(super) fn delivery(&self, client: u32, message: Incoming<'_>) -> Option<Delivery> {
        let bytes = message.bytes();
        match self.speech {
            Speech::Gochat { run, .. } => {
                let frame = Frame::parse(bytes).filter(|frame| frame.is("new-message"))?;
                self.delivery_in(client, run, &frame.data)
            }
            Speech::Raw => self.delivery_of(client, bytes),
        }
    }

    /// Something arrived that should have been a message and cannot be read.
    pub(super) fn unreadable(&mut self, client: u32) {
        self.traffic.ledger.unreadable(client);
    }

    /// A frame of GoChat arrived. What is not about this run's messages is passed over.
    pub(super) fn heard(&mut self, out: &mut Outbound, client: u32, frame: &Frame<'_>, now_ns: u64) {
        let Speech::Gochat { run, .. } = self.speech else { return };
        match frame.kind() {
            "new-message" => self.arrived(client, run, &frame.data, now_ns),
            "message-ack" => self.acknowledged(out, client, run, &frame.data, now_ns),
            "error" => self.refused(client, run, &frame.data, now_ns),
            _ => {}
        }
    }

    fn send(&mut self, out: &mut Outbound, client: u32, intended_ns: u64, now_ns: u64) {
        if !out.is_ready(client) {
            return;
        }
        let key = self.traffic.sending(client, intended_ns, now_ns);
        self.sent += 1;
        let key = Key::new(self.first_client() + key.client(), key.number());
        self.payload.clear();
        match &self.speech {
            Speech::Gochat { run, rooms, .. } => {
                let room = rooms.get(self.traffic.ledger.room_of(client)).map_or(ROOM, String::as_str);
                write_send(room, self.pattern.content(key), |out| write_id(*run, key, out), &mut self.payload);
            }
            Speech::Raw => {
                self.payload.extend_from_slice(&key.digits());
                self.payload.extend_from_slice(self.pattern.content(key));
            }
        }
        out.frame(client, Opcode::Text, &self.payload);
    }

    fn acknowledged(&mut self, out: &mut Outbound, client: u32, run: u32, data: &Data<'_>, now_ns: u64) {
        let Some(key) = parse_id(run, data.client_msg_id.as_str()) else { return };
        let Some(key) = self.own(key) else { return };
        let Some(first) = self.traffic.ledger.acked(client, key, data.seq) else { return };
        self.traffic.acked(first, now_ns);
        if self.traffic.answered(client, now_ns) {
            self.send(out, client, now_ns, now_ns);
        }
    }

    fn arrived(&mut self, client: u32, run: u32, data: &Data<'_>, now_ns: u64) {
        // What others say in the room is not this run's business.
        if let Some(delivery) = self.delivery_in(client, run, data) {
            self.delivered(delivery, now_ns);
        }
    }

    /// The delivery that a frame of GoChat is.
    fn delivery_in(&self, client: u32, run: u32, data: &Data<'_>) -> Option<Delivery> {
        let key = parse_id(run, data.of_sender.as_str())?;
        let intact = data.content.as_str().as_bytes() == self.pattern.content(key);
        Some(Delivery { client, key, seq: Some(data.seq), intact, redelivered: data.redelivered })
    }

    /// The delivery that a raw message is.
    fn delivery_of(&self, client: u32, bytes: &[u8]) -> Option<Delivery> {
        let key = Key::parse(bytes)?;
        let intact = bytes.get(KEY_DIGITS..) == Some(self.pattern.content(key));
        Some(Delivery { client, key, seq: None, intact, redelivered: false })
    }

    /// The number that this agent's first client has among all agents' clients.
    fn first_client(&self) -> u32 {
        self.shared.as_ref().map_or(0, |shared| shared.first_client)
    }

    /// The key as this agent's account has it; `None` for a message that another agent sent.
    fn own(&self, key: Key) -> Option<Key> {
        let Some(shared) = &self.shared else { return Some(key) };
        let client = key.client().checked_sub(shared.first_client).filter(|client| *client < shared.clients)?;
        Some(Key::new(client, key.number()))
    }

    fn delivered(&mut self, delivery: Delivery, now_ns: u64) {
        let Some(key) = self.own(delivery.key) else {
            let first = self.shared.as_mut().is_some_and(|shared| shared.guests.delivered(delivery));
            return if first {
                self.traffic.delivered_of_others(now_ns)
            };
        };
        let Some(arrival) = self.traffic.ledger.delivered(Delivery { key, ..delivery }) else { return };
        self.traffic.delivered(arrival.sent, now_ns);
        if arrival.is_last {
            self.traffic.completed(arrival.sent.intended_ns, now_ns);
        }
    }

    /// A raw message: the order of sending is the only one there is, and of one sender only.
    fn arrived_raw(&mut self, out: &mut Outbound, client: u32, bytes: &[u8], now_ns: u64) {
        let Some(delivery) = self.delivery_of(client, bytes) else { return self.traffic.ledger.unreadable(client) };
        self.delivered(delivery, now_ns);
        if self.own(delivery.key).is_some_and(|key| key.client() == client) && self.traffic.answered(client, now_ns) {
            self.send(out, client, now_ns, now_ns);
        }
    }

    fn refused(&mut self, client: u32, run: u32, data: &Data<'_>, now_ns: u64) {
        let id = data.details.client_msg_id.as_str();
        let key = parse_id(run, id);
        if key.is_none() && !id.is_empty() {
            return;
        }
        let code = data.code.as_str();
        *self.errors.entry(format!("error {code}{}", super::hint(code))).or_default() += 1;
        if key.and_then(|key| self.own(key)).is_some_and(|key| self.traffic.ledger.refused(client, key)) {
            self.refused += 1;
            let wait_ns = u64::from(data.details.retry_after) * 1_000_000_000;
            self.traffic.pause(client, now_ns + wait_ns.max(RETRY_NS));
        }
    }
}

impl Driver for Publish {
    fn authorization(&self, client: u32) -> Option<String> {
        match &self.speech {
            Speech::Gochat { users, .. } => {
                users.get(client as usize).map(|user| format!("Bearer {}", user.access_token))
            }
            Speech::Raw => None,
        }
    }

    fn awaits_greeting(&self) -> bool {
        matches!(self.speech, Speech::Gochat { .. })
    }

    fn begin(&mut self, window: Window) {
        self.traffic.begin(window);
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        while let Some((client, intended_ns)) = self.traffic.take_due(now_ns) {
            self.send(out, client, intended_ns, now_ns);
        }
        self.traffic.next_due_ns()
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        if matches!(self.speech, Speech::Raw) {
            return self.arrived_raw(out, client, message.bytes(), now_ns);
        }
        let Some(frame) = Frame::parse(message.bytes()) else { return self.unreadable(client) };
        match frame.kind() {
            "connected" if out.state(client) == State::Greeting => out.set_state(client, State::Ready),
            _ => self.heard(out, client, &frame, now_ns),
        }
    }

    fn end(&mut self) {
        self.traffic.end();
    }

    fn interval(&mut self) -> Interval {
        self.traffic.interval()
    }

    fn outstanding(&self) -> u64 {
        self.traffic.ledger.unfinished()
    }

    fn sent_to_others(&self) -> u64 {
        self.sent
    }

    fn missing_of_others(&self, messages: u64) -> u64 {
        let missing = |shared: &Shared| shared.guests.expected(messages).saturating_sub(shared.guests.arrived());
        self.shared.as_ref().map_or(0, missing)
    }
}
