//! Friends, requests, remarks, blocks, presence as it may be seen.

use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1::*;
use tonic::{Response, Status};

use crate::chat::{Chat, ask, code};

async fn send(chat: &Chat, requester: &str, target: &str) -> Result<SendFriendRequestResponse, Status> {
    let send =
        SendFriendRequestRequest { requester_id: requester.into(), target_id: target.into(), message: "hello".into() };
    chat.friends.clone().send_friend_request(ask(send)).await.map(Response::into_inner)
}

async fn handle(chat: &Chat, handler: &str, request: &str, action: i32) -> Result<HandleFriendRequestResponse, Status> {
    let handle = HandleFriendRequestRequest { request_id: request.into(), handler_id: handler.into(), action };
    chat.friends.clone().handle_friend_request(ask(handle)).await.map(Response::into_inner)
}

async fn friends(chat: &Chat, user: &str) -> Vec<Friend> {
    let list = GetFriendsRequest { user_id: user.into(), include_online_status: true, status: 0 };
    chat.friends.clone().get_friends(ask(list)).await.unwrap().into_inner().friends
}

async fn update(
    chat: &Chat,
    user: &str,
    friend: &str,
    remark: Option<&str>,
    blocked: Option<bool>,
) -> Result<Friend, Status> {
    let mask = [remark.map(|_| "remark"), blocked.map(|_| "blocked")];
    let update = UpdateFriendRequest {
        user_id: user.into(),
        friend_id: friend.into(),
        remark: remark.unwrap_or_default().into(),
        blocked: blocked.unwrap_or_default(),
        update_mask: mask.into_iter().flatten().map(str::to_owned).collect(),
    };
    chat.friends.clone().update_friend(ask(update)).await.map(|answer| answer.into_inner().friend.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_made_once_and_handled_once() {
    let chat = Chat::start().await;
    let (ann, bob, eve, guest) =
        (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await, chat.guest().await);
    assert_eq!(code(send(&chat, &ann, &ann).await), ErrorCode::CannotAddSelfAsFriend);
    assert_eq!(code(send(&chat, &ann, "5").await), ErrorCode::UserNotFound);
    assert_eq!(code(send(&chat, &ann, &guest).await), ErrorCode::GuestForbidden);
    assert_eq!(code(send(&chat, &guest, &ann).await), ErrorCode::GuestForbidden);
    let request = send(&chat, &ann, &bob).await.unwrap().request.unwrap();
    assert_eq!((request.status, request.requester.unwrap().username.as_str()), (0, "ann"));
    assert_eq!(code(send(&chat, &ann, &bob).await), ErrorCode::FriendRequestAlreadyExists);
    assert_eq!(code(handle(&chat, &ann, &request.id, 1).await), ErrorCode::Forbidden);
    assert_eq!(code(handle(&chat, &eve, &request.id, 1).await), ErrorCode::FriendRequestNotFound);
    assert_eq!(code(handle(&chat, &bob, "5", 1).await), ErrorCode::FriendRequestNotFound);
    assert_eq!(code(handle(&chat, &bob, &request.id, 3).await), ErrorCode::InvalidParams);
    let list = |user: &str, kind, status| {
        let list = GetFriendRequestsRequest { user_id: user.into(), status, r#type: kind, page: 1, page_size: 20 };
        let mut friends = chat.friends.clone();
        async move { friends.get_friend_requests(ask(list)).await.unwrap().into_inner().requests.len() }
    };
    assert_eq!((list(&bob, 1, 0).await, list(&ann, 2, -1).await, list(&eve, 1, -1).await), (1, 1, 0));
    let accepted = handle(&chat, &bob, &request.id, 1).await.unwrap().conversation.unwrap();
    assert_eq!(accepted.peer.unwrap().id, ann);
    let again = handle(&chat, &bob, &request.id, 1).await.unwrap_err();
    let failure = Failure::from_status(&again);
    assert_eq!(failure.code, ErrorCode::FriendRequestAlreadyHandled);
    assert_eq!(failure.details["conversationId"], accepted.id);
    assert_eq!(code(send(&chat, &ann, &bob).await), ErrorCode::AlreadyFriends);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_ask_each_other_are_friends_and_a_rejection_cools_down() {
    let chat = Chat::start().await;
    let (ann, bob, cat) = (chat.register("ann").await, chat.register("bob").await, chat.register("cat").await);
    assert!(!send(&chat, &ann, &bob).await.unwrap().auto_accepted);
    assert!(send(&chat, &bob, &ann).await.unwrap().auto_accepted);
    assert_eq!(friends(&chat, &ann).await.len(), 1);
    let request = send(&chat, &ann, &cat).await.unwrap().request.unwrap();
    handle(&chat, &cat, &request.id, 2).await.unwrap();
    assert!(friends(&chat, &cat).await.is_empty());
    let failure = Failure::from_status(&send(&chat, &ann, &cat).await.unwrap_err());
    assert_eq!(failure.code, ErrorCode::FriendRequestAlreadyExists);
    assert!(failure.retry_after_s().unwrap() > 23 * 3600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_have_remarks_presence_and_an_end() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    chat.befriend(&ann, &bob).await;
    chat.connect(&bob, 21).await;
    let friend = update(&chat, &ann, &bob, Some("bobby"), None).await.unwrap();
    assert_eq!((friend.remark.as_str(), friend.status, friend.is_online), ("bobby", 1, true));
    let seen = friends(&chat, &ann).await;
    assert_eq!((seen[0].remark.as_str(), seen[0].is_online), ("bobby", true));
    assert_eq!(friends(&chat, &bob).await[0].remark, "", "a remark is the user's own");
    assert_eq!(code(update(&chat, &ann, &eve, Some("x"), None).await), ErrorCode::NotFriends);
    assert_eq!(code(update(&chat, &ann, &bob, Some(&"x".repeat(101)), None).await), ErrorCode::InvalidParams);
    assert_eq!(code(update(&chat, &ann, &bob, None, None).await), ErrorCode::InvalidParams);
    assert_eq!(code(update(&chat, &ann, &ann, None, Some(true)).await), ErrorCode::InvalidParams);
    assert_eq!(code(update(&chat, &ann, "5", None, Some(true)).await), ErrorCode::UserNotFound);
    let remove = |user: &str, friend: &str| {
        let remove = RemoveFriendRequest { user_id: user.into(), friend_id: friend.into() };
        let mut friends = chat.friends.clone();
        async move { friends.remove_friend(ask(remove)).await }
    };
    remove(&bob, &ann).await.unwrap();
    assert!(friends(&chat, &ann).await.is_empty());
    assert_eq!(code(remove(&bob, &ann).await), ErrorCode::NotFriends);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_both_ways_and_against_strangers() {
    let chat = Chat::start().await;
    let (ann, bob, eve) = (chat.register("ann").await, chat.register("bob").await, chat.register("eve").await);
    chat.befriend(&ann, &bob).await;
    chat.connect(&ann, 11).await;
    chat.connect(&bob, 21).await;
    assert_eq!(update(&chat, &ann, &bob, None, Some(true)).await.unwrap().status, 3);
    assert_eq!(update(&chat, &ann, &eve, None, Some(true)).await.unwrap().status, 3);
    assert_eq!(code(send(&chat, &eve, &ann).await), ErrorCode::Blocked);
    assert_eq!(code(send(&chat, &ann, &eve).await), ErrorCode::Blocked);
    assert!(!friends(&chat, &bob).await[0].is_online, "presence is not shown across a block");
    assert!(!friends(&chat, &ann).await[0].is_online);
    let list = ListBlockedRequest { user_id: ann.clone(), page: 1, page_size: 0 };
    let blocked = chat.friends.clone().list_blocked(ask(list)).await.unwrap().into_inner().blocked;
    let names: Vec<_> = blocked.iter().map(|b| b.friend.as_ref().unwrap().username.as_str()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"bob") && names.contains(&"eve"), "{names:?}");
    let statuses = |requester: &str, ids: &[&String]| {
        let get = GetOnlineStatusesRequest {
            requester_id: requester.into(),
            user_ids: ids.iter().map(|id| (*id).clone()).collect(),
        };
        let mut users = chat.users.clone();
        async move { users.get_online_statuses(ask(get)).await.map(|answer| answer.into_inner().statuses) }
    };
    assert!(statuses(&bob, &[&ann]).await.unwrap().is_empty());
    assert_eq!(update(&chat, &ann, &bob, None, Some(false)).await.unwrap().status, 1);
    assert_eq!(update(&chat, &ann, &eve, None, Some(false)).await.unwrap().status, 0);
    assert!(statuses(&bob, &[&ann]).await.unwrap()[0].is_online);
    let group_mate = chat.register("greta").await;
    chat.group(&ann, &[&group_mate]).await;
    assert!(statuses(&group_mate, &[&ann]).await.unwrap()[0].is_online);
    assert!(statuses(&eve, &[&ann, &bob]).await.unwrap().is_empty(), "strangers learn nothing");
    let many: Vec<String> = (1..=101).map(|id| id.to_string()).collect();
    assert_eq!(code(statuses(&eve, &many.iter().collect::<Vec<_>>()).await), ErrorCode::InvalidParams);
    assert_eq!(code(statuses(&eve, &[&"x".to_owned()]).await), ErrorCode::InvalidParams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_found_by_name() {
    let chat = Chat::start().await;
    let ann = chat.register("annabel").await;
    chat.register("hannah").await;
    chat.guest().await;
    let search = |query: &str| {
        let search = SearchUsersRequest { user_id: ann.clone(), query: query.into(), limit: 0 };
        let mut friends = chat.friends.clone();
        async move { friends.search_users(ask(search)).await.map(|answer| answer.into_inner().users) }
    };
    let names: Vec<_> = search("ANN").await.unwrap().into_iter().map(|user| user.username).collect();
    assert_eq!(names, ["hannah"], "not the caller");
    assert!(search("guest").await.unwrap().is_empty());
    assert_eq!(code(search(" ").await), ErrorCode::MissingQuery);
    assert_eq!(code(search(&"x".repeat(51)).await), ErrorCode::InvalidParams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_names_who_came_and_went() {
    let chat = Chat::start().await;
    let (ann, bob, cat) = (chat.register("ann").await, chat.register("bob").await, chat.register("cat").await);
    chat.befriend(&ann, &bob).await;
    chat.befriend(&ann, &cat).await;
    let remove = RemoveFriendRequest { user_id: ann.clone(), friend_id: bob.clone() };
    chat.friends.clone().remove_friend(ask(remove)).await.unwrap();
    let sync = GetFriendsWithSyncRequest { user_id: ann.clone(), last_sync_time: 1, include_online_status: true };
    let delta = chat.friends.clone().get_friends_with_sync(ask(sync)).await.unwrap().into_inner();
    assert_eq!(delta.friends.iter().map(|f| &f.friend.as_ref().unwrap().id).collect::<Vec<_>>(), [&cat]);
    assert_eq!(delta.removed_friend_ids, [bob]);
}
