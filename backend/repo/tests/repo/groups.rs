//! Groups, the world room and sending in them, through the services. The store's own rules stand in its contract suite.

use crate::bench::{Bench, CHAT, NOW, PARTITION, ask, candidate, hash, message, record};
use gochat_proto::bus::v1::StreamKind;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::events::EventBody;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::friendship_service_client::FriendshipServiceClient;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::*;
use gochat_repo::store::user::NewUser;
use tonic::Status;

const GROUP: &str = "group_7";

fn code(status: Status) -> ErrorCode {
    Failure::from(status).code
}

/// More users, the first of them guests.
async fn users(bench: &Bench, ids: std::ops::RangeInclusive<i64>, guests: i64) {
    let first = *ids.start();
    let user = |id: i64| NewUser {
        id,
        username: format!("user{id}"),
        password_hash: String::new(),
        avatar_url: String::new(),
        is_guest: id < first + guests,
        created_at_ms: NOW,
    };
    bench.store.create_users(ids.map(user).collect()).await.unwrap();
}

async fn group(bench: &Bench, members: &[i64]) {
    let create = CreateConversationRequest {
        r#type: 2,
        id: GROUP.into(),
        name: "group".into(),
        owner_id: "1".into(),
        member_ids: members.iter().map(i64::to_string).collect(),
        ..CreateConversationRequest::default()
    };
    bench.conversations().create_conversation(ask(create)).await.unwrap();
}

async fn add(bench: &Bench, users: &[i64]) -> AddConversationMemberResponse {
    add_to(bench, GROUP, users).await.unwrap()
}

async fn add_to(bench: &Bench, conversation: &str, users: &[i64]) -> Result<AddConversationMemberResponse, Status> {
    let request = AddConversationMemberRequest {
        conversation_id: conversation.into(),
        user_ids: users.iter().map(i64::to_string).collect(),
        operator_id: "1".into(),
        ..AddConversationMemberRequest::default()
    };
    bench.conversations().add_conversation_member(ask(request)).await.map(|answer| answer.into_inner())
}

async fn remove(bench: &Bench, conversation: &str, user: i64) -> Result<i32, Status> {
    let request = RemoveConversationMemberRequest {
        conversation_id: conversation.into(),
        user_id: user.to_string(),
        operator_id: "1".into(),
        reason: "why".into(),
    };
    Ok(bench.conversations().remove_conversation_member(ask(request)).await?.into_inner().member_count)
}

async fn set_member(bench: &Bench, user: i64, mask: &str, new_role: i32, muted: bool, muted_until: i64) {
    let request = UpdateMemberRoleRequest {
        conversation_id: GROUP.into(),
        user_id: user.to_string(),
        new_role,
        muted,
        muted_until,
        update_mask: vec![mask.into()],
        operator_id: "1".into(),
    };
    bench.conversations().update_member_role(ask(request)).await.unwrap();
}

async fn settings(bench: &Bench, json: &str) {
    let request = UpdateConversationRequest {
        conversation_id: GROUP.into(),
        settings_json: json.into(),
        update_mask: vec!["settings_json".into()],
        ..UpdateConversationRequest::default()
    };
    bench.conversations().update_conversation(ask(request)).await.unwrap();
}

/// What becomes of one message: its number, or why it was refused.
async fn say(bench: &Bench, conversation: &str, offset: i64, sender: i64) -> Result<i64, String> {
    say_as(bench, conversation, offset, sender, StreamKind::Chat).await
}

async fn say_as(bench: &Bench, conversation: &str, offset: i64, sender: i64, kind: StreamKind) -> Result<i64, String> {
    let writer = bench.draw().await;
    let item = PrepareItem {
        offset,
        sender_id: sender,
        client_msg_id: format!("m{offset}"),
        content_hash: hash("x").into(),
        message_id: candidate(offset, writer.epoch),
        created_at_ms: NOW + offset,
        kind: kind.into(),
        ..PrepareItem::default()
    };
    let request = PrepareMessagesRequest {
        partition: PARTITION,
        epoch: writer.epoch,
        incarnation: writer.incarnation,
        conversations: vec![PrepareConversation {
            conversation_id: conversation.into(),
            items: vec![item],
            ..PrepareConversation::default()
        }],
        ..PrepareMessagesRequest::default()
    };
    let answer = bench.pipeline().prepare_messages(ask(request)).await.unwrap().into_inner();
    let item = answer.conversations[0].items[0].clone();
    match item.outcome() {
        Outcome::Fresh => Ok(item.seq_id),
        Outcome::Refused if item.code_name.is_empty() => {
            Err(ErrorCode::from_number(item.code).unwrap().as_str().to_owned())
        }
        Outcome::Refused => Err(item.code_name),
        other => panic!("{other:?}"),
    }
}

fn refused<T>(code: ErrorCode) -> Result<T, String> {
    Err(code.as_str().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_prepares_nothing_after_the_answer() {
    let bench = Bench::new().await;
    group(&bench, &[2]).await;
    for round in 0..10 {
        let offset = round * 10;
        assert_eq!(say(&bench, GROUP, offset, 3).await, refused(ErrorCode::NotConversationMember));
        add(&bench, &[3]).await;
        assert!(say(&bench, GROUP, offset + 1, 3).await.is_ok(), "a member after the answer");
        // Others keep the roster busy while it changes.
        let (others, removed) = tokio::join!(say(&bench, GROUP, offset + 2, 2), remove(&bench, GROUP, 3));
        assert!(others.is_ok() && removed.unwrap() == 2);
        assert_eq!(say(&bench, GROUP, offset + 3, 3).await, refused(ErrorCode::NotConversationMember));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_name_version_size_and_few_members_only() {
    let bench = Bench::new().await;
    users(&bench, 10..=40, 0).await;
    group(&bench, &[2]).await;
    let look = async |offset| {
        let writer = bench.draw().await;
        let answer = bench.prepare(writer, GROUP, 0, &[(offset, 1, &format!("m{offset}"), "x")]).await.unwrap();
        let found = &answer.conversations[0];
        (found.r#type, found.membership_version, found.member_ids.len(), found.member_count)
    };
    assert_eq!(look(0).await, (2, 1, 2, 2));
    add(&bench, &(10..=27).collect::<Vec<_>>()).await;
    assert_eq!(look(1).await, (2, 2, 20, 20));
    add(&bench, &[28]).await;
    assert_eq!(look(2).await, (2, 3, 0, 21));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_mutes_and_settings_hold_with_the_answer() {
    let bench = Bench::new().await;
    users(&bench, 10..=11, 1).await;
    group(&bench, &[2, 3, 10]).await;
    assert_eq!(say(&bench, GROUP, 0, 10).await, refused(ErrorCode::GuestForbidden), "a code by its name");
    set_member(&bench, 2, "muted", 0, true, 0).await;
    assert_eq!(say(&bench, GROUP, 1, 2).await, refused(ErrorCode::Muted));
    set_member(&bench, 2, "new_role", 2, false, 0).await;
    assert!(say(&bench, GROUP, 2, 2).await.is_ok(), "admins are exempt");
    set_member(&bench, 2, "new_role", 1, false, 0).await;
    set_member(&bench, 2, "muted", 0, true, NOW / 1000 - 1).await;
    assert!(say(&bench, GROUP, 3, 2).await.is_ok(), "the mute is over");
    settings(&bench, r#"{"group_settings":{"mute_all":true}}"#).await;
    assert_eq!(say(&bench, GROUP, 4, 2).await, refused(ErrorCode::Muted));
    assert!(say(&bench, GROUP, 5, 1).await.is_ok());
    settings(&bench, r#"{"group_settings":{}}"#).await;
    assert!(say(&bench, GROUP, 6, 2).await.is_ok());
    let status = UpdateUserRequest {
        user_id: "2".into(),
        update_mask: vec!["status".into()],
        status: UserStatus::Disabled.into(),
        ..UpdateUserRequest::default()
    };
    bench.users().update_user(ask(status)).await.unwrap();
    assert_eq!(say(&bench, GROUP, 7, 2).await, refused(ErrorCode::UserDisabled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dissolved_group_is_over_for_its_members_and_nothing_for_others() {
    let bench = Bench::new().await;
    users(&bench, 10..=10, 0).await;
    group(&bench, &[2]).await;
    assert!(say(&bench, GROUP, 0, 2).await.is_ok());
    let dissolve = DeleteConversationRequest {
        conversation_id: GROUP.into(),
        operator_id: "1".into(),
        mode: 1,
        reason: "over".into(),
    };
    bench.conversations().delete_conversation(ask(dissolve)).await.unwrap();
    assert_eq!(say(&bench, GROUP, 1, 2).await, refused(ErrorCode::ConversationDissolved));
    assert_eq!(say(&bench, GROUP, 2, 10).await, refused(ErrorCode::NotConversationMember));
    assert_eq!(say_as(&bench, GROUP, 3, 1, StreamKind::System).await, refused(ErrorCode::ConversationDissolved));
    for (viewer, conversation, expected) in [
        ("2", GROUP, ErrorCode::ConversationDissolved),
        ("10", GROUP, ErrorCode::NotConversationMember),
        ("10", "group_8", ErrorCode::ConversationNotFound),
    ] {
        let (conversation_id, viewer_id) = (conversation.to_owned(), viewer.to_owned());
        let view = GetConversationRequest { conversation_id: conversation_id.clone(), viewer_id: viewer_id.clone() };
        assert_eq!(code(bench.conversations().get_conversation(ask(view)).await.unwrap_err()), expected);
        let history = GetConversationMessagesRequest {
            conversation_id: conversation_id.clone(),
            viewer_id,
            ..GetConversationMessagesRequest::default()
        };
        assert_eq!(code(bench.messages().get_conversation_messages(ask(history)).await.unwrap_err()), expected);
        let user_id = viewer.to_owned();
        let read = UpdateReadPointerRequest { user_id, conversation_id, seq_id: 1 };
        assert_eq!(code(bench.conversations().update_read_pointer(ask(read)).await.unwrap_err()), expected);
    }
    let membership = |user: &str| GetMembershipRequest { conversation_id: GROUP.into(), user_ids: vec![user.into()] };
    let former = bench.conversations().get_membership(ask(membership("2"))).await.unwrap_err();
    assert_eq!(code(former), ErrorCode::ConversationDissolved);
    let stranger = bench.conversations().get_membership(ask(membership("10"))).await.unwrap().into_inner();
    assert!(stranger.memberships.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_close_a_single_chat_for_both() {
    let bench = Bench::new().await;
    assert!(say(&bench, CHAT, 0, 1).await.is_ok());
    let mut friends = FriendshipServiceClient::new(bench.channel.clone());
    let mut block = async |blocked| {
        let request = SetBlockRequest { user_id: "2".into(), target_id: "1".into(), blocked };
        friends.set_block(ask(request)).await.unwrap();
    };
    block(true).await;
    for sender in [1, 2] {
        assert_eq!(say(&bench, CHAT, sender, sender).await, refused(ErrorCode::Blocked), "the blocker too");
    }
    block(false).await;
    assert!(say(&bench, CHAT, 3, 1).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_room_is_asked_member_by_member() {
    let bench = Bench::new().await;
    users(&bench, 10..=10, 1).await;
    let world = CreateConversationRequest { r#type: 3, id: "world".into(), ..CreateConversationRequest::default() };
    bench.conversations().create_conversation(ask(world)).await.unwrap();
    bench.take_events().await;
    assert_eq!(say(&bench, "world", 0, 1).await, refused(ErrorCode::NotConversationMember));
    assert_eq!(add_to(&bench, "world", &[1, 10]).await.unwrap().member_count, 2);
    assert!(say(&bench, "world", 1, 1).await.is_ok() && say(&bench, "world", 2, 10).await.is_ok());
    let writer = bench.draw().await;
    let answer = bench.prepare(writer, "world", 0, &[(3, 1, "m3", "x")]).await.unwrap();
    let room = &answer.conversations[0];
    assert_eq!((room.membership_version, room.member_ids.len(), room.r#type), (0, 0, 3));
    assert_eq!(remove(&bench, "world", 10).await.unwrap(), 1);
    assert_eq!(say(&bench, "world", 4, 10).await, refused(ErrorCode::NotConversationMember));
    let told = bench.take_events().await;
    assert!(matches!(&told[0].body, EventBody::MembersAdded { version: 0, member_count: 2, .. }));
    assert!(
        matches!(&told[1].body, EventBody::MemberRemoved { version: 0, removed_user_id, .. } if removed_user_id == "10")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn system_messages_need_no_membership_and_count_for_nobody() {
    let bench = Bench::new().await;
    assert_eq!(say_as(&bench, CHAT, 0, 3, StreamKind::System).await, Ok(1));
    let mut system = message(50, 1, "\u{1}e1", "somebody came");
    (system.kind, system.message_type, system.sender_id) = (StreamKind::System.into(), 4, 3);
    bench.save(vec![(0, record(1, vec![system, message(51, 2, "a", "hello")]))]).await;
    let view = |viewer: &str| GetConversationRequest { conversation_id: CHAT.into(), viewer_id: viewer.into() };
    let seen = bench.conversations().get_conversation(ask(view("2"))).await.unwrap().into_inner().conversation.unwrap();
    assert_eq!((seen.unread_count, seen.last_seq_id), (1, 2));
    assert_eq!(seen.last_message.unwrap().id, "51");
    assert_eq!((seen.peer.unwrap().id, seen.my_membership.unwrap().role), ("1".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_history_is_closed_to_every_question() {
    let bench = Bench::new().await;
    group(&bench, &[2]).await;
    settings(&bench, r#"{"group_settings":{"allow_member_view_history":false}}"#).await;
    let mut before = message(60, 1, "a", "secret");
    before.conversation_id = GROUP.into();
    bench.save(vec![(0, record(1, vec![before]))]).await;
    add(&bench, &[3]).await;
    let mut after = message(61, 2, "b", "hello");
    after.conversation_id = GROUP.into();
    bench.save(vec![(1, record(1, vec![after]))]).await;
    for (viewer, visible) in [("2", vec!["60", "61"]), ("3", vec!["61"])] {
        for ascending in [true, false] {
            let read = GetConversationMessagesRequest {
                conversation_id: GROUP.into(),
                ascending,
                viewer_id: viewer.into(),
                ..GetConversationMessagesRequest::default()
            };
            let page = bench.messages().get_conversation_messages(ask(read)).await.unwrap().into_inner();
            let mut ids: Vec<_> = page.messages.into_iter().map(|m| m.id).collect();
            ids.sort();
            assert_eq!(ids, visible, "for {viewer}");
        }
    }
    let one = |viewer: &str| GetMessageRequest {
        message_id: "60".into(),
        conversation_id: GROUP.into(),
        viewer_id: viewer.into(),
    };
    assert!(bench.messages().get_message(ask(one("2"))).await.is_ok());
    assert_eq!(code(bench.messages().get_message(ask(one("3"))).await.unwrap_err()), ErrorCode::MessageNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_the_contract_changes_nothing() {
    let bench = Bench::new().await;
    group(&bench, &[2]).await;
    bench.take_events().await;
    let mut conversations = bench.conversations();
    let role = |new_role, field: &str| UpdateMemberRoleRequest {
        conversation_id: GROUP.into(),
        user_id: "2".into(),
        new_role,
        update_mask: vec![field.into()],
        ..UpdateMemberRoleRequest::default()
    };
    for request in [role(3, "new_role"), role(0, "new_role"), role(2, "color")] {
        let refused = conversations.update_member_role(ask(request)).await.unwrap_err();
        assert_eq!(code(refused), ErrorCode::InvalidParams);
    }
    let info = |mask: &str, settings_json: &str, expected_info_version| UpdateConversationRequest {
        conversation_id: GROUP.into(),
        name: "new".into(),
        settings_json: settings_json.into(),
        update_mask: vec![mask.into()],
        expected_info_version,
        ..UpdateConversationRequest::default()
    };
    for (request, expected) in [
        (info("owner_id", "", 0), ErrorCode::InvalidParams),
        (info("settings_json", "{", 0), ErrorCode::InvalidParams),
        (info("settings_json", "", 0), ErrorCode::InvalidParams),
        (info("name", "", 9), ErrorCode::VersionConflict),
    ] {
        assert_eq!(code(conversations.update_conversation(ask(request)).await.unwrap_err()), expected);
    }
    assert_eq!(code(add_to(&bench, GROUP, &[99]).await.unwrap_err()), ErrorCode::UserNotFound);
    assert_eq!(code(add_to(&bench, "group_8", &[2]).await.unwrap_err()), ErrorCode::ConversationNotFound);
    assert_eq!(code(remove(&bench, GROUP, 1).await.unwrap_err()), ErrorCode::CannotLeaveConversation);
    assert_eq!(code(remove(&bench, GROUP, 3).await.unwrap_err()), ErrorCode::NotConversationMember);
    let delete = DeleteConversationRequest {
        conversation_id: GROUP.into(),
        operator_id: "1".into(),
        ..DeleteConversationRequest::default()
    };
    assert_eq!(code(conversations.delete_conversation(ask(delete)).await.unwrap_err()), ErrorCode::InvalidParams);
    assert!(bench.take_events().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_waited_for() {
    let bench = Bench::new().await;
    bench.take_events().await;
    let mut pipeline = bench.pipeline();
    let waiting = tokio::spawn(async move {
        pipeline.list_outbox(ask(ListOutboxRequest { limit: 10, wait_ms: 20_000 })).await.unwrap().into_inner().entries
    });
    tokio::task::yield_now().await;
    group(&bench, &[2]).await;
    let entries = waiting.await.unwrap();
    assert_eq!((entries.len(), entries[0].event.as_ref().unwrap().key.as_str()), (1, GROUP));
    bench.take_events().await;
    let request = ListOutboxRequest { limit: 10, wait_ms: 1 };
    assert!(bench.pipeline().list_outbox(ask(request)).await.unwrap().into_inner().entries.is_empty());
}
