//! Clients of the repo service and the small answers everybody needs from it.
//!
//! Owns deadlines of these calls. Never retries: the gateway tells the client, and the pipeline has its own rules.

use std::collections::BTreeSet;
use std::time::Duration;

use gochat_infra::rpc::{self, Channel};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, ConversationMember, ConversationType, User, UserInfo};
use gochat_proto::failure::Failure;
use gochat_proto::ids::ConversationId;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::repo::v1::friendship_service_client::FriendshipServiceClient;
use gochat_proto::im::repo::v1::message_service_client::MessageServiceClient;
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::token_service_client::TokenServiceClient;
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient;
use tonic::{Request, Status};

/// Deadline of one call to repo (spec 03 §1).
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// Users asked for in one call (spec 03 §4.1).
const USERS_MAX: usize = 500;
/// Users whose presence is asked for in one call (spec 03 §4.4).
const PRESENCE_MAX: usize = 1_000;
/// Single chats of one user whose peers hear of the user's presence at most: those last active.
const PEERS_MAX: i32 = 200;

/// One client a service. Cheap to clone, which a call does.
#[derive(Clone)]
pub(crate) struct Repo {
    pub(crate) users: UserServiceClient<Channel>,
    pub(crate) conversations: ConversationServiceClient<Channel>,
    pub(crate) messages: MessageServiceClient<Channel>,
    pub(crate) friendships: FriendshipServiceClient<Channel>,
    pub(crate) tokens: TokenServiceClient<Channel>,
    pub(crate) presence: OnlineStatusServiceClient<Channel>,
    pub(crate) pipeline: PipelineServiceClient<Channel>,
}

/// A request under the deadline of a call to repo.
pub(crate) fn ask<T>(message: T) -> Request<T> {
    rpc::request(message, CALL_DEADLINE)
}

impl Repo {
    pub(crate) fn new(channel: &Channel) -> Repo {
        Repo {
            users: UserServiceClient::new(channel.clone()),
            conversations: ConversationServiceClient::new(channel.clone()),
            messages: MessageServiceClient::new(channel.clone()),
            friendships: FriendshipServiceClient::new(channel.clone()),
            tokens: TokenServiceClient::new(channel.clone()),
            presence: OnlineStatusServiceClient::new(channel.clone()),
            pipeline: PipelineServiceClient::new(channel.clone()),
        }
    }

    /// A user, or USER_NOT_FOUND.
    pub(crate) async fn user(&self, user_id: &str) -> Result<User, Status> {
        let request = ask(repo::GetUserRequest { user_id: user_id.to_owned() });
        let answer = self.users.clone().get_user(request).await?.into_inner();
        answer.user.ok_or_else(|| ErrorCode::UserNotFound.into())
    }

    /// A user by name, if there is one.
    pub(crate) async fn user_by_name(&self, username: &str) -> Result<Option<User>, Status> {
        let request = ask(repo::GetUserByUsernameRequest { username: username.to_owned() });
        match self.users.clone().get_user_by_username(request).await {
            Ok(answer) => Ok(answer.into_inner().user),
            Err(status) if Failure::from_status(&status).code == ErrorCode::UserNotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Those of the users that exist, however many are asked for.
    pub(crate) async fn users(&self, user_ids: Vec<String>) -> Result<Vec<User>, Status> {
        let mut users = Vec::with_capacity(user_ids.len());
        for slice in user_ids.chunks(USERS_MAX) {
            let request = ask(repo::GetUsersRequest { user_ids: slice.to_vec() });
            users.extend(self.users.clone().get_users(request).await?.into_inner().users);
        }
        Ok(users)
    }

    /// A user who may act as more than a guest, or GUEST_FORBIDDEN.
    pub(crate) async fn registered(&self, user_id: &str) -> Result<User, Status> {
        let user = self.user(user_id).await?;
        if user.is_guest { Err(ErrorCode::GuestForbidden.into()) } else { Ok(user) }
    }

    /// A user's token generation.
    pub(crate) async fn token_version(&self, user_id: &str) -> Result<i64, Status> {
        let request = ask(repo::GetTokenVersionRequest { user_id: user_id.to_owned() });
        Ok(self.tokens.clone().get_token_version(request).await?.into_inner().version)
    }

    /// A user's membership; NOT_CONVERSATION_MEMBER, or CONVERSATION_NOT_FOUND when there is nothing to be in.
    pub(crate) async fn member(&self, conversation_id: &str, user_id: &str) -> Result<ConversationMember, Status> {
        match self.membership(conversation_id, user_id).await? {
            Some(member) => Ok(member),
            None => {
                self.conversation(conversation_id).await?;
                Err(ErrorCode::NotConversationMember.into())
            }
        }
    }

    /// A user's membership, if there is one.
    pub(crate) async fn membership(
        &self,
        conversation_id: &str,
        user_id: &str,
    ) -> Result<Option<ConversationMember>, Status> {
        Ok(self.memberships(conversation_id, vec![user_id.to_owned()]).await?.pop())
    }

    /// Memberships of those of the users (at most 500) who are members.
    pub(crate) async fn memberships(
        &self,
        conversation_id: &str,
        user_ids: Vec<String>,
    ) -> Result<Vec<ConversationMember>, Status> {
        let request = ask(repo::GetMembershipRequest { conversation_id: conversation_id.to_owned(), user_ids });
        let answer = self.conversations.clone().get_membership(request).await?.into_inner();
        Ok(answer.memberships.into_values().collect())
    }

    /// A conversation, also a dissolved one, or CONVERSATION_NOT_FOUND.
    pub(crate) async fn conversation(&self, conversation_id: &str) -> Result<Conversation, Status> {
        self.get_conversation(conversation_id, "").await
    }

    /// A conversation as one member sees it, or why that one does not.
    pub(crate) async fn viewed(&self, conversation_id: &str, viewer_id: &str) -> Result<Conversation, Status> {
        self.get_conversation(conversation_id, viewer_id).await
    }

    async fn get_conversation(&self, conversation_id: &str, viewer_id: &str) -> Result<Conversation, Status> {
        let request = ask(repo::GetConversationRequest {
            conversation_id: conversation_id.to_owned(),
            viewer_id: viewer_id.to_owned(),
        });
        let answer = self.conversations.clone().get_conversation(request).await?.into_inner();
        answer.conversation.map(shown).ok_or_else(|| ErrorCode::ConversationNotFound.into())
    }

    /// Ids of all members, ascending; an empty answer when there are more than `max`.
    pub(crate) async fn member_ids(&self, conversation_id: &str, max: usize) -> Result<Vec<String>, Status> {
        let mut ids = Vec::new();
        let mut after_user_id = String::new();
        loop {
            let request = ask(repo::GetConversationMembersRequest {
                conversation_id: conversation_id.to_owned(),
                limit: i32::try_from(max + 1).unwrap_or(i32::MAX),
                after_user_id,
                ids_only: true,
                ..repo::GetConversationMembersRequest::default()
            });
            let page = self.conversations.clone().get_conversation_members(request).await?.into_inner();
            let before = ids.len();
            ids.extend(page.members.into_iter().filter_map(|member| member.user).map(|user| user.id));
            if ids.len() > max {
                return Ok(Vec::new());
            }
            match ids.last() {
                Some(last) if page.has_more && ids.len() > before => after_user_id = last.clone(),
                Some(_) | None => return Ok(ids),
            }
        }
    }

    /// Presence of users, however many.
    pub(crate) async fn statuses(&self, user_ids: &[String]) -> Result<Vec<repo::OnlineStatus>, Status> {
        let mut statuses = Vec::new();
        for slice in user_ids.chunks(PRESENCE_MAX) {
            let request = ask(repo::GetUsersOnlineStatusRequest { user_ids: slice.to_vec() });
            statuses.extend(self.presence.clone().get_users_online_status(request).await?.into_inner().statuses);
        }
        Ok(statuses)
    }

    /// Those of `others` between whom and `user_id` there is a block, in either direction.
    pub(crate) async fn blocked_either_way(
        &self,
        user_id: &str,
        others: &[String],
    ) -> Result<BTreeSet<String>, Status> {
        let mut blocked = BTreeSet::new();
        for slice in others.chunks(USERS_MAX) {
            let request = ask(repo::GetBlocksRequest { user_id: user_id.to_owned(), other_ids: slice.to_vec() });
            let answer = self.friendships.clone().get_blocks(request).await?.into_inner();
            blocked.extend(answer.blocked_ids);
            blocked.extend(answer.blocking_ids);
        }
        Ok(blocked)
    }

    /// BLOCKED when one of the two blocks the other.
    pub(crate) async fn unblocked(&self, user_id: &str, other: &str) -> Result<(), Status> {
        let blocked = self.blocked_either_way(user_id, &[other.to_owned()]).await?;
        if blocked.is_empty() { Ok(()) } else { Err(ErrorCode::Blocked.into()) }
    }

    /// Ids of a user's friends.
    pub(crate) async fn friend_ids(&self, user_id: &str) -> Result<Vec<String>, Status> {
        let request = ask(repo::GetFriendIdsRequest { user_id: user_id.to_owned() });
        Ok(self.friendships.clone().get_friend_ids(request).await?.into_inner().friend_ids)
    }

    /// Ids of a user's conversations of one type, those last active, at most `limit`, 500 in any case.
    pub(crate) async fn conversation_ids(
        &self,
        user_id: &str,
        kind: ConversationType,
        limit: i32,
    ) -> Result<Vec<String>, Status> {
        let request = ask(repo::ListConversationIdsRequest { user_id: user_id.to_owned(), r#type: kind as i32, limit });
        Ok(self.conversations.clone().list_conversation_ids(request).await?.into_inner().conversation_ids)
    }

    /// Whom a user has single chats with, those last active.
    pub(crate) async fn single_peers(&self, user_id: &str) -> Result<Vec<String>, Status> {
        let ids = self.conversation_ids(user_id, ConversationType::Single, PEERS_MAX).await?;
        Ok(ids.iter().filter_map(|id| peer_of(id, user_id)).collect())
    }
}

/// A single chat is shown under its peer's name.
pub(crate) fn shown(mut conversation: Conversation) -> Conversation {
    if let Some(peer) = &conversation.peer {
        if conversation.name.is_empty() {
            conversation.name.clone_from(&peer.username);
        }
        if conversation.avatar_url.is_empty() {
            conversation.avatar_url.clone_from(&peer.avatar_url);
        }
    }
    conversation
}

/// The other member of a single chat, by its id.
pub(crate) fn peer_of(conversation_id: &str, user_id: &str) -> Option<String> {
    let conversation: ConversationId = conversation_id.parse().ok()?;
    conversation.peer_of(user_id.parse().ok()?).map(|peer| peer.to_string())
}

/// What others may see of a user.
pub(crate) fn light(user: &User) -> UserInfo {
    UserInfo {
        id: user.id.clone(),
        username: user.username.clone(),
        avatar_url: user.avatar_url.clone(),
        is_guest: user.is_guest,
    }
}
