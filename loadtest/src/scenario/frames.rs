//! GoChat's frames as this client reads and writes them: only the fields a load test needs, borrowed from the receive
//! buffer. Judges nothing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A frame from the server.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) data: Data<'a>,
}

/// The fields of all frame types that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Data<'a> {
    #[serde(borrow)]
    pub(super) client_msg_id: Text<'a>,
    #[serde(borrow, rename = "clientMsgId")]
    pub(super) of_sender: Text<'a>,
    #[serde(borrow, rename = "messageId")]
    pub(super) message_id: Text<'a>,
    #[serde(borrow)]
    pub(super) content: Text<'a>,
    #[serde(rename = "seqId")]
    pub(super) seq: u32,
    pub(super) corrected: bool,
    pub(super) redelivered: bool,
    #[serde(borrow)]
    pub(super) code: Text<'a>,
    #[serde(borrow)]
    pub(super) details: Details<'a>,
}

/// The details of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details<'a> {
    #[serde(borrow)]
    pub(super) client_msg_id: Text<'a>,
    /// Seconds.
    #[serde(rename = "retryAfter")]
    pub(super) retry_after: u32,
}

/// A text that is borrowed unless it holds escapes. A number, such as the code of a `closing` frame, is an empty one.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, _number: u64) -> Result<Text<'de>, E> {
        Ok(Text::default())
    }
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> Frame<'a> {
    /// Reads one frame; `None` when it is not one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Frame<'a>> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }
}

/// Appends a `send-message` frame. None of the parts holds a character that JSON escapes.
pub(super) fn write_send(conversation: &str, content: &[u8], write_id: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"send-message","data":{"conversationId":""#);
    out.extend_from_slice(conversation.as_bytes());
    out.extend_from_slice(br#"","content":""#);
    out.extend_from_slice(content);
    out.extend_from_slice(br#"","messageType":1,"client_msg_id":""#);
    write_id(out);
    out.extend_from_slice(br#""}}"#);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_servers_frames_are_read_without_copies() {
        let ack = br#"{"type":"message-ack","data":{"client_msg_id":"a1","messageId":"77","status":"success","conversationId":"c","seqId":9,"createdAt":1,"duplicate":false,"corrected":true},"timestamp":2}"#;
        let frame = Frame::parse(ack).unwrap();
        assert!(
            frame.is("message-ack")
                && frame.data.corrected
                && matches!(frame.data.client_msg_id.0, Cow::Borrowed("a1"))
        );
        assert_eq!((frame.data.message_id.as_str(), frame.data.seq), ("77", 9));
        let new = br#"{"type":"new-message","data":{"id":"7","conversationId":"c","conversationType":1,"senderId":"1","sender":{"id":"1","isGuest":false},"content":"a\"b","messageType":1,"seqId":3,"createdAt":1,"clientMsgId":"x","redelivered":true},"timestamp":8}"#;
        let frame = Frame::parse(new).unwrap();
        assert_eq!((frame.data.content.as_str(), frame.data.of_sender.as_str(), frame.data.seq), ("a\"b", "x", 3));
        assert!(frame.data.redelivered);
        let error = br#"{"type":"error","data":{"code":"RATE_LIMITED","message":"m","details":{"client_msg_id":"i","retryAfter":2}},"timestamp":1}"#;
        let frame = Frame::parse(error).unwrap();
        assert_eq!((frame.data.details.client_msg_id.as_str(), frame.data.details.retry_after), ("i", 2));
        let closing =
            br#"{"type":"closing","data":{"code":4009,"reason":"slow consumer, queue overflow"},"timestamp":1}"#;
        assert!(Frame::parse(closing).unwrap().is("closing"), "its code is a number");
        assert!(Frame::parse(br#"{"type":"pong","timestamp":1}"#).unwrap().is("pong"));
        assert!(Frame::parse(b"{").is_none() && Frame::parse(b"[]").is_none());
    }

    #[test]
    fn what_is_sent_is_json() {
        let mut out = Vec::new();
        write_send("c9", b"hello", |out| out.extend_from_slice(b"id"), &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["data"]["conversationId"], "c9");
        assert_eq!(value["data"]["client_msg_id"], "id");
        assert_eq!((&value["data"]["messageType"], &value["data"]["content"]), (&1.into(), &"hello".into()));
    }
}
