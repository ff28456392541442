//! What clients were told: acknowledgements, refusals, first deliveries; and whether it holds against the store.
//!
//! Owns the checks of the explicit-state model, by the model's numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, ChatMessage, DownstreamRecord};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::Message;
use prost::Message as _;

use crate::chaos::locked;
use crate::tables::Tables;

/// One message a client wants to send.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) conversation: String,
    pub(crate) sender: i64,
    pub(crate) client_msg_id: String,
    pub(crate) content: String,
}

/// Everything clients have heard.
pub(crate) struct Book {
    pub(crate) sent: Vec<Sent>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    acks: BTreeMap<usize, Vec<Ack>>,
    refusals: BTreeMap<usize, Vec<i32>>,
    delivered: BTreeMap<String, Delivered>,
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
    pub(crate) fn new(sent: Vec<Sent>) -> Book {
        Book { sent, heard: Mutex::default() }
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
                Item::Push(push) => {
                    if let Some(message) = push.message {
                        heard.deliver(&message);
                    }
                }
                Item::Signal(_) | Item::Kick(_) | Item::Room(_) => {}
            }
        }
    }

    /// Whether a message was answered.
    pub(crate) fn is_told(&self, index: usize) -> bool {
        let heard = locked(&self.heard);
        heard.acks.contains_key(&index) || heard.refusals.contains_key(&index)
    }

    pub(crate) fn all_told(&self) -> bool {
        (0..self.sent.len()).all(|index| self.is_told(index))
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
            let is_there = answer.iter().any(|m| m.client_msg_id == sent.client_msg_id && m.content == sent.content);
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
            let sent = &self.sent[index];
            let is_stored = tables.rows.values().any(|row| {
                row.identity.conversation == key
                    && row.identity.client_msg_id == sent.client_msg_id.as_bytes()
                    && row.content == sent.content
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
                "message {index}: {} {} {} {:?}, acks (id, seq, corrected) {:?}, refusals {refusals:?}",
                sent.conversation,
                sent.sender,
                sent.client_msg_id,
                sent.content,
                acks.collect::<Vec<_>>()
            )
        });
        lines.collect()
    }

    /// Judges the end of a run.
    pub(crate) fn audit(&self, tables: &Tables) -> Vec<String> {
        let heard = locked(&self.heard);
        let mut violations = heard.violations.clone();
        for (index, sent) in self.sent.iter().enumerate() {
            let none = (Vec::new(), Vec::new());
            let acks = heard.acks.get(&index).unwrap_or(&none.0);
            let refusals = heard.refusals.get(&index).unwrap_or(&none.1);
            violations.extend(judge(sent, acks, refusals, tables).into_iter().map(|v| format!("message {index}: {v}")));
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
    fn deliver(&mut self, message: &ChatMessage) {
        let delivered = self.delivered.entry(message.conversation_id.clone()).or_default();
        if !delivered.ids.insert(message.message_id) {
            return;
        }
        let (seq, id) = (message.seq_id, message.message_id);
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
                && row.content == sent.content
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
    if let Some(other) = refusals.iter().find(|code| **code != reused) {
        violations.push(format!("refused with {other}"));
    }
    violations
}
