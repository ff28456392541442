//! The ConversationService: what it is asked, handed to who owns it (spec 01 §4.3-§4.5).
//!
//! Owns the service only. Never sends a message: every send goes through the upstream topic (pipeline.md A1).

use std::sync::Arc;

use gochat_infra::clock::Clock;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::ConversationType;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::conversation_service_server::ConversationService;
use gochat_proto::im::repo::v1 as repo;
use tonic::{Request, Response, Status, async_trait};

use crate::groups::Groups;
use crate::history;
use crate::lists::Lists;
use crate::members::Members;
use crate::persisted::Persisted;
use crate::reads::Reads;
use crate::repo::{Repo, ask};
use crate::singles;
use crate::world::World;

/// Members listed with a group's detail.
const DETAIL_MEMBERS_MAX: i32 = 200;

/// The ConversationService of logic.
#[derive(Clone)]
pub struct Conversations {
    pub(crate) repo: Repo,
    pub(crate) persisted: Persisted,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lists: Lists,
    pub(crate) groups: Groups,
    pub(crate) members: Members,
    pub(crate) reads: Reads,
    pub(crate) world: World,
    pub(crate) single_requires_friend: bool,
}

#[async_trait]
impl ConversationService for Conversations {
    async fn create_conversation(
        &self,
        request: Request<api::CreateConversationRequest>,
    ) -> Result<Response<api::CreateConversationResponse>, Status> {
        let request = request.into_inner();
        let creator = self.repo.registered(&request.creator_id).await?;
        let (conversation, already_existed) = match request.r#type() {
            ConversationType::Single => {
                singles::open(&self.repo, &creator, &request.member_ids, self.single_requires_friend).await?
            }
            ConversationType::Group => (self.groups.create(&creator, request).await?, false),
            ConversationType::World | ConversationType::Unspecified => return Err(ErrorCode::InvalidParams.into()),
        };
        Ok(Response::new(api::CreateConversationResponse { conversation: Some(conversation), already_existed }))
    }

    async fn get_conversation(
        &self,
        request: Request<api::GetConversationRequest>,
    ) -> Result<Response<api::GetConversationResponse>, Status> {
        let request = request.into_inner();
        let conversation = self.repo.viewed(&request.conversation_id, &request.user_id).await?;
        let mut members = Vec::new();
        if request.include_members && conversation.r#type() == ConversationType::Group {
            let list = ask(repo::GetConversationMembersRequest {
                conversation_id: request.conversation_id,
                limit: DETAIL_MEMBERS_MAX,
                ..repo::GetConversationMembersRequest::default()
            });
            members = self.repo.conversations.clone().get_conversation_members(list).await?.into_inner().members;
        }
        Ok(Response::new(api::GetConversationResponse { conversation: Some(conversation), members }))
    }

    async fn get_conversations_optimized(
        &self,
        request: Request<api::GetConversationsOptimizedRequest>,
    ) -> Result<Response<api::GetConversationsOptimizedResponse>, Status> {
        self.lists.page(request.into_inner()).await.map(Response::new)
    }

    async fn update_conversation(
        &self,
        request: Request<api::UpdateConversationRequest>,
    ) -> Result<Response<api::UpdateConversationResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.user_id).await?;
        let conversation = self.groups.update(request).await?;
        Ok(Response::new(api::UpdateConversationResponse { conversation: Some(conversation) }))
    }

    async fn delete_conversation(
        &self,
        request: Request<api::DeleteConversationRequest>,
    ) -> Result<Response<api::DeleteConversationResponse>, Status> {
        self.groups.delete(request.into_inner()).await?;
        Ok(Response::new(api::DeleteConversationResponse { success: true }))
    }

    async fn leave_conversation(
        &self,
        request: Request<api::LeaveConversationRequest>,
    ) -> Result<Response<api::LeaveConversationResponse>, Status> {
        let request = request.into_inner();
        self.groups.leave(&request.conversation_id, &request.user_id, "").await?;
        Ok(Response::new(api::LeaveConversationResponse { success: true }))
    }

    async fn add_members(
        &self,
        request: Request<api::AddMembersRequest>,
    ) -> Result<Response<api::AddMembersResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.operator_id).await?;
        self.members.add(request).await.map(Response::new)
    }

    async fn remove_members(
        &self,
        request: Request<api::RemoveMembersRequest>,
    ) -> Result<Response<api::RemoveMembersResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.operator_id).await?;
        self.members.remove(request).await.map(Response::new)
    }

    async fn update_member_role(
        &self,
        request: Request<api::UpdateMemberRoleRequest>,
    ) -> Result<Response<api::UpdateMemberRoleResponse>, Status> {
        let request = request.into_inner();
        self.repo.registered(&request.operator_id).await?;
        self.members.update(request, self.clock.unix_ms() / 1_000).await?;
        Ok(Response::new(api::UpdateMemberRoleResponse { success: true }))
    }

    async fn get_members(
        &self,
        request: Request<api::GetMembersRequest>,
    ) -> Result<Response<api::GetMembersResponse>, Status> {
        self.members.list(request.into_inner()).await.map(Response::new)
    }

    async fn get_messages(
        &self,
        request: Request<api::GetMessagesRequest>,
    ) -> Result<Response<api::GetMessagesResponse>, Status> {
        history::page(&self.repo, &self.persisted, request.into_inner()).await.map(Response::new)
    }

    async fn mark_as_read(
        &self,
        request: Request<api::MarkAsReadRequest>,
    ) -> Result<Response<api::MarkAsReadResponse>, Status> {
        let unread_count = self.reads.mark(&request.into_inner()).await?;
        Ok(Response::new(api::MarkAsReadResponse { success: true, unread_count }))
    }

    async fn get_unread_count(
        &self,
        request: Request<api::GetUnreadCountRequest>,
    ) -> Result<Response<api::GetUnreadCountResponse>, Status> {
        let request = request.into_inner();
        let mut conversation_ids = Vec::new();
        if !request.conversation_id.is_empty() {
            self.repo.member(&request.conversation_id, &request.user_id).await?;
            conversation_ids.push(request.conversation_id);
        }
        let counts = ask(repo::BatchGetUnreadCountsRequest { user_id: request.user_id, conversation_ids });
        let counts = self.repo.conversations.clone().batch_get_unread_counts(counts).await?.into_inner().unread_counts;
        let mut conversation_counts: Vec<_> = counts
            .into_iter()
            .filter(|(_, unread_count)| *unread_count > 0)
            .map(|(conversation_id, unread_count)| api::ConversationUnreadCount { conversation_id, unread_count })
            .collect();
        conversation_counts.sort_by(|a, b| a.conversation_id.cmp(&b.conversation_id));
        let unread_count = conversation_counts.iter().map(|c| c.unread_count).sum();
        Ok(Response::new(api::GetUnreadCountResponse { unread_count, conversation_counts }))
    }

    async fn join_world_chat(
        &self,
        request: Request<api::JoinWorldChatRequest>,
    ) -> Result<Response<api::JoinWorldChatResponse>, Status> {
        let user_id = request.into_inner().user_id;
        let user = self.repo.user(&user_id).await?;
        self.world.join(&user).await?;
        let conversation = self.repo.viewed(&World::id(), &user_id).await?;
        Ok(Response::new(api::JoinWorldChatResponse { success: true, conversation: Some(conversation) }))
    }

    async fn search_conversations(
        &self,
        request: Request<api::SearchConversationsRequest>,
    ) -> Result<Response<api::SearchConversationsResponse>, Status> {
        self.lists.search(request.into_inner()).await.map(Response::new)
    }
}
