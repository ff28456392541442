//! Conversations as a whole: singles, groups, their changes and ends.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{ConversationSettings, GroupSettings};
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1::*;
use tonic::{Response, Status};

use crate::chat::{Chat, ask, code};

async fn update(
    chat: &Chat,
    user: &str,
    conversation: &str,
    mask: &[&str],
    fill: impl FnOnce(&mut UpdateConversationRequest),
) -> Result<Response<UpdateConversationResponse>, Status> {
    let mut update = UpdateConversationRequest {
        user_id: user.into(),
        conversation_id: conversation.into(),
        update_mask: mask.iter().map(|field| (*field).to_owned()).collect(),
        ..UpdateConversationRequest::default()
    };
    fill(&mut update);
    chat.conversations.clone().update_conversation(ask(update)).await
}

fn settings(group: GroupSettings) -> Option<ConversationSettings> {
    Some(ConversationSettings { group_settings: Some(group), ..ConversationSettings::default() })
}

async fn delete(chat: &Chat, user: &str, conversation: &str) -> Result<(), Status> {
    let delete =
        DeleteConversationRequest { user_id: user.into(), conversation_id: conversation.into(), reason: String::new() };
    chat.conversations.clone().delete_conversation(ask(delete)).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_chat_is_the_same_for_both() {
    let chat = Chat::start().await;
    let (ann, bob, guest) = (chat.register("ann").await, chat.register("bob").await, chat.guest().await);
    let first = chat.open_single(&ann, &bob).await.unwrap().into_inner();
    let again = chat.open_single(&bob, &ann).await.unwrap().into_inner();
    assert_eq!((first.already_existed, again.already_existed), (false, true));
    let (first, again) = (first.conversation.unwrap(), again.conversation.unwrap());
    assert_eq!(first.id, again.id);
    assert_eq!((first.name.as_str(), again.name.as_str()), ("bob", "ann"));
    assert_eq!(first.peer.unwrap().id, bob);
    chat.open_single(&ann, &guest).await.unwrap();
    assert_eq!(code(chat.open_single(&ann, &ann).await), ErrorCode::InvalidParams);
    assert_eq!(code(chat.open_single(&ann, "123").await), ErrorCode::UserNotFound);
    assert_eq!(code(chat.open_single(&ann, "x").await), ErrorCode::InvalidParams);
    let eve = chat.register("eve").await;
    chat.block(&bob, &eve, true).await;
    assert_eq!(code(chat.open_single(&eve, &bob).await), ErrorCode::Blocked);
    assert_eq!(code(chat.open_single(&bob, &eve).await), ErrorCode::Blocked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_chats_may_be_for_friends_only() {
    let chat = Chat::with(|config| config.rules.single_requires_friend = true).await;
    let (ann, bob) = (chat.register("ann").await, chat.register("bob").await);
    assert_eq!(code(chat.open_single(&ann, &bob).await), ErrorCode::NotFriends);
    chat.befriend(&ann, &bob).await;
    chat.open_single(&ann, &bob).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_made_of_those_who_may_be_in_one() {
    let chat = Chat::start().await;
    let (ann, bob, eve, guest) =
        (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await, chat.guest().await);
    chat.block(&eve, &ann, true).await;
    let made = chat.create_group(&ann, " the group ", &[&bob, &bob, &ann]).await.unwrap().into_inner();
    let group = made.conversation.unwrap();
    assert_eq!((group.name.as_str(), group.member_count, group.owner_id.as_str()), ("the group", 2, ann.as_str()));
    assert_eq!(group.my_membership.unwrap().role, 3);
    let stranger = "9".to_owned();
    let refused = chat.create_group(&ann, "g", &[&bob, &guest, &stranger, &eve]).await.unwrap_err();
    let failure = Failure::from_status(&refused);
    assert_eq!(failure.code, ErrorCode::InvalidParams);
    let failed: serde_json::Value = serde_json::from_str(&failure.details["failedUsers"]).unwrap();
    let codes: Vec<_> = failed.as_array().unwrap().iter().map(|user| user["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["GUEST_FORBIDDEN", "USER_NOT_FOUND", "BLOCKED"]);
    for name in ["", "  ", &"x".repeat(101), "a\u{7}b"] {
        assert_eq!(code(chat.create_group(&ann, name, &[]).await), ErrorCode::InvalidConversationName, "{name:?}");
    }
    assert_eq!(code(chat.create_group(&guest, "g", &[]).await), ErrorCode::GuestForbidden);
    let many: Vec<String> = (1..=500).map(|id| id.to_string()).collect();
    let many: Vec<&String> = many.iter().collect();
    assert_eq!(code(chat.create_group(&ann, "g", &many).await), ErrorCode::ConversationFull);
    let world = CreateConversationRequest { creator_id: ann.clone(), r#type: 3, ..Default::default() };
    assert_eq!(code(chat.conversations.clone().create_conversation(ask(world)).await), ErrorCode::InvalidParams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_see_a_conversation() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    let group = chat.group(&ann, &[&bob]).await;
    let detail = chat.detail(&bob, &group).await.unwrap();
    assert_eq!(detail.members.len(), 2);
    assert_eq!(code(chat.detail(&eve, &group).await), ErrorCode::NotConversationMember);
    assert_eq!(code(chat.detail(&eve, "group_1").await), ErrorCode::ConversationNotFound);
    let search = |user: &str, query: &str| {
        let search = SearchConversationsRequest { user_id: user.into(), query: query.into(), ..Default::default() };
        let mut conversations = chat.conversations.clone();
        async move { conversations.search_conversations(ask(search)).await }
    };
    assert_eq!(search(&bob, "gro").await.unwrap().into_inner().conversations.len(), 1);
    assert!(search(&eve, "gro").await.unwrap().into_inner().conversations.is_empty());
    assert_eq!(code(search(&bob, " ").await), ErrorCode::MissingQuery);
    assert_eq!(code(search(&bob, &"x".repeat(51)).await), ErrorCode::InvalidParams);
    assert_eq!(code(search(&chat.guest().await, "a").await), ErrorCode::GuestForbidden);
    let unread = GetUnreadCountRequest { user_id: eve, conversation_id: group };
    assert_eq!(code(chat.conversations.clone().get_unread_count(ask(unread)).await), ErrorCode::NotConversationMember);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_changes_by_role_and_version() {
    let chat = Chat::start().await;
    let (ann, bob, cat) = (chat.register("ann").await, chat.register("bob").await, chat.register("cat").await);
    let group = chat.group(&ann, &[&bob, &cat]).await;
    chat.set_role(&ann, &group, &bob, 2).await.unwrap();
    let version = chat.detail(&ann, &group).await.unwrap().conversation.unwrap().info_version;
    let rename = |user: String, name: &'static str, expected: i64| {
        let (chat, group) = (&chat, &group);
        async move {
            update(chat, &user, group, &["name"], |u| {
                u.name = name.into();
                u.expected_info_version = expected;
            })
            .await
        }
    };
    let renamed = rename(bob.clone(), "new name", version).await.unwrap().into_inner().conversation.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.info_version), ("new name", version + 1));
    assert_eq!(code(rename(ann.clone(), "other", version).await), ErrorCode::VersionConflict);
    assert_eq!(code(rename(cat.clone(), "mine", 0).await), ErrorCode::InsufficientPermission);
    assert_eq!(code(rename(ann.clone(), " ", 0).await), ErrorCode::InvalidConversationName);
    assert_eq!(code(rename(chat.register("eve").await, "x", 0).await), ErrorCode::NotConversationMember);
    assert_eq!(code(update(&chat, &ann, &group, &[], |_| {}).await), ErrorCode::InvalidParams);
    assert_eq!(code(update(&chat, &ann, &group, &["owner_id"], |_| {}).await), ErrorCode::InvalidParams);
    assert_eq!(
        code(update(&chat, &ann, "world", &["name"], |u| u.name = "x".into()).await),
        ErrorCode::InsufficientPermission
    );
    let long = update(&chat, &ann, &group, &["description"], |u| u.description = "x".repeat(501)).await;
    assert_eq!(code(long), ErrorCode::InvalidParams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_the_owners_and_within_ranges() {
    let chat = Chat::start().await;
    let (ann, bob, cat) = (chat.register("ann").await, chat.register("bob").await, chat.register("cat").await);
    let group = chat.group(&ann, &[&bob, &cat]).await;
    chat.set_role(&ann, &group, &bob, 2).await.unwrap();
    let mute_all = |user: String| {
        let (chat, group) = (&chat, &group);
        async move {
            let group_settings = GroupSettings { mute_all: true, ..GroupSettings::default() };
            update(chat, &user, group, &["settings.mute_all"], |u| u.settings = settings(group_settings)).await
        }
    };
    assert_eq!(code(mute_all(bob.clone()).await), ErrorCode::InsufficientPermission);
    let changed = mute_all(ann.clone()).await.unwrap().into_inner().conversation.unwrap();
    let stored = changed.settings.unwrap().group_settings.unwrap();
    assert_eq!((stored.mute_all, stored.invite_enabled, stored.max_members), (true, true, 500));
    for max_members in [2, 1, 10_001] {
        let group_settings = GroupSettings { max_members, ..GroupSettings::default() };
        let mask = ["settings.max_members"];
        let changed = update(&chat, &ann, &group, &mask, |u| u.settings = settings(group_settings)).await;
        assert_eq!(code(changed), ErrorCode::InvalidParams, "{max_members} for three members");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dissolved_group_is_gone_for_its_members() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    let group = chat.group(&ann, &[&bob]).await;
    assert_eq!(code(delete(&chat, &bob, &group).await), ErrorCode::InsufficientPermission);
    assert_eq!(code(delete(&chat, &eve, &group).await), ErrorCode::NotConversationMember);
    assert_eq!(code(delete(&chat, &ann, "world").await), ErrorCode::InsufficientPermission);
    delete(&chat, &ann, &group).await.unwrap();
    for user in [&ann, &bob] {
        assert_eq!(code(chat.detail(user, &group).await), ErrorCode::ConversationDissolved);
        assert_eq!(code(chat.leave(user, &group).await), ErrorCode::ConversationDissolved);
    }
    assert_eq!(code(chat.detail(&eve, &group).await), ErrorCode::NotConversationMember, "a stranger learns nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_leave_what() {
    let chat = Chat::start().await;
    let (ann, bob) = (chat.register("ann").await, chat.register("bob").await);
    let group = chat.group(&ann, &[&bob]).await;
    let single = chat.open_single(&ann, &bob).await.unwrap().into_inner().conversation.unwrap().id;
    assert_eq!(code(chat.leave(&ann, &group).await), ErrorCode::CannotLeaveConversation);
    assert_eq!(code(chat.leave(&ann, &single).await), ErrorCode::CannotLeaveConversation);
    chat.set_role(&ann, &group, &bob, 3).await.unwrap();
    chat.leave(&ann, &group).await.unwrap();
    assert_eq!(code(chat.leave(&ann, &group).await), ErrorCode::NotConversationMember);
    let list = GetConversationsOptimizedRequest { user_id: ann.clone(), r#type_filter: 1, ..Default::default() };
    let singles = |request: GetConversationsOptimizedRequest| {
        let mut conversations = chat.conversations.clone();
        async move {
            conversations.get_conversations_optimized(ask(request)).await.unwrap().into_inner().conversations.len()
        }
    };
    assert_eq!(singles(list.clone()).await, 1);
    delete(&chat, &ann, &single).await.unwrap();
    assert_eq!(singles(list).await, 0, "hidden until the next message");
}
