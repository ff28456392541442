//! Clients of the repo service and the small answers everybody needs from it.
//!
//! Owns deadlines of these calls. Never retries: the gateway tells the client, and the pipeline has its own rules.

use std::time::Duration;

use gochat_infra::rpc::{self, Channel};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{User, UserInfo};
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::repo::v1::message_service_client::MessageServiceClient;
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::token_service_client::TokenServiceClient;
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient;
use tonic::{Request, Status};

/// Deadline of one call to repo (spec 03 §1).
const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// One client a service. Cheap to clone, which a call does.
#[derive(Clone)]
pub(crate) struct Repo {
    pub(crate) users: UserServiceClient<Channel>,
    pub(crate) conversations: ConversationServiceClient<Channel>,
    pub(crate) messages: MessageServiceClient<Channel>,
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

    /// Those of the users that exist.
    pub(crate) async fn users(&self, user_ids: Vec<String>) -> Result<Vec<User>, Status> {
        if user_ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.users.clone().get_users(ask(repo::GetUsersRequest { user_ids })).await?.into_inner().users)
    }

    /// A user's token generation.
    pub(crate) async fn token_version(&self, user_id: &str) -> Result<i64, Status> {
        let request = ask(repo::GetTokenVersionRequest { user_id: user_id.to_owned() });
        Ok(self.tokens.clone().get_token_version(request).await?.into_inner().version)
    }

    /// A user's membership; NOT_CONVERSATION_MEMBER, or CONVERSATION_NOT_FOUND when there is nothing to be in.
    pub(crate) async fn member(
        &self,
        conversation_id: &str,
        user_id: &str,
    ) -> Result<gochat_proto::common::v1::ConversationMember, Status> {
        let request = ask(repo::GetMembershipRequest {
            conversation_id: conversation_id.to_owned(),
            user_ids: vec![user_id.to_owned()],
        });
        let mut answer = self.conversations.clone().get_membership(request).await?.into_inner();
        match answer.memberships.remove(user_id) {
            Some(member) => Ok(member),
            None => {
                self.conversation(conversation_id).await?;
                Err(ErrorCode::NotConversationMember.into())
            }
        }
    }

    /// A conversation, or CONVERSATION_NOT_FOUND.
    pub(crate) async fn conversation(
        &self,
        conversation_id: &str,
    ) -> Result<gochat_proto::common::v1::Conversation, Status> {
        let request = ask(repo::GetConversationRequest {
            conversation_id: conversation_id.to_owned(),
            ..repo::GetConversationRequest::default()
        });
        let answer = self.conversations.clone().get_conversation(request).await?.into_inner();
        answer.conversation.ok_or_else(|| ErrorCode::ConversationNotFound.into())
    }

    /// Live sessions of one user.
    pub(crate) async fn sessions(&self, user_id: &str) -> Result<Vec<repo::Session>, Status> {
        let request = ask(repo::GetUsersOnlineStatusRequest { user_ids: vec![user_id.to_owned()] });
        let statuses = self.presence.clone().get_users_online_status(request).await?.into_inner().statuses;
        Ok(statuses.into_iter().filter(|s| s.user_id == user_id).flat_map(|s| s.sessions).collect())
    }
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
