//! Between the store's types and those of the contracts. Ids are decimal strings and times Unix seconds there.

use super::fail::invalid;
use crate::store::conversation::{Conversation, ListedConversation, Member, Profile};
use crate::store::message::Message;
use crate::store::user::{Status as Standing, User};
use gochat_proto::common::v1 as common;
use gochat_proto::im::repo::v1::RepoMessage;
use gochat_proto::settings::Settings;
use tonic::Status;

/// An id of the contract: a decimal string above 0.
pub(super) fn id(text: &str, what: &str) -> Result<i64, Status> {
    match text.parse::<i64>() {
        Ok(id) if id > 0 && !text.starts_with(['+', '0']) => Ok(id),
        _ => Err(invalid(format!("{what} is not an id: {text:?}"))),
    }
}

/// Many ids.
pub(super) fn ids(texts: &[String], what: &str) -> Result<Vec<i64>, Status> {
    texts.iter().map(|text| id(text, what)).collect()
}

/// Nobody, or an id.
pub(super) fn operator(text: &str) -> Result<i64, Status> {
    if text.is_empty() { Ok(0) } else { id(text, "an optional id") }
}

/// Ids as texts.
pub(super) fn texts(ids: &[i64]) -> Vec<String> {
    ids.iter().map(i64::to_string).collect()
}

/// 0 is written as nothing.
pub(super) fn optional_id(id: i64) -> String {
    if id == 0 { String::new() } else { id.to_string() }
}

pub(super) fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

pub(super) fn status_of(standing: Standing) -> common::UserStatus {
    match standing {
        Standing::Normal => common::UserStatus::Normal,
        Standing::Disabled => common::UserStatus::Disabled,
        Standing::Deleted => common::UserStatus::Deleted,
    }
}

pub(super) fn standing_of(status: common::UserStatus) -> Option<Standing> {
    match status {
        common::UserStatus::Unspecified => None,
        common::UserStatus::Normal => Some(Standing::Normal),
        common::UserStatus::Disabled => Some(Standing::Disabled),
        common::UserStatus::Deleted => Some(Standing::Deleted),
    }
}

pub(super) fn user(user: &User) -> common::User {
    common::User {
        id: user.id.to_string(),
        username: user.username.clone(),
        avatar_url: user.avatar_url.clone(),
        is_guest: user.is_guest,
        status: status_of(user.status).into(),
        created_at: seconds(user.created_at_ms),
        updated_at: seconds(user.updated_at_ms),
    }
}

pub(super) fn info(profile: Profile) -> common::UserInfo {
    common::UserInfo {
        id: profile.id.to_string(),
        username: profile.username,
        avatar_url: profile.avatar_url,
        is_guest: profile.is_guest,
    }
}

/// Someone whose account is gone is shown by id.
fn sender(profile: Option<Profile>, id: i64) -> common::UserInfo {
    let gone = common::UserInfo { id: id.to_string(), ..common::UserInfo::default() };
    profile.map_or(gone, info)
}

pub(super) fn message(message: Message, from: Option<Profile>) -> common::Message {
    common::Message {
        id: message.id.to_string(),
        conversation_id: message.conversation,
        sender: Some(sender(from, message.sender_id)),
        r#type: message.kind,
        content: message.content,
        seq_id: message.seq,
        client_msg_id: message.client_msg_id,
        deleted: message.deleted,
        extra: message.extra,
        created_at: seconds(message.created_at_ms),
        updated_at: seconds(message.created_at_ms),
    }
}

pub(super) fn repo_message(message: Message, from: Option<Profile>) -> RepoMessage {
    RepoMessage {
        id: message.id.to_string(),
        conversation_id: message.conversation,
        sender_id: message.sender_id.to_string(),
        message_type: message.kind,
        content: message.content,
        seq_id: message.seq,
        created_at: seconds(message.created_at_ms),
        updated_at: seconds(message.created_at_ms),
        deleted: message.deleted,
        extra: message.extra,
        client_msg_id: message.client_msg_id,
        sender: from.map(info),
    }
}

pub(super) fn conversation(conversation: &Conversation) -> common::Conversation {
    common::Conversation {
        id: conversation.id.clone(),
        r#type: conversation.kind,
        name: conversation.info.name.clone(),
        avatar_url: conversation.info.avatar_url.clone(),
        description: conversation.info.description.clone(),
        owner_id: optional_id(conversation.owner_id),
        member_count: conversation.member_count,
        updated_at: seconds(conversation.active_at_ms),
        settings: Settings::stored(conversation.kind, &conversation.info.settings).map(Into::into),
        created_at: seconds(conversation.created_at_ms),
        last_seq_id: conversation.head.last_seq,
        info_version: conversation.info.version,
        assigned_seq: conversation.head.last_seq.max(conversation.head.stored_through_seq),
        stored_through_seq: conversation.head.stored_through_seq,
        ..common::Conversation::default()
    }
}

/// A row as the contract has it. Who joined later than the last activity sees it by their joining.
pub(super) fn listed(row: ListedConversation, user: &str) -> common::Conversation {
    let membership = common::ConversationMember {
        user: Some(common::UserInfo { id: user.to_owned(), ..common::UserInfo::default() }),
        role: row.role,
        muted: row.muted,
        muted_until: row.muted_until,
        joined_at: seconds(row.joined_at_ms),
        conversation_id: row.conversation.id.clone(),
        ..common::ConversationMember::default()
    };
    common::Conversation {
        last_message: row.last_message.map(|(last, from)| message(last, from)),
        unread_count: row.unread,
        my_membership: Some(membership),
        peer: row.peer.map(info),
        updated_at: seconds(row.conversation.active_at_ms.max(row.joined_at_ms)),
        ..conversation(&row.conversation)
    }
}

pub(super) fn member(conversation: &str, member: &Member) -> common::ConversationMember {
    let user = &member.user;
    let profile = Profile {
        id: user.id,
        username: user.username.clone(),
        avatar_url: user.avatar_url.clone(),
        is_guest: user.is_guest,
    };
    common::ConversationMember {
        user: Some(info(profile)),
        role: member.role,
        muted: member.muted,
        joined_at: seconds(member.joined_at_ms),
        conversation_id: conversation.to_owned(),
        updated_at: seconds(member.updated_at_ms),
        muted_until: member.muted_until,
    }
}
