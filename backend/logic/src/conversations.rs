//! Conversations: opening a single chat, detail, list, history, read state (spec 01 §4.3, §4.4).
//!
//! Owns who may see and do what. Never sends a message: every send goes through the upstream topic (pipeline.md A1).

use std::sync::Arc;

use gochat_infra::clock::Clock;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, ConversationType, Pagination, User, UserStatus};
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::conversation_service_server::ConversationService;
use gochat_proto::im::repo::v1 as repo;
use tonic::{Request, Response, Status, async_trait};

use crate::history;
use crate::persisted::Persisted;
use crate::repo::{Repo, ask, light};
use crate::signals::Signals;

const PAGE_SIZE_DEFAULT: i32 = 20;
const PAGE_SIZE_MAX: i32 = 100;
const DELTA_LIMIT_DEFAULT: i32 = 50;
const DELTA_LIMIT_MAX: i32 = 200;
/// Members listed with a group's detail.
const DETAIL_MEMBERS_MAX: i32 = 200;

/// The ConversationService of logic.
#[derive(Clone)]
pub struct Conversations {
    pub(crate) repo: Repo,
    pub(crate) signals: Signals,
    pub(crate) persisted: Persisted,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Conversations {
    /// Opens the single chat of two users, or finds it.
    async fn open_single(&self, creator_id: &str, member_ids: &[String]) -> Result<(Conversation, bool), Status> {
        let creator: UserId = creator_id.parse().map_err(|_| ErrorCode::InvalidParams)?;
        let mut peers = member_ids.iter().filter(|id| id.as_str() != creator_id);
        let (Some(peer_id), None) = (peers.next(), peers.next()) else {
            return Err(ErrorCode::InvalidParams.into());
        };
        let peer: UserId = peer_id.parse().map_err(|_| ErrorCode::InvalidParams)?;
        let id = ConversationId::single(creator, peer).ok_or(ErrorCode::InvalidParams)?;
        let users = self.repo.users(vec![creator_id.to_owned(), peer_id.clone()]).await?;
        let find = |id: &str| users.iter().find(|u| u.id == id && u.status() != UserStatus::Deleted);
        let creator = find(creator_id).ok_or(ErrorCode::UserNotFound)?;
        let peer = find(peer_id).ok_or(ErrorCode::UserNotFound)?;
        if creator.is_guest {
            return Err(ErrorCode::GuestForbidden.into());
        }
        let request = ask(repo::CreateConversationRequest {
            r#type: ConversationType::Single as i32,
            owner_id: creator_id.to_owned(),
            member_ids: vec![creator_id.to_owned(), peer_id.clone()],
            id: id.to_string(),
            ..repo::CreateConversationRequest::default()
        });
        let answer = self.repo.conversations.clone().create_conversation(request).await?.into_inner();
        let mut conversation = answer.conversation.ok_or(ErrorCode::InternalError)?;
        show_peer(&mut conversation, peer);
        Ok((conversation, answer.already_existed))
    }

    /// What a member sees of a conversation.
    async fn detail(&self, user_id: &str, conversation_id: &str) -> Result<Conversation, Status> {
        let mut conversation = self.repo.conversation(conversation_id).await?;
        conversation.my_membership = Some(self.repo.member(conversation_id, user_id).await?);
        if conversation.peer.is_none()
            && let Some(peer) = peer_of(conversation_id, user_id)
        {
            show_peer(&mut conversation, &self.repo.user(&peer).await?);
        }
        let unread = ask(repo::GetUnreadCountRequest {
            user_id: user_id.to_owned(),
            conversation_id: conversation_id.to_owned(),
        });
        conversation.unread_count =
            self.repo.conversations.clone().get_unread_count(unread).await?.into_inner().unread_count;
        Ok(conversation)
    }
}

#[async_trait]
impl ConversationService for Conversations {
    async fn create_conversation(
        &self,
        request: Request<api::CreateConversationRequest>,
    ) -> Result<Response<api::CreateConversationResponse>, Status> {
        let request = request.into_inner();
        if request.r#type() != ConversationType::Single {
            return Err(ErrorCode::InvalidParams.into());
        }
        let (conversation, already_existed) = self.open_single(&request.creator_id, &request.member_ids).await?;
        Ok(Response::new(api::CreateConversationResponse { conversation: Some(conversation), already_existed }))
    }

    async fn get_conversation(
        &self,
        request: Request<api::GetConversationRequest>,
    ) -> Result<Response<api::GetConversationResponse>, Status> {
        let request = request.into_inner();
        let conversation = self.detail(&request.user_id, &request.conversation_id).await?;
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
        let request = request.into_inner();
        let passed = self.persisted.everything(request.wait_ms).await;
        let delta = request.last_sync_time > 0;
        let (page, page_size) = if delta {
            (1, sized(request.limit, DELTA_LIMIT_DEFAULT, DELTA_LIMIT_MAX))
        } else {
            (request.page.max(1), sized(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX))
        };
        let list = ask(repo::GetUserConversationsWithDetailsRequest {
            user_id: request.user_id.clone(),
            pagination: Some(Pagination { page, page_size, ..Pagination::default() }),
            type_filter: request.type_filter,
            last_sync_time: request.last_sync_time,
            include_last_message: request.include_last_message,
            include_sender_info: request.include_last_message,
            wait_ms: 0,
            cursor: request.cursor.clone(),
        });
        let answer = self.repo.conversations.clone().get_user_conversations_with_details(list).await?.into_inner();
        let pagination = answer.pagination.unwrap_or_default();
        Ok(Response::new(api::GetConversationsOptimizedResponse {
            conversations: answer.conversations.into_iter().map(optimized).collect(),
            total: pagination.total,
            page,
            page_size,
            has_more: pagination.has_more,
            removed_ids: answer.removed_ids,
            server_time: answer.server_time,
            complete: answer.complete && passed,
            next_cursor: answer.next_cursor,
        }))
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
        let request = request.into_inner();
        if request.seq_id < -1 {
            return Err(ErrorCode::InvalidParams.into());
        }
        self.repo.member(&request.conversation_id, &request.user_id).await?;
        let update = ask(repo::UpdateReadPointerRequest {
            user_id: request.user_id.clone(),
            conversation_id: request.conversation_id.clone(),
            seq_id: request.seq_id,
        });
        let answer = self.repo.conversations.clone().update_read_pointer(update).await?.into_inner();
        let payload = serde_json::json!({
            "conversationId": request.conversation_id,
            "updates": { "unreadCount": answer.unread_count },
            "operatorId": request.user_id,
            "updatedAt": self.clock.unix_ms() / 1_000,
        });
        self.signals.to_user(&request.user_id, "conversation-updated", payload).await;
        Ok(Response::new(api::MarkAsReadResponse { success: true, unread_count: answer.unread_count }))
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
}

fn sized(asked: i32, default: i32, max: i32) -> i32 {
    if asked <= 0 { default } else { asked.min(max) }
}

/// The other member of a single chat, by its id.
fn peer_of(conversation_id: &str, user_id: &str) -> Option<String> {
    let conversation: ConversationId = conversation_id.parse().ok()?;
    conversation.peer_of(user_id.parse().ok()?).map(|peer| peer.to_string())
}

/// A single chat is shown under its peer's name.
fn show_peer(conversation: &mut Conversation, peer: &User) {
    conversation.name = peer.username.clone();
    conversation.avatar_url = peer.avatar_url.clone();
    conversation.peer = Some(light(peer));
}

fn optimized(conversation: Conversation) -> api::ConversationOptimized {
    let peer = conversation.peer;
    let of_peer = |own: String, peers: fn(&gochat_proto::common::v1::UserInfo) -> &String| match &peer {
        Some(peer) if own.is_empty() => peers(peer).clone(),
        Some(_) | None => own,
    };
    api::ConversationOptimized {
        name: of_peer(conversation.name, |p| &p.username),
        avatar_url: of_peer(conversation.avatar_url, |p| &p.avatar_url),
        id: conversation.id,
        r#type: conversation.r#type,
        description: conversation.description,
        owner_id: conversation.owner_id,
        member_count: conversation.member_count,
        settings: conversation.settings,
        last_message: conversation.last_message,
        unread_count: conversation.unread_count,
        updated_at: conversation.updated_at,
        created_at: conversation.created_at,
        my_membership: conversation.my_membership,
        last_activity_at: conversation.updated_at,
        last_seq_id: conversation.last_seq_id,
        assigned_seq: conversation.assigned_seq,
        stored_through_seq: conversation.stored_through_seq,
        peer,
    }
}
