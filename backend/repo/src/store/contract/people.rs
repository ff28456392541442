//! What every store must do about friends, blocks, rooms and the search for accounts.

use super::super::conversation::NewConversation;
use super::super::friend::{AskRefusal, Asked, FriendStatus, HandleRequest, Handled, NewFriendRequest, RequestQuery};
use super::super::room::{RoomSize, RoomVersion};
use super::super::user::{Status, UserChange};
use super::super::{Noun, Store, StoreError};
use super::{NOW, new_single, new_user};
use std::sync::Arc;

const HOUR: i64 = 3_600_000;

fn ask(id: i64, requester: i64, target: i64) -> NewFriendRequest {
    NewFriendRequest { id, requester, target, message: "hi".into(), reopen_after_ms: HOUR, now_ms: NOW }
}

fn handle(request: i64, handler: i64) -> HandleRequest {
    HandleRequest { request, handler, mirror_id: request + 1000, now_ms: NOW }
}

async fn users(store: &dyn Store, ids: std::ops::RangeInclusive<i64>) {
    store.create_users(ids.map(|id| new_user(id, &format!("user{id}"))).collect()).await.unwrap();
}

pub(super) async fn requests_are_answered_once(store: &dyn Store) {
    users(store, 1..=4).await;
    let Asked::Pending(made) = store.ask_friend(ask(50, 1, 2)).await.unwrap() else { panic!("pending") };
    assert_eq!((made.id, made.requester, made.target, made.status), (50, 1, 2, FriendStatus::Pending));
    assert_eq!(store.ask_friend(ask(51, 1, 2)).await.unwrap(), Asked::Refused(AskRefusal::Pending));
    assert_eq!(store.ask_friend(ask(51, 1, 99)).await.unwrap(), Asked::Refused(AskRefusal::NoSuchUser));
    assert_eq!(store.accept_friend(handle(50, 1)).await.unwrap(), Handled::NotTarget);
    assert_eq!(store.accept_friend(handle(77, 2)).await.unwrap(), Handled::Missing);
    let Handled::Done(done) = store.accept_friend(handle(50, 2)).await.unwrap() else { panic!("accepted") };
    assert_eq!((done.conversation.as_str(), done.request.status), ("single_1_2", FriendStatus::Accepted));
    for again in [store.accept_friend(handle(50, 2)).await, store.reject_friend(handle(50, 2)).await] {
        assert_eq!(again.unwrap(), Handled::Before(done.clone()));
    }
    assert_eq!(store.accept_friend(handle(1050, 1)).await.unwrap(), Handled::Missing, "a mirror is no request");
    assert_eq!((store.friend_ids(1).await.unwrap(), store.friend_ids(2).await.unwrap()), (vec![2], vec![1]));
    let (forward, backward) = store.friendships_between(2, 1).await.unwrap();
    assert_eq!((forward.unwrap().id, backward.unwrap().id), (1050, 50));
    assert_eq!(store.ask_friend(ask(52, 2, 1)).await.unwrap(), Asked::Refused(AskRefusal::Friends));
    assert!(store.conversations(&["single_1_2".to_owned()]).await.unwrap()[0].member_count == 2);
    // Rejected, asked again too early, then in time.
    store.ask_friend(ask(60, 3, 1)).await.unwrap();
    let Handled::Done(rejected) = store.reject_friend(handle(60, 1)).await.unwrap() else { panic!("rejected") };
    let at = rejected.request.updated_at_ms;
    let early = NewFriendRequest { now_ms: at + HOUR - 1, ..ask(61, 3, 1) };
    assert_eq!(store.ask_friend(early).await.unwrap(), Asked::Refused(AskRefusal::CoolingDown(at + HOUR)));
    let late = NewFriendRequest { now_ms: at + HOUR, ..ask(61, 3, 1) };
    assert!(matches!(store.ask_friend(late).await.unwrap(), Asked::Pending(f) if f.id == 60));
    let Asked::Accepted(both) = store.ask_friend(ask(62, 1, 3)).await.unwrap() else { panic!("asked both ways") };
    assert_eq!((both.request.id, both.conversation.as_str()), (60, "single_1_3"));
    let received = RequestQuery { user: 1, received: true, status: None, offset: 0, limit: 9 };
    assert_eq!(store.friend_requests(received).await.unwrap().len(), 1);
}

pub(super) async fn friendships_end_on_both_sides(store: &dyn Store) {
    users(store, 1..=3).await;
    let before = store.change_time().await.unwrap();
    store.ask_friend(ask(50, 1, 2)).await.unwrap();
    store.accept_friend(handle(50, 2)).await.unwrap();
    assert_eq!(store.set_remark(1, 2, "Bo").await.unwrap().unwrap().remark, "Bo");
    assert_eq!(store.set_remark(1, 3, "Bo").await.unwrap(), None);
    assert_eq!(store.friends(2, 0, 9).await.unwrap()[0].remark, "", "each side has a name of its own");
    assert!(!store.remove_friend(1, 3, NOW).await.unwrap());
    assert!(store.remove_friend(2, 1, NOW).await.unwrap());
    assert!(!store.remove_friend(1, 2, NOW).await.unwrap());
    for (user, friend) in [(1, 2), (2, 1)] {
        assert_eq!(store.friend_changes(user, before).await.unwrap(), (vec![], vec![friend]));
    }
    assert_eq!(store.friend_request(50).await.unwrap(), None);
    store.ask_friend(ask(53, 2, 1)).await.unwrap();
    store.accept_friend(handle(53, 1)).await.unwrap();
    let (friends, lost) = store.friend_changes(1, before).await.unwrap();
    assert_eq!((friends.len(), lost), (1, vec![]));
}

pub(super) async fn blocks_stand_alone(store: &dyn Store) {
    users(store, 1..=3).await;
    assert_eq!(store.set_block(1, 99, true, NOW).await, Err(StoreError::Missing(Noun::User)));
    assert!(store.set_block(1, 2, true, NOW).await.unwrap());
    assert!(!store.set_block(1, 2, true, NOW + 1).await.unwrap());
    assert!(store.set_block(3, 1, true, NOW).await.unwrap());
    assert_eq!(store.blocks(1, &[2, 3]).await.unwrap(), (vec![2], vec![3]));
    assert_eq!(store.blocks(1, &[3]).await.unwrap(), (vec![], vec![3]));
    assert_eq!(store.blocked_by(1, 0, 9).await.unwrap(), [(2, NOW)]);
    for (from, to) in [(1, 2), (2, 1), (1, 3)] {
        assert_eq!(store.ask_friend(ask(50, from, to)).await.unwrap(), Asked::Refused(AskRefusal::Blocked));
    }
    assert!(store.set_block(1, 2, false, NOW).await.unwrap());
    assert!(!store.set_block(1, 2, false, NOW).await.unwrap());
}

pub(super) async fn two_at_once_become_friends(store: Arc<dyn Store>) {
    users(store.as_ref(), 1..=40).await;
    for low in (1..40).step_by(2) {
        let task = |id, from, to| {
            let store = store.clone();
            tokio::spawn(async move { store.ask_friend(ask(id, from, to)).await.unwrap() })
        };
        let (one, two) = (task(low * 10, low, low + 1), task(low * 10 + 1, low + 1, low));
        let answers = [one.await.unwrap(), two.await.unwrap()];
        assert_eq!(answers.iter().filter(|a| matches!(a, Asked::Accepted(_))).count(), 1, "{answers:?}");
        assert_eq!(store.friend_ids(low).await.unwrap(), [low + 1]);
    }
}

pub(super) async fn rooms_have_versions(store: &dyn Store) {
    users(store, 1..=30).await;
    let group = |id: &str, members: i64| NewConversation {
        id: id.into(),
        kind: 2,
        owner_id: 1,
        members: (1..=members).map(|user| (user, if user == 1 { 3 } else { 1 })).collect(),
        ..new_single(1, 2)
    };
    let large = store.create_conversation(group("group_1", 21)).await.unwrap().0;
    store.create_conversation(group("group_2", 20)).await.unwrap();
    store.create_conversation(new_single(1, 2)).await.unwrap();
    let version = store.room_members("group_1").await.unwrap().unwrap().version;
    let room = RoomVersion { conversation: large.id.clone(), version };
    assert_eq!(store.rooms(&[30, 21, 1], 20).await.unwrap(), [(1, room.clone()), (21, room)]);
    assert_eq!(store.room_size("group_2").await.unwrap(), Some(RoomSize { is_world: false, member_count: 20 }));
    assert_eq!(store.room_members("group_2").await.unwrap().unwrap().members, (1..=20).collect::<Vec<_>>());
    let asked = ["group_1", "group_9"].map(str::to_owned);
    assert_eq!(
        store.room_versions(&asked).await.unwrap().into_iter().collect::<Vec<_>>(),
        [("group_1".into(), version)]
    );
    store.dissolve("group_1", 1, "", NOW).await.unwrap();
    assert_eq!(store.rooms(&[1], 20).await.unwrap(), []);
    assert_eq!((store.room_size("group_1").await.unwrap(), store.room_members("group_1").await.unwrap()), (None, None));
}

pub(super) async fn accounts_are_found_and_end(store: &dyn Store) {
    let names = [(1, "Anna"), (2, "joANNa"), (3, "annabel"), (4, "bo")];
    store.create_users(names.iter().map(|(id, name)| new_user(*id, name)).collect()).await.unwrap();
    let found = async |text: &str, searcher, limit| {
        let users = store.search_users(text, searcher, limit).await.unwrap();
        users.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    assert_eq!(found("aNN", 4, 9).await, [1, 3, 2], "beginnings first");
    assert_eq!((found("ann", 4, 2).await, found("ann", 1, 9).await), (vec![1, 3], vec![3, 2]));
    store.set_block(3, 4, true, NOW).await.unwrap();
    assert_eq!(found("ann", 4, 9).await, [1, 2]);
    let listed = async |after, prefix: &str| {
        let users = store.list_users(after, prefix, 2).await.unwrap();
        users.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    assert_eq!(
        (listed(0, "").await, listed(2, "").await, listed(0, "ANN").await),
        (vec![1, 2], vec![3, 4], vec![1, 3])
    );
    store.touch_users(&[1, 2], NOW + HOUR).await.unwrap();
    store.touch_users(&[1], NOW).await.unwrap();
    assert!(store.inactive_guests(i64::MAX, 9).await.unwrap().is_empty(), "no guests");
    assert!(store.delete_user(1, NOW).await.unwrap());
    assert!(!store.delete_user(1, NOW).await.unwrap());
    assert_eq!(store.delete_user(99, NOW).await, Err(StoreError::Missing(Noun::User)));
    let gone = &store.users(&[1]).await.unwrap()[0];
    assert_eq!((gone.status, gone.username.as_str(), gone.token_version), (Status::Deleted, "deleted_1", 1));
    assert_eq!(store.password_hash(1).await.unwrap().as_deref(), Some(""));
    let change = UserChange { status: Some(Status::Normal), ..UserChange::default() };
    assert_eq!(store.update_user(1, change, NOW).await, Err(StoreError::Missing(Noun::User)), "never again");
    store.create_user(new_user(9, "anna")).await.unwrap();
}
