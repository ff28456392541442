//! Rooms: told at registration, fetched by version, reconciled, and which gateways a conversation concerns (pipeline.md F1, F2).

use crate::bench::{Bench, ask};
use crate::people::code;
use gochat_proto::im::repo::v1::*;
use std::time::Duration;

fn entry(user: i64, address: u64) -> PresenceEntry {
    PresenceEntry { user_id: user.to_string(), address, ..PresenceEntry::default() }
}

async fn came(bench: &Bench, gateway: &str, online: Vec<PresenceEntry>) -> Vec<(String, Vec<(String, i64)>)> {
    let update = BatchUpdateRequest {
        gateway_id: gateway.into(),
        gateway_incarnation: 5,
        online,
        policy: SessionPolicy::Multi.into(),
        ..BatchUpdateRequest::default()
    };
    let answer = bench.presence().batch_update(ask(update)).await.unwrap().into_inner();
    let rooms = |user: UserRooms| {
        (user.user_id, user.rooms.into_iter().map(|room| (room.conversation_id, room.version)).collect())
    };
    answer.rooms.into_iter().map(rooms).collect()
}

async fn room(bench: &Bench, conversation: &str, gateway: &str, incarnation: u64) -> GetRoomResponse {
    let request = GetRoomRequest {
        conversation_id: conversation.into(),
        gateway_id: gateway.into(),
        gateway_incarnation: incarnation,
    };
    let mut room = bench.presence().get_room(ask(request)).await.unwrap().into_inner();
    room.addresses.sort_unstable();
    room
}

/// `None`: all gateways are to be addressed.
async fn gateways(bench: &Bench, conversation: &str) -> Option<Vec<String>> {
    let request = GetConversationGatewaysRequest { conversation_id: conversation.into() };
    let answer = bench.presence().get_conversation_gateways(ask(request)).await.unwrap().into_inner();
    answer.known.then_some(answer.gateway_ids)
}

async fn outdated(bench: &Bench, rooms: &[(&str, i64)]) -> Vec<String> {
    let room = |(id, version): &(&str, i64)| Room { conversation_id: (*id).into(), version: *version };
    let request = ReconcileRoomsRequest {
        gateway_id: "gateway-1".into(),
        gateway_incarnation: 5,
        rooms: rooms.iter().map(room).collect(),
    };
    bench.presence().reconcile_rooms(ask(request)).await.unwrap().into_inner().outdated
}

/// A world room, users 10 to 40, and a group of the first 21 of them, which is a room.
async fn crowd() -> (Bench, String) {
    let bench = Bench::new().await;
    bench.add_users(10..=40, false).await;
    let members: Vec<i64> = (10..=30).collect();
    let group = bench.group(7, &members).await;
    bench.group(8, &(10..=29).collect::<Vec<_>>()).await;
    let world = CreateConversationRequest { r#type: 3, id: "world".into(), ..CreateConversationRequest::default() };
    bench.conversations().create_conversation(ask(world)).await.unwrap();
    bench.add_members("world", &[10, 40]).await;
    (bench, group)
}

/// Lets so much time pass that what the cache holds of interest counts as whole.
async fn settle(bench: &Bench) {
    assert_eq!(gateways(bench, "any").await, None, "a cache that may have lost some says so");
    bench.clock.advance(Duration::from_secs(149));
    assert_eq!(gateways(bench, "any").await, None);
    bench.clock.advance(Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_told_its_rooms() {
    let (bench, group) = crowd().await;
    let rooms = came(&bench, "gateway-1", vec![entry(10, 1), entry(30, 2), entry(40, 3), entry(1, 4)]).await;
    let version = room(&bench, &group, "gateway-1", 5).await.version;
    let (group, world) = ((group, version), ("world".to_owned(), 0));
    let expected = [
        ("10".to_owned(), vec![group.clone(), world.clone()]),
        ("30".to_owned(), vec![group]),
        ("40".to_owned(), vec![world]),
    ];
    assert_eq!(rooms, expected, "groups up to 20 and single chats are no rooms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_room_holds_the_connections_of_one_life_of_one_gateway() {
    let (bench, group) = crowd().await;
    came(&bench, "gateway-1", vec![entry(10, 1), entry(10, 2), entry(30, 3), entry(40, 4)]).await;
    came(&bench, "gateway-2", vec![entry(11, 1)]).await;
    let first = room(&bench, &group, "gateway-1", 5).await;
    assert_eq!((first.exists, first.member_count, first.addresses), (true, 21, vec![1, 2, 3]));
    assert!(room(&bench, &group, "gateway-1", 6).await.addresses.is_empty());
    assert_eq!(room(&bench, &group, "gateway-2", 5).await.addresses, [1]);
    bench.add_members(&group, &[40]).await;
    let second = room(&bench, &group, "gateway-1", 5).await;
    assert_eq!((second.version, second.addresses), (first.version + 1, vec![1, 2, 3, 4]));
    assert!(!room(&bench, "group_99", "gateway-1", 5).await.exists);
    let dissolve = DeleteConversationRequest {
        conversation_id: group.clone(),
        operator_id: "10".into(),
        mode: 1,
        ..DeleteConversationRequest::default()
    };
    bench.conversations().delete_conversation(ask(dissolve)).await.unwrap();
    assert!(!room(&bench, &group, "gateway-1", 5).await.exists);
    assert_eq!(came(&bench, "gateway-1", vec![entry(11, 9)]).await, [], "a group that ended is nobody's room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_room_is_looked_up_in_slices() {
    let bench = Bench::new().await;
    bench.add_users(1000..3500, false).await;
    let group = bench.group(7, &(1000..1400).collect::<Vec<_>>()).await;
    for chunk in (1400..3500).collect::<Vec<i64>>().chunks(400) {
        bench.add_members(&group, chunk).await;
    }
    came(&bench, "gateway-1", (1000..3500).map(|user| entry(user, user as u64)).collect()).await;
    let room = room(&bench, &group, "gateway-1", 5).await;
    assert_eq!((room.member_count, room.addresses), (2500, (1000..3500).collect::<Vec<u64>>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_names_what_is_out_of_date() {
    let (bench, group) = crowd().await;
    let version = room(&bench, &group, "gateway-1", 5).await.version;
    assert_eq!(outdated(&bench, &[(&group, version), ("world", 0)]).await, [""; 0]);
    bench.add_members(&group, &[40]).await;
    assert_eq!(
        outdated(&bench, &[("world", 0), (&group, version), ("group_99", 4)]).await,
        [group.as_str(), "group_99"]
    );
    assert_eq!(outdated(&bench, &[(&group, version + 1)]).await, [""; 0]);
    let nobody = GetRoomRequest { conversation_id: group, ..GetRoomRequest::default() };
    assert_eq!(code(bench.presence().get_room(ask(nobody)).await), "INVALID_PARAMS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_concerns_the_gateways_that_asked_or_have_a_member() {
    let (bench, group) = crowd().await;
    settle(&bench).await;
    assert_eq!(gateways(&bench, &group).await, Some(vec![]));
    came(&bench, "gateway-1", vec![entry(10, 1)]).await;
    came(&bench, "gateway-2", vec![entry(40, 1)]).await;
    came(&bench, "gateway-4", vec![entry(1, 1)]).await;
    assert_eq!(gateways(&bench, &group).await, Some(vec!["gateway-1".into()]));
    assert_eq!(gateways(&bench, "world").await, Some(vec!["gateway-1".into(), "gateway-2".into()]));
    bench.add_members(&group, &[40]).await;
    assert_eq!(
        gateways(&bench, &group).await,
        Some(vec!["gateway-1".into(), "gateway-2".into()]),
        "added while online"
    );
    room(&bench, &group, "gateway-3", 5).await;
    bench.clock.advance(Duration::from_secs(400));
    outdated(&bench, &[(&group, 1)]).await;
    bench.clock.advance(Duration::from_secs(300));
    assert_eq!(gateways(&bench, &group).await, Some(vec!["gateway-1".into()]), "the one that named it since");
    bench.cache.lose_everything();
    assert_eq!(gateways(&bench, &group).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_becomes_a_room_concerns_the_gateways_of_all() {
    let (bench, _) = crowd().await;
    settle(&bench).await;
    came(&bench, "gateway-1", vec![entry(20, 1)]).await;
    came(&bench, "gateway-2", vec![entry(35, 1)]).await;
    assert_eq!(gateways(&bench, "group_8").await, Some(vec![]), "20 members");
    bench.add_members("group_8", &[35]).await;
    assert_eq!(gateways(&bench, "group_8").await, Some(vec!["gateway-1".into(), "gateway-2".into()]));
    let joined = AddConversationMemberRequest {
        conversation_id: "world".into(),
        user_ids: vec!["20".into()],
        role: 1,
        ..AddConversationMemberRequest::default()
    };
    bench.conversations().add_conversation_member(ask(joined)).await.unwrap();
    assert_eq!(gateways(&bench, "world").await, Some(vec!["gateway-1".into()]), "a world of any size is a room");
}
