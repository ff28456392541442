//! Bus records and refusals as the frames they become at a gateway: texts borrowed, milliseconds turned into seconds.
//!
//! Owns the mapping of fields. Never fills in what a record lacks.

use super::error::FrameError;
use super::server::{ErrorDetails, ErrorFrame, MessageAck, NewMessage, Sender};
use crate::bus::v1::{Ack, ChatMessage, Refusal};
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

impl<'a> From<&'a Refusal> for ErrorFrame<'a> {
    fn from(record: &'a Refusal) -> ErrorFrame<'a> {
        ErrorFrame {
            code: ErrorCode::from_number(record.code).unwrap_or(ErrorCode::InternalError),
            message: &record.message,
            details: ErrorDetails {
                client_msg_id: &record.client_msg_id,
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
                field: error.field,
                reason: error.reason,
                ..ErrorDetails::default()
            },
        }
    }
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}
