//! Clients of a described protocol: the handshake, answers, heartbeats, messages and what comes back. Owns the progress of
//! connections; what bytes mean is the [`Script`]'s, what became of messages the account's.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use gochat_ws::Opcode;

use crate::audience::{Arrival, Reach};
use crate::driver::{Driver, Incoming, UpgradeRequest};
use crate::error::LoadError;
use crate::ledger::{Delivery, Ledger, Route, Sent};
use crate::message::{ID_BYTES, Key, NUMBERS_MAX, Pattern, parse_id};
use crate::outbound::{Outbound, State};
use crate::profile::Profile;
use crate::rooms::Rooms;
use crate::schedule::{ArrivalProcess, Arrivals, Load};
use crate::script::{Found, Meaning, Message, MessageParts, Script};
use crate::spread::Sizes;
use crate::timeline::Interval;
use crate::traffic::{Account, Measured, Traffic, Window};

/// How long a sender waits after a refusal.
const RETRY_NS: u64 = 100_000_000;
/// Different refusals told apart in a report.
const ERRORS_MAX: usize = 16;
/// Characters of a refusal's code in a report.
const CODE_CHARS: usize = 100;

/// An account that a described protocol can fill.
pub(crate) trait Book: Account {
    fn acked(&mut self, client: u32, key: Key, sequence: Option<u32>) -> Option<Sent>;
    fn refused(&mut self, client: u32, key: Key) -> bool;
    fn delivered(&mut self, delivery: Delivery) -> Option<Arrival>;
    fn unreadable(&mut self, client: u32);
    fn unfinished(&self) -> u64;
}

impl Book for Ledger {
    fn acked(&mut self, client: u32, key: Key, sequence: Option<u32>) -> Option<Sent> {
        Ledger::acked(self, client, key, sequence)
    }

    fn refused(&mut self, client: u32, key: Key) -> bool {
        Ledger::refused(self, client, key)
    }

    fn delivered(&mut self, delivery: Delivery) -> Option<Arrival> {
        let first = Ledger::delivered(self, delivery)?;
        Some(Arrival { sent: first, is_last: false })
    }

    fn unreadable(&mut self, _client: u32) {
        Ledger::unreadable(self);
    }

    fn unfinished(&self) -> u64 {
        Ledger::unfinished(self)
    }
}

impl Book for Rooms {
    fn acked(&mut self, client: u32, key: Key, sequence: Option<u32>) -> Option<Sent> {
        Rooms::acked(self, client, key, sequence)
    }

    fn refused(&mut self, client: u32, key: Key) -> bool {
        Rooms::refused(self, client, key)
    }

    fn delivered(&mut self, delivery: Delivery) -> Option<Arrival> {
        Rooms::delivered(self, delivery)
    }

    fn unreadable(&mut self, client: u32) {
        Rooms::unreadable(self, client);
    }

    fn unfinished(&self) -> u64 {
        Rooms::unfinished(self)
    }
}

/// What the scenario needs from its preparation.
#[derive(Debug)]
pub(crate) struct ScriptedSetup {
    pub(crate) script: Script,
    pub(crate) clients: u32,
    pub(crate) load: Load,
    /// Bytes of a message's content.
    pub(crate) sizes: Sizes,
    /// Tells this run's messages from others'.
    pub(crate) run: u32,
}

/// The scenarios of a described protocol.
#[derive(Debug)]
pub(crate) struct Scripted<A> {
    script: Script,
    talk: Talk<A>,
    clients: u32,
    /// Times of heartbeats, spread evenly over the connections.
    heartbeats: Option<Arrivals>,
}

/// What is known of the conversation while it goes on.
#[derive(Debug)]
struct Talk<A> {
    traffic: Traffic<A>,
    pattern: Pattern,
    run: u32,
    /// Every sender receives its own messages and nobody else's.
    is_echo: bool,
    opcode: Opcode,
    /// The step that each connection waits in; empty when there is one step at most.
    steps: Vec<u8>,
    payload: Vec<u8>,
    errors: BTreeMap<String, u64>,
    /// Messages that the description says nothing about: how many, and the first.
    strange: (u64, String),
    /// Microseconds from 1970 to the beginning of the run's clock.
    epoch_us: u64,
}

impl Scripted<Ledger> {
    /// Every client sends and gets its own messages back.
    pub(crate) fn echo(setup: ScriptedSetup) -> Scripted<Ledger> {
        let clients = setup.clients;
        let traffic = Traffic::new(Ledger::new(Route::Echo, clients), setup.load.clone(), (0..clients).collect());
        Scripted::new(setup, traffic, true)
    }

    /// Nobody sends messages.
    pub(crate) fn idle(setup: ScriptedSetup) -> Scripted<Ledger> {
        let traffic = Traffic::new(Ledger::new(Route::Echo, 0), setup.load.clone(), Vec::new());
        Scripted::new(setup, traffic, true)
    }
}

impl Scripted<Rooms> {
    /// All clients are in one room; the first `publishers` send.
    pub(crate) fn publish(setup: ScriptedSetup, publishers: u32) -> Scripted<Rooms> {
        let (clients, script) = (setup.clients, &setup.script);
        let (sender, acked, numbered) = (script.sender_receives(), script.acknowledges(), script.is_numbered());
        let rooms = Rooms::new(Reach { sender, acked, numbered }, clients, clients, publishers);
        let traffic = Traffic::new(rooms, setup.load.clone(), Rooms::writers(clients, clients, publishers));
        Scripted::new(setup, traffic, false)
    }
}

impl<A: Book> Scripted<A> {
    fn new(setup: ScriptedSetup, traffic: Traffic<A>, is_echo: bool) -> Scripted<A> {
        let waits = setup.script.steps() > 1 && waits(&setup.script);
        Scripted {
            talk: Talk {
                traffic,
                pattern: Pattern::new(setup.sizes),
                run: setup.run,
                is_echo,
                opcode: if setup.script.is_binary() { Opcode::Binary } else { Opcode::Text },
                steps: vec![0; if waits { setup.clients as usize } else { 0 }],
                payload: Vec::with_capacity(512),
                errors: BTreeMap::new(),
                strange: (0, String::new()),
                epoch_us: 0,
            },
            script: setup.script,
            clients: setup.clients,
            heartbeats: None,
        }
    }

    pub(crate) fn finish(self) -> Measured {
        let acknowledges = self.script.acknowledges();
        let remarks = self.talk.errors.into_iter().map(|(error, count)| format!("{count} × {error}")).collect();
        let mut measured = self.talk.traffic.finish(remarks);
        let (count, first) = self.talk.strange;
        let nothing = measured.messages.delivered == 0 || (acknowledges && measured.messages.acked == 0);
        if nothing && count > 0 {
            measured
                .remarks
                .push(format!("{count} incoming messages match nothing in the description, such as {first}"));
        }
        measured
    }

    /// Adds what the server said instead to an error of a run in which no connection became ready.
    pub(crate) fn explain(&self, error: LoadError) -> LoadError {
        match (error, &self.talk.strange) {
            (LoadError::Unreachable { target, why }, (1.., first)) => LoadError::Refused {
                target,
                why: format!("{why}; no step of the description expects what the server said: {first}"),
            },
            (error, _) => error,
        }
    }
}

/// The beginning of an error's code.
fn shown(code: Found<'_>) -> String {
    code.written().chars().take(CODE_CHARS).collect()
}

/// Whether any step of the handshake waits for a message.
fn waits(script: &Script) -> bool {
    (0..script.steps()).any(|step| script.step_waits(step))
}

impl<A: Book> Talk<A> {
    /// Sends what the handshake sends from step `from` on, up to one that waits.
    fn greet(&mut self, script: &Script, out: &mut Outbound, client: u32, from: usize) {
        for step in from..script.steps() {
            self.payload.clear();
            if script.write_step(step, client, &mut self.payload) {
                out.frame(client, self.opcode, &self.payload);
            }
            if script.step_waits(step) {
                if let Some(place) = self.steps.get_mut(client as usize) {
                    *place = u8::try_from(step).unwrap_or(u8::MAX);
                }
                return;
            }
        }
        out.set_state(client, State::Ready);
    }

    fn send(&mut self, script: &Script, out: &mut Outbound, client: u32, intended_ns: u64, now_ns: u64) {
        if !out.is_ready(client) {
            return;
        }
        let key = self.traffic.sending(client, intended_ns, now_ns);
        let parts = MessageParts {
            run: self.run,
            key,
            number: script.number_from() + key.number(),
            content: self.pattern.content(key),
            intended_us: self.epoch_us + intended_ns / 1000,
        };
        self.payload.clear();
        script.write_message(parts, &mut self.payload);
        out.frame(client, self.opcode, &self.payload);
    }

    fn heard(&mut self, script: &Script, out: &mut Outbound, client: u32, message: &Message<'_>, now_ns: u64) {
        let meaning = script.meaning(message);
        if out.state(client) == State::Greeting {
            if let Meaning::Refusal { code, .. } = meaning {
                return out.end_this(format!("the server refused the handshake: error {}", shown(code)));
            }
            let step = self.steps.get(client as usize).map_or_else(|| first_wait(script), |step| usize::from(*step));
            if script.step_expects(step, message) {
                return self.greet(script, out, client, step + 1);
            }
        }
        self.payload.clear();
        if script.write_answer(message, client, &mut self.payload) {
            return out.frame(client, self.opcode, &self.payload);
        }
        match meaning {
            Meaning::Refusal { id, code } => self.refused(script, client, id, code, now_ns),
            Meaning::Acknowledgement { id, sequence } => {
                let key = self.own_key(script, client, id);
                let Some(first) = key.and_then(|key| self.traffic.ledger.acked(client, key, sequence)) else { return };
                self.traffic.acked(first, now_ns);
                self.answered(script, out, client, now_ns);
            }
            Meaning::Delivery { id, content, sequence, redelivered } => {
                let key = if self.is_echo { self.own_key(script, client, id) } else { self.key(id) };
                let Some(key) = key else {
                    // An id of another run is not this run's business.
                    if id == Found::Absent {
                        self.traffic.ledger.unreadable(client);
                    }
                    return;
                };
                let intact = self.is_intact(key, content);
                let delivery = Delivery { client, key, seq: sequence, intact, redelivered };
                let was_new = self.delivered(delivery, now_ns) || !intact;
                let is_answer = self.is_echo || (key.client() == client && !script.acknowledges());
                if was_new && is_answer {
                    self.answered(script, out, client, now_ns);
                }
            }
            Meaning::Nothing => self.wonder(message),
        }
    }

    fn wonder(&mut self, message: &Message<'_>) {
        if self.strange.0 == 0 {
            self.strange.1 = message.shown();
        }
        self.strange.0 += 1;
    }

    /// Whether a message says what its key stands for; some protocols have no place for the id but in the text.
    fn is_intact(&self, key: Key, content: Option<Found<'_>>) -> bool {
        let Some(content) = content else { return true };
        let Found::Text(text) = content else { return false };
        let pattern = self.pattern.content(key);
        let behind_id = text.get(ID_BYTES..).map(str::as_bytes);
        text.as_bytes() == pattern || (self.key(content) == Some(key) && behind_id == Some(pattern))
    }

    fn delivered(&mut self, delivery: Delivery, now_ns: u64) -> bool {
        let Some(arrival) = self.traffic.ledger.delivered(delivery) else { return false };
        self.traffic.delivered(arrival.sent, now_ns);
        if arrival.is_last {
            self.traffic.completed(arrival.sent.intended_ns, now_ns);
        }
        true
    }

    fn answered(&mut self, script: &Script, out: &mut Outbound, client: u32, now_ns: u64) {
        if self.traffic.answered(client, now_ns) {
            self.send(script, out, client, now_ns, now_ns);
        }
    }

    fn refused(&mut self, script: &Script, client: u32, id: Found<'_>, code: Found<'_>, now_ns: u64) {
        let error = format!("error {}", shown(code));
        if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&error) {
            *self.errors.entry(error).or_default() += 1;
        }
        let key = self.own_key(script, client, id);
        if key.is_some_and(|key| self.traffic.ledger.refused(client, key)) {
            self.traffic.pause(client, now_ns + RETRY_NS);
        }
    }

    /// The message of this run that an id names; more may stand behind it.
    fn key(&self, id: Found<'_>) -> Option<Key> {
        match id {
            Found::Text(text) => parse_id(self.run, text.get(..ID_BYTES)?),
            Found::Absent | Found::Number(_) | Found::Bool(_) | Found::Other => None,
        }
    }

    /// The same where a number will do, as only this client's own messages are meant.
    fn own_key(&self, script: &Script, client: u32, id: Found<'_>) -> Option<Key> {
        self.key(id).or_else(|| {
            let number = id.number()?.checked_sub(script.number_from())?;
            (number < NUMBERS_MAX).then(|| Key::new(client, number))
        })
    }
}

/// The step that a handshake with a single step, or with none that needs telling apart, waits in.
fn first_wait(script: &Script) -> usize {
    (0..script.steps()).find(|step| script.step_waits(*step)).unwrap_or(0)
}

impl<A: Book> Driver for Scripted<A> {
    fn upgrade_request(&self, client: u32) -> UpgradeRequest {
        UpgradeRequest { target: self.script.target(client), headers: self.script.headers(client) }
    }

    fn subprotocols(&self) -> &[String] {
        self.script.subprotocols()
    }

    fn awaits_greeting(&self) -> bool {
        waits(&self.script)
    }

    fn opened(&mut self, out: &mut Outbound, client: u32) {
        self.talk.greet(&self.script, out, client, 0);
    }

    fn keep_alive(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        let every = self.script.heartbeat_every()?;
        let rate = f64::from(self.clients) / every.as_secs_f64();
        let evenly = || Arrivals::new(now_ns, Profile::constant(rate), ArrivalProcess::Uniform);
        let heartbeats = self.heartbeats.get_or_insert_with(evenly);
        while let Some((number, _)) = heartbeats.take(now_ns) {
            let client = (number % u64::from(self.clients.max(1))) as u32;
            if out.is_ready(client) {
                self.talk.payload.clear();
                self.script.write_heartbeat(client, &mut self.talk.payload);
                out.frame(client, self.talk.opcode, &self.talk.payload);
            }
        }
        Some(heartbeats.next_ns())
    }

    fn begin(&mut self, window: Window) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.talk.epoch_us = (now.as_micros() as u64).saturating_sub(window.begin_ns / 1000);
        self.talk.traffic.begin(window);
    }

    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        while let Some((client, intended_ns)) = self.talk.traffic.take_due(now_ns) {
            self.talk.send(&self.script, out, client, intended_ns, now_ns);
        }
        self.talk.traffic.next_due_ns()
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64) {
        let text = match message {
            Incoming::Text(text) => Some(text),
            Incoming::Binary(bytes) => std::str::from_utf8(bytes).ok(),
        };
        let Some(text) = text else { return self.talk.traffic.ledger.unreadable(client) };
        let (script, talk) = (&self.script, &mut self.talk);
        script.each(text, |message| match message {
            Some(message) => talk.heard(script, out, client, &message, now_ns),
            None => talk.traffic.ledger.unreadable(client),
        });
    }

    fn end(&mut self) {
        self.talk.traffic.end();
    }

    fn interval(&mut self) -> Interval {
        self.talk.traffic.interval()
    }

    fn outstanding(&self) -> u64 {
        self.talk.traffic.ledger.unfinished()
    }
}
