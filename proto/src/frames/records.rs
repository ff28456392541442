//! Bus records and refusals as the frames they become at a gateway: texts borrowed, milliseconds turned into seconds.
//!
//! Owns the mapping of fields. Never fills in what a record lacks.

use super::error::FrameError;
use super::limits::SERVER_ID_MARK;
use super::server::{ErrorDetails, ErrorFrame, MessageAck, MessageRecalled, NewMessage, RecallAck, Sender};
use crate::bus::v1::{Ack, ChatMessage, Recalled, Refusal};
use crate::codes::ErrorCode;
use crate::ids::{MessageId, UserId};

impl<'a> NewMessage<'a> {
    /// `None` when the record names no sender.
    pub fn from_record(record: &'a ChatMessage, redelivered: bool) -> Option<NewMessage<'a>> {
        let sender = record.sender.as_ref()?;
        Some(NewMessage {
            id: MessageId(record.message_id),
            conversation_id: &record.conversation_id,
            conversation_type: record.conversation_type,
            sender: Sender {
                id: UserId(sender.id),
                username: &sender.username,
                avatar_url: &sender.avatar_url,
                is_guest: sender.is_guest,
            },
            content: &record.content,
            message_type: record.message_type,
            seq_id: record.seq_id,
            created_at: seconds(record.created_at_ms),
            client_msg_id: &record.client_msg_id,
            extra: &record.extra,
            redelivered,
        })
    }
}

impl<'a> From<&'a Ack> for MessageAck<'a> {
    fn from(record: &'a Ack) -> MessageAck<'a> {
        MessageAck {
            client_msg_id: &record.client_msg_id,
            temp_message_id: &record.temp_message_id,
            message_id: MessageId(record.message_id),
            conversation_id: &record.conversation_id,
            seq_id: record.seq_id,
            created_at: seconds(record.created_at_ms),
            duplicate: record.duplicate,
            corrected: record.corrected,
        }
    }
}

impl<'a> RecallAck<'a> {
    /// `None` when what was acknowledged is no recall.
    pub fn from_record(record: &'a Ack) -> Option<RecallAck<'a>> {
        Some(RecallAck {
            conversation_id: &record.conversation_id,
            message_id: recalled(&record.client_msg_id)?,
            position: record.seq_id,
            recalled_at: seconds(record.created_at_ms),
            duplicate: record.duplicate,
        })
    }
}

impl<'a> MessageRecalled<'a> {
    /// The frame for those who are connected.
    pub fn from_record(record: &'a Recalled, redelivered: bool) -> MessageRecalled<'a> {
        MessageRecalled {
            conversation_id: &record.conversation_id,
            message_id: MessageId(record.message_id),
            seq_id: record.recalled_seq_id,
            position: record.seq_id,
            operator_id: UserId(record.operator_id),
            reason: &record.reason,
            recalled_at: seconds(record.recalled_at_ms),
            redelivered,
        }
    }
}

impl<'a> From<&'a Refusal> for ErrorFrame<'a> {
    fn from(record: &'a Refusal) -> ErrorFrame<'a> {
        let message_id = recalled(&record.client_msg_id);
        // A code without a number of its own comes by name.
        let named = record.code_name.parse().ok();
        ErrorFrame {
            code: named.or_else(|| ErrorCode::from_number(record.code)).unwrap_or(ErrorCode::InternalError),
            message: &record.message,
            details: ErrorDetails {
                client_msg_id: if message_id.is_some() { "" } else { &record.client_msg_id },
                message_id,
                temp_message_id: &record.temp_message_id,
                conversation_id: &record.conversation_id,
                retry_after_s: (record.retry_after_s > 0).then_some(record.retry_after_s),
                ..ErrorDetails::default()
            },
        }
    }
}

impl<'a> From<&'a FrameError<'_>> for ErrorFrame<'a> {
    fn from(error: &'a FrameError<'_>) -> ErrorFrame<'a> {
        ErrorFrame {
            code: error.code,
            message: "",
            details: ErrorDetails {
                client_msg_id: error.client_msg_id.as_deref().unwrap_or_default(),
                temp_message_id: error.temp_message_id.as_deref().unwrap_or_default(),
                conversation_id: error.conversation_id.as_deref().unwrap_or_default(),
                message_id: error.message_id(),
                field: error.field,
                reason: error.reason,
                ..ErrorDetails::default()
            },
        }
    }
}

/// The message that a recall's id names (bus.proto).
fn recalled(client_msg_id: &str) -> Option<MessageId> {
    client_msg_id.strip_prefix(SERVER_ID_MARK)?.strip_prefix('r')?.parse().ok()
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}
