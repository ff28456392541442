//! Frames that clients send (spec 02 §3): parsed and checked field by field.
//!
//! Owns presence, types and sizes of fields. Never looks at rights or at whether what is named exists.

use std::borrow::Cow;

use super::error::FrameError;
use super::fields::{self, Fields, Value};
use super::limits::{
    CLIENT_MSG_ID_CHARS_MAX, CONTENT_CHARS_MAX, CONVERSATION_ID_CHARS_MAX, EXTRA_BYTES_MAX, REASON_CHARS_MAX,
    SERVER_ID_MARK,
};
use crate::codes::ErrorCode;
use crate::common::v1::MessageType;
use crate::ids::MessageId;

/// One frame of a client. Texts borrow from the input unless they have escapes.
#[derive(Debug, PartialEq)]
pub enum ClientFrame<'a> {
    /// `send-message`
    SendMessage(SendMessage<'a>),
    /// `mark-read`
    MarkRead(MarkRead<'a>),
    /// `ping`
    Ping,
    /// `typing`
    Typing {
        /// Where.
        conversation_id: Cow<'a, str>,
    },
    /// `stop-typing`
    StopTyping {
        /// Where.
        conversation_id: Cow<'a, str>,
    },
    /// `recall-message`
    RecallMessage(RecallMessage<'a>),
    /// `auth-refresh`
    AuthRefresh {
        /// A new access token of the same user.
        token: Cow<'a, str>,
    },
}

/// A message to send; also the body of the HTTP send.
#[derive(Debug, PartialEq)]
pub struct SendMessage<'a> {
    /// 1 to [`CONVERSATION_ID_CHARS_MAX`] characters, not checked further.
    pub conversation_id: Cow<'a, str>,
    /// 1 to [`CONTENT_CHARS_MAX`] characters.
    pub content: Cow<'a, str>,
    /// Never unspecified, never system.
    pub message_type: MessageType,
    /// 1 to [`CLIENT_MSG_ID_CHARS_MAX`] characters. An older client's tempMessageId serves when there is no other.
    pub client_msg_id: Cow<'a, str>,
    /// To be echoed.
    pub temp_message_id: Option<Cow<'a, str>>,
    /// At most [`EXTRA_BYTES_MAX`] bytes, JSON by agreement, not parsed.
    pub extra: Option<Cow<'a, str>>,
}

/// Everything up to a sequence number was read.
#[derive(Debug, PartialEq)]
pub struct MarkRead<'a> {
    /// Where.
    pub conversation_id: Cow<'a, str>,
    /// 0 or above.
    pub seq_id: i64,
}

/// A message to take back; also what the HTTP recall says.
#[derive(Debug, PartialEq)]
pub struct RecallMessage<'a> {
    /// Where.
    pub conversation_id: Cow<'a, str>,
    /// Which.
    pub message_id: MessageId,
    /// At most [`REASON_CHARS_MAX`] characters.
    pub reason: Option<Cow<'a, str>>,
}

/// Parses one text frame. Unknown fields are ignored; null counts as absent.
pub fn parse(input: &[u8]) -> Result<ClientFrame<'_>, FrameError<'_>> {
    let envelope = fields::envelope(input).ok_or_else(|| FrameError::invalid("", "not a JSON object"))?;
    let kind = match envelope.kind {
        Value::Text(kind) => kind,
        Value::Absent => return Err(FrameError::invalid("type", "is required")),
        Value::Int(_) | Value::Other => return Err(FrameError::invalid("type", "must be a string")),
    };
    let data = envelope.data.ok_or_else(|| FrameError::invalid("data", "must be an object"));
    match &*kind {
        "send-message" => data.and_then(send_message).map(ClientFrame::SendMessage),
        "mark-read" => data.and_then(mark_read).map(ClientFrame::MarkRead),
        "ping" => Ok(ClientFrame::Ping),
        "typing" => Ok(ClientFrame::Typing { conversation_id: conversation_id(data?.conversation_id)? }),
        "stop-typing" => Ok(ClientFrame::StopTyping { conversation_id: conversation_id(data?.conversation_id)? }),
        "recall-message" => data.and_then(recall_message).map(ClientFrame::RecallMessage),
        "auth-refresh" => Ok(ClientFrame::AuthRefresh { token: required(data?.token, "token")? }),
        _ => Err(FrameError::invalid("type", "is unknown")),
    }
}

/// Parses the body of an HTTP send, whose conversation stands in the path: same fields, same limits.
pub fn parse_send_body<'a>(conversation_id: &'a str, input: &'a [u8]) -> Result<SendMessage<'a>, FrameError<'a>> {
    let mut fields = fields::body(input).ok_or_else(|| FrameError::invalid("", "not a JSON object"))?;
    fields.conversation_id = Value::Text(Cow::Borrowed(conversation_id));
    send_message(fields)
}

fn send_message(fields: Fields<'_>) -> Result<SendMessage<'_>, FrameError<'_>> {
    let Fields { conversation_id: conversation, client_msg_id, temp_message_id, content, message_type, extra, .. } =
        fields;
    let conversation_id = conversation_id(conversation);
    let temp_message_id =
        optional(temp_message_id, "tempMessageId").and_then(|id| id.map(|id| own_id(id, "tempMessageId")).transpose());
    let client_msg_id = match (client_msg_id, &temp_message_id) {
        (Value::Absent, Ok(Some(temp))) => Ok(temp.clone()),
        (own, _) => required(own, "client_msg_id"),
    }
    .and_then(|id| own_id(id, "client_msg_id"));
    let rest = message_type_of(message_type).and_then(|t| Ok((t, content_of(content)?, extra_of(extra)?)));

    // What was readable is told back, whichever field is wrong.
    match (conversation_id, client_msg_id, temp_message_id, rest) {
        (Ok(conversation_id), Ok(client_msg_id), Ok(temp_message_id), Ok((message_type, content, extra))) => {
            Ok(SendMessage { conversation_id, content, message_type, client_msg_id, temp_message_id, extra })
        }
        (conversation_id, client_msg_id, temp_message_id, rest) => {
            let (conversation_id, error) = split(conversation_id, None);
            let (temp_message_id, error) = split(temp_message_id, error);
            let (client_msg_id, error) = split(client_msg_id, error);
            let (_, error) = split(rest, error);
            let error = error.unwrap_or_else(|| FrameError::invalid("", "not understood"));
            Err(FrameError { client_msg_id, temp_message_id: temp_message_id.flatten(), conversation_id, ..error })
        }
    }
}

/// The value if there is one; the first error wins.
fn split<'a, T>(
    result: Result<T, FrameError<'a>>,
    earlier: Option<FrameError<'a>>,
) -> (Option<T>, Option<FrameError<'a>>) {
    match result {
        Ok(value) => (Some(value), earlier),
        Err(error) => (None, earlier.or(Some(error))),
    }
}

fn mark_read(fields: Fields<'_>) -> Result<MarkRead<'_>, FrameError<'_>> {
    let conversation_id = conversation_id(fields.conversation_id)?;
    let wrong = match fields.seq_id {
        Value::Int(seq_id @ 0..) => return Ok(MarkRead { conversation_id, seq_id }),
        Value::Int(_) => "must be 0 or above",
        Value::Absent => "is required",
        Value::Text(_) | Value::Other => "must be an integer",
    };
    Err(FrameError { conversation_id: Some(conversation_id), ..FrameError::invalid("seqId", wrong) })
}

fn recall_message(fields: Fields<'_>) -> Result<RecallMessage<'_>, FrameError<'_>> {
    let conversation_id = conversation_id(fields.conversation_id)?;
    let message_id = required(fields.message_id, "messageId")
        .and_then(|id| id.parse().map_err(|_| FrameError::invalid("messageId", "is not a message id")));
    let reason = optional(fields.reason, "reason")
        .and_then(|reason| reason.map(|reason| at_most(reason, REASON_CHARS_MAX, "reason")).transpose());
    match (message_id, reason) {
        (Ok(message_id), Ok(reason)) => Ok(RecallMessage { conversation_id, message_id, reason }),
        (message_id, Err(error)) => {
            let recalled = message_id.map_or(0, |id: MessageId| id.0);
            Err(FrameError { conversation_id: Some(conversation_id), recalled, ..error })
        }
        (Err(error), Ok(_)) => Err(FrameError { conversation_id: Some(conversation_id), ..error }),
    }
}

/// An id that a client gives its message. Those that begin with U+0001 are the server's, for what no client named.
fn own_id<'a>(id: Cow<'a, str>, field: &'static str) -> Result<Cow<'a, str>, FrameError<'a>> {
    if id.starts_with(SERVER_ID_MARK) {
        return Err(FrameError::invalid(field, "must not begin with U+0001"));
    }
    at_most(id, CLIENT_MSG_ID_CHARS_MAX, field)
}

fn conversation_id(value: Value<'_>) -> Result<Cow<'_, str>, FrameError<'_>> {
    at_most(required(value, "conversationId")?, CONVERSATION_ID_CHARS_MAX, "conversationId")
}

/// Integers 1, 2, 3, 5, 6, or their names as older clients send them. System messages are the server's.
fn message_type_of<'a>(value: Value<'_>) -> Result<MessageType, FrameError<'a>> {
    let message_type = match value {
        Value::Int(1) => MessageType::Text,
        Value::Int(2) => MessageType::Image,
        Value::Int(3) => MessageType::File,
        Value::Int(5) => MessageType::Voice,
        Value::Int(6) => MessageType::Video,
        Value::Text(name) => match &*name {
            "text" => MessageType::Text,
            "image" => MessageType::Image,
            "file" => MessageType::File,
            "voice" => MessageType::Voice,
            "video" => MessageType::Video,
            _ => MessageType::Unspecified,
        },
        Value::Int(_) => MessageType::Unspecified,
        Value::Absent => return Err(FrameError::invalid("messageType", "is required")),
        Value::Other => return Err(FrameError::invalid("messageType", "must be an integer")),
    };
    if message_type == MessageType::Unspecified {
        let reason = "must be 1 text, 2 image, 3 file, 5 voice or 6 video";
        return Err(FrameError::new(ErrorCode::UnsupportedMessageType, "messageType", reason));
    }
    Ok(message_type)
}

fn content_of(value: Value<'_>) -> Result<Cow<'_, str>, FrameError<'_>> {
    let content = optional(value, "content")?.ok_or_else(|| FrameError::invalid("content", "is required"))?;
    if content.is_empty() {
        return Err(FrameError::new(ErrorCode::MessageEmpty, "content", "must not be empty"));
    }
    if longer_than(&content, CONTENT_CHARS_MAX) {
        return Err(FrameError::new(ErrorCode::MessageTooLarge, "content", "is longer than 5000 characters"));
    }
    Ok(content)
}

fn extra_of(value: Value<'_>) -> Result<Option<Cow<'_, str>>, FrameError<'_>> {
    let extra = optional(value, "extra")?;
    if extra.as_ref().is_some_and(|e| e.len() > EXTRA_BYTES_MAX) {
        return Err(FrameError::new(ErrorCode::MessageTooLarge, "extra", "is longer than 4096 bytes"));
    }
    Ok(extra)
}

fn required<'a>(value: Value<'a>, field: &'static str) -> Result<Cow<'a, str>, FrameError<'a>> {
    match optional(value, field)? {
        None => Err(FrameError::invalid(field, "is required")),
        Some(text) if text.is_empty() => Err(FrameError::invalid(field, "must not be empty")),
        Some(text) => Ok(text),
    }
}

fn optional<'a>(value: Value<'a>, field: &'static str) -> Result<Option<Cow<'a, str>>, FrameError<'a>> {
    match value {
        Value::Text(text) => Ok(Some(text)),
        Value::Absent => Ok(None),
        Value::Int(_) | Value::Other => Err(FrameError::invalid(field, "must be a string")),
    }
}

fn at_most<'a>(text: Cow<'a, str>, chars_max: usize, field: &'static str) -> Result<Cow<'a, str>, FrameError<'a>> {
    if longer_than(&text, chars_max) { Err(FrameError::invalid(field, "is too long")) } else { Ok(text) }
}

/// Counts characters only where the bytes do not settle it.
fn longer_than(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().nth(chars_max).is_some()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
