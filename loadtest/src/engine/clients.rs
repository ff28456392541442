//! The client connections: opening, upgrading, reading frames, ending. Owns what is known of each connection; what
//! messages mean is the driver's.

use std::collections::{BTreeMap, HashMap};

use gochat_ring::{Completion, ConnId, Reactor};
use gochat_ws::handshake::{ClientRequest, HeadLimits, ResponseError, parse_response, write_request};
use gochat_ws::{Decoder, Event, Input, Limits, Opcode, Role, Scratch};

use super::dialer::Dialer;
use super::redials::Redials;
use crate::connections::Connections;
use crate::driver::{Driver, Ended, Incoming, Plan};
use crate::error::LoadError;
use crate::message::mix;
use crate::outbound::{Outbound, State};
use crate::percentiles::Latencies;

mod reopen;

/// The longest message accepted from a server.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Different endings told apart in a report.
const ENDINGS_MAX: usize = 16;
/// Refusals in a row, with nothing established, after which connecting is given up.
const HOPELESS: u32 = 32;
const NOBODY: u32 = u32::MAX;

/// How connections failed or ended, with counts.
pub(crate) type Endings = BTreeMap<String, u64>;

/// The account of connections.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) connections: Connections,
    /// From the intended beginning to readiness.
    pub(crate) latency: Latencies,
    pub(crate) endings: Endings,
    /// Of those dropped: how many the scenario is about.
    pub(crate) excused: u32,
    /// Became ready that were not their client's first.
    reopened: u32,
    /// Ended because the run is over or because the scenario wanted it.
    left: u32,
}

/// The receiving half of one connection: 24 bytes.
#[derive(Debug)]
struct Inbound {
    decoder: Decoder,
    started_ns: u64,
}

/// All connections, their reactor and the driver they serve.
pub(super) struct Clients<'a, R: Reactor, D: Driver> {
    pub(super) reactor: R,
    pub(super) driver: &'a mut D,
    pub(super) census: Census,
    out: Outbound,
    inbound: Vec<Inbound>,
    by_slot: Vec<u32>,
    /// Response heads that did not arrive in one piece.
    heads: HashMap<u32, Vec<u8>>,
    scratch: Scratch,
    dialer: Dialer,
    redials: Redials,
    plan: &'a Plan,
}

impl<'a, R: Reactor, D: Driver> Clients<'a, R, D> {
    pub(super) fn new(reactor: R, plan: &'a Plan, driver: &'a mut D) -> Clients<'a, R, D> {
        let inbound = || Inbound { decoder: Decoder::new(Role::Client), started_ns: 0 };
        Clients {
            driver,
            census: Census {
                connections: Connections { target: plan.clients - plan.late, ..Connections::default() },
                ..Census::default()
            },
            out: Outbound::new(plan.clients, plan.seed),
            inbound: (0..plan.clients).map(|_| inbound()).collect(),
            by_slot: vec![NOBODY; reactor.capacity() as usize],
            heads: HashMap::new(),
            scratch: Scratch::new(),
            dialer: Dialer::new(plan.url.addr, plan.clients - plan.late, plan.ramp, plan.place),
            redials: Redials::default(),
            plan,
            reactor,
        }
    }

    /// Begins the connections that are due and says when more will be.
    pub(super) fn dial(&mut self, now_ns: u64) -> Option<u64> {
        while let Some((client, intended_ns)) = self.dialer.take(now_ns) {
            if let Some(inbound) = self.inbound.get_mut(client as usize) {
                inbound.started_ns = intended_ns;
            }
            match self.reactor.connect(self.dialer.source(client), self.plan.url.addr) {
                Ok(conn) => self.own(client, conn, false),
                Err(error) => self.refuse(&error.to_string()),
            }
        }
        if self.dialer.is_full() { None } else { self.dialer.next_ns(now_ns) }
    }

    fn own(&mut self, client: u32, conn: ConnId, reopened: bool) {
        if let Some(owner) = self.by_slot.get_mut(conn.index()) {
            *owner = client;
        }
        self.out.set_conn(client, conn, reopened);
    }

    pub(super) fn send_due(&mut self, now_ns: u64) -> Option<u64> {
        self.driver.send_due(&mut self.out, now_ns)
    }

    pub(super) fn keep_alive(&mut self, now_ns: u64) -> Option<u64> {
        self.driver.keep_alive(&mut self.out, now_ns)
    }

    pub(super) fn flush(&mut self) {
        self.out.flush(&mut self.reactor);
    }

    /// Connections that are ready now.
    pub(super) fn alive(&self) -> u32 {
        self.census.connections.established + self.census.reopened - self.census.connections.dropped - self.census.left
    }

    pub(super) fn settled(&self) -> u32 {
        self.census.connections.established + self.census.connections.refused
    }

    pub(super) fn in_progress(&self) -> u32 {
        self.dialer.in_progress
    }

    /// Whether every connection became ready or was refused.
    pub(super) fn is_settled(&self) -> bool {
        self.dialer.all_begun() && self.dialer.in_progress == 0
    }

    /// Whether it is plain that nothing will be established.
    pub(super) fn hopeless(&self) -> bool {
        self.census.connections.established == 0
            && self.census.connections.refused >= HOPELESS.min(self.census.connections.target)
    }

    /// Why nothing was established.
    pub(super) fn why_none(&self) -> LoadError {
        let why = self.census.endings.keys().next().cloned().unwrap_or_else(|| "no answer".to_owned());
        let target = self.plan.url.authority.clone();
        let answered = ["HTTP", "the server ", "no valid upgrade"];
        match answered.iter().any(|start| why.starts_with(start)) {
            true => LoadError::Refused { target, why },
            false => LoadError::Unreachable { target, why },
        }
    }

    /// Counts everything in progress as refused.
    pub(super) fn give_up_connecting(&mut self, now_ns: u64) {
        for client in 0..self.plan.clients {
            if matches!(self.out.state(client), State::Connecting | State::Upgrading | State::Greeting) {
                self.end(client, "no answer to the handshake in time", now_ns);
            }
        }
        while let Some((_, _)) = self.dialer.take(u64::MAX) {
            self.refuse("not begun: the server stopped answering");
        }
    }

    /// Sends every server a close frame; what ends from now on was meant to.
    pub(super) fn say_goodbye(&mut self) {
        self.redials.stop();
        for client in 0..self.plan.clients {
            if self.out.is_ready(client) {
                self.out.frame(client, Opcode::Close, &1000_u16.to_be_bytes());
                self.out.set_state(client, State::Leaving);
            }
        }
    }

    pub(super) fn handle(&mut self, completion: Completion<'_>, now_ns: u64) {
        match completion {
            Completion::Connected { conn, result } => {
                let Some(client) = self.client(conn) else { return };
                match result {
                    Ok(()) => self.ask_for_upgrade(client, now_ns),
                    Err(error) => self.end(client, &error.to_string(), now_ns),
                }
            }
            Completion::Received { conn, data } => {
                let Some(client) = self.client(conn) else { return };
                match self.out.state(client) {
                    State::Idle | State::Connecting => {}
                    State::Upgrading => self.upgrade(client, data, now_ns),
                    State::Greeting | State::Ready | State::Leaving => self.read(client, data, now_ns),
                }
            }
            Completion::RecvEof { conn } => {
                if let Some(client) = self.client(conn) {
                    self.end(client, "the server closed the connection without a close frame", now_ns);
                }
            }
            Completion::RecvError { conn, error } => {
                if let Some(client) = self.client(conn) {
                    self.end(client, &error.to_string(), now_ns);
                }
            }
            Completion::Sent { conn, result, .. } => {
                let Some(client) = self.client(conn) else { return };
                match result {
                    Ok(()) => self.out.sent(client),
                    Err(error) => self.end(client, &error.to_string(), now_ns),
                }
            }
            Completion::Closed { .. }
            | Completion::Detached { .. }
            | Completion::Accepted { .. }
            | Completion::AcceptError { .. }
            | Completion::ListenerClosed { .. }
            | Completion::Wake => {}
        }
    }

    /// Whose connection this is; `None` when it is over.
    fn client(&self, conn: ConnId) -> Option<u32> {
        let client = *self.by_slot.get(conn.index())?;
        (self.out.conn(client) == Some(conn)).then_some(client)
    }

    /// 16 bytes that only this client's request holds.
    fn key(&self, client: u32) -> [u8; 16] {
        let high = mix(self.plan.seed ^ u64::from(client));
        (u128::from(high) << 64 | u128::from(mix(high))).to_be_bytes()
    }

    fn ask_for_upgrade(&mut self, client: u32, now_ns: u64) {
        let said = self.driver.upgrade_request(client);
        let headers: Vec<_> = said.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = ClientRequest {
            host: &self.plan.url.authority,
            target: said.target.as_ref().unwrap_or(&self.plan.url.target),
            key: self.key(client),
            protocols: &self.subprotocols(),
            headers: &headers,
        };
        let mut head = Vec::with_capacity(512);
        match write_request(&request, &mut head) {
            Ok(()) => {
                self.out.set_state(client, State::Upgrading);
                self.out.raw(client, &head);
            }
            Err(error) => self.end(client, &format!("cannot ask for the upgrade: {error}"), now_ns),
        }
    }

    fn subprotocols(&self) -> Vec<&str> {
        self.driver.subprotocols().iter().map(String::as_str).collect()
    }

    fn upgrade(&mut self, client: u32, data: &mut [u8], now_ns: u64) {
        let mut held = self.heads.remove(&client);
        if let Some(held) = &mut held {
            held.extend_from_slice(data);
        }
        let key = self.key(client);
        let bytes = held.as_deref_mut().unwrap_or(data);
        let head = match parse_response(bytes, &HeadLimits::default()) {
            Ok(Some(response)) => response.verify(key, &self.subprotocols()).map(|_| Some(response.head_len)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match head {
            Ok(Some(head_len)) => {
                let ready = !self.driver.awaits_greeting();
                self.out.set_state(client, if ready { State::Ready } else { State::Greeting });
                if ready {
                    self.established(client, now_ns);
                }
                self.driver.opened(&mut self.out, client);
                if let Some(rest) = bytes.get_mut(head_len..).filter(|rest| !rest.is_empty()) {
                    self.read(client, rest, now_ns);
                }
            }
            Ok(None) => {
                let bytes = bytes.to_vec();
                self.heads.insert(client, bytes);
            }
            Err(error) => self.end(client, &refusal(&error), now_ns),
        }
    }

    fn established(&mut self, client: u32, now_ns: u64) {
        self.dialer.in_progress -= 1;
        if self.out.is_reopened(client) {
            self.census.reopened += 1;
        } else {
            self.census.connections.established += 1;
            let started_ns = self.inbound.get(client as usize).map_or(now_ns, |inbound| inbound.started_ns);
            self.census.latency.record(now_ns.saturating_sub(started_ns));
        }
        self.driver.ready(&mut self.out, client, now_ns);
    }

    fn read(&mut self, client: u32, data: &mut [u8], now_ns: u64) {
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX };
        let greeting = self.out.state(client) == State::Greeting;
        let mut over = None;
        let Some(inbound) = self.inbound.get_mut(client as usize) else { return };
        let mut input = Input::new(data);
        while over.is_none() {
            match inbound.decoder.next(&limits, &mut self.scratch, &mut input) {
                Ok(Some(Event::Text(text))) => {
                    self.driver.received(&mut self.out, client, Incoming::Text(text), now_ns)
                }
                Ok(Some(Event::Binary(bytes))) => {
                    self.driver.received(&mut self.out, client, Incoming::Binary(bytes), now_ns);
                }
                Ok(Some(Event::Ping(payload))) => self.out.frame(client, Opcode::Pong, payload),
                Ok(Some(Event::Pong(payload))) => self.driver.ponged(payload, now_ns),
                Ok(Some(Event::Close { code, reason })) => {
                    let code = code.map_or("without a code".to_owned(), |code| code.to_string());
                    over = Some(format!("the server closed with {code} {reason}").trim_end().to_owned());
                }
                Ok(None) => break,
                Err(error) => over = Some(format!("the server broke the WebSocket protocol: {error}")),
            }
            over = over.or_else(|| self.out.take_end());
        }
        if greeting && self.out.is_ready(client) {
            self.established(client, now_ns);
        }
        if let Some(why) = over {
            self.end(client, &why, now_ns);
        }
    }

    /// Ends a connection and counts how.
    fn end(&mut self, client: u32, why: &str, now_ns: u64) {
        let Some(conn) = self.out.conn(client) else { return };
        let state = self.out.state(client);
        self.out.drop_line(client);
        self.heads.remove(&client);
        if let Some(inbound) = self.inbound.get_mut(client as usize) {
            inbound.decoder.release(&mut self.scratch);
        }
        self.reactor.close(conn);
        match state {
            State::Ready => {
                self.census.connections.dropped += 1;
                match self.tell(client, Ended::Dropped(why), now_ns) {
                    true => self.census.excused += 1,
                    false => self.note(why),
                }
            }
            State::Leaving => {
                self.census.left += 1;
                self.tell(client, Ended::Left, now_ns);
            }
            State::Idle | State::Connecting | State::Upgrading | State::Greeting if self.out.is_reopened(client) => {
                self.dialer.in_progress -= 1;
                self.tell(client, Ended::Refused(why), now_ns);
            }
            State::Idle | State::Connecting | State::Upgrading | State::Greeting => self.refuse(why),
        }
    }

    /// Tells the driver that a connection is over, unless the run is.
    fn tell(&mut self, client: u32, how: Ended<'_>, now_ns: u64) -> bool {
        !self.redials.is_stopped() && self.driver.ended(&mut self.out, client, how, now_ns)
    }

    fn refuse(&mut self, why: &str) {
        self.dialer.in_progress -= 1;
        self.census.connections.refused += 1;
        self.note(why);
    }

    fn note(&mut self, why: &str) {
        if self.census.endings.len() < ENDINGS_MAX || self.census.endings.contains_key(why) {
            *self.census.endings.entry(why.to_owned()).or_default() += 1;
        }
    }
}

/// What a refused upgrade means to who runs the tool.
fn refusal(error: &ResponseError) -> String {
    match error {
        ResponseError::Refused(401) => {
            "HTTP 401: the access token is missing, wrong or expired; mint new ones".to_owned()
        }
        ResponseError::Refused(404) => "HTTP 404: nothing there; check the path of the URL".to_owned(),
        ResponseError::Refused(429) => {
            "HTTP 429: the server limits connects; for load runs start it with --limits off".to_owned()
        }
        ResponseError::Refused(503) => "HTTP 503: the server is full, draining or not ready".to_owned(),
        ResponseError::Refused(status) => {
            format!("HTTP {status} instead of an upgrade: no WebSocket is served there; check the URL and its path")
        }
        other => format!("no valid upgrade: {other}; check that a WebSocket server is what listens there"),
    }
}
