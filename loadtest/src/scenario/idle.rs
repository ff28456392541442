//! Connections that only stand: pings are answered by the engine, messages are ignored. With a heartbeat they ask the server
//! whether it is still there.

use super::Heartbeat;
use super::frames::Frame;
use crate::driver::{Driver, Incoming};
use crate::outbound::{Outbound, State};
use crate::timeline::Interval;
use crate::traffic::{Measured, Window};

/// The `connect` scenario.
#[derive(Debug)]
pub(crate) struct Idle {
    tokens: Option<Vec<String>>,
    heartbeat: Option<Heartbeat>,
}

impl Idle {
    /// With `tokens` clients speak GoChat and are ready once greeted; without they are after the upgrade.
    pub(crate) fn new(tokens: Option<Vec<String>>) -> Idle {
        Idle { tokens, heartbeat: None }
    }

    /// The same with a heartbeat.
    pub(crate) fn beating(self, heartbeat: Option<Heartbeat>) -> Idle {
        Idle { heartbeat, ..self }
    }

    /// The account of the heartbeat, where there is one.
    pub(crate) fn finish(self) -> Option<Measured> {
        self.heartbeat.map(Heartbeat::finish)
    }
}

impl Driver for Idle {
    fn authorization(&self, client: u32) -> Option<String> {
        self.tokens.as_ref()?.get(client as usize).map(|token| format!("Bearer {token}"))
    }

    fn awaits_greeting(&self) -> bool {
        self.tokens.is_some()
    }

    fn keep_alive(&mut self, out: &mut Outbound, now_ns: u64) -> Option<u64> {
        self.heartbeat.as_mut()?.send_due(out, now_ns)
    }

    fn ponged(&mut self, payload: &[u8], now_ns: u64) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.answered(payload, now_ns);
        }
    }

    fn begin(&mut self, window: Window) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.begin(window);
        }
    }

    fn send_due(&mut self, _out: &mut Outbound, _now_ns: u64) -> Option<u64> {
        None
    }

    fn received(&mut self, out: &mut Outbound, client: u32, message: Incoming<'_>, _now_ns: u64) {
        if out.state(client) == State::Greeting
            && Frame::parse(message.bytes()).is_some_and(|frame| frame.is("connected"))
        {
            out.set_state(client, State::Ready);
        }
    }

    fn end(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.end();
        }
    }

    fn interval(&mut self) -> Interval {
        self.heartbeat.as_mut().map(Heartbeat::interval).unwrap_or_default()
    }

    fn outstanding(&self) -> u64 {
        self.heartbeat.as_ref().map_or(0, Heartbeat::outstanding)
    }
}
