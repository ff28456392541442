//! Data of the frames that events become (spec 02 §4).
//!
//! Pure. Never decides who gets one.

use gochat_proto::common::v1::{Conversation, ConversationMember};
use gochat_proto::events::Event;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::objects;
use serde::Serialize;
use serde_json::{Value, json};

use crate::signals::Frame;

/// `conversation-updated`; `updates` is an object.
pub(super) fn conversation_updated(event: &Event, updates: Value) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        conversation_id: &'a str,
        updates: Value,
        #[serde(skip_serializing_if = "str::is_empty")]
        operator_id: &'a str,
        updated_at: i64,
    }
    let (conversation_id, operator_id) = (event.conversation_id.as_str(), event.operator_id.as_str());
    Frame::new("conversation-updated", &Data { conversation_id, updates, operator_id, updated_at: event.timestamp })
}

/// `conversation-updated` with the whole object, as one member sees it.
pub(super) fn whole(event: &Event, conversation: Conversation) -> Frame {
    let object = objects::Conversation::from(conversation);
    conversation_updated(event, json!({ "conversation": object }))
}

/// `member-added`.
pub(super) fn members_added(
    event: &Event,
    members: Vec<ConversationMember>,
    added_by: &str,
    member_count: i32,
) -> Frame {
    let members: Vec<_> = members.into_iter().map(objects::Member::from).collect();
    let data = json!({
        "conversationId": event.conversation_id,
        "members": members,
        "addedBy": added_by,
        "memberCount": member_count,
    });
    Frame::new("member-added", &data)
}

/// `member-removed`.
pub(super) fn member_removed(event: &Event, user_id: &str, removed_by: &str, reason: &str, member_count: i32) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        conversation_id: &'a str,
        user_id: &'a str,
        removed_by: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
        member_count: i32,
    }
    let conversation_id = event.conversation_id.as_str();
    Frame::new("member-removed", &Data { conversation_id, user_id, removed_by, reason, member_count })
}

/// `member-role-updated`.
pub(super) fn role_updated(event: &Event, user_id: &str, role: i32, muted: bool, muted_until: i64) -> Frame {
    let mut data = json!({
        "conversationId": event.conversation_id,
        "userId": user_id,
        "role": role,
        "muted": muted,
        "operatorId": event.operator_id,
    });
    if muted && muted_until > 0 {
        data["mutedUntil"] = muted_until.into();
    }
    Frame::new("member-role-updated", &data)
}

/// `online-status`.
pub(super) fn online_status(user_id: &str, last_seen: Option<i64>) -> Frame {
    let mut data = json!({ "userId": user_id, "status": if last_seen.is_some() { "offline" } else { "online" } });
    if let Some(last_seen) = last_seen {
        data["lastSeen"] = last_seen.into();
    }
    Frame::new("online-status", &data).ephemeral()
}

/// `friend-request-received`.
pub(super) fn request_received(request: api::FriendRequest) -> Frame {
    Frame::new("friend-request-received", &json!({ "request": objects::FriendRequest::from(request) }))
}

/// `friend-request-handled`.
pub(super) fn request_handled(request_id: &str, action: &str, handler_id: &str) -> Frame {
    let data = json!({ "requestId": request_id, "action": action, "handlerId": handler_id });
    Frame::new("friend-request-handled", &data)
}

/// `friend-added`.
pub(super) fn friend_added(friend: api::Friend, conversation_id: &str) -> Frame {
    let friend = objects::Friend::new(friend, true);
    Frame::new("friend-added", &json!({ "friend": friend, "conversationId": conversation_id }))
}

/// `friend-removed`.
pub(super) fn friend_removed(friend_id: &str) -> Frame {
    Frame::new("friend-removed", &json!({ "friendId": friend_id }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use gochat_proto::bus::v1::SignalClass;
    use gochat_proto::common::v1::UserInfo;
    use gochat_proto::events::EventBody;

    fn event() -> Event {
        Event {
            event_id: "e".into(),
            timestamp: 7,
            conversation_id: "group_1".into(),
            user_id: String::new(),
            friend_id: String::new(),
            operator_id: "2".into(),
            body: EventBody::FriendRemoved {},
        }
    }

    fn data(frame: &Frame) -> Value {
        serde_json::from_slice(&frame.data).unwrap()
    }

    #[test]
    fn conversations() {
        let frame = conversation_updated(&event(), json!({"dissolved": true}));
        assert_eq!((frame.kind, frame.class), ("conversation-updated", SignalClass::Chat));
        let expected =
            json!({"conversationId": "group_1", "updates": {"dissolved": true}, "operatorId": "2", "updatedAt": 7});
        assert_eq!(data(&frame), expected);
        let nobody = Event { operator_id: String::new(), ..event() };
        assert!(data(&conversation_updated(&nobody, json!({}))).get("operatorId").is_none());
        let frame = whole(&event(), Conversation { id: "group_1".into(), name: "n".into(), ..Conversation::default() });
        assert_eq!(data(&frame)["updates"]["conversation"]["name"], "n");
    }

    #[test]
    fn members() {
        let member = ConversationMember {
            user: Some(UserInfo { id: "3".into(), username: "cat".into(), ..UserInfo::default() }),
            role: 1,
            conversation_id: "group_1".into(),
            ..ConversationMember::default()
        };
        let frame = data(&members_added(&event(), vec![member], "2", 4));
        assert_eq!((&frame["members"][0]["userId"], &frame["memberCount"]), (&json!("3"), &json!(4)));
        let frame = data(&member_removed(&event(), "3", "2", "", 3));
        let expected = json!({"conversationId": "group_1", "userId": "3", "removedBy": "2", "memberCount": 3});
        assert_eq!(frame, expected);
        let frame = data(&role_updated(&event(), "3", 2, true, 9));
        let expected = json!({
            "conversationId": "group_1", "userId": "3", "role": 2, "muted": true, "mutedUntil": 9, "operatorId": "2",
        });
        assert_eq!(frame, expected);
    }

    #[test]
    fn presence_is_shed_first() {
        let frame = online_status("3", None);
        assert_eq!((data(&frame), frame.class), (json!({"userId": "3", "status": "online"}), SignalClass::Ephemeral));
        assert_eq!(data(&online_status("3", Some(5))), json!({"userId": "3", "status": "offline", "lastSeen": 5}));
    }

    #[test]
    fn friends() {
        let frame = data(&request_handled("9", "accept", "3"));
        assert_eq!(frame, json!({"requestId": "9", "action": "accept", "handlerId": "3"}));
        let friend = api::Friend { user_id: "2".into(), status: 1, is_online: true, ..api::Friend::default() };
        let frame = data(&friend_added(friend, "single_2_3"));
        assert_eq!((&frame["conversationId"], &frame["friend"]["online"]), (&json!("single_2_3"), &json!(true)));
        assert_eq!(data(&friend_removed("3")), json!({"friendId": "3"}));
        let frame = data(&request_received(api::FriendRequest { id: "9".into(), ..api::FriendRequest::default() }));
        assert_eq!(frame["request"]["id"], "9");
    }
}
