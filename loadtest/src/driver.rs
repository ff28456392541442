//! The seam between the engine and what clients say: a scenario is a [`Driver`], a run a [`Plan`]. Does nothing itself.

use std::time::Duration;

use crate::outbound::Outbound;
use crate::timeline::Interval;
use crate::traffic::Window;
use crate::url::Url;

/// A message as it arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> Incoming<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Incoming::Text(text) => text.as_bytes(),
            Incoming::Binary(bytes) => bytes,
        }
    }
}

/// What one client's upgrade request says beyond what all say.
#[derive(Debug, Default)]
pub(crate) struct UpgradeRequest {
    /// Path and query instead of the plan's.
    pub(crate) target: Option<String>,
    /// Further header fields, by name.
    pub(crate) headers: Vec<(String, String)>,
}

/// How a connection ended that had been ready, or one that was opened again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended<'a> {
    /// As the scenario asked.
    Left,
    /// It was ready, and the server or the network ended it.
    Dropped(&'a str),
    /// Opened again, it never became ready.
    Refused(&'a str),
}

/// A scenario: what clients say and what they make of what they hear.
pub(crate) trait Driver {
    /// The Authorization header of a client's upgrade request.
    fn authorization(&self, _client: u32) -> Option<String> {
        None
    }

    /// What a client's upgrade request says.
    fn upgrade_request(&self, client: u32) -> UpgradeRequest {
        let authorization = self.authorization(client).map(|value| ("Authorization".to_owned(), value));
        UpgradeRequest { target: None, headers: authorization.into_iter().collect() }
    }

    /// Subprotocols that every client offers, best first.
    fn subprotocols(&self) -> &[String] {
        &[]
    }

    /// Whether a client is ready only once `received` has set it so.
    fn awaits_greeting(&self) -> bool {
        false
    }

    /// A client's upgrade succeeded: where clients speak first, it does now. One that awaits its greeting is not ready yet.
    fn opened(&mut self, _out: &mut Outbound, _client: u32) {}

    /// A client is ready for messages, for the first time or again.
    fn ready(&mut self, _out: &mut Outbound, _client: u32, _now_ns: u64) {}

    /// A client that is opened again is being connected now.
    fn dialled(&mut self, _client: u32, _now_ns: u64) {}

    /// A connection is over. Whether a drop is what the scenario is about: then it is counted as dropped, and does not
    /// fail the run.
    fn ended(&mut self, _out: &mut Outbound, _client: u32, _how: Ended<'_>, _now_ns: u64) -> bool {
        false
    }

    /// Sends what keeps connections alive and is due, in every phase of the run; says when more will be.
    fn keep_alive(&mut self, _out: &mut Outbound, _now_ns: u64) -> Option<u64> {
        None
    }

    /// A pong arrived for a client that is ready or awaits its greeting.
    fn ponged(&mut self, _payload: &[u8], _now_ns: u64) {}

    /// All connections stand; sending may begin.
    fn begin(&mut self, window: Window);

    /// Sends what is due and says when more will be.
    fn send_due(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64>;

    /// A message arrived for a client that is ready or awaits its greeting.
    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, now_ns: u64);

    /// The steady phase is over: nothing new is sent.
    fn end(&mut self);

    /// What was counted since it was asked last, warm-up included.
    fn interval(&mut self) -> Interval {
        Interval::default()
    }

    /// Messages whose fate is not known yet.
    fn outstanding(&self) -> u64;

    /// Messages sent into a room that other agents' clients are in too.
    fn sent_to_others(&self) -> u64 {
        0
    }

    /// Deliveries still missing when those sent so many messages.
    fn missing_of_others(&self, _messages: u64) -> u64 {
        0
    }
}

/// What a run is made of, apart from its messages.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: Url,
    pub(crate) clients: u32,
    /// How many of them, the last, connect only when the driver says so.
    pub(crate) late: u32,
    /// Connections per second; `None`: as fast as they are accepted.
    pub(crate) ramp: Option<f64>,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) drain_max: Duration,
    /// Whether clients send anything; idle connections are weighed at the end of the measured phase.
    pub(crate) messages: bool,
    pub(crate) server_pid: Option<u32>,
    pub(crate) seed: u64,
    pub(crate) place: Place,
}

/// Which of the clients of all agents of one run this one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first_client: u32,
    /// Clients of all agents.
    pub(crate) clients: u32,
    /// The run's id where the clients of all agents are in one room.
    pub(crate) shared_run: Option<u32>,
}
