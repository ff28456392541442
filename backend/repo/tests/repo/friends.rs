//! Friends, requests and blocks: every rule, and the races of two (spec 01 §4.7, 05 §2.6).

use crate::bench::{Bench, NOW, ask};
use crate::people::code;
use gochat_infra::cache::memory::MemoryCache;
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_infra::uid::Snowflake;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::events::EventBody;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::friendship_service_client::FriendshipServiceClient;
use gochat_proto::im::repo::v1::*;
use gochat_repo::{Repo, RepoConfig, SqliteConfig, open_sqlite};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Response, Status};

type Friends = FriendshipServiceClient<Channel>;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn request(
    friends: &Friends,
    from: i64,
    to: i64,
    message: &str,
) -> Result<Response<CreateFriendRequestResponse>, Status> {
    let create = CreateFriendRequestRequest {
        requester_id: from.to_string(),
        target_id: to.to_string(),
        message: message.into(),
    };
    friends.clone().create_friend_request(ask(create)).await
}

async fn accept(friends: &Friends, id: &str, by: i64) -> Result<AcceptFriendRequestResponse, Status> {
    let accept = AcceptFriendRequestRequest { request_id: id.into(), handler_id: by.to_string() };
    Ok(friends.clone().accept_friend_request(ask(accept)).await?.into_inner())
}

async fn reject(friends: &Friends, id: &str, by: i64) -> Result<FriendshipRecord, Status> {
    let reject = RejectFriendRequestRequest { request_id: id.into(), handler_id: by.to_string() };
    Ok(friends.clone().reject_friend_request(ask(reject)).await?.into_inner().request.unwrap())
}

/// A pending request's id.
async fn pending(friends: &Friends, from: i64, to: i64) -> String {
    let made = request(friends, from, to, "hi").await.unwrap().into_inner();
    let made = made.request.unwrap();
    assert_eq!(made.status, 0);
    made.id
}

async fn befriend(friends: &Friends, a: i64, b: i64) {
    let id = pending(friends, a, b).await;
    accept(friends, &id, b).await.unwrap();
}

async fn friend_ids(friends: &Friends, user: i64) -> Vec<String> {
    let request = GetFriendIdsRequest { user_id: user.to_string() };
    friends.clone().get_friend_ids(ask(request)).await.unwrap().into_inner().friend_ids
}

async fn requests(friends: &Friends, user: i64, r#type: i32, status: i32) -> Vec<(String, String, i32)> {
    let request = GetUserFriendRequestsRequest { user_id: user.to_string(), status, r#type, ..Default::default() };
    let found = friends.clone().get_user_friend_requests(ask(request)).await.unwrap().into_inner().requests;
    found.into_iter().map(|r| (r.requester_id, r.target_id, r.status)).collect()
}

async fn changes(friends: &Friends, user: i64, since: i64) -> (Vec<String>, Vec<String>) {
    let request = GetUserFriendsWithSyncRequest { user_id: user.to_string(), last_sync_time: since };
    let delta = friends.clone().get_user_friends_with_sync(ask(request)).await.unwrap().into_inner();
    (delta.friends.into_iter().map(|f| f.target_id).collect(), delta.removed_friend_ids)
}

async fn block(friends: &Friends, by: i64, whom: i64, blocked: bool) -> Result<bool, Status> {
    let set = SetBlockRequest { user_id: by.to_string(), target_id: whom.to_string(), blocked };
    Ok(friends.clone().set_block(ask(set)).await?.into_inner().changed)
}

fn row(from: i64, to: i64, status: i32) -> (String, String, i32) {
    (from.to_string(), to.to_string(), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_told_and_its_acceptance_makes_friends_and_a_chat() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    bench.take_events().await;
    let id = pending(&friends, 1, 3).await;
    let body = |received| match received {
        true => EventBody::FriendRequestReceived { request_id: id.clone(), message: "hi".into() },
        false => EventBody::FriendRequestSent { request_id: id.clone(), message: "hi".into() },
    };
    let expected = [("1".into(), "3".into(), body(false)), ("3".into(), "1".into(), body(true))];
    assert_eq!(bench.told_about_users().await, expected);
    assert_eq!(code(accept(&friends, &id, 1).await), "FORBIDDEN", "only its target");
    assert_eq!(code(accept(&friends, "999", 3).await), "FRIEND_REQUEST_NOT_FOUND");
    assert!(friend_ids(&friends, 1).await.is_empty() && bench.take_events().await.is_empty());
    let accepted = accept(&friends, &id, 3).await.unwrap();
    assert_eq!((accepted.conversation_id.as_str(), accepted.request.unwrap().status), ("single_1_3", 1));
    assert!(bench.is_member("single_1_3", 1).await && bench.is_member("single_1_3", 3).await);
    assert_eq!((friend_ids(&friends, 1).await, friend_ids(&friends, 3).await), (vec!["3".into()], vec!["1".into()]));
    let mut told = bench.told_about_users().await;
    let created = told.iter().position(|(.., body)| matches!(body, EventBody::ConversationCreated { .. }));
    told.remove(created.unwrap());
    let added = || EventBody::FriendAdded { conversation_id: "single_1_3".into() };
    let expected = [
        ("1".into(), "3".into(), EventBody::FriendRequestAccepted { request_id: id.clone() }),
        ("1".into(), "3".into(), added()),
        ("3".into(), "1".into(), added()),
    ];
    assert_eq!(told, expected);
    let again = Failure::from(accept(&friends, &id, 3).await.unwrap_err());
    assert_eq!(again.code.as_str(), "FRIEND_REQUEST_ALREADY_HANDLED");
    assert_eq!(again.details.get("conversationId").map(String::as_str), Some("single_1_3"));
    let get = GetFriendRequestRequest { request_id: id };
    assert_eq!(friends.clone().get_friend_request(ask(get)).await.unwrap().into_inner().request.unwrap().status, 1);
    // The mirror is nobody's request.
    assert_eq!(
        (requests(&friends, 3, 1, -1).await, requests(&friends, 1, 2, 1).await),
        (vec![row(1, 3, 1)], vec![row(1, 3, 1)])
    );
    assert!(requests(&friends, 3, 2, -1).await.is_empty() && requests(&friends, 1, 1, -1).await.is_empty());
    assert!(requests(&friends, 3, 1, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_changes_nothing() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    bench.add_users(4..=6, false).await;
    bench.add_users(7..=7, true).await;
    let disable = UpdateUserRequest {
        user_id: "4".into(),
        update_mask: vec!["status".into()],
        status: UserStatus::Disabled.into(),
        ..UpdateUserRequest::default()
    };
    bench.users().update_user(ask(disable)).await.unwrap();
    befriend(&friends, 1, 2).await;
    pending(&friends, 1, 3).await;
    assert!(block(&friends, 1, 5, true).await.unwrap());
    assert!(block(&friends, 6, 1, true).await.unwrap());
    bench.take_events().await;
    let long = "x".repeat(201);
    for (to, message, expected) in [
        (1, "", "CANNOT_ADD_SELF_AS_FRIEND"),
        (99, "", "USER_NOT_FOUND"),
        (4, "", "USER_NOT_FOUND"),
        (7, "", "GUEST_FORBIDDEN"),
        (5, "", "BLOCKED"),
        (6, "", "BLOCKED"),
        (2, "", "ALREADY_FRIENDS"),
        (3, "", "FRIEND_REQUEST_ALREADY_EXISTS"),
        (-3, "", "INVALID_PARAMS"),
        (3, long.as_str(), "INVALID_PARAMS"),
    ] {
        assert_eq!(code(request(&friends, 1, to, message).await), expected, "to {to}");
    }
    assert_eq!(code(request(&friends, 7, 1, "").await), "GUEST_FORBIDDEN", "a guest asks nobody");
    assert_eq!(code(request(&friends, 2, 1, "").await), "ALREADY_FRIENDS", "from the other side too");
    assert!(bench.take_events().await.is_empty());
    assert_eq!(requests(&friends, 1, 2, -1).await.len(), 2);
    let bad = GetUserFriendRequestsRequest { user_id: "1".into(), r#type: 3, ..Default::default() };
    assert_eq!(code(friends.clone().get_user_friend_requests(ask(bad)).await), "INVALID_PARAMS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_request_may_be_made_again_after_a_day() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    let id = pending(&friends, 1, 3).await;
    bench.take_events().await;
    assert_eq!(code(reject(&friends, &id, 1).await), "FORBIDDEN");
    assert_eq!(reject(&friends, &id, 3).await.unwrap().status, 2);
    let rejected = EventBody::FriendRequestRejected { request_id: id.clone() };
    assert_eq!(bench.told_about_users().await, [("1".into(), "3".into(), rejected)]);
    assert_eq!(code(accept(&friends, &id, 3).await), "FRIEND_REQUEST_ALREADY_HANDLED");
    assert_eq!(code(reject(&friends, &id, 3).await), "FRIEND_REQUEST_ALREADY_HANDLED");
    bench.clock.advance(DAY - Duration::from_secs(60));
    let early = Failure::from(request(&friends, 1, 3, "").await.unwrap_err());
    assert_eq!((early.code.as_str(), early.retry_after_s()), ("FRIEND_REQUEST_ALREADY_EXISTS", Some(60)));
    bench.clock.advance(Duration::from_secs(60));
    let again = request(&friends, 1, 3, "please").await.unwrap().into_inner().request.unwrap();
    assert_eq!((again.id, again.status, again.message.as_str()), (id.clone(), 0, "please"), "the same row");
    reject(&friends, &id, 3).await.unwrap();
    // Who rejected may ask at once, and be accepted over the rejected row.
    let other = pending(&friends, 3, 1).await;
    accept(&friends, &other, 1).await.unwrap();
    assert_eq!((friend_ids(&friends, 1).await, friend_ids(&friends, 3).await), (vec!["3".into()], vec!["1".into()]));
    assert_eq!(requests(&friends, 3, 1, -1).await, [], "the rejected one is a mirror now");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_ask_each_other_are_friends() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    let id = pending(&friends, 1, 3).await;
    let back = request(&friends, 3, 1, "me too").await.unwrap().into_inner();
    assert_eq!(back.conversation_id, "single_1_3");
    let accepted = back.request.unwrap();
    assert_eq!((accepted.id, accepted.status, accepted.requester_id.as_str()), (id, 1, "1"));
    bench.add_users(10..50, false).await;
    for low in (10..50).step_by(2) {
        let both = tokio::join!(request(&friends, low, low + 1, ""), request(&friends, low + 1, low, ""));
        let both = [both.0.unwrap().into_inner(), both.1.unwrap().into_inner()];
        let accepted = both.iter().filter(|a| !a.conversation_id.is_empty()).count();
        assert_eq!(accepted, 1, "the later of the two");
        assert_eq!(friend_ids(&friends, low).await, [(low + 1).to_string()]);
        assert_eq!(friend_ids(&friends, low + 1).await, [low.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_answers_one_counts() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    bench.add_users(10..50, false).await;
    for low in (10..50).step_by(2) {
        let id = pending(&friends, low, low + 1).await;
        bench.take_events().await;
        let (first, second) = tokio::join!(accept(&friends, &id, low + 1), accept(&friends, &id, low + 1));
        let refused = [first.err(), second.err()].into_iter().flatten().map(|e| Failure::from(e).code.to_string());
        assert_eq!(refused.collect::<Vec<_>>(), ["FRIEND_REQUEST_ALREADY_HANDLED"]);
        let added = bench.take_events().await.into_iter().filter(|e| matches!(e.body, EventBody::FriendAdded { .. }));
        assert_eq!(added.count(), 2);
    }
    bench.add_users(60..80, false).await;
    for low in (60..80).step_by(2) {
        let id = pending(&friends, low, low + 1).await;
        let (accepted, rejected) = tokio::join!(accept(&friends, &id, low + 1), reject(&friends, &id, low + 1));
        assert_ne!(accepted.is_ok(), rejected.is_ok());
        assert_eq!(friend_ids(&friends, low).await.len(), usize::from(accepted.is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_tells_who_came_and_who_went() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    let start = NOW / 1000;
    befriend(&friends, 1, 2).await;
    bench.clock.advance(Duration::from_secs(100));
    befriend(&friends, 3, 1).await;
    assert_eq!(changes(&friends, 1, 0).await, (vec!["2".into(), "3".into()], vec![]));
    assert_eq!(changes(&friends, 1, start + 50).await, (vec!["3".into()], vec![]));
    let request = GetUserFriendsWithSyncRequest { user_id: "1".into(), last_sync_time: 0 };
    let delta = friends.clone().get_user_friends_with_sync(ask(request)).await.unwrap().into_inner();
    assert_eq!(delta.server_time, start + 95);
    bench.clock.advance(Duration::from_secs(100));
    let remark = UpdateFriendshipRequest { user_id: "1".into(), friend_id: "2".into(), remark: "Bo".into() };
    let named = friends.clone().update_friendship(ask(remark.clone())).await.unwrap().into_inner().record.unwrap();
    assert_eq!((named.requester_id.as_str(), named.requester_remarks.as_str()), ("1", "Bo"));
    assert_eq!(changes(&friends, 1, start + 150).await, (vec!["2".into()], vec![]), "a name is a change of one's own");
    assert_eq!(changes(&friends, 2, start + 150).await, (vec![], vec![]), "and nobody else's");
    let long = UpdateFriendshipRequest { remark: "x".repeat(101), ..remark.clone() };
    assert_eq!(code(friends.clone().update_friendship(ask(long)).await), "INVALID_PARAMS");
    let stranger = UpdateFriendshipRequest { user_id: "2".into(), friend_id: "3".into(), ..remark };
    assert_eq!(code(friends.clone().update_friendship(ask(stranger)).await), "NOT_FRIENDS");
    bench.clock.advance(Duration::from_secs(100));
    bench.take_events().await;
    let delete = DeleteFriendshipRequest { user_id: "2".into(), friend_id: "1".into() };
    friends.clone().delete_friendship(ask(delete.clone())).await.unwrap();
    let lost = |user: &str, friend: &str| (user.to_owned(), friend.to_owned(), EventBody::FriendRemoved {});
    assert_eq!(bench.told_about_users().await, [lost("2", "1"), lost("1", "2")]);
    assert_eq!(code(friends.clone().delete_friendship(ask(delete)).await), "NOT_FRIENDS");
    for (user, friend) in [(1, "2"), (2, "1")] {
        assert_eq!(changes(&friends, user, start + 250).await, (vec![], vec![friend.to_owned()]));
    }
    assert!(bench.is_member("single_1_2", 1).await, "the chat stays");
    befriend(&friends, 2, 1).await;
    assert_eq!(changes(&friends, 1, start + 250).await, (vec!["2".into()], vec![]), "friends again");
    assert_eq!(changes(&friends, 1, start + 400).await, (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_and_requests_come_in_pages() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    bench.add_users(10..15, false).await;
    for user in 10..15 {
        pending(&friends, user, 1).await;
        bench.clock.advance(Duration::from_secs(1));
    }
    let page = async |offset| {
        let request = GetUserFriendRequestsRequest { user_id: "1".into(), status: 0, r#type: 1, offset, limit: 2 };
        let page = friends.clone().get_user_friend_requests(ask(request)).await.unwrap().into_inner();
        (page.requests.into_iter().map(|r| r.requester_id).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(page(0).await, (vec!["14".into(), "13".into()], true), "newest first");
    assert_eq!(page(4).await, (vec!["10".into()], false));
    for user in 10..15 {
        request(&friends, 1, user, "").await.unwrap();
    }
    let request = GetUserFriendsRequest { user_id: "1".into(), offset: 3, limit: 2 };
    let page = friends.clone().get_user_friends(ask(request)).await.unwrap().into_inner();
    let ids: Vec<_> = page.friends.iter().map(|f| (f.requester_id.as_str(), f.target_id.as_str())).collect();
    assert_eq!((ids, page.has_more), (vec![("1", "13"), ("1", "14")], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_between_any_two_and_one_sided() {
    let bench = Bench::new().await;
    let friends = bench.friends();
    bench.take_events().await;
    assert!(block(&friends, 1, 3, true).await.unwrap());
    assert!(!block(&friends, 1, 3, true).await.unwrap(), "so it was");
    bench.clock.advance(Duration::from_secs(5));
    assert!(block(&friends, 1, 2, true).await.unwrap());
    assert!(block(&friends, 2, 1, true).await.unwrap());
    assert_eq!(code(block(&friends, 1, 1, true).await), "INVALID_PARAMS");
    assert_eq!(code(block(&friends, 1, 99, true).await), "USER_NOT_FOUND");
    assert!(bench.take_events().await.is_empty(), "a block is silent");
    let blocks = GetBlocksRequest { user_id: "1".into(), other_ids: vec!["2".into(), "3".into(), "99".into()] };
    let mut blocks = friends.clone().get_blocks(ask(blocks)).await.unwrap().into_inner();
    blocks.blocked_ids.sort();
    assert_eq!((blocks.blocked_ids, blocks.blocking_ids), (vec!["2".into(), "3".into()], vec!["2".to_owned()]));
    let list = async |offset| {
        let request = ListBlockedRequest { user_id: "1".into(), offset, limit: 1 };
        let page = friends.clone().list_blocked(ask(request)).await.unwrap().into_inner();
        (page.blocked.into_iter().map(|b| (b.user_id, b.blocked_at)).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(list(0).await, (vec![("2".into(), NOW / 1000 + 5)], true));
    assert_eq!(list(1).await, (vec![("3".into(), NOW / 1000)], false));
    assert!(block(&friends, 1, 3, false).await.unwrap());
    assert!(!block(&friends, 1, 3, false).await.unwrap());
    let id = pending(&friends, 1, 3).await;
    block(&friends, 3, 1, true).await.unwrap();
    assert_eq!(code(accept(&friends, &id, 3).await), "BLOCKED", "one does not befriend whom one blocks");
    block(&friends, 3, 1, false).await.unwrap();
    accept(&friends, &id, 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_friends_requests_and_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let open = async || {
        let store = open_sqlite(SqliteConfig::new(directory.path().join("gochat.db"))).await.unwrap();
        let config = RepoConfig::default();
        let uid = Arc::new(Snowflake::new(1, config.clock.clone()).unwrap());
        let repo = Repo::new(store.clone(), Arc::new(MemoryCache::default()), uid, config);
        (FriendshipServiceClient::new(repo.add_to(Channel::in_process()).build(RpcOptions::default())), store)
    };
    let (friends, store) = open().await;
    let user = |id: i64| gochat_repo::store::user::NewUser {
        id,
        username: format!("user{id}"),
        password_hash: String::new(),
        avatar_url: String::new(),
        is_guest: false,
        created_at_ms: NOW,
    };
    store.create_users((1..=4).map(user).collect()).await.unwrap();
    befriend(&friends, 1, 2).await;
    let id = pending(&friends, 3, 1).await;
    block(&friends, 1, 4, true).await.unwrap();
    let highest: i64 = id.parse().unwrap();
    drop((friends, store));
    let (friends, store) = open().await;
    assert_eq!(friend_ids(&friends, 2).await, ["1"]);
    assert_eq!(requests(&friends, 1, 1, 0).await, [row(3, 1, 0)]);
    assert_eq!(code(request(&friends, 4, 1, "").await), "BLOCKED");
    assert!(store.highest_id().await.unwrap() >= highest, "ids start above those of requests (C3)");
}
