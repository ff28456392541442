//! Logic and repo, played: every call is remembered and answered with an example, or with what a test wants instead.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use gochat_infra::token::TokenKind;
use gochat_proto::bus::v1::UpstreamMessage;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{
    Conversation, ConversationMember, ConversationSettings, Message, OnlineStatus, User, UserInfo,
};
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as logic;
use gochat_proto::im::logic::v1::auth_service_server::AuthService;
use gochat_proto::im::logic::v1::conversation_service_server::ConversationService;
use gochat_proto::im::logic::v1::friend_service_server::FriendService;
use gochat_proto::im::logic::v1::message_service_server::MessageService;
use gochat_proto::im::logic::v1::user_service_server::UserService;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::idempotency_service_server::IdempotencyService;
use gochat_proto::settings::Settings;
use tonic::{Request, Response, Status, async_trait};

use crate::control_support::tokens;

#[derive(Clone, Default)]
pub struct PlayedLogic(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<(&'static str, String)>,
    entries: Vec<UpstreamMessage>,
    refusal: Option<Failure>,
    /// Calls wait until this is gone.
    gate: Option<Arc<tokio::sync::Semaphore>>,
    failed_users: Vec<logic::FailedUser>,
}

impl PlayedLogic {
    /// From now on every call but token checks, and every entry of the stream, is refused like this.
    pub fn refuse(&self, failure: Option<Failure>) {
        self.0.lock().unwrap().refusal = failure;
    }

    /// Users whom the next additions and removals fail for.
    pub fn fail_users(&self, users: Vec<logic::FailedUser>) {
        self.0.lock().unwrap().failed_users = users;
    }

    /// Calls wait for a permit of the semaphore, one each.
    pub fn gate(&self, gate: Option<Arc<tokio::sync::Semaphore>>) {
        self.0.lock().unwrap().gate = gate;
    }

    /// The calls since the last look, but token checks: name and request.
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    /// The entries of streams since the last look.
    pub fn entries(&self) -> Vec<UpstreamMessage> {
        std::mem::take(&mut self.0.lock().unwrap().entries)
    }

    /// An entry came; how it is to be refused.
    pub fn entry(&self, entry: UpstreamMessage) -> Option<ErrorCode> {
        let mut state = self.0.lock().unwrap();
        state.entries.push(entry);
        state.refusal.as_ref().map(|failure| failure.code)
    }

    async fn take<T: Debug>(&self, name: &'static str, request: Request<T>) -> Result<T, Status> {
        let request = request.into_inner();
        let (gate, refusal) = {
            let mut state = self.0.lock().unwrap();
            state.calls.push((name, format!("{request:?}")));
            (state.gate.clone(), state.refusal.clone())
        };
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        match refusal {
            Some(failure) => Err(failure.into()),
            None => Ok(request),
        }
    }

    fn failed(&self) -> Vec<logic::FailedUser> {
        std::mem::take(&mut self.0.lock().unwrap().failed_users)
    }
}

pub fn user(id: &str) -> User {
    User { id: id.into(), username: format!("user{id}"), status: 1, created_at: 5, updated_at: 6, ..User::default() }
}

fn info(id: &str) -> UserInfo {
    UserInfo { id: id.into(), username: format!("user{id}"), ..UserInfo::default() }
}

fn member(id: &str) -> ConversationMember {
    ConversationMember { user: Some(info(id)), role: 2, joined_at: 5, ..ConversationMember::default() }
}

fn message() -> Message {
    Message {
        id: "901".into(),
        conversation_id: "group_5".into(),
        sender: Some(info("7")),
        r#type: 1,
        content: "hello".into(),
        seq_id: 31,
        extra: "{}".into(),
        created_at: 5,
        ..Message::default()
    }
}

fn conversation(id: &str) -> Conversation {
    Conversation {
        id: id.into(),
        r#type: 2,
        name: "group".into(),
        description: "of friends".into(),
        owner_id: "7".into(),
        member_count: 2,
        last_message: Some(message()),
        updated_at: 9,
        created_at: 5,
        settings: Settings::defaults(2).map(ConversationSettings::from),
        my_membership: Some(member("7")),
        info_version: 4,
        assigned_seq: 9,
        ..Conversation::default()
    }
}

fn friend() -> logic::Friend {
    logic::Friend {
        user_id: "7".into(),
        friend: Some(info("8")),
        status: 1,
        remark: "r".into(),
        is_online: true,
        last_seen: 8,
        created_at: 5,
        ..Default::default()
    }
}

fn request() -> logic::FriendRequest {
    logic::FriendRequest {
        id: "55".into(),
        requester: Some(info("7")),
        target: Some(info("8")),
        created_at: 5,
        ..Default::default()
    }
}

fn pair() -> logic::LoginResponse {
    logic::LoginResponse { access_token: "a".into(), refresh_token: "b".into(), expires_in: 60, user: Some(user("7")) }
}

macro_rules! played {
    ($service:ident { $($method:ident($asked:ident, $request:ident, $self_:ident) -> $answer:ident $body:block)* }) => {
        #[async_trait]
        impl $service for PlayedLogic {
            $(
                async fn $method(
                    &self,
                    request: Request<logic::$asked>,
                ) -> Result<Response<logic::$answer>, Status> {
                    let $request = self.take(stringify!($method), request).await?;
                    let $self_ = self;
                    let _ = (&$request, $self_);
                    Ok(Response::new($body))
                }
            )*
        }
    };
}

#[async_trait]
impl AuthService for PlayedLogic {
    async fn validate_token(
        &self,
        request: Request<logic::ValidateTokenRequest>,
    ) -> Result<Response<logic::ValidateTokenResponse>, Status> {
        let claims = tokens().verify(&request.into_inner().access_token, TokenKind::Access, 0).unwrap();
        let user = User { is_guest: claims.guest, ..user(&claims.user_id) };
        let answer =
            logic::ValidateTokenResponse { valid: true, user: Some(user), expires_at: claims.exp, error_code: 0 };
        Ok(Response::new(answer))
    }

    async fn register(
        &self,
        request: Request<logic::RegisterRequest>,
    ) -> Result<Response<logic::RegisterResponse>, Status> {
        self.take("register", request).await?;
        Ok(Response::new(logic::RegisterResponse { user: Some(user("7")) }))
    }

    async fn login(&self, request: Request<logic::LoginRequest>) -> Result<Response<logic::LoginResponse>, Status> {
        self.take("login", request).await?;
        Ok(Response::new(pair()))
    }

    async fn guest_login(
        &self,
        request: Request<logic::GuestLoginRequest>,
    ) -> Result<Response<logic::LoginResponse>, Status> {
        self.take("guest_login", request).await?;
        Ok(Response::new(pair()))
    }

    async fn refresh_token(
        &self,
        request: Request<logic::RefreshTokenRequest>,
    ) -> Result<Response<logic::RefreshTokenResponse>, Status> {
        self.take("refresh_token", request).await?;
        let (access_token, refresh_token) = ("a".into(), "b".into());
        Ok(Response::new(logic::RefreshTokenResponse { access_token, refresh_token, expires_in: 60 }))
    }

    async fn logout(&self, request: Request<logic::LogoutRequest>) -> Result<Response<logic::LogoutResponse>, Status> {
        self.take("logout", request).await?;
        Ok(Response::new(logic::LogoutResponse { success: true }))
    }

    async fn list_logins(
        &self,
        request: Request<logic::ListLoginsRequest>,
    ) -> Result<Response<logic::ListLoginsResponse>, Status> {
        self.take("list_logins", request).await?;
        let login = |id: &str| logic::Login { id: id.into(), client_info: "phone".into(), ..Default::default() };
        Ok(Response::new(logic::ListLoginsResponse { logins: vec![login(super::LOGIN), login("login-2")] }))
    }

    async fn revoke_login(
        &self,
        request: Request<logic::RevokeLoginRequest>,
    ) -> Result<Response<logic::RevokeLoginResponse>, Status> {
        self.take("revoke_login", request).await?;
        Ok(Response::new(logic::RevokeLoginResponse { success: true }))
    }

    async fn delete_account(
        &self,
        request: Request<logic::DeleteAccountRequest>,
    ) -> Result<Response<logic::DeleteAccountResponse>, Status> {
        self.take("delete_account", request).await?;
        Ok(Response::new(logic::DeleteAccountResponse { success: true }))
    }
}

played!(UserService {
    get_profile(GetProfileRequest, asked, me) -> GetProfileResponse {
        logic::GetProfileResponse { user: Some(user(&asked.user_id)) }
    }
    update_profile(UpdateProfileRequest, asked, me) -> UpdateProfileResponse {
        let user = User { avatar_url: asked.avatar_url.clone(), ..user(&asked.user_id) };
        logic::UpdateProfileResponse { user: Some(user) }
    }
    change_password(ChangePasswordRequest, asked, me) -> ChangePasswordResponse {
        let (access_token, refresh_token) = ("a".into(), "b".into());
        logic::ChangePasswordResponse { success: true, access_token, refresh_token, expires_in: 60 }
    }
    get_users_info(GetUsersInfoRequest, asked, me) -> GetUsersInfoResponse {
        logic::GetUsersInfoResponse { users: asked.user_ids.iter().map(|id| info(id)).collect() }
    }
    get_online_statuses(GetOnlineStatusesRequest, asked, me) -> GetOnlineStatusesResponse {
        let status = |id: &String| OnlineStatus { user_id: id.clone(), is_online: true, ..OnlineStatus::default() };
        logic::GetOnlineStatusesResponse { statuses: asked.user_ids.iter().map(status).collect() }
    }
});

played!(ConversationService {
    create_conversation(CreateConversationRequest, asked, me) -> CreateConversationResponse {
        let already_existed = asked.creator_id == "9";
        logic::CreateConversationResponse { conversation: Some(conversation("group_5")), already_existed }
    }
    get_conversation(GetConversationRequest, asked, me) -> GetConversationResponse {
        let conversation = Some(conversation(&asked.conversation_id));
        logic::GetConversationResponse { conversation, members: vec![member("7"), member("8")] }
    }
    get_conversations_optimized(GetConversationsOptimizedRequest, asked, me) -> GetConversationsOptimizedResponse {
        let one = logic::ConversationOptimized { id: "group_5".into(), r#type: 2, ..Default::default() };
        logic::GetConversationsOptimizedResponse {
            conversations: vec![one],
            server_time: 100,
            has_more: asked.last_sync_time > 0 && asked.cursor.is_empty(),
            next_cursor: if asked.last_sync_time > 0 && asked.cursor.is_empty() { "c2".into() } else { String::new() },
            complete: true,
            ..Default::default()
        }
    }
    update_conversation(UpdateConversationRequest, asked, me) -> UpdateConversationResponse {
        logic::UpdateConversationResponse { conversation: Some(conversation(&asked.conversation_id)) }
    }
    delete_conversation(DeleteConversationRequest, asked, me) -> DeleteConversationResponse {
        logic::DeleteConversationResponse { success: true }
    }
    leave_conversation(LeaveConversationRequest, asked, me) -> LeaveConversationResponse {
        logic::LeaveConversationResponse { success: true }
    }
    join_world_chat(JoinWorldChatRequest, asked, me) -> JoinWorldChatResponse {
        logic::JoinWorldChatResponse { success: true, conversation: Some(conversation("world")) }
    }
    search_conversations(SearchConversationsRequest, asked, me) -> SearchConversationsResponse {
        logic::SearchConversationsResponse { conversations: vec![conversation("group_5")] }
    }
    get_unread_count(GetUnreadCountRequest, asked, me) -> GetUnreadCountResponse {
        let count = |id: &str, n| logic::ConversationUnreadCount { conversation_id: id.into(), unread_count: n };
        logic::GetUnreadCountResponse {
            unread_count: 3,
            conversation_counts: vec![count("group_5", 3), count("world", 0)],
        }
    }
    get_messages(GetMessagesRequest, asked, me) -> GetMessagesResponse {
        logic::GetMessagesResponse { messages: vec![message()], complete: true, ..Default::default() }
    }
    mark_as_read(MarkAsReadRequest, asked, me) -> MarkAsReadResponse {
        logic::MarkAsReadResponse { success: true, unread_count: 4 }
    }
    get_members(GetMembersRequest, asked, me) -> GetMembersResponse {
        logic::GetMembersResponse { members: vec![member("7")], total: 2, has_more: true, ..Default::default() }
    }
    add_members(AddMembersRequest, asked, me) -> AddMembersResponse {
        let failed_users = me.failed();
        let failed = |id: &&String| failed_users.iter().any(|user| user.user_id == **id);
        let added_user_ids = asked.user_ids.iter().filter(|id| !failed(id)).cloned().collect();
        logic::AddMembersResponse { success: true, added_user_ids, failed_users }
    }
    remove_members(RemoveMembersRequest, asked, me) -> RemoveMembersResponse {
        logic::RemoveMembersResponse { success: true, removed_user_ids: vec![], failed_users: me.failed() }
    }
    update_member_role(UpdateMemberRoleRequest, asked, me) -> UpdateMemberRoleResponse {
        logic::UpdateMemberRoleResponse { success: true }
    }
});

played!(MessageService {
    get_message(GetMessageRequest, asked, me) -> GetMessageResponse {
        logic::GetMessageResponse { message: Some(message()) }
    }
});

played!(FriendService {
    send_friend_request(SendFriendRequestRequest, asked, me) -> SendFriendRequestResponse {
        logic::SendFriendRequestResponse { request: Some(request()), auto_accepted: false }
    }
    handle_friend_request(HandleFriendRequestRequest, asked, me) -> HandleFriendRequestResponse {
        let conversation = (asked.action == 1).then(|| conversation("single_7_8"));
        logic::HandleFriendRequestResponse { success: true, conversation }
    }
    get_friends(GetFriendsRequest, asked, me) -> GetFriendsResponse {
        logic::GetFriendsResponse { friends: vec![logic::Friend { status: asked.status, ..friend() }] }
    }
    get_friends_with_sync(GetFriendsWithSyncRequest, asked, me) -> GetFriendsWithSyncResponse {
        let removed_friend_ids = vec!["9".into()];
        logic::GetFriendsWithSyncResponse { friends: vec![friend()], removed_friend_ids, server_time: 100 }
    }
    get_friend_requests(GetFriendRequestsRequest, asked, me) -> GetFriendRequestsResponse {
        logic::GetFriendRequestsResponse { requests: vec![request()], has_more: false }
    }
    remove_friend(RemoveFriendRequest, asked, me) -> RemoveFriendResponse {
        logic::RemoveFriendResponse { success: true }
    }
    update_friend(UpdateFriendRequest, asked, me) -> UpdateFriendResponse {
        logic::UpdateFriendResponse { friend: Some(friend()) }
    }
    list_blocked(ListBlockedRequest, asked, me) -> ListBlockedResponse {
        logic::ListBlockedResponse { blocked: vec![logic::Friend { status: 3, ..friend() }], has_more: false }
    }
    search_users(SearchUsersRequest, asked, me) -> SearchUsersResponse {
        logic::SearchUsersResponse { users: vec![user("8")] }
    }
});

/// Idempotency keys in memory, without an end.
#[derive(Clone, Default)]
pub struct Keys(Arc<Mutex<HashMap<String, String>>>);

#[async_trait]
impl IdempotencyService for Keys {
    async fn check_or_set(
        &self,
        request: Request<repo::CheckOrSetRequest>,
    ) -> Result<Response<repo::CheckOrSetResponse>, Status> {
        let request = request.into_inner();
        let mut keys = self.0.lock().unwrap();
        let existing = keys.get(&request.key).cloned();
        if existing.is_none() {
            keys.insert(request.key, request.value);
        }
        let first = existing.is_none();
        Ok(Response::new(repo::CheckOrSetResponse { first, existing_value: existing.unwrap_or_default() }))
    }

    async fn set(&self, request: Request<repo::SetRequest>) -> Result<Response<repo::SetResponse>, Status> {
        let request = request.into_inner();
        self.0.lock().unwrap().insert(request.key, request.value);
        Ok(Response::new(repo::SetResponse {}))
    }

    async fn clear(&self, request: Request<repo::ClearRequest>) -> Result<Response<repo::ClearResponse>, Status> {
        self.0.lock().unwrap().remove(&request.into_inner().key);
        Ok(Response::new(repo::ClearResponse { success: true }))
    }
}
