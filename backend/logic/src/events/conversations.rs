//! Events of conversations and their members (spec 04 §6): frames, room changes, system messages, invitations.
//!
//! Owns what each of them means to whom. Never decides whether it may happen.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{ConversationMemberRole, ConversationType};
use gochat_proto::events::{Event, EventBody};
use gochat_proto::failure::Failure;
use gochat_proto::ids::WORLD;
use serde_json::{Value, json};

use super::rooms::{self, Change};
use super::system::{self, Note, listed};
use super::teller::Teller;
use super::{frames, notices};
use crate::signals::SendError;

/// Tells an event of this kind.
pub(super) async fn tell(teller: &Teller, event: &Event) -> Result<(), SendError> {
    match &event.body {
        EventBody::ConversationCreated { .. } => created(teller, event).await,
        EventBody::MembersAdded { .. } => added(teller, event).await,
        EventBody::MemberRemoved { .. } => removed(teller, event).await,
        EventBody::RoleUpdated { .. } => role_updated(teller, event).await,
        EventBody::OwnerTransferred { .. } => transferred(teller, event).await,
        EventBody::InfoUpdated { .. } => info_updated(teller, event).await,
        EventBody::Dissolved { .. } => dissolved(teller, event).await,
        _ => Ok(()),
    }
}

async fn created(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::ConversationCreated { kind, name, member_ids, member_count, .. } = &event.body else {
        return Ok(());
    };
    show_whole(teller, event, member_ids).await?;
    if *kind != ConversationType::Group as i32 {
        return Ok(());
    }
    let invited: Vec<String> = member_ids.iter().filter(|id| **id != event.operator_id).cloned().collect();
    invite(teller, event, *kind, name, &invited).await;
    if *member_count > system::MEMBERS_MAX {
        return Ok(());
    }
    let text = format!("{} created the group \"{name}\"", names(teller, &[&event.operator_id]).await?);
    let extra = json!({"type": "conversation-created", "operatorId": event.operator_id, "name": name});
    system::send(teller, event, Note { sender: event.operator_id.clone(), text, extra }).await
}

async fn added(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::MembersAdded { kind, added_user_ids, added_by, member_count, version } = &event.body else {
        return Ok(());
    };
    let connected = rooms::connected(teller, added_user_ids).await?;
    let change = Change {
        version: *version,
        member_count: *member_count,
        joined: rooms::together(&connected),
        ..Change::default()
    };
    rooms::change(teller, &event.conversation_id, &change).await?;
    show_whole(teller, event, added_user_ids).await?;
    if *kind != ConversationType::Group as i32 {
        return Ok(());
    }
    let members = teller.repo.memberships(&event.conversation_id, first(added_user_ids)).await?;
    if !members.is_empty() {
        let frame = frames::members_added(event, members, added_by, *member_count);
        rooms::tell(teller, &event.conversation_id, *member_count, *version, &frame).await?;
    }
    let name = teller.repo.conversation(&event.conversation_id).await?.name;
    invite(teller, event, *kind, &name, added_user_ids).await;
    if *member_count > system::MEMBERS_MAX {
        return Ok(());
    }
    let added: Vec<&String> = added_user_ids.iter().collect();
    let text = format!("{} added {}", names(teller, &[added_by]).await?, names(teller, &added).await?);
    let extra = json!({"type": "member-added", "operatorId": added_by, "userIds": first_in_extra(added_user_ids)});
    system::send(teller, event, Note { sender: added_by.clone(), text, extra }).await
}

async fn removed(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::MemberRemoved { kind, removed_user_id, removed_by, reason, member_count, version } = &event.body
    else {
        return Ok(());
    };
    let change = Change {
        version: *version,
        member_count: *member_count,
        left: vec![removed_user_id.clone()],
        ..Change::default()
    };
    rooms::change(teller, &event.conversation_id, &change).await?;
    let frame = frames::member_removed(event, removed_user_id, removed_by, reason, *member_count);
    let gone = std::slice::from_ref(removed_user_id);
    teller.signals.try_users(gone, &event.conversation_id, &frame).await?;
    if *kind != ConversationType::Group as i32 {
        return Ok(());
    }
    rooms::tell(teller, &event.conversation_id, *member_count, *version, &frame).await?;
    if *member_count > system::MEMBERS_MAX || *member_count == 0 {
        return Ok(());
    }
    let note = if removed_by.is_empty() || removed_by == removed_user_id {
        Note {
            sender: removed_user_id.clone(),
            text: format!("{} left", names(teller, &[removed_user_id]).await?),
            extra: json!({"type": "member-left", "userId": removed_user_id}),
        }
    } else {
        let (operator, user) = (names(teller, &[removed_by]).await?, names(teller, &[removed_user_id]).await?);
        Note {
            sender: removed_by.clone(),
            text: format!("{operator} removed {user}"),
            extra: json!({"type": "member-removed", "operatorId": removed_by, "userId": removed_user_id}),
        }
    };
    system::send(teller, event, note).await
}

async fn role_updated(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::RoleUpdated { user_id, new_role, muted, muted_until, .. } = &event.body else { return Ok(()) };
    let frame = frames::role_updated(event, user_id, *new_role, *muted, *muted_until);
    if event.conversation_id == WORLD {
        let user = std::slice::from_ref(user_id);
        return teller.signals.try_users(user, &event.conversation_id, &frame).await;
    }
    let member_count = teller.repo.conversation(&event.conversation_id).await?.member_count;
    rooms::tell(teller, &event.conversation_id, member_count, 0, &frame).await
}

async fn transferred(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::OwnerTransferred { from_user_id, to_user_id, info_version } = &event.body else { return Ok(()) };
    let member_count = teller.repo.conversation(&event.conversation_id).await?.member_count;
    let both = vec![from_user_id.clone(), to_user_id.clone()];
    let memberships = teller.repo.memberships(&event.conversation_id, both).await?;
    let roles = [(from_user_id, ConversationMemberRole::Admin), (to_user_id, ConversationMemberRole::Owner)];
    for (user_id, role) in roles {
        let is_theirs = |member: &&gochat_proto::common::v1::ConversationMember| {
            member.user.as_ref().is_some_and(|user| user.id == *user_id)
        };
        let Some(member) = memberships.iter().find(is_theirs) else { continue };
        let frame = frames::role_updated(event, user_id, role as i32, member.muted, member.muted_until);
        rooms::tell(teller, &event.conversation_id, member_count, 0, &frame).await?;
    }
    let updates = json!({ "ownerId": to_user_id, "infoVersion": info_version });
    let frame = frames::conversation_updated(event, updates);
    rooms::tell(teller, &event.conversation_id, member_count, 0, &frame).await?;
    if member_count > system::MEMBERS_MAX {
        return Ok(());
    }
    let text = format!("{} is the owner now", names(teller, &[to_user_id]).await?);
    let extra = json!({"type": "owner-transferred", "fromUserId": from_user_id, "toUserId": to_user_id});
    system::send(teller, event, Note { sender: from_user_id.clone(), text, extra }).await
}

async fn info_updated(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::InfoUpdated { updated_fields, updates, info_version } = &event.body else { return Ok(()) };
    let mut updates = updates.clone();
    if let Value::Object(fields) = &mut updates {
        fields.insert("infoVersion".to_owned(), (*info_version).into());
    }
    let member_count = teller.repo.conversation(&event.conversation_id).await?.member_count;
    let frame = frames::conversation_updated(event, updates.clone());
    rooms::tell(teller, &event.conversation_id, member_count, 0, &frame).await?;
    if member_count > system::MEMBERS_MAX || event.conversation_id == WORLD {
        return Ok(());
    }
    let who = names(teller, &[&event.operator_id]).await?;
    let mut extra =
        json!({"type": "conversation-updated", "operatorId": event.operator_id, "updatedFields": updated_fields});
    let text = match updates.get("name").and_then(Value::as_str) {
        Some(name) => {
            extra["name"] = name.into();
            format!("{who} renamed the group to \"{name}\"")
        }
        None => format!("{who} changed {}", listed(updated_fields)),
    };
    system::send(teller, event, Note { sender: event.operator_id.clone(), text, extra }).await
}

async fn dissolved(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let EventBody::Dissolved { member_ids, version, .. } = &event.body else { return Ok(()) };
    let change = Change { version: *version, dissolved: true, ..Change::default() };
    rooms::change(teller, &event.conversation_id, &change).await?;
    let frame = frames::conversation_updated(event, json!({ "dissolved": true }));
    teller.signals.try_users(member_ids, &event.conversation_id, &frame).await
}

/// The whole conversation to each of these users who is connected, as each sees it.
async fn show_whole(teller: &Teller, event: &Event, user_ids: &[String]) -> Result<(), SendError> {
    for (user_id, targets) in rooms::connected(teller, user_ids).await? {
        let conversation = match teller.repo.viewed(&event.conversation_id, &user_id).await {
            Ok(conversation) => conversation,
            Err(status) if is_gone(&status) => continue,
            Err(status) => return Err(status.into()),
        };
        teller.signals.to_targets(&targets, &event.conversation_id, &frames::whole(event, conversation)).await?;
    }
    Ok(())
}

/// Not a member any more, or nothing to be a member of.
fn is_gone(status: &tonic::Status) -> bool {
    matches!(
        Failure::from_status(status).code,
        ErrorCode::NotConversationMember | ErrorCode::ConversationDissolved | ErrorCode::ConversationNotFound
    )
}

async fn invite(teller: &Teller, event: &Event, kind: i32, name: &str, user_ids: &[String]) {
    let payload = json!({
        "conversation_id": event.conversation_id,
        "conversation_name": name,
        "conversation_type": kind,
        "inviter_id": event.operator_id,
    });
    notices::publish(&teller.signals, user_ids, "conversation.invited", &payload).await;
}

/// Names for a text; someone without one is nobody in particular.
async fn names(teller: &Teller, user_ids: &[&String]) -> Result<String, SendError> {
    let known =
        teller.repo.users(user_ids.iter().filter(|id| !id.is_empty()).map(|id| (*id).clone()).collect()).await?;
    let name = |id: &&String| {
        let user = known.iter().find(|user| user.id == **id);
        user.map_or_else(|| "somebody".to_owned(), |user| user.username.clone())
    };
    Ok(listed(&user_ids.iter().map(name).collect::<Vec<_>>()))
}

/// At most as many as one question about members takes.
fn first(user_ids: &[String]) -> Vec<String> {
    user_ids.iter().take(500).cloned().collect()
}

/// At most as many as `extra` has room for.
fn first_in_extra(user_ids: &[String]) -> &[String] {
    &user_ids[..user_ids.len().min(100)]
}
