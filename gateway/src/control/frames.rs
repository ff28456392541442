//! Bus records and answers as the frames that connections get, with the class that decides what pressure may do to them.
//! Pure. Never decides who gets a frame.

use std::hash::{DefaultHasher, Hash, Hasher};

use gochat_proto::bus::v1::{Ack, Push, Refusal, Signal, SignalClass};
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::frames::{
    ConversationUpdated, ErrorDetails, ErrorFrame, MessageAck, MessageRecalled, NewMessage, RecallAck, Resync,
    write_signal,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

use crate::bridge::{FrameClass, OutFrame};

/// Writes frames; keeps one buffer for all of them.
#[derive(Default)]
pub(crate) struct FrameWriter {
    buffer: Vec<u8>,
    /// Unix seconds; stands in every frame.
    pub(crate) now_s: i64,
}

impl FrameWriter {
    /// A writer of frames of this moment.
    pub(crate) fn at(unix_ms: i64) -> FrameWriter {
        FrameWriter { buffer: Vec::new(), now_s: unix_ms / 1000 }
    }

    /// `message-ack`, or `recall-ack`.
    pub(crate) fn ack(&mut self, ack: &Ack) -> OutFrame {
        self.frame(FrameClass::Chat, |out, now| match RecallAck::from_record(ack) {
            Some(recall) => recall.write(out, now),
            None => MessageAck::from(ack).write(out, now),
        })
    }

    /// `error` for a message that was refused.
    pub(crate) fn refusal(&mut self, refusal: &Refusal) -> OutFrame {
        self.frame(FrameClass::Chat, |out, now| ErrorFrame::from(refusal).write(out, now))
    }

    /// `new-message` or `message-recalled`; `None` when the record has neither, or lacks the message's sender.
    pub(crate) fn push(&mut self, push: &Push) -> Option<OutFrame> {
        if let Some(recalled) = &push.recalled {
            let recalled = MessageRecalled::from_record(recalled, push.redelivered);
            return Some(self.frame(FrameClass::Chat, |out, now| recalled.write(out, now)));
        }
        let message = NewMessage::from_record(push.message.as_ref()?, push.redelivered)?;
        Some(self.frame(FrameClass::Chat, |out, now| message.write(out, now)))
    }

    /// Any other frame; `None` when its payload is not one JSON object.
    pub(crate) fn signal(&mut self, signal: &Signal) -> Option<OutFrame> {
        let about: SignalData<'_> = serde_json::from_slice(&signal.payload).ok()?;
        let class = match signal.class() {
            SignalClass::Ephemeral => FrameClass::Ephemeral,
            SignalClass::Coalescible => FrameClass::Coalescible { key: about.key(&signal.frame_type) },
            SignalClass::Chat => class_of(&signal.frame_type, &about),
        };
        Some(self.frame(class, |out, now| write_signal(out, &signal.frame_type, &signal.payload, now)))
    }

    /// A hint to fetch what may have been missed: in one conversation, or, when it is empty, in any.
    pub(crate) fn resync(&mut self, conversation_id: &str) -> OutFrame {
        self.frame(FrameClass::Chat, |out, now| Resync { conversation_id }.write(out, now))
    }

    /// `error` for a frame about a conversation.
    pub(crate) fn failure(&mut self, conversation_id: &str, failure: &Failure) -> OutFrame {
        self.frame(FrameClass::Chat, |out, now| {
            let retry_after_s = failure.retry_after_s();
            let details = ErrorDetails { conversation_id, retry_after_s, ..ErrorDetails::default() };
            // What went wrong inside is not the client's business.
            let message = if failure.code == ErrorCode::InternalError { "" } else { &failure.message };
            ErrorFrame { code: failure.code, message, details }.write(out, now);
        })
    }

    fn frame(&mut self, class: FrameClass, write: impl FnOnce(&mut Vec<u8>, i64)) -> OutFrame {
        self.buffer.clear();
        write(&mut self.buffer, self.now_s);
        OutFrame::text(&self.buffer, class)
    }
}

/// What of a signal's data decides about merging.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignalData<'a> {
    #[serde(borrow, default)]
    conversation_id: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    user_id: std::borrow::Cow<'a, str>,
    #[serde(default)]
    updates: Option<BTreeMap<String, IgnoredAny>>,
}

impl SignalData<'_> {
    /// Equal for frames of which only the last matters.
    fn key(&self, frame_type: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (frame_type, &self.conversation_id, &self.user_id).hash(&mut hasher);
        hasher.finish()
    }
}

fn class_of(frame_type: &str, about: &SignalData<'_>) -> FrameClass {
    match frame_type {
        "typing-indicator" | "online-status" => FrameClass::Ephemeral,
        "message-read" => FrameClass::Coalescible { key: about.key(frame_type) },
        // Only the count alone is replaced by a newer one; other updates may name other fields.
        ConversationUpdated::TYPE
            if about.updates.as_ref().is_some_and(|u| u.len() == 1 && u.contains_key("unreadCount")) =>
        {
            FrameClass::Coalescible { key: about.key(frame_type) }
        }
        _ => FrameClass::Chat,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn signal(frame_type: &str, payload: &str) -> Option<OutFrame> {
        let payload = payload.as_bytes().to_vec();
        let signal = Signal { frame_type: frame_type.into(), payload: payload.into(), ..Signal::default() };
        FrameWriter::default().signal(&signal)
    }

    #[test]
    fn only_what_a_newer_frame_replaces_is_merged() {
        let read = signal("conversation-updated", r#"{"conversationId":"c","updates":{"unreadCount":3}}"#).unwrap();
        let later = signal("conversation-updated", r#"{"conversationId":"c","updates":{"unreadCount":0}}"#).unwrap();
        assert_eq!(read.class, later.class);
        let other = signal("conversation-updated", r#"{"conversationId":"d","updates":{"unreadCount":3}}"#).unwrap();
        assert_ne!(read.class, other.class);
        let renamed = r#"{"conversationId":"c","updates":{"unreadCount":3,"name":"x"}}"#;
        assert_eq!(signal("conversation-updated", renamed).unwrap().class, FrameClass::Chat);
        assert_eq!(signal("typing-indicator", "{}").unwrap().class, FrameClass::Ephemeral);
        assert_eq!(signal("member-added", "{}").unwrap().class, FrameClass::Chat);
        assert!(signal("member-added", "{} trailing").is_none());
        assert!(signal("member-added", "not json").is_none());
    }

    #[test]
    fn whoever_makes_a_signal_may_say_what_becomes_of_it() {
        let of = |class: SignalClass, payload: &str| {
            let payload = payload.as_bytes().to_vec().into();
            let signal =
                Signal { frame_type: "online-status".into(), payload, class: class as i32, ..Signal::default() };
            FrameWriter::default().signal(&signal).unwrap().class
        };
        assert_eq!(of(SignalClass::Ephemeral, "{}"), FrameClass::Ephemeral);
        let merged = |user| of(SignalClass::Coalescible, &format!(r#"{{"userId":"{user}"}}"#));
        assert!(matches!(merged(1), FrameClass::Coalescible { .. }));
        assert_ne!(merged(1), merged(2), "about another user");
    }

    #[test]
    fn inner_failures_are_not_told() {
        let mut frames = FrameWriter::default();
        let wire = frames.failure("c", &Failure::new(ErrorCode::InternalError, "secret table")).wire;
        let text = String::from_utf8_lossy(&wire).into_owned();
        assert!(text.contains("INTERNAL_ERROR") && !text.contains("secret"), "{text}");
        let wire = frames.failure("c", &Failure::new(ErrorCode::NotConversationMember, "not yours")).wire;
        assert!(String::from_utf8_lossy(&wire).contains("not yours"));
    }
}
