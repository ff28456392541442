//! Members: adding, removing, roles, mutes, against the role matrix end to end.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{ConversationSettings, GroupSettings};
use gochat_proto::im::logic::v1::*;

use crate::chat::{Chat, ask, code};

struct Cast {
    chat: Chat,
    owner: String,
    admin: String,
    member: String,
    other: String,
    group: String,
}

/// A group of an owner, an admin and two members.
async fn cast() -> Cast {
    let chat = Chat::start().await;
    let (owner, admin) = (chat.register("owner").await, chat.register("adam").await);
    let (member, other) = (chat.register("mona").await, chat.register("otto").await);
    let group = chat.group(&owner, &[&admin, &member, &other]).await;
    chat.set_role(&owner, &group, &admin, 2).await.unwrap();
    Cast { chat, owner, admin, member, other, group }
}

async fn configure(cast: &Cast, field: &str, group: GroupSettings) {
    let update = UpdateConversationRequest {
        user_id: cast.owner.clone(),
        conversation_id: cast.group.clone(),
        settings: Some(ConversationSettings { group_settings: Some(group), ..ConversationSettings::default() }),
        update_mask: vec![field.into()],
        ..UpdateConversationRequest::default()
    };
    cast.chat.conversations.clone().update_conversation(ask(update)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inviting() {
    let cast = cast().await;
    let chat = &cast.chat;
    let (new, guest, stranger) = (chat.register("newbie").await, chat.guest().await, "5".to_owned());
    let answer = chat.add_members(&cast.member, &cast.group, &[&new, &guest, &stranger, &cast.other]).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.added_user_ids, std::slice::from_ref(&new));
    let failed: Vec<_> = answer.failed_users.iter().map(|f| (f.user_id.as_str(), f.code_name.as_str())).collect();
    let expected = [
        (guest.as_str(), "GUEST_FORBIDDEN"),
        (stranger.as_str(), "USER_NOT_FOUND"),
        (cast.other.as_str(), "USER_ALREADY_IN_CONVERSATION"),
    ];
    assert_eq!(failed, expected);
    configure(&cast, "settings.invite_enabled", GroupSettings::default()).await;
    let more = chat.register("more").await;
    assert_eq!(code(chat.add_members(&cast.member, &cast.group, &[&more]).await), ErrorCode::InsufficientPermission);
    chat.add_members(&cast.admin, &cast.group, &[&more]).await.unwrap();
    let eve = chat.register("eve").await;
    assert_eq!(code(chat.add_members(&eve, &cast.group, &[&eve]).await), ErrorCode::NotConversationMember);
    assert_eq!(code(chat.add_members(&cast.owner, "world", &[&eve]).await), ErrorCode::InsufficientPermission);
    assert_eq!(code(chat.add_members(&cast.owner, &cast.group, &[]).await), ErrorCode::InvalidParams);
    assert_eq!(code(chat.add_members(&guest, &cast.group, &[&eve]).await), ErrorCode::GuestForbidden);
    let as_admin = AddMembersRequest {
        operator_id: cast.admin.clone(),
        conversation_id: cast.group.clone(),
        user_ids: vec![eve.clone()],
        role: 2,
    };
    let added = chat.conversations.clone().add_members(ask(as_admin.clone())).await;
    assert_eq!(code(added), ErrorCode::InsufficientPermission);
    let by_owner = AddMembersRequest { operator_id: cast.owner.clone(), ..as_admin };
    chat.conversations.clone().add_members(ask(by_owner)).await.unwrap();
    assert_eq!(chat.detail(&eve, &cast.group).await.unwrap().conversation.unwrap().my_membership.unwrap().role, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_group_takes_nobody_however_many_try() {
    let cast = cast().await;
    configure(&cast, "settings.max_members", GroupSettings { max_members: 6, ..GroupSettings::default() }).await;
    let mut users = Vec::new();
    for number in 0..6 {
        users.push(cast.chat.register(&format!("user{number}")).await);
    }
    let tries = users.iter().map(|user| {
        let cast = &cast;
        async move { cast.chat.add_members(&cast.owner, &cast.group, &[user]).await }
    });
    let results = futures::future::join_all(tries).await;
    let refused: Vec<_> = results.into_iter().filter(Result::is_err).map(code).collect();
    assert_eq!(refused, [ErrorCode::ConversationFull; 4]);
    assert_eq!(cast.chat.detail(&cast.owner, &cast.group).await.unwrap().conversation.unwrap().member_count, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing() {
    let cast = cast().await;
    let Cast { chat, owner, admin, member, other, group } = &cast;
    for (operator, target, expected) in [
        (member, other, ErrorCode::InsufficientPermission),
        (member, owner, ErrorCode::InsufficientPermission),
        (admin, owner, ErrorCode::InsufficientPermission),
        (owner, owner, ErrorCode::CannotLeaveConversation),
        (owner, &"77".to_owned(), ErrorCode::NotConversationMember),
    ] {
        assert_eq!(code(chat.remove_member(operator, group, target).await), expected, "{operator} {target}");
    }
    assert_eq!(code(chat.remove_member(owner, "world", member).await), ErrorCode::InsufficientPermission);
    chat.remove_member(admin, group, other).await.unwrap();
    chat.remove_member(member, group, member).await.unwrap();
    chat.remove_member(owner, group, admin).await.unwrap();
    for gone in [other, member, admin] {
        assert_eq!(code(chat.detail(gone, group).await), ErrorCode::NotConversationMember);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_and_mutes() {
    let cast = cast().await;
    let Cast { chat, owner, admin, member, other, group } = &cast;
    for (operator, target) in [(member, other), (admin, member)] {
        assert_eq!(code(chat.set_role(operator, group, target, 2).await), ErrorCode::InsufficientPermission);
        assert_eq!(code(chat.set_role(operator, group, target, 3).await), ErrorCode::InsufficientPermission);
    }
    assert_eq!(code(chat.set_role(owner, group, owner, 1).await), ErrorCode::InvalidParams);
    assert_eq!(code(chat.set_role(owner, group, member, 0).await), ErrorCode::InvalidParams);
    assert_eq!(code(chat.set_role(owner, group, "77", 2).await), ErrorCode::NotConversationMember);
    assert_eq!(code(chat.set_role(owner, "world", member, 2).await), ErrorCode::InsufficientPermission);
    for (operator, target) in [(member, other), (admin, owner)] {
        assert_eq!(code(chat.set_muted(operator, group, target, true).await), ErrorCode::InsufficientPermission);
    }
    let in_past = UpdateMemberRoleRequest {
        operator_id: owner.clone(),
        conversation_id: group.clone(),
        target_user_id: member.clone(),
        muted: true,
        muted_until: 5,
        update_mask: vec!["muted".into()],
        ..UpdateMemberRoleRequest::default()
    };
    assert_eq!(code(chat.conversations.clone().update_member_role(ask(in_past)).await), ErrorCode::InvalidParams);
    chat.set_muted(admin, group, member, true).await.unwrap();
    chat.set_muted(owner, group, admin, true).await.unwrap();
    let detail = chat.detail(owner, group).await.unwrap();
    assert_eq!(detail.members.iter().filter(|member| member.muted).count(), 2);
    chat.set_role(owner, group, member, 3).await.unwrap();
    let detail = chat.detail(member, group).await.unwrap().conversation.unwrap();
    assert_eq!((detail.owner_id.as_str(), detail.my_membership.unwrap().role), (member.as_str(), 3));
    let former = chat.detail(owner, group).await.unwrap().conversation.unwrap();
    assert_eq!(former.my_membership.unwrap().role, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing() {
    let cast = cast().await;
    let list = |user: &str, conversation: &str, role: i32| {
        let list = GetMembersRequest {
            user_id: user.into(),
            conversation_id: conversation.into(),
            page: 1,
            page_size: 2,
            role_filter: role,
        };
        let mut conversations = cast.chat.conversations.clone();
        async move { conversations.get_members(ask(list)).await }
    };
    let page = list(&cast.member, &cast.group, 0).await.unwrap().into_inner();
    assert_eq!((page.members.len(), page.total, page.has_more), (2, 4, true));
    let admins = list(&cast.member, &cast.group, 2).await.unwrap().into_inner().members;
    assert_eq!(admins.iter().map(|m| &m.user.as_ref().unwrap().id).collect::<Vec<_>>(), [&cast.admin]);
    assert_eq!(code(list(&cast.member, "world", 0).await), ErrorCode::InsufficientPermission);
    let eve = cast.chat.register("eve").await;
    assert_eq!(code(list(&eve, &cast.group, 0).await), ErrorCode::NotConversationMember);
}
