//! FriendshipService: friends, requests for friendship, blocks (spec 05 §2.6). Who may ask whom is judged in the transaction.

use super::finish::finish;
use super::{convert, fail};
use crate::directory::Directory;
use crate::store::Store;
use crate::store::friend::{
    Acceptance, AskRefusal, Asked, FriendStatus, Friendship, HandleRequest, Handled, NewFriendRequest, RequestQuery,
};
use gochat_infra::clock::Clock;
use gochat_infra::uid::Snowflake;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::{Failure, RETRY_AFTER};
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::repo::v1::friendship_service_server::FriendshipService;
use gochat_proto::im::repo::v1::{
    AcceptFriendRequestRequest, AcceptFriendRequestResponse, Blocked, CreateFriendRequestRequest,
    CreateFriendRequestResponse, DeleteFriendshipRequest, DeleteFriendshipResponse, FriendshipRecord, GetBlocksRequest,
    GetBlocksResponse, GetFriendIdsRequest, GetFriendIdsResponse, GetFriendRequestRequest, GetFriendRequestResponse,
    GetUserFriendRequestsRequest, GetUserFriendRequestsResponse, GetUserFriendsRequest, GetUserFriendsResponse,
    GetUserFriendsWithSyncRequest, GetUserFriendsWithSyncResponse, ListBlockedRequest, ListBlockedResponse,
    RejectFriendRequestRequest, RejectFriendRequestResponse, SetBlockRequest, SetBlockResponse,
    UpdateFriendshipRequest, UpdateFriendshipResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

const MESSAGE_CHARS_MAX: usize = 200;
const REMARK_CHARS_MAX: usize = 100;
const PAGE_DEFAULT: i64 = 50;
const PAGE_MAX: i64 = 200;
const FRIENDS_PAGE_MAX: i64 = 1000;
const OTHERS_MAX: usize = 500;
/// A rejected request may be made again after so long.
const REOPEN_AFTER_MS: i64 = 24 * 3600 * 1000;
/// As in lists of conversations: a delta never misses a commit in flight (D4).
const SERVER_TIME_BACK_SECONDS: i64 = 5;
/// Detail of FRIEND_REQUEST_ALREADY_HANDLED: where the two talk.
const CONVERSATION_ID: &str = "conversationId";

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Friends {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) uid: Arc<Snowflake>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Friends {
    fn next_id(&self) -> Result<i64, Status> {
        Ok(self.uid.next().map_err(|e| Failure::new(ErrorCode::ServiceUnavailable, e.to_string()))?)
    }

    fn handle(&self, request_id: &str, handler_id: &str) -> Result<HandleRequest, Status> {
        Ok(HandleRequest {
            request: convert::id(request_id, "request_id")?,
            handler: convert::id(handler_id, "handler_id")?,
            mirror_id: self.next_id()?,
            now_ms: self.clock.unix_ms(),
        })
    }

    fn refused(&self, refusal: AskRefusal) -> Status {
        match refusal {
            AskRefusal::NoSuchUser => ErrorCode::UserNotFound.into(),
            AskRefusal::Guest => ErrorCode::GuestForbidden.into(),
            AskRefusal::Blocked => ErrorCode::Blocked.into(),
            AskRefusal::Friends => ErrorCode::AlreadyFriends.into(),
            AskRefusal::Pending => ErrorCode::FriendRequestAlreadyExists.into(),
            AskRefusal::CoolingDown(until_ms) => {
                let seconds = convert::seconds(until_ms - self.clock.unix_ms() + 999).max(1);
                Failure::from(ErrorCode::FriendRequestAlreadyExists).with(RETRY_AFTER, seconds.to_string()).into()
            }
        }
    }
}

/// What became of handling a request.
fn handled(answer: Handled) -> Result<Acceptance, Status> {
    match answer {
        Handled::Done(acceptance) => Ok(acceptance),
        Handled::Before(Acceptance { conversation, .. }) => {
            let failure = Failure::from(ErrorCode::FriendRequestAlreadyHandled);
            let failure = if conversation.is_empty() { failure } else { failure.with(CONVERSATION_ID, conversation) };
            Err(failure.into())
        }
        Handled::Missing => Err(ErrorCode::FriendRequestNotFound.into()),
        Handled::NotTarget => Err(ErrorCode::Forbidden.into()),
        Handled::Blocked => Err(ErrorCode::Blocked.into()),
    }
}

#[tonic::async_trait]
impl FriendshipService for Friends {
    async fn create_friend_request(
        &self,
        request: Request<CreateFriendRequestRequest>,
    ) -> Result<Response<CreateFriendRequestResponse>, Status> {
        let request = request.into_inner();
        let requester = convert::id(&request.requester_id, "requester_id")?;
        let target = convert::id(&request.target_id, "target_id")?;
        if requester == target {
            return Err(ErrorCode::CannotAddSelfAsFriend.into());
        }
        if request.message.chars().count() > MESSAGE_CHARS_MAX {
            return Err(fail::invalid("message has at most 200 characters"));
        }
        let ask = NewFriendRequest {
            id: self.next_id()?,
            requester,
            target,
            message: request.message,
            reopen_after_ms: REOPEN_AFTER_MS,
            now_ms: self.clock.unix_ms(),
        };
        let (request, conversation_id) = match self.store.ask_friend(ask).await.map_err(fail::store)? {
            Asked::Pending(request) => (request, String::new()),
            Asked::Accepted(Acceptance { request, conversation }) => (request, conversation),
            Asked::Refused(refusal) => return Err(self.refused(refusal)),
        };
        Ok(Response::new(CreateFriendRequestResponse { request: Some(record(request)), conversation_id }))
    }

    async fn get_friend_request(
        &self,
        request: Request<GetFriendRequestRequest>,
    ) -> Result<Response<GetFriendRequestResponse>, Status> {
        let id = convert::id(&request.into_inner().request_id, "request_id")?;
        let found = self.store.friend_request(id).await.map_err(fail::store)?.filter(|f| !f.is_mirror);
        let found = found.ok_or_else(|| Status::from(ErrorCode::FriendRequestNotFound))?;
        Ok(Response::new(GetFriendRequestResponse { request: Some(record(found)) }))
    }

    async fn reject_friend_request(
        &self,
        request: Request<RejectFriendRequestRequest>,
    ) -> Result<Response<RejectFriendRequestResponse>, Status> {
        let request = request.into_inner();
        let handle = self.handle(&request.request_id, &request.handler_id)?;
        let rejected = handled(self.store.reject_friend(handle).await.map_err(fail::store)?)?;
        Ok(Response::new(RejectFriendRequestResponse { request: Some(record(rejected.request)) }))
    }

    async fn accept_friend_request(
        &self,
        request: Request<AcceptFriendRequestRequest>,
    ) -> Result<Response<AcceptFriendRequestResponse>, Status> {
        let request = request.into_inner();
        let handle = self.handle(&request.request_id, &request.handler_id)?;
        let accepted = handled(self.store.accept_friend(handle).await.map_err(fail::store)?)?;
        Ok(Response::new(AcceptFriendRequestResponse {
            request: Some(record(accepted.request)),
            conversation_id: accepted.conversation,
        }))
    }

    async fn get_user_friends(
        &self,
        request: Request<GetUserFriendsRequest>,
    ) -> Result<Response<GetUserFriendsResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let (offset, limit) = page(request.offset, request.limit, FRIENDS_PAGE_MAX);
        let found = self.store.friends(user, offset, limit + 1).await.map_err(fail::store)?;
        let (friends, has_more) = cut(found, limit);
        Ok(Response::new(GetUserFriendsResponse { friends: friends.into_iter().map(record).collect(), has_more }))
    }

    async fn get_user_friends_with_sync(
        &self,
        request: Request<GetUserFriendsWithSyncRequest>,
    ) -> Result<Response<GetUserFriendsWithSyncResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        // Before the read: what the read misses has this time or a later one.
        let change_time = self.store.change_time().await.map_err(fail::store)?;
        let since_ms = request.last_sync_time.max(0).saturating_mul(1000);
        let (friends, lost) = self.store.friend_changes(user, since_ms).await.map_err(fail::store)?;
        let lost = if since_ms == 0 { Vec::new() } else { lost };
        Ok(Response::new(GetUserFriendsWithSyncResponse {
            friends: friends.into_iter().map(record).collect(),
            removed_friend_ids: lost.iter().map(i64::to_string).collect(),
            server_time: convert::seconds(change_time) - SERVER_TIME_BACK_SECONDS,
        }))
    }

    async fn get_user_friend_requests(
        &self,
        request: Request<GetUserFriendRequestsRequest>,
    ) -> Result<Response<GetUserFriendRequestsResponse>, Status> {
        let request = request.into_inner();
        let status = match request.status {
            ..0 => None,
            number => {
                let known = FriendStatus::from_number(i64::from(number));
                Some(known.ok_or_else(|| fail::invalid("status is 0, 1, 2 or negative"))?)
            }
        };
        let received = match request.r#type {
            1 => true,
            2 => false,
            _ => return Err(fail::invalid("type is 1 or 2")),
        };
        let (offset, limit) = page(request.offset, request.limit, PAGE_MAX);
        let user = convert::id(&request.user_id, "user_id")?;
        let query = RequestQuery { user, received, status, offset, limit: limit + 1 };
        let found = self.store.friend_requests(query).await.map_err(fail::store)?;
        let (requests, has_more) = cut(found, limit);
        let requests = requests.into_iter().map(record).collect();
        Ok(Response::new(GetUserFriendRequestsResponse { requests, has_more }))
    }

    async fn get_friend_ids(
        &self,
        request: Request<GetFriendIdsRequest>,
    ) -> Result<Response<GetFriendIdsResponse>, Status> {
        let user = convert::id(&request.into_inner().user_id, "user_id")?;
        let ids = self.store.friend_ids(user).await.map_err(fail::store)?;
        Ok(Response::new(GetFriendIdsResponse { friend_ids: ids.iter().map(i64::to_string).collect() }))
    }

    async fn update_friendship(
        &self,
        request: Request<UpdateFriendshipRequest>,
    ) -> Result<Response<UpdateFriendshipResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let friend = convert::id(&request.friend_id, "friend_id")?;
        if request.remark.chars().count() > REMARK_CHARS_MAX {
            return Err(fail::invalid("remark has at most 100 characters"));
        }
        let changed = self.store.set_remark(user, friend, &request.remark).await.map_err(fail::store)?;
        let changed = changed.ok_or_else(|| Status::from(ErrorCode::NotFriends))?;
        Ok(Response::new(UpdateFriendshipResponse { record: Some(record(changed)) }))
    }

    async fn set_block(&self, request: Request<SetBlockRequest>) -> Result<Response<SetBlockResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let target = convert::id(&request.target_id, "target_id")?;
        if user == target {
            return Err(fail::invalid("one cannot block oneself"));
        }
        let now_ms = self.clock.unix_ms();
        let this = self.clone();
        let work = async move {
            let changed = this.store.set_block(user, target, request.blocked, now_ms).await;
            // What may be said in their single chat hangs on it.
            if let Some(chat) = ConversationId::single(UserId(user), UserId(target)) {
                this.directory.forget_conversation(&chat.to_string());
            }
            changed.map_err(fail::store)
        };
        Ok(Response::new(SetBlockResponse { changed: finish(work).await? }))
    }

    async fn get_blocks(&self, request: Request<GetBlocksRequest>) -> Result<Response<GetBlocksResponse>, Status> {
        let request = request.into_inner();
        if request.other_ids.len() > OTHERS_MAX {
            return Err(fail::invalid("at most 500 other_ids"));
        }
        let user = convert::id(&request.user_id, "user_id")?;
        let others = convert::ids(&request.other_ids, "other_ids")?;
        let (blocked, blocking) = self.store.blocks(user, &others).await.map_err(fail::store)?;
        let texts = |ids: Vec<i64>| ids.iter().map(i64::to_string).collect();
        Ok(Response::new(GetBlocksResponse { blocked_ids: texts(blocked), blocking_ids: texts(blocking) }))
    }

    async fn list_blocked(
        &self,
        request: Request<ListBlockedRequest>,
    ) -> Result<Response<ListBlockedResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let (offset, limit) = page(request.offset, request.limit, PAGE_MAX);
        let found = self.store.blocked_by(user, offset, limit + 1).await.map_err(fail::store)?;
        let (blocked, has_more) = cut(found, limit);
        let entry = |(user, at): (i64, i64)| Blocked { user_id: user.to_string(), blocked_at: convert::seconds(at) };
        Ok(Response::new(ListBlockedResponse { blocked: blocked.into_iter().map(entry).collect(), has_more }))
    }

    async fn delete_friendship(
        &self,
        request: Request<DeleteFriendshipRequest>,
    ) -> Result<Response<DeleteFriendshipResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let friend = convert::id(&request.friend_id, "friend_id")?;
        match self.store.remove_friend(user, friend, self.clock.unix_ms()).await.map_err(fail::store)? {
            true => Ok(Response::new(DeleteFriendshipResponse { success: true })),
            false => Err(ErrorCode::NotFriends.into()),
        }
    }
}

/// Offset and size of a page; one out of bounds is bent into them.
fn page(offset: i32, limit: i32, max: i64) -> (i64, i64) {
    let limit = if limit <= 0 { PAGE_DEFAULT } else { i64::from(limit).min(max) };
    (i64::from(offset.max(0)), limit)
}

/// A page was read with one row more.
fn cut<T>(mut found: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let has_more = found.len() as i64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(0));
    (found, has_more)
}

fn record(friendship: Friendship) -> FriendshipRecord {
    FriendshipRecord {
        id: friendship.id.to_string(),
        requester_id: friendship.requester.to_string(),
        target_id: friendship.target.to_string(),
        status: friendship.status as i32,
        requester_remarks: friendship.remark,
        message: friendship.message,
        created_at: convert::seconds(friendship.created_at_ms),
        updated_at: convert::seconds(friendship.updated_at_ms),
        is_mirror: friendship.is_mirror,
    }
}
