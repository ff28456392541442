//! Connections that only stand: pings are answered by the engine, messages are ignored.

use super::frames::Frame;
use crate::driver::{Driver, Incoming};
use crate::outbound::{Outbound, State};
use crate::traffic::Window;

/// The `connect` scenario.
#[derive(Debug)]
pub(crate) struct Idle {
    tokens: Option<Vec<String>>,
}

impl Idle {
    /// With `tokens` clients speak GoChat and are ready once greeted; without they are after the upgrade.
    pub(crate) fn new(tokens: Option<Vec<String>>) -> Idle {
        Idle { tokens }
    }
}

impl Driver for Idle {
    fn authorization(&self, client: u32) -> Option<String> {
        self.tokens.as_ref()?.get(client as usize).map(|token| format!("Bearer {token}"))
    }

    fn awaits_greeting(&self) -> bool {
        self.tokens.is_some()
    }

    fn begin(&mut self, _window: Window) {}

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

    fn end(&mut self) {}

    fn outstanding(&self) -> u64 {
        0
    }
}
