//! Single chats of GoChat: clients 0 and 1, 2 and 3, … write to each other; senders count acknowledgements, receivers
//! deliveries.

use std::collections::BTreeMap;

use gochat_ws::Opcode;

use super::frames::{Data, Frame, write_send};
use crate::acked::{AckedLog, AckedMessage};
use crate::contrast::Contrast;
use crate::driver::{Driver, Incoming};
use crate::ledger::{Delivery, Ledger, Route};
use crate::message::{Key, Pattern, parse_id, write_id};
use crate::outbound::{Outbound, State};
use crate::schedule::Load;
use crate::spread::Sizes;
use crate::timeline::Interval;
use crate::tokens::User;
use crate::traffic::{Measured, Traffic, Window};

/// How long a sender waits after a refusal that says nothing about it.
const RETRY_NS: u64 = 100_000_000;

/// What the scenario needs from its preparation.
#[derive(Debug)]
pub(crate) struct ChatSetup {
    /// One for each client, partners side by side.
    pub(crate) users: Vec<User>,
    /// One for each pair.
    pub(crate) conversations: Vec<String>,
    pub(crate) load: Load,
    /// The clients that send.
    pub(crate) senders: Vec<u32>,
    /// Characters of a message.
    pub(crate) sizes: Sizes,
    /// Tells this run's messages from others'.
    pub(crate) run: u32,
    /// Where acknowledgements are noted for an audit.
    pub(crate) acked: Option<AckedLog>,
}

/// The `single` scenario.
#[derive(Debug)]
pub(crate) struct Chat {
    traffic: Traffic<Ledger>,
    pattern: Pattern,
    users: Vec<User>,
    conversations: Vec<String>,
    run: u32,
    acked: Option<AckedLog>,
    payload: Vec<u8>,
    errors: BTreeMap<String, u64>,
}

impl Chat {
    pub(crate) fn new(setup: ChatSetup) -> Chat {
        let clients = setup.users.len() as u32;
        Chat {
            traffic: Traffic::new(Ledger::new(Route::Pair, clients), setup.load, setup.senders),
            pattern: Pattern::new(setup.sizes),
            users: setup.users,
            conversations: setup.conversations,
            run: setup.run,
            acked: setup.acked,
            payload: Vec::with_capacity(512),
            errors: BTreeMap::new(),
        }
    }

    /// The same with the load set against itself.
    pub(crate) fn against(mut self, contrast: Contrast) -> Chat {
        self.traffic.contrast(contrast);
        self
    }

    pub(crate) fn finish(mut self) -> Measured {
        if let Some(error) = self.acked.take().and_then(|log| log.finish().err()) {
            self.errors.insert(format!("the file of acknowledgements is incomplete: {error}"), 1);
        }
        let remarks = self.errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
        Measured { errors: self.errors, ..self.traffic.finish(remarks) }
    }

    fn send(&mut self, out: &mut Outbound, client: u32, intended_ns: u64, now_ns: u64) {
        let Some(conversation) = self.conversations.get(client as usize / 2).filter(|_| out.is_ready(client)) else {
            return;
        };
        let key = self.traffic.sending(client, intended_ns, now_ns);
        self.payload.clear();
        write_send(conversation, self.pattern.content(key), |out| write_id(self.run, key, out), &mut self.payload);
        out.frame(client, Opcode::Text, &self.payload);
    }

    fn acknowledged(&mut self, out: &mut Outbound, client: u32, data: &Data<'_>, now_ns: u64) {
        let Some(key) = parse_id(self.run, data.client_msg_id.as_str()) else { return };
        let first = self.traffic.ledger.acked(client, key, data.seq);
        if first.is_none() && !data.corrected {
            return;
        }
        self.note(client, data);
        let Some(first) = first else { return };
        self.traffic.acked(first, now_ns);
        if self.traffic.answered(client, now_ns) {
            self.send(out, client, now_ns, now_ns);
        }
    }

    fn note(&mut self, client: u32, data: &Data<'_>) {
        let Some(log) = &mut self.acked else { return };
        let (Some(user), Some(conversation)) =
            (self.users.get(client as usize), self.conversations.get(client as usize / 2))
        else {
            return;
        };
        log.write(&AckedMessage {
            id: data.message_id.as_str().into(),
            seq: data.seq,
            client_msg_id: data.client_msg_id.as_str().into(),
            conversation: conversation.into(),
            user: (&user.id).into(),
            corrected: data.corrected,
        });
    }

    fn arrived(&mut self, client: u32, data: &Data<'_>, now_ns: u64) {
        // Messages of earlier runs may be pushed again; they are not this run's business.
        let Some(key) = parse_id(self.run, data.of_sender.as_str()) else { return };
        let intact = data.content.as_str().as_bytes() == self.pattern.content(key);
        let delivery = Delivery { client, key, seq: Some(data.seq), intact, redelivered: data.redelivered };
        if let Some(first) = self.traffic.ledger.delivered(delivery) {
            self.traffic.delivered(first, now_ns);
        }
    }

    fn refused(&mut self, client: u32, data: &Data<'_>, now_ns: u64) {
        let code = data.code.as_str();
        *self.errors.entry(format!("error {code}{}", super::hint(code))).or_default() += 1;
        let key: Option<Key> = parse_id(self.run, data.details.client_msg_id.as_str());
        if key.is_some_and(|key| self.traffic.ledger.refused(client, key)) {
            let wait_ns = u64::from(data.details.retry_after) * 1_000_000_000;
            self.traffic.pause(client, now_ns + wait_ns.max(RETRY_NS));
        }
    }
}

impl Driver for Chat {
    fn authorization(&self, client: u32) -> Option<String> {
        self.users.get(client as usize).map(|user| format!("Bearer {}", user.access_token))
    }

    fn awaits_greeting(&self) -> bool {
        true
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
        let Some(frame) = Frame::parse(message.bytes()) else { return self.traffic.ledger.unreadable() };
        match frame.kind() {
            "message-ack" => self.acknowledged(out, client, &frame.data, now_ns),
            "new-message" => self.arrived(client, &frame.data, now_ns),
            "error" => self.refused(client, &frame.data, now_ns),
            "connected" if out.state(client) == State::Greeting => out.set_state(client, State::Ready),
            _ => {}
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
}
