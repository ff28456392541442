//! Frames that the server sends (spec 02 §4), each appended as JSON to a `Vec<u8>` or `BytesMut`.
//!
//! Owns names and order of fields. Never decides who gets a frame. Times are Unix seconds, empty texts are omitted.
//! A buffer that cannot grow, such as `&mut [u8]`, must be large enough: writing past its end panics.

use bytes::BufMut;

use super::json::Object;
use crate::close_codes::CloseCode;
use crate::codes::ErrorCode;
use crate::ids::{Address, MessageId, UserId};

/// Greeting: the connection is registered, or, when degraded, at least accepted.
#[derive(Clone, Debug)]
pub struct Connected {
    /// This connection.
    pub connection: Address,
    /// Its user.
    pub user_id: UserId,
    /// Now.
    pub server_time: i64,
    /// Seconds between pings.
    pub heartbeat_interval: u32,
    /// When the access token expires.
    pub expires_at: i64,
    /// Presence was not registered in time: pushes may be missed, the client pulls.
    pub degraded: bool,
}

impl Connected {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "connected", timestamp, |data| {
            data.id("connectionId", self.connection);
            data.id("userId", self.user_id);
            data.int("serverTime", self.server_time);
            data.int("heartbeatInterval", i64::from(self.heartbeat_interval));
            data.int("expiresAt", self.expires_at);
            data.bool("degraded", self.degraded);
            data.text("message", "connected");
        });
    }
}

/// The answer to a ping.
pub fn write_pong<B: BufMut>(out: &mut B, timestamp: i64) {
    let mut frame = Object::begin(out);
    frame.text("type", "pong");
    frame.int("timestamp", timestamp);
    frame.end();
}

/// Who sent a message.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The user.
    pub id: UserId,
    /// May be empty.
    pub username: &'a str,
    /// May be empty.
    pub avatar_url: &'a str,
    /// True for a guest account.
    pub is_guest: bool,
}

/// A chat message for a member of its conversation.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The message.
    pub id: MessageId,
    /// Where.
    pub conversation_id: &'a str,
    /// Number of `common.v1.ConversationType`.
    pub conversation_type: i32,
    /// Who.
    pub sender: Sender<'a>,
    /// As it was sent.
    pub content: &'a str,
    /// Number of `common.v1.MessageType`.
    pub message_type: i32,
    /// Its number in the conversation.
    pub seq_id: i64,
    /// When it was accepted.
    pub created_at: i64,
    /// The sender's own id of it.
    pub client_msg_id: &'a str,
    /// JSON by agreement; may be empty.
    pub extra: &'a str,
    /// Pushed before, perhaps: the client de-duplicates by seqId.
    pub redelivered: bool,
}

impl NewMessage<'_> {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "new-message", timestamp, |data| {
            data.id("id", self.id);
            data.text("conversationId", self.conversation_id);
            data.int("conversationType", i64::from(self.conversation_type));
            data.id("senderId", self.sender.id);
            data.object("sender", |sender| {
                sender.id("id", self.sender.id);
                sender.text_if("username", self.sender.username);
                sender.text_if("avatarUrl", self.sender.avatar_url);
                sender.bool("isGuest", self.sender.is_guest);
            });
            data.text("content", self.content);
            data.int("messageType", i64::from(self.message_type));
            data.int("seqId", self.seq_id);
            data.int("createdAt", self.created_at);
            data.text_if("clientMsgId", self.client_msg_id);
            data.text_if("extra", self.extra);
            if self.redelivered {
                data.bool("redelivered", true);
            }
        });
    }
}

/// The sender's message is durable.
#[derive(Clone, Copy, Debug)]
pub struct MessageAck<'a> {
    /// The sender's own id of it.
    pub client_msg_id: &'a str,
    /// Echo for older clients; may be empty.
    pub temp_message_id: &'a str,
    /// The message.
    pub message_id: MessageId,
    /// Where.
    pub conversation_id: &'a str,
    /// Its number in the conversation.
    pub seq_id: i64,
    /// When it was accepted.
    pub created_at: i64,
    /// It was sent before; these are the first one's ids.
    pub duplicate: bool,
    /// Replaces an earlier acknowledgement of the same client_msg_id, in whatever order the two arrive.
    pub corrected: bool,
}

impl MessageAck<'_> {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "message-ack", timestamp, |data| {
            data.text("client_msg_id", self.client_msg_id);
            data.text_if("tempMessageId", self.temp_message_id);
            data.id("messageId", self.message_id);
            data.text("status", "success");
            data.text("conversationId", self.conversation_id);
            data.int("seqId", self.seq_id);
            data.int("createdAt", self.created_at);
            data.bool("duplicate", self.duplicate);
            data.bool("corrected", self.corrected);
        });
    }
}

/// A message was recalled. The recall has a place of its own in the conversation's stream.
#[derive(Clone, Copy, Debug)]
pub struct MessageRecalled<'a> {
    /// Where.
    pub conversation_id: &'a str,
    /// The recalled message.
    pub message_id: MessageId,
    /// The recalled message's number.
    pub seq_id: i64,
    /// The recall's own number.
    pub position: i64,
    /// Who recalled it.
    pub operator_id: UserId,
    /// May be empty.
    pub reason: &'a str,
    /// When.
    pub recalled_at: i64,
    /// Pushed before, perhaps.
    pub redelivered: bool,
}

impl MessageRecalled<'_> {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "message-recalled", timestamp, |data| {
            data.text("conversationId", self.conversation_id);
            data.id("messageId", self.message_id);
            data.int("seqId", self.seq_id);
            data.int("position", self.position);
            data.id("operatorId", self.operator_id);
            data.text_if("reason", self.reason);
            data.int("recalledAt", self.recalled_at);
            if self.redelivered {
                data.bool("redelivered", true);
            }
        });
    }
}

/// The recall that this connection asked for is durable.
#[derive(Clone, Copy, Debug)]
pub struct RecallAck<'a> {
    /// Where.
    pub conversation_id: &'a str,
    /// The recalled message.
    pub message_id: MessageId,
    /// The recall's own number.
    pub position: i64,
    /// When.
    pub recalled_at: i64,
    /// It was recalled before by the same user.
    pub duplicate: bool,
}

impl RecallAck<'_> {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "recall-ack", timestamp, |data| {
            data.text("conversationId", self.conversation_id);
            data.id("messageId", self.message_id);
            data.int("position", self.position);
            data.int("recalledAt", self.recalled_at);
            data.bool("duplicate", self.duplicate);
        });
    }
}

/// Something was not delivered: the client fetches what it may have missed.
#[derive(Clone, Copy, Debug)]
pub struct Resync<'a> {
    /// In this conversation; empty: anywhere.
    pub conversation_id: &'a str,
}

impl Resync<'_> {
    /// The whole frame: a `notification` of this event type.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "notification", timestamp, |data| {
            data.text("eventType", "resync");
            data.object("payload", |payload| payload.text_if("conversationId", self.conversation_id));
        });
    }
}

/// Something a client sent was refused, or something for it was lost.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFrame<'a> {
    /// What clients branch on.
    pub code: ErrorCode,
    /// For humans; the code's own text when empty.
    pub message: &'a str,
    /// Machine-readable additions.
    pub details: ErrorDetails<'a>,
}

/// Details of an error; what is empty or `None` is omitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorDetails<'a> {
    /// Of the refused message.
    pub client_msg_id: &'a str,
    /// Of the refused message, for older clients.
    pub temp_message_id: &'a str,
    /// Of the refused frame.
    pub conversation_id: &'a str,
    /// That a refused recall names.
    pub message_id: Option<MessageId>,
    /// The field that was wrong.
    pub field: &'a str,
    /// A more precise code or cause, e.g. `TOKEN_EXPIRED` under `AUTH_FAILED`.
    pub reason: &'a str,
    /// Whole seconds until a retry makes sense.
    pub retry_after_s: Option<u32>,
    /// Frames that were shed for this connection since the last such report.
    pub shed: Option<u64>,
}

impl ErrorFrame<'_> {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        let message = if self.message.is_empty() { self.code.default_message() } else { self.message };
        frame(out, "error", timestamp, |data| {
            data.text("code", self.code.as_str());
            data.text("message", message);
            if !self.details.is_empty() {
                data.object("details", |details| self.details.fill(details));
            }
        });
    }
}

impl ErrorDetails<'_> {
    fn is_empty(&self) -> bool {
        let texts = [self.client_msg_id, self.temp_message_id, self.conversation_id, self.field, self.reason];
        let numbers = self.message_id.is_none() && self.retry_after_s.is_none() && self.shed.is_none();
        numbers && texts.iter().all(|t| t.is_empty())
    }

    fn fill<B: BufMut>(&self, details: &mut Object<'_, B>) {
        details.text_if("client_msg_id", self.client_msg_id);
        details.text_if("tempMessageId", self.temp_message_id);
        details.text_if("conversationId", self.conversation_id);
        if let Some(message_id) = self.message_id {
            details.id("messageId", message_id);
        }
        details.text_if("field", self.field);
        details.text_if("reason", self.reason);
        if let Some(seconds) = self.retry_after_s {
            details.int("retryAfter", i64::from(seconds));
        }
        if let Some(shed) = self.shed {
            details.int("shed", i64::try_from(shed).unwrap_or(i64::MAX));
        }
    }
}

/// The server is about to close the connection.
#[derive(Clone, Copy, Debug)]
pub struct Closing<'a> {
    /// The code of the close frame that follows.
    pub code: CloseCode,
    /// For humans; the code's own text when empty.
    pub reason: &'a str,
    /// When to come back; `None` says nothing about it.
    pub reconnect_after_ms: Option<u32>,
}

impl Closing<'_> {
    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, "closing", timestamp, |data| {
            data.int("code", i64::from(self.code.number()));
            data.text("reason", if self.reason.is_empty() { self.code.reason() } else { self.reason });
            if let Some(ms) = self.reconnect_after_ms {
                data.int("reconnectAfterMs", i64::from(ms));
            }
        });
    }
}

/// Something about a conversation changed.
#[derive(Clone, Copy, Debug)]
pub struct ConversationUpdated<'a> {
    /// Which.
    pub conversation_id: &'a str,
    /// What.
    pub updates: Updates<'a>,
    /// Who changed it; `None` when nobody did.
    pub operator_id: Option<UserId>,
    /// When.
    pub updated_at: i64,
}

/// The changed fields.
#[derive(Clone, Copy, Debug)]
pub enum Updates<'a> {
    /// The user's own unread count, after a read.
    UnreadCount(i64),
    /// The whole conversation, one JSON object: it was created.
    Conversation(&'a [u8]),
    /// Any other fields, one JSON object.
    Json(&'a [u8]),
}

impl ConversationUpdated<'_> {
    /// Type of the frame, for records that carry its data alone.
    pub const TYPE: &'static str = "conversation-updated";

    /// The whole frame.
    pub fn write<B: BufMut>(&self, out: &mut B, timestamp: i64) {
        frame(out, Self::TYPE, timestamp, |data| self.fill(data));
    }

    /// The data alone, for a record that a gateway turns into the frame with [`write_signal`].
    pub fn write_data<B: BufMut>(&self, out: &mut B) {
        let mut data = Object::begin(out);
        self.fill(&mut data);
        data.end();
    }

    fn fill<B: BufMut>(&self, data: &mut Object<'_, B>) {
        data.text("conversationId", self.conversation_id);
        match self.updates {
            Updates::UnreadCount(count) => data.object("updates", |updates| updates.int("unreadCount", count)),
            Updates::Conversation(json) => data.object("updates", |updates| updates.raw("conversation", json)),
            Updates::Json(json) => data.raw("updates", json),
        }
        if let Some(operator) = self.operator_id {
            data.id("operatorId", operator);
        }
        data.int("updatedAt", self.updated_at);
    }
}

/// A frame whose data, one JSON value, another service has written.
pub fn write_signal<B: BufMut>(out: &mut B, frame_type: &str, data: &[u8], timestamp: i64) {
    envelope(out, frame_type, timestamp, |out| out.put_slice(data));
}

fn frame<B: BufMut>(out: &mut B, kind: &str, timestamp: i64, fill: impl FnOnce(&mut Object<'_, B>)) {
    envelope(out, kind, timestamp, |out| {
        let mut data = Object::begin(out);
        fill(&mut data);
        data.end();
    });
}

fn envelope<B: BufMut>(out: &mut B, kind: &str, timestamp: i64, data: impl FnOnce(&mut B)) {
    let mut frame = Object::begin(out);
    frame.text("type", kind);
    frame.value("data", data);
    frame.int("timestamp", timestamp);
    frame.end();
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
