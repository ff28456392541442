//! What clients were told: acknowledgements, refusals, first deliveries; and whether it holds against the store.
//!
//! Owns the checks of the explicit-state model, by the model's numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, DownstreamRecord, Push, StreamKind};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::Message;
use prost::Message as _;

use crate::aftermath::{self, Snapshot};
use crate::chaos::locked;
use crate::crowd::Crowd;
use crate::tables::Tables;

/// One entry of a stream that somebody wants to send.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: StreamKind,
    pub(crate) conversation: String,
    pub(crate) sender: i64,
    /// Of a recall it is made of the message's id.
    pub(crate) client_msg_id: String,
    pub(crate) content: String,
    /// The message that a recall names, by index.
    pub(crate) recalls: usize,
}

/// Whether an entry can be sent yet.
pub(crate) enum Ready {
    Yes,
    /// What it recalls was not answered yet.
    NotYet,
    /// What it recalls was refused.
    Never,
}

/// Everything clients have heard.
pub(crate) struct Book {
    pub(crate) sent: Vec<Sent>,
    pub(crate) crowd: Crowd,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    acks: BTreeMap<usize, Vec<Ack>>,
    refusals: BTreeMap<usize, Vec<i32>>,
    delivered: BTreeMap<String, Delivered>,
    /// Ids that recalls name, by the recall's index.
    targets: BTreeMap<usize, i64>,
    /// Recalls of what was refused, by index.
    given_up: BTreeSet<usize>,
    snapshots: BTreeMap<String, Snapshot>,
    violations: Vec<String>,
}

/// First deliveries of one conversation.
#[derive(Default)]
struct Delivered {
    top: i64,
    ids: BTreeSet<i64>,
    seqs: BTreeMap<i64, i64>,
}

impl Book {
    pub(crate) fn new(sent: Vec<Sent>, crowd: Crowd) -> Book {
        Book { sent, crowd, heard: Mutex::default() }
    }

    /// Whether this entry can be sent; a recall settles what it names by it.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let sent = &self.sent[index];
        if sent.kind != StreamKind::Recall {
            return Ready::Yes;
        }
        let mut heard = locked(&self.heard);
        // A message that was refused may be taken later, when a copy of it arrives: its sender has stopped listening.
        if heard.given_up.contains(&index) {
            return Ready::Never;
        }
        let acked = heard.acks.get(&sent.recalls).and_then(|acks| acks.last()).map(|ack| ack.message_id);
        match acked {
            Some(id) => {
                heard.targets.entry(index).or_insert(id);
                Ready::Yes
            }
            None if heard.refusals.contains_key(&sent.recalls) => {
                heard.given_up.insert(index);
                Ready::Never
            }
            None => Ready::NotYet,
        }
    }

    /// The message that a recall names, once it is known.
    pub(crate) fn target(&self, index: usize) -> Option<i64> {
        locked(&self.heard).targets.get(&index).copied()
    }

    /// As it travels.
    pub(crate) fn client_msg_id(&self, index: usize) -> String {
        match (self.sent[index].kind, self.target(index)) {
            (StreamKind::Recall, target) => format!("\u{1}r{}", target.unwrap_or_default()),
            _ => self.sent[index].client_msg_id.clone(),
        }
    }

    /// Remembers what somebody has who was told that it is complete.
    pub(crate) fn keep(&self, conversation: &str, snapshot: Snapshot) {
        locked(&self.heard).snapshots.insert(conversation.to_owned(), snapshot);
    }

    /// Takes a downstream record. The address of a message's origin is its index plus one.
    pub(crate) fn hear(&self, value: &Bytes) {
        let mut heard = locked(&self.heard);
        let Ok(record) = DownstreamRecord::decode(value.clone()) else {
            return heard.violations.push("a downstream record cannot be decoded".to_owned());
        };
        let index = |address: u64| address as usize - 1;
        for item in record.items.into_iter().filter_map(|i| i.item) {
            match item {
                Item::Ack(ack) => {
                    if let Some(origin) = ack.origin {
                        heard.acks.entry(index(origin.address)).or_default().push(ack);
                    }
                }
                Item::Refusal(refusal) => {
                    if let Some(origin) = refusal.origin {
                        heard.refusals.entry(index(origin.address)).or_default().push(refusal.code);
                    }
                }
                Item::Push(push) => self.pushed(&push, &mut heard),
                Item::Signal(_) | Item::Kick(_) | Item::Room(_) => {}
            }
        }
    }

    fn pushed(&self, push: &Push, heard: &mut Heard) {
        let (conversation, id, seq, client_msg_id, sender) = match (&push.message, &push.recalled) {
            (Some(m), _) => {
                let sender = m.sender.as_ref().map_or(0, |sender| sender.id);
                (&m.conversation_id, m.message_id, m.seq_id, m.client_msg_id.clone(), sender)
            }
            (None, Some(r)) => {
                (&r.conversation_id, r.recall_id, r.seq_id, format!("\u{1}r{}", r.message_id), r.operator_id)
            }
            (None, None) => return heard.violations.push("a push of nothing".to_owned()),
        };
        heard.deliver(conversation, id, seq);
        let receivers = if push.target_conversation_id.is_empty() {
            push.addresses.iter().map(|address| *address as i64).collect()
        } else {
            self.crowd.room(conversation, push.membership_version)
        };
        let is_it = |(index, sent): &(usize, &Sent)| {
            let own = match sent.kind {
                StreamKind::Recall => heard.targets.get(index).map(|id| format!("\u{1}r{id}")).unwrap_or_default(),
                _ => sent.client_msg_id.clone(),
            };
            (&sent.conversation, sent.sender, own) == (conversation, sender, client_msg_id.clone())
                && push.message.as_ref().is_none_or(|m| m.content == sent.content)
        };
        let messages: Vec<usize> = self.sent.iter().enumerate().filter(is_it).map(|(index, _)| index).collect();
        let strangers = self.crowd.strangers(conversation, &messages, &receivers);
        if !strangers.is_empty() {
            heard
                .violations
                .push(format!("11: {strangers:?} were removed from {conversation}, yet received {messages:?}"));
        }
    }

    /// Whether an entry was answered for good.
    pub(crate) fn is_told(&self, index: usize) -> bool {
        let heard = locked(&self.heard);
        let for_good = |code: &i32| *code != ErrorCode::ServiceUnavailable.number();
        heard.acks.contains_key(&index) || heard.refusals.get(&index).is_some_and(|codes| codes.iter().any(for_good))
    }

    pub(crate) fn all_told(&self) -> bool {
        (0..self.sent.len()).all(|index| self.is_told(index) || matches!(self.ready(index), Ready::Never))
    }

    /// Messages of a conversation that are acknowledged by now.
    pub(crate) fn acknowledged(&self, conversation: &str) -> Vec<usize> {
        let heard = locked(&self.heard);
        heard.acks.keys().copied().filter(|i| self.sent[*i].conversation == conversation).collect()
    }

    /// Checks an answer that says it is complete against what was acknowledged before it was asked for.
    pub(crate) fn check_complete(&self, acknowledged: &[usize], answer: &[Message]) {
        for index in acknowledged {
            let sent = &self.sent[*index];
            let id = self.client_msg_id(*index);
            let is_there = answer.iter().any(|m| m.client_msg_id == id && (m.deleted || m.content == sent.content));
            let violation = format!("4b: complete without acknowledged message {index}");
            let mut heard = locked(&self.heard);
            if !is_there && !heard.violations.contains(&violation) {
                heard.violations.push(violation);
            }
        }
    }

    /// The same as one instant, for a conversation whose log the store has consumed: what is acknowledged is stored.
    pub(crate) fn check_instant(&self, conversation: &str, tables: &Tables) {
        let Some(key) = tables.conversations.values().find(|c| c.id == conversation).map(|c| c.head.key) else {
            return;
        };
        for index in self.acknowledged(conversation) {
            let (sent, id) = (&self.sent[index], self.client_msg_id(index));
            let is_stored = tables.rows.values().any(|row| {
                row.identity.conversation == key
                    && row.identity.client_msg_id == id.as_bytes()
                    && row.was == sent.content
            });
            let violation = format!("4b: all is consumed, without acknowledged message {index}");
            let mut heard = locked(&self.heard);
            if !is_stored && !heard.violations.contains(&violation) {
                heard.violations.push(violation);
            }
        }
    }

    /// A line for each message: what was sent and what was heard of it.
    pub(crate) fn describe(&self) -> Vec<String> {
        let heard = locked(&self.heard);
        let lines = self.sent.iter().enumerate().map(|(index, sent)| {
            let acks = heard.acks.get(&index).into_iter().flatten().map(|a| (a.message_id, a.seq_id, a.corrected));
            let refusals = heard.refusals.get(&index);
            format!(
                "{} {index}: {} {} {} {:?}, acks (id, seq, corrected) {:?}, refusals {refusals:?}",
                aftermath::kind_of(sent.kind),
                sent.conversation,
                sent.sender,
                if sent.kind == StreamKind::Recall {
                    format!("of {}", sent.recalls)
                } else {
                    sent.client_msg_id.clone()
                },
                sent.content,
                acks.collect::<Vec<_>>()
            )
        });
        lines.collect()
    }

    /// Judges the end of a run, with this many failovers behind it; `blind` clients read no recalls.
    pub(crate) fn audit(&self, tables: &Tables, term: u64, blind: bool) -> Vec<String> {
        let ids: Vec<String> = (0..self.sent.len()).map(|index| self.client_msg_id(index)).collect();
        let never = |index: usize| matches!(self.ready(index), Ready::Never);
        let unsent: BTreeSet<usize> = (0..self.sent.len()).filter(|index| never(*index)).collect();
        let heard = locked(&self.heard);
        let mut violations = heard.violations.clone();
        for (conversation, snapshot) in heard.snapshots.iter().filter(|(_, snapshot)| snapshot.term == term) {
            if let Some(stored) = tables.by_id(conversation) {
                violations.extend(aftermath::check_sync(stored, tables, snapshot, blind));
            }
        }
        violations.extend(aftermath::check_recalls(tables));
        for (index, sent) in self.sent.iter().enumerate().filter(|(index, _)| !unsent.contains(index)) {
            let none = (Vec::new(), Vec::new());
            let acks = heard.acks.get(&index).unwrap_or(&none.0);
            let refusals = heard.refusals.get(&index).unwrap_or(&none.1);
            let sent = Sent { client_msg_id: ids[index].clone(), ..sent.clone() };
            violations
                .extend(judge(&sent, acks, refusals, tables).into_iter().map(|v| format!("message {index}: {v}")));
            let comes_and_goes = self.crowd.comes_and_goes(&sent.conversation, sent.sender);
            let target = heard.targets.get(&index).and_then(|id| tables.rows.get(id));
            let wrong =
                refusals.iter().find(|code| !may_be_refused(&sent, **code, comes_and_goes, target.is_some(), term));
            violations.extend(wrong.map(|code| format!("message {index}: 8: refused with {code}")));
        }
        for conversation in tables.conversations.values() {
            let head = &conversation.head;
            let rows = tables.places.range((head.key, 0)..=(head.key, i64::MAX));
            let top = rows.map(|((_, seq), _)| *seq).max().unwrap_or(0);
            if head.stored_through_seq < top {
                violations
                    .push(format!("5b: storedThroughSeq of {} stays at {}", conversation.id, head.stored_through_seq));
            }
        }
        if !tables.parked.is_empty() {
            violations.push(format!("5c: parked {:?}", tables.parked.iter().map(|p| &p.reason).collect::<Vec<_>>()));
        }
        if !tables.outbox.is_empty() {
            violations.push("5d: the outbox was not relayed".to_owned());
        }
        violations
    }
}

impl Heard {
    fn deliver(&mut self, conversation: &str, id: i64, seq: i64) {
        let delivered = self.delivered.entry(conversation.to_owned()).or_default();
        if !delivered.ids.insert(id) {
            return;
        }
        if let Some(other) = delivered.seqs.insert(seq, id) {
            self.violations.push(format!("3b: messages {other} and {id} both pushed under {seq}"));
        }
        if seq < delivered.top {
            self.violations.push(format!("3: first push of {seq} comes after {}", delivered.top));
        }
        delivered.top = delivered.top.max(seq);
    }
}

fn judge(sent: &Sent, acks: &[Ack], refusals: &[i32], tables: &Tables) -> Vec<String> {
    let mut violations = Vec::new();
    let conversation = tables.conversations.values().find(|c| c.id == sent.conversation).map_or(0, |c| c.head.key);
    let rows: Vec<_> = tables
        .rows
        .values()
        .filter(|row| {
            (row.identity.conversation, row.identity.sender_id) == (conversation, sent.sender)
                && row.identity.client_msg_id == sent.client_msg_id.as_bytes()
                && row.was == sent.content
        })
        .collect();
    if rows.len() > 1 {
        violations.push(format!("2: stored {} times", rows.len()));
    }
    let Some(row) = rows.first().map(|row| &row.identity) else {
        if !acks.is_empty() {
            violations.push("1: acknowledged and lost".to_owned());
        } else if refusals.is_empty() {
            violations.push("5: without an answer".to_owned());
        }
        return violations;
    };
    if acks.is_empty() && refusals.is_empty() {
        violations.push("5: stored, without an answer".to_owned());
    }
    let is_row = |ack: &Ack| (ack.message_id, ack.seq_id) == (row.id, row.seq);
    if acks.iter().any(|ack| !is_row(ack)) && !acks.iter().any(|ack| ack.corrected && is_row(ack)) {
        violations.push("1a: acknowledged under another number, without a correction".to_owned());
    }
    if acks.iter().any(|ack| ack.corrected && !is_row(ack)) {
        violations.push("1b: corrected to what is not stored".to_owned());
    }
    let reused = ErrorCode::ClientMsgIdReused.number();
    if acks.is_empty() && refusals.contains(&reused) {
        violations.push("7: refused, yet stored".to_owned());
    }
    violations
}

/// 8: whether the rules allow this refusal.
fn may_be_refused(sent: &Sent, code: i32, comes_and_goes: bool, is_target_stored: bool, failovers: u64) -> bool {
    match ErrorCode::from_number(code) {
        Some(ErrorCode::NotConversationMember) => comes_and_goes && sent.kind != StreamKind::System,
        Some(ErrorCode::ClientMsgIdReused) => sent.kind == StreamKind::Chat,
        // Its message was acknowledged: it is stored, but for a number that was void and corrected; a store that has just
        // failed over may not know it for a moment.
        Some(ErrorCode::MessageNotFound) => sent.kind == StreamKind::Recall && (!is_target_stored || failovers > 0),
        Some(ErrorCode::MessageRecalled) => sent.kind == StreamKind::Recall && failovers > 0,
        Some(ErrorCode::RecallTimeExceeded | ErrorCode::ServiceUnavailable) => sent.kind == StreamKind::Recall,
        _ => false,
    }
}
