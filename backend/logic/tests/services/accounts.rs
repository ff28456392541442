//! Accounts, guests, logins, passwords, profiles.

use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::UserStatus;
use gochat_proto::im::logic::v1::*;
use gochat_proto::im::repo::v1 as repo;

use crate::chat::{Chat, PASSWORD, ask, code};

async fn is_valid(chat: &Chat, token: &str) -> Result<bool, i32> {
    let validate = ValidateTokenRequest { access_token: token.into() };
    let answer = chat.auth.clone().validate_token(ask(validate)).await.unwrap().into_inner();
    if answer.valid { Ok(true) } else { Err(answer.error_code) }
}

async fn logins(chat: &Chat, user_id: &str) -> Vec<Login> {
    let list = ListLoginsRequest { user_id: user_id.into() };
    chat.auth.clone().list_logins(ask(list)).await.unwrap().into_inner().logins
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_refuses_what_the_rules_refuse() {
    let chat = Chat::start().await;
    chat.register("ann").await;
    for (username, password, avatar_url, expected) in [
        ("ANN", PASSWORD, "", ErrorCode::UserAlreadyExists),
        ("a b", PASSWORD, "", ErrorCode::InvalidUsername),
        ("guest_x", PASSWORD, "", ErrorCode::InvalidUsername),
        ("bob", "short", "", ErrorCode::WeakPassword),
        ("bob", PASSWORD, "javascript:x", ErrorCode::InvalidParams),
    ] {
        let register =
            RegisterRequest { username: username.into(), password: password.into(), avatar_url: avatar_url.into() };
        assert_eq!(code(chat.auth.clone().register(ask(register)).await), expected, "{username} {password}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_locked_accounts() {
    let chat = Chat::start().await;
    let ann = chat.register("ann").await;
    let login = |username: &str, password: &str| {
        let login = LoginRequest { username: username.into(), password: password.into(), client_info: String::new() };
        let mut auth = chat.auth.clone();
        async move { auth.login(ask(login)).await }
    };
    assert_eq!(code(login("ann", "wrong one").await), ErrorCode::AuthInvalidCredentials);
    assert_eq!(code(login("nobody", PASSWORD).await), ErrorCode::AuthInvalidCredentials);
    assert_eq!(code(login("", PASSWORD).await), ErrorCode::InvalidParams);
    let token = login("ann", PASSWORD).await.unwrap().into_inner().access_token;
    assert_eq!(is_valid(&chat, &token).await, Ok(true));
    let disable = repo::UpdateUserRequest {
        user_id: ann,
        status: UserStatus::Disabled.into(),
        update_mask: vec!["status".into()],
        ..repo::UpdateUserRequest::default()
    };
    chat.repo_users.clone().update_user(ask(disable)).await.unwrap();
    assert_eq!(code(login("ann", PASSWORD).await), ErrorCode::UserDisabled);
    assert!(is_valid(&chat, &token).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_get_names_a_room_and_little_else() {
    let chat = Chat::start().await;
    let login = |name: &str| {
        let guest = GuestLoginRequest { client_info: String::new(), guest_name: name.into() };
        let mut auth = chat.auth.clone();
        async move { auth.guest_login(ask(guest)).await }
    };
    let zoe = login("zoe").await.unwrap().into_inner();
    let user = zoe.user.unwrap();
    assert_eq!((user.username.as_str(), user.is_guest), ("guest_zoe", true));
    let second = login("zoe").await.unwrap().into_inner().user.unwrap().username;
    assert!(second.starts_with("guest_") && second.len() == 14, "{second}");
    assert_eq!(code(login("much too long a name").await), ErrorCode::InvalidUsername);
    assert_eq!(is_valid(&chat, &zoe.access_token).await, Ok(true));
    assert_eq!(chat.detail(&user.id, "world").await.unwrap().conversation.unwrap().member_count, 2);
    let refresh = RefreshTokenRequest { refresh_token: zoe.refresh_token, client_info: String::new() };
    chat.auth.clone().refresh_token(ask(refresh)).await.unwrap();

    let ann = chat.register("ann").await;
    assert_eq!(code(chat.open_single(&user.id, &ann).await), ErrorCode::GuestForbidden);
    let update = UpdateProfileRequest {
        user_id: user.id.clone(),
        avatar_url: "https://a.example/x.png".into(),
        update_mask: vec!["avatar_url".into()],
    };
    assert_eq!(code(chat.users.clone().update_profile(ask(update)).await), ErrorCode::GuestForbidden);
    let friends = GetFriendsRequest { user_id: user.id.clone(), ..GetFriendsRequest::default() };
    assert_eq!(code(chat.friends.clone().get_friends(ask(friends)).await), ErrorCode::GuestForbidden);
    let search = SearchUsersRequest { user_id: user.id, query: "a".into(), limit: 0 };
    assert_eq!(code(chat.friends.clone().search_users(ask(search)).await), ErrorCode::GuestForbidden);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_may_be_switched_off() {
    let chat = Chat::with(|config| config.rules.guests_enabled = false).await;
    let guest = chat.auth.clone().guest_login(ask(GuestLoginRequest::default())).await;
    assert_eq!(code(guest), ErrorCode::GuestDisabled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_the_world_room_is_as_configured() {
    let chat = Chat::with(|config| {
        config.rules.world_auto_join_registered = false;
        config.rules.world_auto_join_guests = false;
    })
    .await;
    let (ann, guest) = (chat.register("ann").await, chat.guest().await);
    for user in [&ann, &guest] {
        assert_eq!(code(chat.detail(user, "world").await), ErrorCode::NotConversationMember);
        for _ in 0..2 {
            let join = JoinWorldChatRequest { user_id: user.clone() };
            let joined = chat.conversations.clone().join_world_chat(ask(join)).await.unwrap().into_inner();
            assert_eq!(joined.conversation.unwrap().id, "world");
        }
    }
    assert_eq!(chat.detail(&ann, "world").await.unwrap().conversation.unwrap().member_count, 2);
    chat.leave(&ann, "world").await.unwrap();
    assert_eq!(code(chat.detail(&ann, "world").await), ErrorCode::NotConversationMember);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_ends_alone() {
    let chat = Chat::start().await;
    let ann = chat.register("ann").await;
    let eve = chat.register("eve").await;
    let (first, second) = (chat.login("ann").await, chat.login("ann").await);
    let list = logins(&chat, &ann).await;
    assert_eq!((list.len(), list[0].client_info.as_str()), (2, "ann"));
    // The newest is the second one; its sessions end with it.
    let family = list[0].id.clone();
    let entry = |address, family_id| repo::PresenceEntry {
        user_id: ann.clone(),
        address,
        family_id,
        ..repo::PresenceEntry::default()
    };
    chat.connect_with(entry(11, list[1].id.clone())).await;
    chat.connect_with(entry(12, family.clone())).await;
    let revoke = |user: &str, login: &str| {
        let revoke = RevokeLoginRequest { user_id: user.into(), login_id: login.into() };
        let mut auth = chat.auth.clone();
        async move { auth.revoke_login(ask(revoke)).await }
    };
    assert_eq!(code(revoke(&eve, &family).await), ErrorCode::NotFound);
    revoke(&ann, &family).await.unwrap();
    assert_eq!(chat.wire.kick(12).await.close_code, u32::from(CloseCode::LoggedOut.number()));
    assert_eq!(is_valid(&chat, &first.access_token).await, Ok(true));
    assert_eq!(is_valid(&chat, &second.access_token).await, Err(ErrorCode::InvalidToken.number()));
    assert_eq!(logins(&chat, &ann).await.len(), 1);
    assert_eq!(code(revoke(&ann, &family).await), ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_out_ends_sessions_and_presence_at_once() {
    let chat = Chat::start().await;
    let (ann, bob) = (chat.register("ann").await, chat.register("bob").await);
    chat.befriend(&ann, &bob).await;
    let login = chat.login("ann").await;
    let family = logins(&chat, &ann).await[0].id.clone();
    chat.connect(&bob, 21).await;
    let entry = repo::PresenceEntry { user_id: ann.clone(), address: 11, family_id: family, ..Default::default() };
    chat.connect_with(entry).await;
    let logout =
        LogoutRequest { user_id: ann.clone(), access_token: login.access_token.clone(), refresh_token: String::new() };
    chat.auth.clone().logout(ask(logout)).await.unwrap();
    assert_eq!(chat.wire.kick(11).await.close_code, u32::from(CloseCode::LoggedOut.number()));
    let status = chat.wire.frame(21, "online-status").await;
    assert_eq!((&status["userId"], &status["status"]), (&ann.into(), &"offline".into()));
    assert!(is_valid(&chat, &login.access_token).await.is_err());
    let refresh = RefreshTokenRequest { refresh_token: login.refresh_token, client_info: "ann".into() };
    assert!(chat.auth.clone().refresh_token(ask(refresh)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_ends_every_login_and_begins_one() {
    let chat = Chat::start().await;
    let ann = chat.register("ann").await;
    let before = chat.login("ann").await;
    chat.connect(&ann, 11).await;
    let change = |old: &str, new: &str| {
        let change = ChangePasswordRequest {
            user_id: ann.clone(),
            old_password: old.into(),
            new_password: new.into(),
            client_info: String::new(),
        };
        let mut users = chat.users.clone();
        async move { users.change_password(ask(change)).await }
    };
    assert_eq!(code(change("wrong one", "new password").await), ErrorCode::AuthInvalidCredentials);
    assert_eq!(code(change(PASSWORD, "short").await), ErrorCode::WeakPassword);
    let pair = change(PASSWORD, "new password").await.unwrap().into_inner();
    assert!(is_valid(&chat, &before.access_token).await.is_err());
    assert_eq!(is_valid(&chat, &pair.access_token).await, Ok(true));
    assert_eq!(chat.wire.kick(11).await.close_code, u32::from(CloseCode::TokenInvalid.number()));
    let refresh = RefreshTokenRequest { refresh_token: pair.refresh_token, client_info: String::new() };
    chat.auth.clone().refresh_token(ask(refresh)).await.unwrap();
    assert_eq!(logins(&chat, &ann).await.len(), 1);
    let guest = ChangePasswordRequest { user_id: chat.guest().await, ..ChangePasswordRequest::default() };
    assert_eq!(code(chat.users.clone().change_password(ask(guest)).await), ErrorCode::GuestForbidden);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_account_is_gone() {
    let chat = Chat::start().await;
    let (ann, bob) = (chat.register("ann").await, chat.register("bob").await);
    let token = chat.login("ann").await.access_token;
    chat.connect(&ann, 11).await;
    let delete = |user: &str, password: &str| {
        let delete = DeleteAccountRequest { user_id: user.into(), password: password.into() };
        let mut auth = chat.auth.clone();
        async move { auth.delete_account(ask(delete)).await }
    };
    assert_eq!(code(delete(&ann, "wrong one").await), ErrorCode::AuthInvalidCredentials);
    delete(&ann, PASSWORD).await.unwrap();
    chat.wire.kick(11).await;
    assert!(is_valid(&chat, &token).await.is_err());
    let info = GetUsersInfoRequest { requester_id: bob.clone(), user_ids: vec![ann.clone(), bob.clone()] };
    let users = chat.users.clone().get_users_info(ask(info)).await.unwrap().into_inner().users;
    assert_eq!(users.iter().map(|user| &user.id).collect::<Vec<_>>(), [&bob]);
    assert_eq!(code(chat.open_single(&bob, &ann).await), ErrorCode::UserNotFound);
    delete(&chat.guest().await, "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_change_by_their_owner_only_in_what_they_may() {
    let chat = Chat::start().await;
    let ann = chat.register("ann").await;
    let update = |avatar: &str, mask: &str| {
        let update =
            UpdateProfileRequest { user_id: ann.clone(), avatar_url: avatar.into(), update_mask: vec![mask.into()] };
        let mut users = chat.users.clone();
        async move { users.update_profile(ask(update)).await }
    };
    for (avatar, mask) in [("data:image/png;base64,x", "avatar_url"), ("https://a/b", "username"), ("x", "")] {
        assert_eq!(code(update(avatar, mask).await), ErrorCode::InvalidParams, "{avatar} {mask}");
    }
    let user = update("https://a/b.png", "avatar_url").await.unwrap().into_inner().user.unwrap();
    assert_eq!(user.avatar_url, "https://a/b.png");
    let profile = GetProfileRequest { user_id: "1".into() };
    assert_eq!(code(chat.users.clone().get_profile(ask(profile)).await), ErrorCode::UserNotFound);
}
