//! Domain events as they stand on their topics: JSON, one closed enum (spec 04 §6).
//!
//! Owns their form. Repo writes them in the transaction of the change, task relays them, logic turns them into frames for
//! clients; other subscribers may read them too. Fields beyond the spec's table are marked (+).

use serde::{Deserialize, Serialize};

use crate::topics;

/// One event. Delivered at least once, in order per key: `event_id` tells repetitions apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// UUID v7.
    pub event_id: String,
    /// Unix seconds.
    pub timestamp: i64,
    /// Conversation, for conversation and message events; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub conversation_id: String,
    /// User, for user and friend events; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_id: String,
    /// The other user, for friend events; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub friend_id: String,
    /// Who did it; empty for what happened by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operator_id: String,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "payload")]
#[allow(missing_docs, reason = "the fields are those of spec 04 §6")]
pub enum EventBody {
    /// A user has a session again.
    #[serde(rename = "user.online")]
    UserOnline { gateway_id: String },
    /// A user has no session any more; confirmed.
    #[serde(rename = "user.offline")]
    UserOffline { last_seen: i64, reason: String },
    /// An account was made.
    #[serde(rename = "user.registered")]
    UserRegistered { username: String },
    /// A guest came.
    #[serde(rename = "user.guest.created")]
    GuestCreated { username: String },
    /// An account's public parts changed.
    #[serde(rename = "user.profile.updated")]
    ProfileUpdated { updated_fields: Vec<String> },
    /// (+) An account may not act any more, or its tokens are void: its sessions end with this close code.
    #[serde(rename = "user.revoked")]
    UserRevoked { close_code: u16, reason: String },
    /// A conversation was made.
    #[serde(rename = "conversation.created")]
    ConversationCreated { kind: i32, name: String, member_ids: Vec<String>, member_count: i32, version: i64 },
    /// Users were added, or joined the world room.
    #[serde(rename = "conversation.member.added")]
    MembersAdded { kind: i32, added_user_ids: Vec<String>, added_by: String, member_count: i32, version: i64 },
    /// A user was removed (`removed_by` is another) or left.
    #[serde(rename = "conversation.member.removed")]
    MemberRemoved {
        kind: i32,
        removed_user_id: String,
        removed_by: String,
        reason: String,
        member_count: i32,
        version: i64,
    },
    /// A role or a mute changed.
    #[serde(rename = "conversation.member.role.updated")]
    RoleUpdated { user_id: String, old_role: i32, new_role: i32, muted: bool, muted_until: i64 },
    /// Ownership passed (+): both roles changed in one step.
    #[serde(rename = "conversation.owner.transferred")]
    OwnerTransferred { from_user_id: String, to_user_id: String, info_version: i64 },
    /// Name, picture, description or settings changed. `updates` holds the new values under their API names.
    #[serde(rename = "conversation.info.updated")]
    InfoUpdated { updated_fields: Vec<String>, updates: serde_json::Value, info_version: i64 },
    /// A group ended. `member_ids`: who was in it (+).
    #[serde(rename = "conversation.dissolved")]
    Dissolved { reason: String, member_ids: Vec<String>, version: i64 },
    /// A read pointer moved.
    #[serde(rename = "message.read")]
    MessageRead { seq_id: i64 },
    /// A message was recalled.
    #[serde(rename = "message.recalled")]
    MessageRecalled { message_id: String, seq_id: i64, reason: String },
    /// `user_id` asked `friend_id`.
    #[serde(rename = "friend.request.sent")]
    FriendRequestSent { request_id: String, message: String },
    /// `user_id` was asked by `friend_id`.
    #[serde(rename = "friend.request.received")]
    FriendRequestReceived { request_id: String, message: String },
    /// `user_id`, who had asked, was accepted by `friend_id`.
    #[serde(rename = "friend.request.accepted")]
    FriendRequestAccepted { request_id: String },
    /// `user_id`, who had asked, was rejected by `friend_id`.
    #[serde(rename = "friend.request.rejected")]
    FriendRequestRejected { request_id: String },
    /// `user_id` has a new friend; once for each of the two.
    #[serde(rename = "friend.added")]
    FriendAdded { conversation_id: String },
    /// `user_id` lost a friend; once for each of the two.
    #[serde(rename = "friend.removed")]
    FriendRemoved {},
}

impl Event {
    /// The topic it belongs to.
    pub fn topic(&self) -> &'static str {
        match &self.body {
            EventBody::UserOnline { .. }
            | EventBody::UserOffline { .. }
            | EventBody::UserRegistered { .. }
            | EventBody::GuestCreated { .. }
            | EventBody::ProfileUpdated { .. }
            | EventBody::UserRevoked { .. } => topics::USER_EVENTS,
            EventBody::ConversationCreated { .. }
            | EventBody::MembersAdded { .. }
            | EventBody::MemberRemoved { .. }
            | EventBody::RoleUpdated { .. }
            | EventBody::OwnerTransferred { .. }
            | EventBody::InfoUpdated { .. }
            | EventBody::Dissolved { .. } => topics::CONVERSATION_EVENTS,
            EventBody::MessageRead { .. } | EventBody::MessageRecalled { .. } => topics::MESSAGE_EVENTS,
            EventBody::FriendRequestSent { .. }
            | EventBody::FriendRequestReceived { .. }
            | EventBody::FriendRequestAccepted { .. }
            | EventBody::FriendRequestRejected { .. }
            | EventBody::FriendAdded { .. }
            | EventBody::FriendRemoved {} => topics::FRIEND_EVENTS,
        }
    }

    /// Records of one key keep their order: the conversation, else the user.
    pub fn key(&self) -> &str {
        if self.conversation_id.is_empty() { &self.user_id } else { &self.conversation_id }
    }

    /// As it stands on the topic.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and a JSON value: nothing that cannot be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is no event of this list.
    pub fn from_json(bytes: &[u8]) -> Result<Event, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn events_have_the_form_of_the_contract() {
        let event = Event {
            event_id: "e".into(),
            timestamp: 5,
            conversation_id: "g1".into(),
            user_id: String::new(),
            friend_id: String::new(),
            operator_id: "7".into(),
            body: EventBody::MembersAdded {
                kind: 2,
                added_user_ids: vec!["8".into()],
                added_by: "7".into(),
                member_count: 3,
                version: 4,
            },
        };
        let json: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
        assert_eq!(json["event_type"], "conversation.member.added");
        assert_eq!(json["payload"]["added_user_ids"][0], "8");
        assert!(json.get("user_id").is_none());
        assert_eq!((event.topic(), event.key()), (topics::CONVERSATION_EVENTS, "g1"));
        assert_eq!(Event::from_json(&event.to_json()).unwrap(), event);
        let gone = Event {
            user_id: "1".into(),
            friend_id: "2".into(),
            conversation_id: String::new(),
            body: EventBody::FriendRemoved {},
            ..event
        };
        assert_eq!(Event::from_json(&gone.to_json()).unwrap(), gone);
        assert_eq!((gone.topic(), gone.key()), (topics::FRIEND_EVENTS, "1"));
    }
}
