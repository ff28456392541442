//! The API's data objects (spec 01 §2) and how the services' messages become them: one form for HTTP answers and for the
//! frames of events.
//!
//! Owns their JSON. Never fetches anything: what is not in the message is absent.

use serde::Serialize;
use utoipa::ToSchema;

use crate::common::v1 as wire;
use crate::im::logic::v1 as logic;
use crate::settings::{self, Settings};

/// A user as the user sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    id: String,
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    avatar_url: String,
    is_guest: bool,
    /// 0 normal, 1 disabled, 2 deleted; of the user's own profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
}

impl From<wire::User> for User {
    fn from(user: wire::User) -> User {
        // On the wire 0 is unspecified, so the values stand one higher there.
        let status = (user.status > 0).then(|| user.status - 1);
        User {
            id: user.id,
            username: user.username,
            avatar_url: user.avatar_url,
            is_guest: user.is_guest,
            status,
            created_at: Some(user.created_at),
            updated_at: above_zero(user.updated_at),
        }
    }
}

impl From<wire::UserInfo> for User {
    fn from(user: wire::UserInfo) -> User {
        User {
            id: user.id,
            username: user.username,
            avatar_url: user.avatar_url,
            is_guest: user.is_guest,
            status: None,
            created_at: None,
            updated_at: None,
        }
    }
}

/// A chat message.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    id: String,
    conversation_id: String,
    sender_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<User>,
    /// 1 text, 2 image, 3 file, 4 of the server, 5 voice, 6 video.
    message_type: i32,
    content: String,
    /// Its number in the conversation: order and de-duplicate by it.
    seq_id: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_msg_id: String,
    /// Recalled: content and extra are gone, its place stays.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    /// JSON as a text.
    #[serde(skip_serializing_if = "String::is_empty")]
    extra: String,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
}

impl From<wire::Message> for Message {
    fn from(message: wire::Message) -> Message {
        let sender_id = message.sender.as_ref().map(|sender| sender.id.clone()).unwrap_or_default();
        Message {
            id: message.id,
            conversation_id: message.conversation_id,
            sender_id,
            // A sender of whom only the id is known adds nothing.
            sender: message.sender.filter(|sender| !sender.username.is_empty()).map(User::from),
            message_type: message.r#type,
            content: message.content,
            seq_id: message.seq_id,
            client_msg_id: message.client_msg_id,
            deleted: message.deleted,
            extra: message.extra,
            created_at: message.created_at,
            updated_at: above_zero(message.updated_at),
        }
    }
}

/// A conversation as one member sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Conversation {
    #[serde(flatten)]
    #[schema(inline)]
    identity: Identity,
    #[serde(flatten)]
    #[schema(inline)]
    state: State,
    #[serde(flatten)]
    #[schema(inline)]
    view: View,
}

/// What a conversation is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Identity {
    id: String,
    /// 1 single, 2 group, 3 world.
    #[serde(rename = "type")]
    kind: i32,
    /// Of a single chat the other user's.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    avatar_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    owner_id: String,
    /// Of the world room approximate.
    member_count: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
}

/// How far a conversation has come.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct State {
    /// The newest one that is not the server's; in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_message: Option<Message>,
    /// Highest number stored.
    last_seq_id: i64,
    /// Highest number handed out, for information.
    assigned_seq: i64,
    /// At or below it a hole is final.
    stored_through_seq: i64,
    /// Moves with name, picture, description, settings and owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    info_version: Option<i64>,
    updated_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
}

/// What a conversation is to the caller.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct View {
    /// Of others, counted to 100: show 100 as 99+.
    unread_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    my_membership: Option<Member>,
    /// The other user of a single chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<User>,
}

impl From<wire::Conversation> for Conversation {
    fn from(conversation: wire::Conversation) -> Conversation {
        Conversation {
            identity: Identity {
                id: conversation.id,
                kind: conversation.r#type,
                name: conversation.name,
                avatar_url: conversation.avatar_url,
                description: conversation.description,
                owner_id: conversation.owner_id,
                member_count: conversation.member_count,
                settings: conversation.settings.as_ref().and_then(settings::view),
            },
            state: State {
                last_message: conversation.last_message.map(Message::from),
                last_seq_id: conversation.last_seq_id,
                assigned_seq: conversation.assigned_seq,
                stored_through_seq: conversation.stored_through_seq,
                info_version: above_zero(conversation.info_version),
                updated_at: conversation.updated_at,
                created_at: above_zero(conversation.created_at),
            },
            view: View {
                unread_count: conversation.unread_count,
                my_membership: conversation.my_membership.map(Member::from),
                peer: conversation.peer.map(User::from),
            },
        }
    }
}

impl From<logic::ConversationOptimized> for Conversation {
    fn from(conversation: logic::ConversationOptimized) -> Conversation {
        Conversation::from(wire::Conversation {
            id: conversation.id,
            r#type: conversation.r#type,
            name: conversation.name,
            avatar_url: conversation.avatar_url,
            description: conversation.description,
            owner_id: conversation.owner_id,
            member_count: conversation.member_count,
            last_message: conversation.last_message,
            unread_count: conversation.unread_count,
            updated_at: conversation.updated_at.max(conversation.last_activity_at),
            created_at: conversation.created_at,
            settings: conversation.settings,
            last_seq_id: conversation.last_seq_id,
            my_membership: conversation.my_membership,
            peer: conversation.peer,
            info_version: 0,
            assigned_seq: conversation.assigned_seq,
            stored_through_seq: conversation.stored_through_seq,
        })
    }
}

/// A member of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    user_id: String,
    conversation_id: String,
    /// 1 member, 2 admin, 3 owner.
    role: i32,
    muted: bool,
    /// Unix second; absent: no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    muted_until: Option<i64>,
    joined_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
}

impl From<wire::ConversationMember> for Member {
    fn from(member: wire::ConversationMember) -> Member {
        Member {
            user_id: member.user.as_ref().map(|user| user.id.clone()).unwrap_or_default(),
            conversation_id: member.conversation_id,
            role: member.role,
            muted: member.muted,
            muted_until: above_zero(member.muted_until).filter(|_| member.muted),
            joined_at: member.joined_at,
            updated_at: above_zero(member.updated_at),
            user: member.user.filter(|user| !user.username.is_empty()).map(User::from),
        }
    }
}

/// A friend, or somebody blocked, as the user sees them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Friend {
    user_id: String,
    friend_id: String,
    /// 1 friends, 3 blocked.
    status: i32,
    /// The caller's own name for them.
    #[serde(skip_serializing_if = "String::is_empty")]
    remark: String,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    friend: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<i64>,
}

impl Friend {
    /// With presence, where it was asked for.
    pub fn new(friend: logic::Friend, with_presence: bool) -> Friend {
        Friend {
            user_id: friend.user_id,
            friend_id: friend.friend.as_ref().map(|user| user.id.clone()).unwrap_or_default(),
            status: friend.status,
            remark: friend.remark,
            created_at: friend.created_at,
            updated_at: above_zero(friend.updated_at),
            friend: friend.friend.filter(|user| !user.username.is_empty()).map(User::from),
            online: with_presence.then_some(friend.is_online),
            last_seen: above_zero(friend.last_seen).filter(|_| with_presence),
        }
    }
}

/// A friend request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FriendRequest {
    id: String,
    requester_id: String,
    target_id: String,
    /// 0 pending, 1 accepted, 2 rejected.
    status: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<User>,
}

impl From<logic::FriendRequest> for FriendRequest {
    fn from(request: logic::FriendRequest) -> FriendRequest {
        let id = |user: &Option<wire::UserInfo>| user.as_ref().map(|user| user.id.clone()).unwrap_or_default();
        let known = |user: Option<wire::UserInfo>| user.filter(|user| !user.username.is_empty()).map(User::from);
        FriendRequest {
            id: request.id,
            requester_id: id(&request.requester),
            target_id: id(&request.target),
            status: request.status,
            message: request.message,
            created_at: request.created_at,
            updated_at: above_zero(request.updated_at),
            requester: known(request.requester),
            target: known(request.target),
        }
    }
}

fn above_zero(number: i64) -> Option<i64> {
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use serde_json::{json, to_value};

    use super::*;

    fn info() -> wire::UserInfo {
        wire::UserInfo { id: "7".into(), username: "ann".into(), ..wire::UserInfo::default() }
    }

    #[test]
    fn users() {
        let user = wire::User {
            id: "9007199254740993".into(),
            username: "ann".into(),
            status: wire::UserStatus::Normal as i32,
            created_at: 5,
            ..wire::User::default()
        };
        let expected =
            json!({"id": "9007199254740993", "username": "ann", "isGuest": false, "status": 0, "createdAt": 5});
        assert_eq!(to_value(User::from(user)).unwrap(), expected);
        assert_eq!(to_value(User::from(info())).unwrap(), json!({"id": "7", "username": "ann", "isGuest": false}));
    }

    #[test]
    fn messages() {
        let message = wire::Message {
            id: "1".into(),
            conversation_id: "single_7_8".into(),
            sender: Some(info()),
            r#type: 1,
            content: "hi".into(),
            seq_id: 3,
            client_msg_id: "c".into(),
            created_at: 5,
            ..wire::Message::default()
        };
        let expected = json!({
            "id": "1", "conversationId": "single_7_8", "senderId": "7", "messageType": 1, "content": "hi", "seqId": 3,
            "sender": {"id": "7", "username": "ann", "isGuest": false}, "clientMsgId": "c", "createdAt": 5,
        });
        assert_eq!(to_value(Message::from(message.clone())).unwrap(), expected);
        let recalled = to_value(Message::from(wire::Message { deleted: true, content: String::new(), ..message }));
        let recalled = recalled.unwrap();
        assert_eq!((&recalled["deleted"], &recalled["content"]), (&json!(true), &json!("")));
    }

    #[test]
    fn conversations() {
        let conversation = logic::ConversationOptimized {
            id: "single_7_8".into(),
            r#type: 1,
            name: "ann".into(),
            member_count: 2,
            last_seq_id: 4,
            assigned_seq: 5,
            stored_through_seq: 4,
            updated_at: 9,
            peer: Some(info()),
            settings: Some(wire::ConversationSettings {
                single_settings: Some(wire::SingleChatSettings { allow_recall: true, ..Default::default() }),
                ..Default::default()
            }),
            ..logic::ConversationOptimized::default()
        };
        let expected = json!({
            "id": "single_7_8", "type": 1, "name": "ann", "memberCount": 2, "lastSeqId": 4, "assignedSeq": 5,
            "storedThroughSeq": 4, "updatedAt": 9, "unreadCount": 0,
            "peer": {"id": "7", "username": "ann", "isGuest": false},
            "settings": {"single_settings": {"allow_recall": true, "recall_time_limit": 0, "show_read_status": false}},
        });
        assert_eq!(to_value(Conversation::from(conversation)).unwrap(), expected);
    }

    #[test]
    fn members() {
        let member = wire::ConversationMember {
            user: Some(info()),
            role: 2,
            muted: true,
            joined_at: 5,
            conversation_id: "group_1".into(),
            muted_until: 9,
            ..wire::ConversationMember::default()
        };
        let expected = json!({
            "userId": "7", "conversationId": "group_1", "role": 2, "muted": true, "mutedUntil": 9, "joinedAt": 5,
            "user": {"id": "7", "username": "ann", "isGuest": false},
        });
        assert_eq!(to_value(Member::from(member)).unwrap(), expected);
    }

    #[test]
    fn friends_and_requests() {
        let friend = logic::Friend {
            user_id: "6".into(),
            friend: Some(info()),
            status: 1,
            is_online: false,
            last_seen: 4,
            created_at: 3,
            ..logic::Friend::default()
        };
        let user = json!({"id": "7", "username": "ann", "isGuest": false});
        let expected = json!({"userId": "6", "friendId": "7", "status": 1, "createdAt": 3, "friend": user});
        assert_eq!(to_value(Friend::new(friend.clone(), false)).unwrap(), expected);
        let shown = to_value(Friend::new(friend, true)).unwrap();
        assert_eq!((&shown["online"], &shown["lastSeen"]), (&json!(false), &json!(4)));

        let request = logic::FriendRequest {
            id: "1".into(),
            requester: Some(info()),
            target: Some(wire::UserInfo { id: "8".into(), ..wire::UserInfo::default() }),
            created_at: 3,
            ..logic::FriendRequest::default()
        };
        let expected =
            json!({"id": "1", "requesterId": "7", "targetId": "8", "status": 0, "createdAt": 3, "requester": user});
        assert_eq!(to_value(FriendRequest::from(request)).unwrap(), expected);
    }
}
