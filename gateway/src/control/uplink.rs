//! The uplink loop: takes what shards say and what HTTP submits, appends the messages, passes events to their owners.
//! Never waits for a call, and looks into a message only when it
//! was not appended.

use bytes::Bytes;
use gochat_infra::clock::Clock;
use gochat_proto::bus::v1::{Origin, Refusal, UpstreamMessage};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::ids::Address;
use prost::Message as _;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::frames::FrameWriter;
use super::presence::PresenceEvent;
use super::reads::ReadMark;
use super::roster::{Offline, Session};
use super::shards::Shards;
use super::stats::UplinkStats;
use super::typing::{Typed, TypingOutlet};
use super::upstream::{Submit, Upstream};
use super::waiting::{Outcome, Waiting};
use crate::bridge::{HttpHandover, UplinkBatch, UplinkEvent, UplinkReceiver, UplinkRecord};

/// Batches taken before the appends of what they brought begin.
const BATCHES_PER_TURN: usize = 64;

/// Where events go.
pub(crate) struct Outlets {
    pub(crate) presence: mpsc::Sender<Vec<PresenceEvent>>,
    pub(crate) reads: mpsc::Sender<ReadMark>,
    pub(crate) typing: TypingOutlet,
    pub(crate) http: mpsc::Sender<HttpHandover>,
    pub(crate) shards: Shards,
    pub(crate) waiting: Waiting,
}

/// The loop's state.
pub(crate) struct UplinkLoop {
    pub(crate) uplinks: UplinkReceiver,
    pub(crate) submits: mpsc::Receiver<Submit>,
    pub(crate) upstream: Upstream,
    pub(crate) outlets: Outlets,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stats: UplinkStats,
}

/// What was not taken; whoever sent it is told.
#[derive(Default)]
struct Refused {
    /// Encoded `UpstreamMessage`s.
    messages: Vec<Bytes>,
    marks: Vec<ReadMark>,
}

enum Action {
    Batch(UplinkBatch),
    ShardsEnded,
    Submit(Submit),
    Failed(Vec<Bytes>),
}

impl UplinkLoop {
    /// Runs until all shards have ended and everything they brought is appended or refused.
    pub(crate) async fn run(mut self) {
        let mut shards_live = true;
        while shards_live || !self.upstream.is_idle() {
            let action = tokio::select! {
                batch = self.uplinks.recv(), if shards_live => batch.map_or(Action::ShardsEnded, Action::Batch),
                Some(submit) = self.submits.recv() => Action::Submit(submit),
                failed = self.upstream.next_failed() => Action::Failed(failed),
            };
            let mut refused = Refused::default();
            match action {
                Action::Batch(batch) => {
                    let presence = self.take_batches(batch, &mut refused);
                    self.upstream.start();
                    if !presence.is_empty() {
                        // Presence always takes: it never waits for a call.
                        let _ = self.outlets.presence.send(presence).await;
                    }
                }
                Action::Submit(submit) => {
                    refused.messages.extend(self.upstream.push(submit).err());
                    while let Ok(submit) = self.submits.try_recv() {
                        refused.messages.extend(self.upstream.push(submit).err());
                    }
                    self.upstream.start();
                }
                Action::Failed(messages) => refused.messages = messages,
                Action::ShardsEnded => shards_live = false,
            }
            self.tell(refused).await;
        }
    }

    /// Takes a batch and those behind it; answers with what presence is to know.
    fn take_batches(&mut self, first: UplinkBatch, refused: &mut Refused) -> Vec<PresenceEvent> {
        let mut presence = Vec::new();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(mut batch) = next {
            for event in batch.events.drain(..) {
                presence.extend(self.take_event(event, refused));
            }
            presence.extend(batch.alive.drain(..).map(|alive| PresenceEvent::Alive(alive.user_id)));
            for UplinkRecord { partition, key, value } in batch.records() {
                let submit = Submit { partition, key, value, trace_id: Bytes::new() };
                refused.messages.extend(self.upstream.push(submit).err());
            }
            self.uplinks.recycle(batch);
            taken += 1;
            next = if taken < BATCHES_PER_TURN { self.uplinks.try_recv() } else { None };
        }
        presence
    }

    fn take_event(&self, event: UplinkEvent, refused: &mut Refused) -> Option<PresenceEvent> {
        match event {
            UplinkEvent::Opened(opened) => Some(PresenceEvent::Opened(Session::from(*opened))),
            UplinkEvent::Reauthorized { address, user_id, token_hash, token_version, family_id, .. } => {
                let (ticket_id, device, client_info) = Default::default();
                let session =
                    Session { address, user_id, token_hash, token_version, family_id, ticket_id, device, client_info };
                Some(PresenceEvent::Reauthorized(session))
            }
            UplinkEvent::Closed { address, user_id, handover, code } => {
                let logout = code == CloseCode::LoggedOut.number();
                Some(PresenceEvent::Closed(Offline { address, user_id, handover, logout }))
            }
            UplinkEvent::Typing { address, user_id, conversation, is_typing } => {
                self.outlets.typing.offer(Typed { address, user_id, conversation, is_typing });
                None
            }
            UplinkEvent::MarkRead { address, user_id, conversation, seq_id } => {
                let mark = ReadMark { address, user_id, conversation, seq_id };
                refused.marks.extend(self.outlets.reads.try_send(mark).err().map(TrySendError::into_inner));
                None
            }
            UplinkEvent::Http(handover) => {
                if self.outlets.http.try_send(handover).is_err() {
                    self.stats.http_turned_away.inc();
                }
                None
            }
        }
    }

    /// Tells the senders of what was not taken.
    async fn tell(&mut self, refused: Refused) {
        if refused.messages.is_empty() && refused.marks.is_empty() {
            return;
        }
        let mut frames = FrameWriter::at(self.clock.unix_ms());
        let mut batches = self.outlets.shards.batches();
        for mark in refused.marks {
            let failure = ErrorCode::ServiceUnavailable.into();
            batches.frame(mark.address, frames.failure(&mark.conversation, &failure));
        }
        for refusal in refused.messages.into_iter().filter_map(refusal) {
            match refusal.origin.unwrap_or_default() {
                Origin { request: 0, address, .. } => batches.frame(Address(address), frames.refusal(&refusal)),
                Origin { request, .. } => self.outlets.waiting.complete(request, Outcome::Refused(refusal)).await,
            }
        }
        batches.send().await;
    }
}

/// The answer for a message that the bus did not take.
fn refusal(message: Bytes) -> Option<Refusal> {
    let message = UpstreamMessage::decode(message).ok()?;
    Some(Refusal {
        origin: Some(message.origin?),
        client_msg_id: message.client_msg_id,
        temp_message_id: message.temp_message_id,
        conversation_id: message.conversation_id,
        code: ErrorCode::ServiceUnavailable.number(),
        message: ErrorCode::ServiceUnavailable.default_message().to_owned(),
        retry_after_s: 1,
        code_name: String::new(),
    })
}
