//! What clients are told of domain events, from the store's outbox to the gateway's topic.

use gochat_infra::bus::{Bus, Record, partition_of};
use gochat_proto::codes::ErrorCode;
use gochat_proto::events::{Event, EventBody};
use gochat_proto::im::logic::v1::*;
use serde_json::json;

use crate::chat::{Chat, ask, code};

const SYSTEM: i32 = 4;

/// An event that a gateway or a job publishes itself.
async fn publish(chat: &Chat, user: &str, body: EventBody) {
    let event = Event {
        event_id: format!("e-{user}"),
        timestamp: 5,
        conversation_id: String::new(),
        user_id: user.into(),
        friend_id: String::new(),
        operator_id: String::new(),
        body,
    };
    let partitions = chat.bus.partitions(event.topic()).await.unwrap();
    let record = Record { value: event.to_json().into(), ..Record::default() };
    chat.bus.produce(event.topic(), partition_of(event.key().as_bytes(), partitions), vec![record]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_small_group_are_told_one_by_one() {
    let chat = Chat::start().await;
    let (ann, bob, cat) = (chat.register("ann").await, chat.register("bob").await, chat.register("cat").await);
    for (user, address) in [(&ann, 11), (&bob, 21), (&cat, 31)] {
        chat.connect(user, address).await;
    }
    let group = chat.group(&ann, &[&bob]).await;
    let whole = chat.wire.frame(21, "conversation-updated").await;
    assert_eq!(whole["updates"]["conversation"]["id"], group.as_str());
    assert_eq!(whole["updates"]["conversation"]["myMembership"]["role"], 1);
    assert_eq!(whole["operatorId"], ann.as_str());
    let note = chat.wire.message(21, SYSTEM).await;
    assert_eq!(note.content, "ann created the group \"group\"");

    chat.add_members(&ann, &group, &[&cat]).await.unwrap();
    let whole = chat.wire.frame(31, "conversation-updated").await;
    assert_eq!(whole["updates"]["conversation"]["memberCount"], 3);
    let added = chat.wire.frame(21, "member-added").await;
    assert_eq!((&added["members"][0]["user"]["username"], &added["memberCount"]), (&json!("cat"), &json!(3)));
    chat.wire.frame(31, "member-added").await;
    assert_eq!(chat.wire.message(31, SYSTEM).await.content, "ann added cat");

    chat.set_role(&ann, &group, &bob, 2).await.unwrap();
    let role = chat.wire.frame(31, "member-role-updated").await;
    assert_eq!((&role["userId"], &role["role"]), (&json!(bob), &json!(2)));

    let rename = UpdateConversationRequest {
        user_id: bob.clone(),
        conversation_id: group.clone(),
        name: "other".into(),
        update_mask: vec!["name".into()],
        ..UpdateConversationRequest::default()
    };
    chat.conversations.clone().update_conversation(ask(rename)).await.unwrap();
    let renamed = chat.wire.frame(31, "conversation-updated").await;
    assert_eq!((&renamed["updates"]["name"], &renamed["updates"]["infoVersion"]), (&json!("other"), &json!(2)));

    chat.remove_member(&ann, &group, &cat).await.unwrap();
    let removed = chat.wire.frame(31, "member-removed").await;
    assert_eq!((&removed["userId"], &removed["removedBy"]), (&json!(cat), &json!(ann)));
    chat.wire.frame(21, "member-removed").await;

    chat.set_role(&ann, &group, &bob, 3).await.unwrap();
    let owner = loop {
        let updated = chat.wire.frame(21, "conversation-updated").await;
        if updated["updates"].get("ownerId").is_some() {
            break updated;
        }
    };
    assert_eq!(owner["updates"]["ownerId"], bob.as_str());

    let delete =
        DeleteConversationRequest { user_id: bob.clone(), conversation_id: group.clone(), reason: String::new() };
    chat.conversations.clone().delete_conversation(ask(delete)).await.unwrap();
    loop {
        let updated = chat.wire.frame(11, "conversation-updated").await;
        if updated["updates"] == json!({"dissolved": true}) {
            break;
        }
    }
    // Nothing after the removal reached who was removed.
    assert!(!chat.wire.left(31).await.contains(&"conversation-updated".to_owned()));
    assert_eq!(code(chat.detail(&ann, &group).await), ErrorCode::ConversationDissolved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_group_is_told_by_room_after_its_change() {
    let chat = Chat::start().await;
    let ann = chat.register("ann").await;
    let mut others = Vec::new();
    for number in 0..22 {
        others.push(chat.register(&format!("user{number}")).await);
    }
    let group = chat.group(&ann, &others[..20].iter().collect::<Vec<_>>()).await;
    let (late, gone) = (&others[20], &others[0]);
    chat.connect(late, 31).await;
    chat.connect(gone, 41).await;
    chat.add_members(&ann, &group, &[late]).await.unwrap();
    let change = chat.wire.room_change(&group).await;
    assert_eq!((change.version, change.member_count, &change.joined), (2, 22, &vec![31]));
    chat.wire.frame(31, "conversation-updated").await;
    let (added, version) = chat.wire.room_frame(&group, "member-added").await;
    assert_eq!((&added["memberCount"], version), (&json!(22), 2));
    // To gateways of whatever life: they were told before.
    assert!(chat.wire.room_change(&group).await.joined.is_empty());

    chat.remove_member(&ann, &group, gone).await.unwrap();
    let change = chat.wire.room_change(&group).await;
    assert_eq!((change.version, &change.left), (3, &vec![gone.parse::<i64>().unwrap()]));
    assert_eq!(chat.wire.frame(41, "member-removed").await["userId"], gone.as_str());
    let (_, version) = chat.wire.room_frame(&group, "member-removed").await;
    assert_eq!(version, 3);

    // At the limit the room is dropped and members are told one by one.
    chat.remove_member(&ann, &group, &others[1]).await.unwrap();
    assert_eq!(chat.wire.room_change(&group).await.member_count, 20);
    chat.wire.frame(31, "member-removed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_are_told_and_blocks_are_silent() {
    let chat = Chat::start().await;
    let (ann, bob) = (chat.register("ann").await, chat.register("bob").await);
    chat.connect(&ann, 11).await;
    chat.connect(&bob, 21).await;
    let send = SendFriendRequestRequest { requester_id: ann.clone(), target_id: bob.clone(), message: "hi".into() };
    let request = chat.friends.clone().send_friend_request(ask(send)).await.unwrap().into_inner().request.unwrap();
    let received = chat.wire.frame(21, "friend-request-received").await;
    assert_eq!((&received["request"]["id"], &received["request"]["message"]), (&json!(request.id), &json!("hi")));
    let accept = HandleFriendRequestRequest { request_id: request.id.clone(), handler_id: bob.clone(), action: 1 };
    chat.friends.clone().handle_friend_request(ask(accept)).await.unwrap();
    let handled = chat.wire.frame(11, "friend-request-handled").await;
    assert_eq!((&handled["action"], &handled["handlerId"]), (&json!("accept"), &json!(bob)));
    for (address, friend) in [(11, &bob), (21, &ann)] {
        let added = chat.wire.frame(address, "friend-added").await;
        assert_eq!((&added["friend"]["friendId"], &added["friend"]["online"]), (&json!(friend), &json!(true)));
    }
    chat.block(&ann, &bob, true).await;
    chat.block(&ann, &bob, false).await;
    let remove = RemoveFriendRequest { user_id: ann.clone(), friend_id: bob.clone() };
    chat.friends.clone().remove_friend(ask(remove)).await.unwrap();
    assert_eq!(chat.wire.frame(21, "friend-removed").await["friendId"], ann.as_str());
    assert_eq!(chat.wire.frame(11, "friend-removed").await["friendId"], bob.as_str());
    let kinds = chat.wire.left(21).await;
    assert!(kinds.iter().all(|kind| kind == "conversation-updated"), "a block says nothing: {kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_reaches_friends_and_peers_but_never_across_a_block() {
    let chat = Chat::start().await;
    let (ann, bob, cat, eve) = (
        chat.register("ann").await,
        chat.register("bob").await,
        chat.register("cat").await,
        chat.register("eve").await,
    );
    chat.befriend(&ann, &bob).await;
    chat.open_single(&cat, &ann).await.unwrap();
    chat.befriend(&ann, &eve).await;
    chat.block(&ann, &eve, true).await;
    for (user, address) in [(&bob, 21), (&cat, 31), (&eve, 41)] {
        chat.connect(user, address).await;
    }
    publish(&chat, &ann, EventBody::UserOffline { last_seen: 77, reason: "timeout".into() }).await;
    for address in [21, 31] {
        let status = chat.wire.frame(address, "online-status").await;
        assert_eq!(status, json!({"userId": ann, "status": "offline", "lastSeen": 77}));
    }
    chat.connect(&ann, 11).await;
    // Late: the user is back, so nobody is told.
    publish(&chat, &ann, EventBody::UserOffline { last_seen: 78, reason: "timeout".into() }).await;
    publish(&chat, &ann, EventBody::UserOnline { gateway_id: "gateway-1".into() }).await;
    for address in [21, 31] {
        let mut status = chat.wire.frame(address, "online-status").await;
        while status["lastSeen"] == 77 {
            status = chat.wire.frame(address, "online-status").await;
        }
        assert_eq!(status, json!({"userId": ann, "status": "online"}));
    }
    assert!(!chat.wire.left(41).await.contains(&"online-status".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_world_room_hears_of_nobody_but_tells_who_joins() {
    let chat = Chat::with(|config| config.rules.world_auto_join_registered = false).await;
    let (ann, bob) = (chat.register("ann").await, chat.register("bob").await);
    chat.connect(&ann, 11).await;
    chat.connect(&bob, 21).await;
    for user in [&ann, &bob] {
        chat.conversations.clone().join_world_chat(ask(JoinWorldChatRequest { user_id: user.clone() })).await.unwrap();
    }
    let change = chat.wire.room_change("world").await;
    assert_eq!((change.version, change.joined.len()), (0, 1));
    let whole = chat.wire.frame(21, "conversation-updated").await;
    assert_eq!(whole["updates"]["conversation"]["id"], "world");
    chat.leave(&bob, "world").await.unwrap();
    assert_eq!(chat.wire.frame(21, "member-removed").await["userId"], bob.as_str());
    assert!(!chat.wire.left(11).await.contains(&"member-removed".to_owned()));
}
