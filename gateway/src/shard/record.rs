//! The one copy of a client message on its way in: `gochat.bus.v1.UpstreamMessage` written straight into the uplink's
//! buffer, without the owned strings that the generated type would need.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use gochat_proto::bus::v1::StreamKind;
use gochat_proto::common::v1::MessageType;
use gochat_proto::frames::{RecallMessage, SERVER_ID_MARK, SendMessage};
use gochat_proto::ids::Address;

use crate::limits::RECORD_OVERHEAD_BYTES;

/// Who sends, from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) user_id: i64,
    pub(super) received_at_ms: i64,
    pub(super) gateway: u32,
    pub(super) incarnation: u64,
    pub(super) address: Address,
}

/// Bytes that [`encode`] appends at most.
pub(super) fn bytes_max(message: &SendMessage<'_>) -> usize {
    message.conversation_id.len()
        + message.content.len()
        + message.extra.as_ref().map_or(0, |extra| extra.len())
        + message.client_msg_id.len()
        + message.temp_message_id.as_ref().map_or(0, |id| id.len())
        + RECORD_OVERHEAD_BYTES
}

/// Appends the record; returns where in `out` the conversation id stands.
pub(super) fn encode(message: &SendMessage<'_>, source: &Source, out: &mut BytesMut) -> Range<usize> {
    number(out, 1, source.user_id as u64);
    let key = text(out, 2, &message.conversation_id);
    number(out, 3, message.message_type as u64);
    text(out, 4, &message.content);
    text(out, 5, message.extra.as_deref().unwrap_or_default());
    text(out, 6, &message.client_msg_id);
    text(out, 7, message.temp_message_id.as_deref().unwrap_or_default());
    received(source, out);
    key
}

/// Bytes that [`encode_recall`] appends at most.
pub(super) fn recall_bytes_max(recall: &RecallMessage<'_>) -> usize {
    recall.conversation_id.len() + recall.reason.as_ref().map_or(0, |reason| reason.len()) + 2 * RECORD_OVERHEAD_BYTES
}

/// As [`encode`], for a recall: no content, and the id that every recall of this message has.
pub(super) fn encode_recall(recall: &RecallMessage<'_>, source: &Source, out: &mut BytesMut) -> Range<usize> {
    number(out, 1, source.user_id as u64);
    let key = text(out, 2, &recall.conversation_id);
    number(out, 3, MessageType::System as u64);
    text(out, 6, &format!("{SERVER_ID_MARK}r{}", recall.message_id));
    received(source, out);
    number(out, 10, StreamKind::Recall as u64);
    number(out, 11, recall.message_id.0 as u64);
    text(out, 12, recall.reason.as_deref().unwrap_or_default());
    key
}

/// When and from where it came.
fn received(source: &Source, out: &mut BytesMut) {
    number(out, 8, source.received_at_ms as u64);
    // Origin: a number of at most 1023 and two of 64 fixed bits, so its length has one byte.
    let gateway_bytes = if source.gateway < 0x80 { 2 } else { 3 };
    out.put_u8(9 << 3 | 2);
    out.put_u8(gateway_bytes + 9 + 9);
    number(out, 1, u64::from(source.gateway));
    fixed(out, 2, source.incarnation);
    fixed(out, 3, source.address.0);
}

fn number(out: &mut BytesMut, field: u8, value: u64) {
    out.put_u8(field << 3);
    varint(out, value);
}

fn fixed(out: &mut BytesMut, field: u8, value: u64) {
    out.put_u8(field << 3 | 1);
    out.put_u64_le(value);
}

fn text(out: &mut BytesMut, field: u8, value: &str) -> Range<usize> {
    if !value.is_empty() {
        out.put_u8(field << 3 | 2);
        varint(out, value.len() as u64);
    }
    let start = out.len();
    out.put_slice(value.as_bytes());
    start..out.len()
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;
    use gochat_proto::bus::v1::{Origin, UpstreamMessage};
    use prost::Message;

    fn check(content: &str, extra: Option<&str>, temp: Option<&str>, gateway: u32) {
        let message = SendMessage {
            conversation_id: "single_3_20".into(),
            content: content.into(),
            message_type: MessageType::Voice,
            client_msg_id: "c-1".into(),
            temp_message_id: temp.map(Into::into),
            extra: extra.map(Into::into),
        };
        let source = Source {
            user_id: i64::MAX,
            received_at_ms: 1_700_000_000_123,
            gateway,
            incarnation: 7 << 60,
            address: Address::new(3, 9, 1),
        };
        let mut out = BytesMut::from(&b"before"[..]);
        let key = encode(&message, &source, &mut out);
        assert_eq!(&out[key], b"single_3_20");
        assert!(out.len() - 6 <= bytes_max(&message));
        let expected = UpstreamMessage {
            sender_id: i64::MAX,
            conversation_id: "single_3_20".into(),
            message_type: 5,
            content: content.into(),
            extra: extra.unwrap_or_default().into(),
            client_msg_id: "c-1".into(),
            temp_message_id: temp.unwrap_or_default().into(),
            received_at_ms: 1_700_000_000_123,
            origin: Some(Origin { gateway, incarnation: 7 << 60, address: source.address.0, request: 0 }),
            ..UpstreamMessage::default()
        };
        assert_eq!(UpstreamMessage::decode(&out[6..]).unwrap(), expected);
    }

    #[test]
    fn a_recall_is_what_prost_reads() {
        let source =
            Source { user_id: 7, received_at_ms: 5, gateway: 9, incarnation: 77, address: Address::new(0, 1, 1) };
        for (id, reason) in [(1, None), (i64::MAX, Some("é".repeat(200)))] {
            let message_id = gochat_proto::ids::MessageId(id);
            let conversation_id = "group_9".into();
            let recall = RecallMessage { conversation_id, message_id, reason: reason.clone().map(Into::into) };
            let mut out = BytesMut::new();
            let key = encode_recall(&recall, &source, &mut out);
            assert_eq!(&out[key], b"group_9");
            assert!(out.len() <= recall_bytes_max(&recall));
            let expected = UpstreamMessage {
                sender_id: 7,
                conversation_id: "group_9".into(),
                message_type: 4,
                client_msg_id: format!("\u{1}r{id}"),
                received_at_ms: 5,
                origin: Some(Origin { gateway: 9, incarnation: 77, address: source.address.0, request: 0 }),
                kind: StreamKind::Recall as i32,
                recalled_message_id: id,
                reason: reason.unwrap_or_default(),
                ..UpstreamMessage::default()
            };
            assert_eq!(UpstreamMessage::decode(&out[..]).unwrap(), expected);
        }
    }

    #[test]
    fn the_record_is_what_prost_reads() {
        check("hi", None, None, 1);
        check(&"é".repeat(5_000), Some(&"x".repeat(4096)), Some("temp_1"), 127);
        check("x", Some("{}"), None, 128);
        check("x", None, Some("t"), 1023);
    }
}
