//! Why a client's frame was refused: the code, the field, and what of the message can be told back.
//!
//! Owns the error type of parsing. Never writes the frame that reports it: the server's error frame does.

use std::borrow::Cow;
use std::fmt;

use crate::codes::ErrorCode;
use crate::ids::MessageId;

/// A refused frame.
#[derive(Debug, PartialEq)]
pub struct FrameError<'a> {
    /// `INVALID_MESSAGE`, `MESSAGE_EMPTY`, `MESSAGE_TOO_LARGE` or `UNSUPPORTED_MESSAGE_TYPE`.
    pub code: ErrorCode,
    /// The field in question by its name in the frame; empty when the frame as a whole was not understood.
    pub field: &'static str,
    /// What is wrong with it, for humans.
    pub reason: &'static str,
    /// Of a refused `send-message`, as far as it was readable and not too long.
    pub client_msg_id: Option<Cow<'a, str>>,
    /// As `client_msg_id`.
    pub temp_message_id: Option<Cow<'a, str>>,
    /// As `client_msg_id`, of every frame that names a conversation.
    pub conversation_id: Option<Cow<'a, str>>,
    /// Message of a refused `recall-message`, 0 when there is none: an error is passed on by value and kept small.
    pub(super) recalled: i64,
}

impl FrameError<'_> {
    /// Of a refused `recall-message`, when it was readable.
    pub fn message_id(&self) -> Option<MessageId> {
        (self.recalled > 0).then_some(MessageId(self.recalled))
    }

    pub(super) const fn new(code: ErrorCode, field: &'static str, reason: &'static str) -> Self {
        FrameError {
            code,
            field,
            reason,
            client_msg_id: None,
            temp_message_id: None,
            conversation_id: None,
            recalled: 0,
        }
    }

    pub(super) const fn invalid(field: &'static str, reason: &'static str) -> Self {
        Self::new(ErrorCode::InvalidMessage, field, reason)
    }
}

impl fmt::Display for FrameError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(self.reason) } else { write!(f, "{}: {}", self.field, self.reason) }
    }
}

impl std::error::Error for FrameError<'_> {}
