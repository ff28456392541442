//! Accounts: search, changes that end logins, deletion, guests who went (spec 01 §4.2, 06 §12).

use crate::bench::{Bench, CHAT, NOW, ask, message, record};
use crate::people::code;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::events::EventBody;
use gochat_proto::im::repo::v1::*;
use gochat_repo::store::user::NewUser;
use std::time::Duration;

async fn named(bench: &Bench, names: &[(i64, &str, bool)]) {
    let user = |(id, name, is_guest): &(i64, &str, bool)| NewUser {
        id: *id,
        username: (*name).into(),
        password_hash: String::new(),
        avatar_url: "https://x/a.png".into(),
        is_guest: *is_guest,
        created_at_ms: NOW,
    };
    bench.store.create_users(names.iter().map(user).collect()).await.unwrap();
}

async fn search(bench: &Bench, query: &str, limit: i32) -> Vec<String> {
    let request = SearchUsersByUsernameRequest { query: query.into(), limit, exclude_user_id: "1".into() };
    let found = bench.users().search_users_by_username(ask(request)).await.unwrap().into_inner().users;
    found.into_iter().map(|u| u.username).collect()
}

fn update(user: i64, field: &str) -> UpdateUserRequest {
    UpdateUserRequest {
        user_id: user.to_string(),
        update_mask: vec![field.into()],
        avatar_url: "https://x/new.png".into(),
        password_hash: "new hash".into(),
        status: UserStatus::Disabled.into(),
    }
}

async fn login(bench: &Bench, user: i64, family: &str) {
    let store = StoreRefreshTokenRequest {
        token_hash: format!("{:064x}", family.bytes().fold(user, |sum, b| sum * 31 + i64::from(b))),
        user_id: user.to_string(),
        family_id: family.into(),
        ttl_seconds: 1000,
        client_info: "phone".into(),
    };
    bench.tokens().store_refresh_token(ask(store)).await.unwrap();
}

async fn logins(bench: &Bench, user: i64) -> usize {
    let list = ListFamiliesRequest { user_id: user.to_string() };
    bench.tokens().list_families(ask(list)).await.unwrap().into_inner().families.len()
}

async fn version(bench: &Bench, user: i64) -> i64 {
    let request = GetTokenVersionRequest { user_id: user.to_string() };
    bench.tokens().get_token_version(ask(request)).await.unwrap().into_inner().version
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_beginnings_first_and_only_who_may_be_found() {
    let bench = Bench::new().await;
    named(
        &bench,
        &[
            (10, "Anna", false),
            (11, "annabel", false),
            (12, "Joanna", false),
            (13, "hannah", false),
            (14, "anna_guest", true),
            (15, "Anna_off", false),
            (16, "Anna_hides", false),
            (17, "an%a", false),
            (18, "ÄNNE", false),
        ],
    )
    .await;
    bench.users().update_user(ask(update(15, "status"))).await.unwrap();
    let block = SetBlockRequest { user_id: "16".into(), target_id: "1".into(), blocked: true };
    bench.friends().set_block(ask(block)).await.unwrap();
    assert_eq!(search(&bench, "ANNA", 10).await, ["Anna", "annabel", "hannah", "Joanna"]);
    assert_eq!(search(&bench, "anna", 1).await, ["Anna"]);
    assert_eq!(search(&bench, "anna", 3).await, ["Anna", "annabel", "hannah"]);
    assert_eq!(search(&bench, "%", 10).await, ["an%a"], "no pattern");
    assert_eq!(search(&bench, "änn", 10).await, ["ÄNNE"]);
    assert_eq!(search(&bench, "user", 10).await, ["user2", "user3"], "not the one who searches");
    for bad in [String::new(), "x".repeat(51)] {
        let request = SearchUsersByUsernameRequest { query: bad, ..Default::default() };
        assert_eq!(code(bench.users().search_users_by_username(ask(request)).await), "INVALID_PARAMS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_listed_in_pages() {
    let bench = Bench::new().await;
    named(&bench, &[(10, "Anna", false), (11, "annabel", true), (12, "joanna", false)]).await;
    let list = async |after: &str, prefix: &str| {
        let request = ListUsersRequest { after_user_id: after.into(), limit: 2, name_prefix: prefix.into() };
        let page = bench.users().list_users(ask(request)).await.unwrap().into_inner();
        (page.users.into_iter().map(|u| u.id).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(list("", "").await, (vec!["1".into(), "2".into()], true));
    assert_eq!(list("3", "").await, (vec!["10".into(), "11".into()], true));
    assert_eq!(list("11", "").await, (vec!["12".into()], false));
    assert_eq!(list("", "ANN").await, (vec!["10".into(), "11".into()], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_or_a_lost_status_ends_all_logins_in_one_step() {
    let bench = Bench::new().await;
    login(&bench, 1, "f1").await;
    login(&bench, 2, "f2").await;
    let picture = bench.users().update_user(ask(update(1, "avatar_url"))).await.unwrap().into_inner().user.unwrap();
    assert_eq!(picture.avatar_url, "https://x/new.png");
    let changed = EventBody::ProfileUpdated { updated_fields: vec!["avatarUrl".into()] };
    assert_eq!(bench.told_about_users().await.pop().unwrap(), ("1".into(), String::new(), changed));
    bench.users().update_user(ask(update(1, "avatar_url"))).await.unwrap();
    assert!(bench.take_events().await.is_empty(), "the same picture is no news");
    assert_eq!((version(&bench, 1).await, logins(&bench, 1).await), (0, 1));
    bench.users().update_user(ask(update(1, "password_hash"))).await.unwrap();
    assert_eq!((version(&bench, 1).await, logins(&bench, 1).await), (1, 0));
    let ended = |code, reason: &str| EventBody::UserRevoked { close_code: code, reason: reason.into() };
    assert_eq!(bench.told_about_users().await, [("1".into(), String::new(), ended(4001, "password changed"))]);
    bench.users().update_user(ask(update(2, "status"))).await.unwrap();
    assert_eq!((version(&bench, 2).await, logins(&bench, 2).await), (1, 0));
    assert_eq!(bench.told_about_users().await, [("2".into(), String::new(), ended(4003, "account disabled"))]);
    bench.users().update_user(ask(update(2, "status"))).await.unwrap();
    assert_eq!((version(&bench, 2).await, bench.take_events().await.len()), (1, 0), "it was so before");
    let enable = UpdateUserRequest { status: UserStatus::Normal.into(), ..update(2, "status") };
    bench.users().update_user(ask(enable)).await.unwrap();
    assert_eq!((version(&bench, 2).await, bench.take_events().await.len()), (1, 0));
    let listed = ListRevocationsRequest { after_id: 0, limit: 10 };
    let listed = bench.tokens().list_revocations(ask(listed)).await.unwrap().into_inner().entries;
    assert_eq!(listed.iter().map(|r| (r.user_id.as_str(), r.min_version)).collect::<Vec<_>>(), [("1", 1), ("2", 1)]);
    for (bad, expected) in [
        (update(99, "avatar_url"), "USER_NOT_FOUND"),
        (update(1, "username"), "INVALID_PARAMS"),
        (UpdateUserRequest { status: UserStatus::Deleted.into(), ..update(1, "status") }, "INVALID_PARAMS"),
    ] {
        assert_eq!(code(bench.users().update_user(ask(bad)).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_is_told() {
    let bench = Bench::new().await;
    bench.take_events().await;
    for (name, is_guest) in [("anna", false), ("guest_1", true)] {
        let create = CreateUserRequest { username: name.into(), is_guest, ..CreateUserRequest::default() };
        bench.users().create_user(ask(create.clone())).await.unwrap();
        assert_eq!(code(bench.users().create_user(ask(create)).await), "USER_ALREADY_EXISTS");
    }
    let told: Vec<EventBody> = bench.take_events().await.into_iter().map(|event| event.body).collect();
    let registered = EventBody::UserRegistered { username: "anna".into() };
    assert_eq!(told, [registered, EventBody::GuestCreated { username: "guest_1".into() }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_leaves_its_messages_and_nothing_of_the_person() {
    let bench = Bench::new().await;
    named(&bench, &[(10, "Anna", false), (11, "Bo", false), (12, "Cy", false)]).await;
    let mut friends = bench.friends();
    for (from, to) in [("1", "3"), ("3", "1"), ("10", "1")] {
        let ask_for =
            CreateFriendRequestRequest { requester_id: from.into(), target_id: to.into(), message: String::new() };
        friends.create_friend_request(ask(ask_for)).await.unwrap();
    }
    for (by, whom) in [("1", "11"), ("12", "1")] {
        let block = SetBlockRequest { user_id: by.into(), target_id: whom.into(), blocked: true };
        friends.set_block(ask(block)).await.unwrap();
    }
    login(&bench, 1, "f1").await;
    bench.save(vec![(0, record(1, vec![message(50, 1, "c", "words that stay")]))]).await;
    let owned = bench.group(7, &[1, 10, 11]).await;
    let alone = bench.group(8, &[1]).await;
    let other = bench.group(9, &[10, 1]).await;
    let promote = UpdateMemberRoleRequest {
        conversation_id: owned.clone(),
        user_id: "11".into(),
        new_role: 2,
        update_mask: vec!["role".into()],
        operator_id: "1".into(),
        ..UpdateMemberRoleRequest::default()
    };
    bench.conversations().update_member_role(ask(promote)).await.unwrap();
    bench.take_events().await;

    let delete = DeleteUserRequest { user_id: "1".into() };
    bench.users().delete_user(ask(delete.clone())).await.unwrap();

    let user =
        bench.users().get_user(ask(GetUserRequest { user_id: "1".into() })).await.unwrap().into_inner().user.unwrap();
    assert_eq!(
        (user.username.as_str(), user.avatar_url.as_str(), user.status()),
        ("deleted_1", "", UserStatus::Deleted)
    );
    let by_name = GetUserByUsernameRequest { username: "user1".into() };
    assert_eq!(code(bench.users().get_user_by_username(ask(by_name)).await), "USER_NOT_FOUND");
    assert_eq!(logins(&bench, 1).await, 0);
    for user in [3, 10] {
        let ids = GetFriendIdsRequest { user_id: user.to_string() };
        assert!(friends.get_friend_ids(ask(ids)).await.unwrap().into_inner().friend_ids.is_empty());
    }
    let delta = GetUserFriendsWithSyncRequest { user_id: "3".into(), last_sync_time: 1 };
    assert_eq!(friends.get_user_friends_with_sync(ask(delta)).await.unwrap().into_inner().removed_friend_ids, ["1"]);
    let received = GetUserFriendRequestsRequest { user_id: "10".into(), status: -1, r#type: 2, ..Default::default() };
    assert!(friends.get_user_friend_requests(ask(received)).await.unwrap().into_inner().requests.is_empty());
    let blocked = ListBlockedRequest { user_id: "12".into(), ..ListBlockedRequest::default() };
    assert!(friends.list_blocked(ask(blocked)).await.unwrap().into_inner().blocked.is_empty());

    assert_eq!(bench.stored().await.0, [(1, "words that stay".to_owned())]);
    assert!(bench.is_member(CHAT, 1).await, "the other one keeps the chat");
    for group in [&owned, &other] {
        assert!(!bench.is_member(group, 1).await);
    }
    let heir = bench.store.members(&owned, &[10, 11]).await.unwrap();
    let mut roles: Vec<_> = heir.iter().map(|m| (m.user.id, m.role)).collect();
    roles.sort_unstable();
    assert_eq!(roles, [(10, 1), (11, 3)], "the admin inherits");
    assert!(bench.store.room_members(&alone).await.unwrap().is_none(), "a group of one ends");

    let told: Vec<EventBody> = bench.take_events().await.into_iter().map(|event| event.body).collect();
    let count = |wanted: fn(&EventBody) -> bool| told.iter().filter(|body| wanted(body)).count();
    assert_eq!(count(|b| matches!(b, EventBody::UserRevoked { close_code: 4003, .. })), 1);
    assert_eq!(count(|b| matches!(b, EventBody::FriendRemoved {})), 2);
    assert_eq!(count(|b| matches!(b, EventBody::OwnerTransferred { .. })), 1);
    assert_eq!(count(|b| matches!(b, EventBody::MemberRemoved { .. })), 2);
    assert_eq!(count(|b| matches!(b, EventBody::Dissolved { .. })), 1);

    bench.users().delete_user(ask(delete)).await.unwrap();
    assert!(bench.take_events().await.is_empty(), "repeated, it changes nothing");
    assert_eq!(code(bench.users().update_user(ask(update(1, "avatar_url"))).await), "USER_NOT_FOUND");
    assert_eq!(
        code(bench.users().delete_user(ask(DeleteUserRequest { user_id: "99".into() })).await),
        "USER_NOT_FOUND"
    );
    let create = CreateUserRequest { username: "user1".into(), ..CreateUserRequest::default() };
    bench.users().create_user(ask(create)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_passes_to_who_was_in_it_longest() {
    let bench = Bench::new().await;
    named(&bench, &[(10, "Anna", false), (11, "Bo", false)]).await;
    let group = bench.group(7, &[1, 11]).await;
    bench.clock.advance(Duration::from_secs(5));
    bench.add_members(&group, &[10]).await;
    bench.users().delete_user(ask(DeleteUserRequest { user_id: "1".into() })).await.unwrap();
    assert_eq!(bench.store.members(&group, &[11]).await.unwrap()[0].role, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_stopped_half_way_goes_on() {
    let bench = Bench::new().await;
    let group = bench.group(7, &[2, 1]).await;
    // As a crash after the first of the steps leaves it.
    assert!(bench.store.delete_user(1, NOW).await.unwrap());
    assert!(bench.is_member(&group, 1).await);
    let clean = CleanupGuestsRequest { inactive_before: 1, batch_size: 10 };
    bench.users().cleanup_guests(ask(clean)).await.unwrap();
    assert!(!bench.is_member(&group, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_who_went_are_deleted() {
    let bench = Bench::new().await;
    named(&bench, &[(10, "guest_a", true), (11, "guest_b", true), (12, "guest_c", true)]).await;
    bench.clock.advance(Duration::from_secs(10_000));
    named(&bench, &[(14, "guest_d", true)]).await;
    let now = NOW / 1000 + 10_000;
    let online = |user: &str, address| PresenceEntry { user_id: user.into(), address, ..PresenceEntry::default() };
    let update = BatchUpdateRequest {
        gateway_id: "gateway-1".into(),
        gateway_incarnation: 5,
        online: vec![online("11", 1), online("12", 2)],
        ..BatchUpdateRequest::default()
    };
    bench.presence().batch_update(ask(update)).await.unwrap();
    // Of those online one is renewed, which is noted; the other has only its session.
    let renew = BatchUpdateRequest {
        gateway_id: "gateway-1".into(),
        gateway_incarnation: 5,
        alive: vec!["11".into()],
        ..BatchUpdateRequest::default()
    };
    bench.presence().batch_update(ask(renew)).await.unwrap();
    let inactive = async |before: i64| bench.store.inactive_guests(before * 1000, 10).await.unwrap();
    assert_eq!(inactive(now - 100).await, [10, 12, 14]);
    let clean = async |before| {
        let clean = CleanupGuestsRequest { inactive_before: before, batch_size: 10 };
        bench.users().cleanup_guests(ask(clean)).await.unwrap().into_inner().cleaned_count
    };
    assert_eq!(clean(NOW / 1000).await, 0);
    assert_eq!(clean(now - 100).await, 2);
    let statuses: Vec<UserStatus> = {
        let request = GetUsersRequest { user_ids: ["10", "11", "12", "14", "1"].map(str::to_owned).to_vec() };
        let users = bench.users().get_users(ask(request)).await.unwrap().into_inner().users;
        let mut users: Vec<_> = users.into_iter().map(|u| (u.id.parse::<i64>().unwrap(), u.status())).collect();
        users.sort_unstable_by_key(|(id, _)| *id);
        users.into_iter().map(|(_, status)| status).collect()
    };
    use UserStatus::{Deleted, Normal};
    assert_eq!(statuses, [Normal, Deleted, Normal, Normal, Deleted]);
    assert_eq!(clean(now - 100).await, 0);
}
