//! What clients send: the entries of a run, and one sending of one of them.
//!
//! Owns their draw from the seed. Never decides when.

use gochat_infra::bus::{Headers, Record, partition_of};
use gochat_proto::bus::v1::{Origin, StreamKind, UpstreamMessage};
use gochat_proto::topics;
use prost::Message as _;

use crate::book::{Book, Sent};
use crate::bus::Logs;
use crate::chaos::Chaos;

/// Upstream and persist partitions.
pub(crate) const PARTITIONS: u32 = 2;

/// Messages in some conversations, some of them reused ids, system messages, and recalls of some of them.
pub(crate) fn entries(chaos: &Chaos, conversations: &[(String, Vec<i64>)]) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    for n in 0..4 + chaos.below(10) {
        let before = sent.last().filter(|before| before.kind == StreamKind::Chat && chaos.one_in(6)).cloned();
        let content = format!("content {n}");
        sent.push(match before {
            Some(before) => Sent { content, ..before },
            None => {
                let (conversation, members) = &conversations[chaos.below(conversations.len() as u64) as usize];
                // One of two who stay, or, in a group, now and then one who comes and goes.
                let sender = match members.last() {
                    Some(last) if members.len() > 2 && chaos.one_in(5) => *last,
                    _ => members[chaos.below(2) as usize],
                };
                let is_system = members.len() > 2 && chaos.one_in(6);
                let (kind, client_msg_id) = match is_system {
                    true => (StreamKind::System, format!("\u{1}e{n}")),
                    false => (StreamKind::Chat, format!("m{n}")),
                };
                Sent { kind, conversation: conversation.clone(), sender, client_msg_id, content, recalls: 0 }
            }
        });
    }
    for recalls in 0..sent.len() {
        if sent[recalls].kind == StreamKind::Chat && chaos.one_in(4) {
            let (client_msg_id, content) = (String::new(), String::new());
            sent.push(Sent { kind: StreamKind::Recall, client_msg_id, content, recalls, ..sent[recalls].clone() });
        }
    }
    sent
}

/// Writes an entry to the upstream topic.
pub(crate) fn send(logs: &Logs, book: &Book, index: usize) {
    book.crowd.sends(index);
    let sent = &book.sent[index];
    let origin = Origin { gateway: 1, incarnation: 1, address: index as u64 + 1, request: 0 };
    let message = UpstreamMessage {
        sender_id: sent.sender,
        conversation_id: sent.conversation.clone(),
        message_type: if sent.kind == StreamKind::Chat { 1 } else { 4 },
        content: sent.content.clone(),
        client_msg_id: book.client_msg_id(index),
        origin: Some(origin),
        kind: sent.kind.into(),
        recalled_message_id: book.target(index).unwrap_or_default(),
        ..UpstreamMessage::default()
    };
    let headers = Headers { payload_type: "UpstreamMessage", ..Headers::default() };
    let record = Record { key: sent.conversation.clone().into(), value: message.encode_to_vec().into(), headers };
    let partition = partition_of(sent.conversation.as_bytes(), PARTITIONS);
    logs.write(topics::MESSAGES_UPSTREAM, partition, vec![record]);
}
