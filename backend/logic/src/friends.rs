//! The FriendService: friends, requests, remarks, blocks and the search for people (spec 01 §4.7, U3).
//!
//! Owns who may ask whom. Guests have no friends. A block is silent: nobody is told of one.

use std::sync::Arc;

use gochat_infra::clock::Clock;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{User, UserStatus};
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::friend_service_server::FriendService;
use gochat_proto::im::repo::v1 as repo;
use tonic::{Request, Response, Status, async_trait};

use crate::friendship::{BLOCKED, FRIENDS, PENDING, REJECTED, Views};
use crate::names;
use crate::pages::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, query, sized};
use crate::repo::{Repo, ask};

const MESSAGE_CHARS_MAX: usize = 200;
const REMARK_CHARS_MAX: usize = 100;
/// Blocked people listed with friends.
const BLOCKED_MAX: i32 = 200;
const FOUND_DEFAULT: i32 = 10;
const FOUND_MAX: i32 = 20;
const ACCEPT: i32 = 1;
const REJECT: i32 = 2;

/// The FriendService of logic.
#[derive(Clone)]
pub struct Friends {
    pub(crate) repo: Repo,
    pub(crate) views: Views,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Friends {
    async fn accept(&self, request_id: &str, handler_id: &str) -> Result<repo::AcceptFriendRequestResponse, Status> {
        let accept = ask(repo::AcceptFriendRequestRequest {
            request_id: request_id.to_owned(),
            handler_id: handler_id.to_owned(),
        });
        Ok(self.repo.friendships.clone().accept_friend_request(accept).await?.into_inner())
    }

    async fn view(&self, record: Option<repo::FriendshipRecord>) -> Result<Option<api::FriendRequest>, Status> {
        Ok(self.views.requests(record.into_iter().collect()).await?.pop())
    }

    async fn blocked_page(&self, user_id: &str, page: i32, size: i32) -> Result<(Vec<api::Friend>, bool), Status> {
        let list = ask(repo::ListBlockedRequest {
            user_id: user_id.to_owned(),
            offset: (page - 1).saturating_mul(size),
            limit: size,
        });
        let answer = self.repo.friendships.clone().list_blocked(list).await?.into_inner();
        Ok((self.views.blocked(user_id, answer.blocked).await?, answer.has_more))
    }

    /// How a user sees somebody, a friend or not.
    async fn seen(&self, user_id: &str, other_id: &str, blocked: bool) -> Result<api::Friend, Status> {
        let friend = match self.views.friend(user_id, other_id).await? {
            Some(friend) => Some(friend),
            None => {
                let now = self.clock.unix_ms() / 1_000;
                let other = repo::Blocked { user_id: other_id.to_owned(), blocked_at: now };
                let stranger = self.views.blocked(user_id, vec![other]).await?.pop();
                stranger.map(|friend| api::Friend { status: PENDING, ..friend })
            }
        };
        let friend = friend.ok_or(ErrorCode::InternalError)?;
        Ok(if blocked { api::Friend { status: BLOCKED, ..friend } } else { friend })
    }
}

#[async_trait]
impl FriendService for Friends {
    async fn send_friend_request(
        &self,
        request: Request<api::SendFriendRequestRequest>,
    ) -> Result<Response<api::SendFriendRequestResponse>, Status> {
        let request = request.into_inner();
        let message = names::text(&request.message, MESSAGE_CHARS_MAX, false).ok_or(ErrorCode::InvalidParams)?;
        self.repo.registered(&request.requester_id).await?;
        if self.repo.user(&request.target_id).await?.status() == UserStatus::Disabled {
            return Err(ErrorCode::UserNotFound.into());
        }
        let create = ask(repo::CreateFriendRequestRequest {
            requester_id: request.requester_id,
            target_id: request.target_id,
            message: message.to_owned(),
        });
        let made = self.repo.friendships.clone().create_friend_request(create).await?.into_inner();
        let auto_accepted = !made.conversation_id.is_empty();
        let request = self.view(made.request).await?;
        Ok(Response::new(api::SendFriendRequestResponse { request, auto_accepted }))
    }

    async fn handle_friend_request(
        &self,
        request: Request<api::HandleFriendRequestRequest>,
    ) -> Result<Response<api::HandleFriendRequestResponse>, Status> {
        let request = request.into_inner();
        if !matches!(request.action, ACCEPT | REJECT) {
            return Err(ErrorCode::InvalidParams.into());
        }
        self.repo.registered(&request.handler_id).await?;
        let read = ask(repo::GetFriendRequestRequest { request_id: request.request_id.clone() });
        let record = self.repo.friendships.clone().get_friend_request(read).await?.into_inner().request;
        let record = record.ok_or(ErrorCode::FriendRequestNotFound)?;
        if record.target_id != request.handler_id {
            // Only the two know that there is one.
            let is_requester = record.requester_id == request.handler_id;
            let code = if is_requester { ErrorCode::Forbidden } else { ErrorCode::FriendRequestNotFound };
            return Err(code.into());
        }
        if request.action == REJECT {
            let (request_id, handler_id) = (request.request_id, request.handler_id);
            let reject = ask(repo::RejectFriendRequestRequest { request_id, handler_id });
            self.repo.friendships.clone().reject_friend_request(reject).await?;
            return Ok(Response::new(api::HandleFriendRequestResponse { success: true, conversation: None }));
        }
        let accepted = self.accept(&request.request_id, &request.handler_id).await?;
        let conversation = Some(self.repo.viewed(&accepted.conversation_id, &request.handler_id).await?);
        Ok(Response::new(api::HandleFriendRequestResponse { success: true, conversation }))
    }

    async fn get_friends(
        &self,
        request: Request<api::GetFriendsRequest>,
    ) -> Result<Response<api::GetFriendsResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.user_id).await?;
        let friends = match request.status {
            0 | FRIENDS => {
                let records = self.views.records(&request.user_id).await?;
                self.views.friends(&request.user_id, records, request.include_online_status).await?
            }
            BLOCKED => self.blocked_page(&request.user_id, 1, BLOCKED_MAX).await?.0,
            _ => return Err(ErrorCode::InvalidParams.into()),
        };
        Ok(Response::new(api::GetFriendsResponse { friends }))
    }

    async fn get_friends_with_sync(
        &self,
        request: Request<api::GetFriendsWithSyncRequest>,
    ) -> Result<Response<api::GetFriendsWithSyncResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.user_id).await?;
        let sync = ask(repo::GetUserFriendsWithSyncRequest {
            user_id: request.user_id.clone(),
            last_sync_time: request.last_sync_time,
        });
        let changed = self.repo.friendships.clone().get_user_friends_with_sync(sync).await?.into_inner();
        let friends = self.views.friends(&request.user_id, changed.friends, request.include_online_status).await?;
        Ok(Response::new(api::GetFriendsWithSyncResponse {
            friends,
            removed_friend_ids: changed.removed_friend_ids,
            server_time: changed.server_time,
        }))
    }

    async fn get_friend_requests(
        &self,
        request: Request<api::GetFriendRequestsRequest>,
    ) -> Result<Response<api::GetFriendRequestsResponse>, Status> {
        let request = request.into_inner();
        if !(-1..=REJECTED).contains(&request.status) || !(0..=2).contains(&request.r#type) {
            return Err(ErrorCode::InvalidParams.into());
        }
        self.repo.registered(&request.user_id).await?;
        let size = sized(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX);
        let list = ask(repo::GetUserFriendRequestsRequest {
            user_id: request.user_id,
            status: request.status,
            r#type: request.r#type.max(1),
            offset: (request.page.max(1) - 1).saturating_mul(size),
            limit: size,
        });
        let page = self.repo.friendships.clone().get_user_friend_requests(list).await?.into_inner();
        let requests = self.views.requests(page.requests).await?;
        Ok(Response::new(api::GetFriendRequestsResponse { requests, has_more: page.has_more }))
    }

    async fn remove_friend(
        &self,
        request: Request<api::RemoveFriendRequest>,
    ) -> Result<Response<api::RemoveFriendResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.user_id).await?;
        let remove = ask(repo::DeleteFriendshipRequest { user_id: request.user_id, friend_id: request.friend_id });
        self.repo.friendships.clone().delete_friendship(remove).await?;
        Ok(Response::new(api::RemoveFriendResponse { success: true }))
    }

    async fn update_friend(
        &self,
        request: Request<api::UpdateFriendRequest>,
    ) -> Result<Response<api::UpdateFriendResponse>, Status> {
        let request = request.into_inner();
        let named = |field: &str| request.update_mask.iter().any(|name| name == field);
        let (with_remark, with_block) = (named("remark"), named("blocked"));
        let remark = names::text(&request.remark, REMARK_CHARS_MAX, false).ok_or(ErrorCode::InvalidParams)?;
        if !(with_remark || with_block) || request.user_id == request.friend_id {
            return Err(ErrorCode::InvalidParams.into());
        }
        self.repo.registered(&request.user_id).await?;
        self.repo.user(&request.friend_id).await?;
        if with_remark {
            let update = ask(repo::UpdateFriendshipRequest {
                user_id: request.user_id.clone(),
                friend_id: request.friend_id.clone(),
                remark: remark.to_owned(),
            });
            self.repo.friendships.clone().update_friendship(update).await?;
        }
        let blocked = if with_block {
            let block = ask(repo::SetBlockRequest {
                user_id: request.user_id.clone(),
                target_id: request.friend_id.clone(),
                blocked: request.blocked,
            });
            self.repo.friendships.clone().set_block(block).await?;
            request.blocked
        } else {
            let other_ids = vec![request.friend_id.clone()];
            let blocks = ask(repo::GetBlocksRequest { user_id: request.user_id.clone(), other_ids });
            !self.repo.friendships.clone().get_blocks(blocks).await?.into_inner().blocked_ids.is_empty()
        };
        let friend = self.seen(&request.user_id, &request.friend_id, blocked).await?;
        Ok(Response::new(api::UpdateFriendResponse { friend: Some(friend) }))
    }

    async fn list_blocked(
        &self,
        request: Request<api::ListBlockedRequest>,
    ) -> Result<Response<api::ListBlockedResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.user_id).await?;
        let size = sized(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX);
        let (blocked, has_more) = self.blocked_page(&request.user_id, request.page.max(1), size).await?;
        Ok(Response::new(api::ListBlockedResponse { blocked, has_more }))
    }

    async fn search_users(
        &self,
        request: Request<api::SearchUsersRequest>,
    ) -> Result<Response<api::SearchUsersResponse>, Status> {
        let request = request.into_inner();
        let wanted = query(&request.query)?.to_owned();
        self.repo.registered(&request.user_id).await?;
        let search = ask(repo::SearchUsersByUsernameRequest {
            query: wanted,
            limit: sized(request.limit, FOUND_DEFAULT, FOUND_MAX),
            exclude_user_id: request.user_id.clone(),
        });
        let mut users = self.repo.users.clone().search_users_by_username(search).await?.into_inner().users;
        let is_shown = |user: &User| !user.is_guest && user.status() == UserStatus::Normal;
        users.retain(|user| is_shown(user) && user.id != request.user_id);
        Ok(Response::new(api::SearchUsersResponse { users }))
    }
}
