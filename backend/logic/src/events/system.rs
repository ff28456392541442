//! System messages: what happened in a group, as an entry of its own stream (pipeline.md A1).
//!
//! Owns their text. Never numbers them: they go through the upstream topic as every message does.

use bytes::Bytes;
use gochat_infra::bus::{BusError, Headers, Record, partition_of};
use gochat_proto::bus::v1::{StreamKind, UpstreamMessage};
use gochat_proto::common::v1::MessageType;
use gochat_proto::events::Event;
use gochat_proto::topics;
use prost::Message as _;
use serde_json::Value;

use super::teller::Teller;
use crate::signals::SendError;

/// Larger groups hear of changes by frames only.
pub(super) const MEMBERS_MAX: i32 = 500;

/// What a system message says.
#[derive(Debug, PartialEq)]
pub(super) struct Note {
    /// Who did it; whoever it happened to when nobody did.
    pub(super) sender: String,
    /// For readers of clients that do not know `extra`.
    pub(super) text: String,
    /// A JSON object: `type` and ids.
    pub(super) extra: Value,
}

/// Sends a note into the stream of the event's conversation. The event's id makes a repetition harmless.
pub(super) async fn send(teller: &Teller, event: &Event, note: Note) -> Result<(), SendError> {
    let Some(message) = upstream(event, note, teller.signals.clock.unix_ms()) else { return Ok(()) };
    let bus = &teller.signals.bus;
    let partitions = bus.partitions(topics::MESSAGES_UPSTREAM).await?;
    let partition = partition_of(message.conversation_id.as_bytes(), partitions);
    let headers =
        Headers { trace_id: Bytes::new(), payload_type: "UpstreamMessage", produced_at_ms: message.received_at_ms };
    let key = Bytes::from(message.conversation_id.clone());
    let produced = bus.produce(
        topics::MESSAGES_UPSTREAM,
        partition,
        vec![Record { key, value: message.encode_to_vec().into(), headers }],
    );
    match produced.await {
        Ok(_) | Err(BusError::TooLarge { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn upstream(event: &Event, note: Note, now_ms: i64) -> Option<UpstreamMessage> {
    Some(UpstreamMessage {
        sender_id: note.sender.parse().ok()?,
        conversation_id: event.conversation_id.clone(),
        message_type: MessageType::System as i32,
        content: note.text,
        extra: note.extra.to_string(),
        client_msg_id: format!("\u{1}e{}", event.event_id),
        received_at_ms: now_ms,
        kind: StreamKind::System.into(),
        ..UpstreamMessage::default()
    })
}

/// At most this many names stand in a text.
const NAMES_MAX: usize = 5;

/// Names for a text.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        names if names.len() > NAMES_MAX => {
            format!("{} and {} others", names[..NAMES_MAX].join(", "), names.len() - NAMES_MAX)
        }
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use gochat_proto::events::EventBody;
    use serde_json::json;

    #[test]
    fn a_note_is_named_after_its_event() {
        let event = Event {
            event_id: "0190-x".into(),
            timestamp: 1,
            conversation_id: "group_1".into(),
            user_id: String::new(),
            friend_id: String::new(),
            operator_id: "7".into(),
            body: EventBody::FriendRemoved {},
        };
        let note = |sender: &str| Note {
            sender: sender.into(),
            text: "ann left".into(),
            extra: json!({"type": "member-left", "userId": "7"}),
        };
        let message = upstream(&event, note("7"), 5).unwrap();
        assert_eq!((message.sender_id, message.message_type, message.kind), (7, 4, StreamKind::System as i32));
        assert_eq!(message.client_msg_id, "\u{1}e0190-x");
        assert_eq!(message.extra, r#"{"type":"member-left","userId":"7"}"#);
        assert!(message.origin.is_none());
        assert!(upstream(&event, note(""), 5).is_none(), "nobody did it");
    }

    #[test]
    fn names() {
        let names: Vec<String> = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned).into();
        assert_eq!(listed(&names[..1]), "a");
        assert_eq!(listed(&names[..3]), "a, b and c");
        assert_eq!(listed(&names), "a, b, c, d, e and 2 others");
    }
}
