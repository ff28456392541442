//! One entry of a conversation's stream as it came in: what it must look like by its kind (spec 06 §3.1 step 4), its
//! hash (pipeline.md B1), and the row that a recall becomes (D3).
//!
//! Pure. Never knows who is a member, nor what is stored.

use gochat_proto::bus::v1::{StreamKind, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use xxhash_rust::xxh3::xxh3_128;

/// Characters of a message's content at most.
const CONTENT_CHARS_MAX: usize = 5_000;
/// Bytes of `extra` at most.
const EXTRA_BYTES_MAX: usize = 4 * 1024;
/// Characters of `client_msg_id` at most.
const CLIENT_MSG_ID_CHARS_MAX: usize = 64;
/// Bytes of a conversation id at most.
const CONVERSATION_ID_BYTES_MAX: usize = 64;
/// Characters of a recall's reason at most.
const REASON_CHARS_MAX: usize = 200;
/// Begins the client ids of what no client named.
const OUR_OWN: char = '\u{1}';
/// Message type of system messages and recalls.
const TYPE_SYSTEM: i32 = 4;
/// Bytes of a recall's `extra` without its reason: names, three numbers, punctuation.
const RECALL_EXTRA_BYTES: usize = 160;
/// Bytes that one byte of a reason takes in JSON at most.
const ESCAPE_BYTES_MAX: usize = 6;

/// Gives every recall the type of its row, whatever the gateway wrote; nothing else is touched.
pub(crate) fn normalize(message: &mut UpstreamMessage) {
    if message.kind == StreamKind::Recall as i32 {
        message.message_type = TYPE_SYSTEM;
    }
}

/// What is wrong with an entry before anybody is asked about it.
pub(crate) fn check(message: &UpstreamMessage) -> Result<(), ErrorCode> {
    if message.sender_id <= 0
        || message.conversation_id.is_empty()
        || message.conversation_id.len() > CONVERSATION_ID_BYTES_MAX
        || message.client_msg_id.is_empty()
        || message.client_msg_id.chars().count() > CLIENT_MSG_ID_CHARS_MAX
    {
        return Err(ErrorCode::InvalidMessage);
    }
    match StreamKind::try_from(message.kind) {
        Ok(StreamKind::Chat) if message.client_msg_id.starts_with(OUR_OWN) => Err(ErrorCode::InvalidMessage),
        Ok(StreamKind::Chat) if !matches!(message.message_type, 1 | 2 | 3 | 5 | 6) => {
            Err(ErrorCode::UnsupportedMessageType)
        }
        Ok(StreamKind::Chat) => check_content(message),
        Ok(StreamKind::System)
            if message.message_type == TYPE_SYSTEM
                && message.client_msg_id.strip_prefix(OUR_OWN).is_some_and(|id| id.starts_with('e')) =>
        {
            check_content(message)
        }
        Ok(StreamKind::Recall) if is_recall(message) => Ok(()),
        Ok(StreamKind::System | StreamKind::Recall) | Err(_) => Err(ErrorCode::InvalidMessage),
    }
}

fn is_recall(message: &UpstreamMessage) -> bool {
    let target = message.recalled_message_id;
    target > 0
        && message.client_msg_id == format!("{OUR_OWN}r{target}")
        && message.content.is_empty()
        && message.extra.is_empty()
        && message.reason.chars().count() <= REASON_CHARS_MAX
}

fn check_content(message: &UpstreamMessage) -> Result<(), ErrorCode> {
    if message.content.is_empty() {
        return Err(ErrorCode::MessageEmpty);
    }
    // Bytes bound characters from above, so that the usual short message is never counted.
    if message.content.len() > CONTENT_CHARS_MAX && message.content.chars().count() > CONTENT_CHARS_MAX {
        return Err(ErrorCode::MessageTooLarge);
    }
    if message.extra.len() > EXTRA_BYTES_MAX {
        return Err(ErrorCode::MessageTooLarge);
    }
    if !message.extra.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(&message.extra).is_err() {
        return Err(ErrorCode::InvalidMessage);
    }
    Ok(())
}

/// B1: of the length-prefixed type, content and extra as they came in. A recall's hash says nothing of its reason: asked
/// again with another one it is still the same recall.
pub(crate) fn content_hash(message: &UpstreamMessage, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&message.message_type.to_le_bytes());
    for part in [&message.content, &message.extra] {
        scratch.extend_from_slice(&(part.len() as u64).to_le_bytes());
        scratch.extend_from_slice(part.as_bytes());
    }
    xxh3_128(scratch)
}

/// The `extra` of a recall's row.
pub(crate) fn recall_extra(message: &UpstreamMessage, recalled_seq: i64) -> String {
    serde_json::json!({
        "type": "recall",
        "messageId": message.recalled_message_id.to_string(),
        "seqId": recalled_seq,
        "operatorId": message.sender_id.to_string(),
        "reason": message.reason,
    })
    .to_string()
}

/// Bytes that a row may be larger than the upstream record it came in.
pub(crate) fn growth(message: &UpstreamMessage) -> usize {
    if message.kind == StreamKind::Recall as i32 {
        RECALL_EXTRA_BYTES + message.reason.len() * ESCAPE_BYTES_MAX
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn upstream(content: &str, client_msg_id: &str) -> UpstreamMessage {
        UpstreamMessage {
            sender_id: 7,
            conversation_id: "c1".into(),
            message_type: 1,
            content: content.into(),
            client_msg_id: client_msg_id.into(),
            ..UpstreamMessage::default()
        }
    }

    fn recall() -> UpstreamMessage {
        UpstreamMessage {
            kind: StreamKind::Recall.into(),
            message_type: 4,
            recalled_message_id: 9,
            ..upstream("", "\u{1}r9")
        }
    }

    #[test]
    fn bad_messages_are_refused() {
        let long = "é".repeat(CONTENT_CHARS_MAX + 1);
        let cases: Vec<(UpstreamMessage, ErrorCode)> = vec![
            (upstream("", "1"), ErrorCode::MessageEmpty),
            (upstream(&long, "1"), ErrorCode::MessageTooLarge),
            (upstream("a", ""), ErrorCode::InvalidMessage),
            (upstream("a", &"x".repeat(65)), ErrorCode::InvalidMessage),
            (UpstreamMessage { message_type: 4, ..upstream("a", "1") }, ErrorCode::UnsupportedMessageType),
            (UpstreamMessage { extra: "{".into(), ..upstream("a", "1") }, ErrorCode::InvalidMessage),
            (UpstreamMessage { extra: "1".repeat(4097), ..upstream("a", "1") }, ErrorCode::MessageTooLarge),
            (UpstreamMessage { sender_id: 0, ..upstream("a", "1") }, ErrorCode::InvalidMessage),
            (upstream("a", "\u{1}r9"), ErrorCode::InvalidMessage),
            (upstream("a", "\u{1}"), ErrorCode::InvalidMessage),
            (UpstreamMessage { kind: 17, ..upstream("a", "1") }, ErrorCode::InvalidMessage),
        ];
        for (message, code) in cases {
            assert_eq!(check(&message), Err(code), "{message:?}");
        }
        assert_eq!(check(&upstream(&"é".repeat(CONTENT_CHARS_MAX), &"x".repeat(64))), Ok(()));
        assert_eq!(check(&upstream("a", "a\u{1}")), Ok(()));
    }

    #[test]
    fn recalls_and_system_messages_have_ids_of_our_own() {
        assert_eq!(check(&recall()), Ok(()));
        let wrong = [
            UpstreamMessage { recalled_message_id: 10, ..recall() },
            UpstreamMessage { client_msg_id: "r9".into(), ..recall() },
            UpstreamMessage { content: "x".into(), ..recall() },
            UpstreamMessage { reason: "x".repeat(201), ..recall() },
            UpstreamMessage { kind: StreamKind::System.into(), ..upstream("a", "1") },
            UpstreamMessage { kind: StreamKind::System.into(), message_type: 4, ..upstream("a", "e1") },
        ];
        for message in wrong {
            assert_eq!(check(&message), Err(ErrorCode::InvalidMessage), "{message:?}");
        }
        let system = UpstreamMessage { kind: StreamKind::System.into(), message_type: 4, ..upstream("a", "\u{1}e1") };
        assert_eq!(check(&system), Ok(()));
    }

    #[test]
    fn the_content_hash_keeps_its_parts_apart() {
        let mut scratch = Vec::new();
        let mut hash = |content: &str, extra: &str| {
            content_hash(&UpstreamMessage { extra: extra.into(), ..upstream(content, "1") }, &mut scratch)
        };
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
        assert_eq!(hash("ab", "c"), hash("ab", "c"));
    }

    #[test]
    fn a_recalls_row_names_what_it_recalls_and_is_not_larger_than_foreseen() {
        for reason in ["spam", "", "\u{1}\u{2}\"\\", &"\u{1}".repeat(200), &"𝄞".repeat(200)] {
            let message = UpstreamMessage {
                reason: reason.into(),
                sender_id: i64::MAX,
                recalled_message_id: i64::MAX,
                ..recall()
            };
            let extra = recall_extra(&message, i64::MAX);
            assert!(extra.len() <= growth(&message), "{} bytes", extra.len());
            let json: serde_json::Value = serde_json::from_str(&extra).unwrap();
            assert_eq!((&json["type"], &json["seqId"]), (&"recall".into(), &i64::MAX.into()));
            assert_eq!((&json["messageId"], &json["reason"]), (&i64::MAX.to_string().into(), &reason.into()));
        }
    }
}
