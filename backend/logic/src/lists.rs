//! A user's conversations: pages, deltas, searches (spec 01 C1, C8).
//!
//! Owns sizes of pages and what a listed conversation shows. Never looks up conversations one by one.

use gochat_proto::common::v1::{Conversation, Pagination};
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::pages::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, query, sized};
use crate::persisted::Persisted;
use crate::repo::{Repo, ask, shown};

const DELTA_LIMIT_DEFAULT: i32 = 50;
const DELTA_LIMIT_MAX: i32 = 200;
const FOUND_DEFAULT: i32 = 20;
const FOUND_MAX: i32 = 50;

/// Lists.
#[derive(Clone)]
pub(crate) struct Lists {
    pub(crate) repo: Repo,
    pub(crate) persisted: Persisted,
}

impl Lists {
    /// A page of the list, or of what changed since the last one.
    pub(crate) async fn page(
        &self,
        request: api::GetConversationsOptimizedRequest,
    ) -> Result<api::GetConversationsOptimizedResponse, Status> {
        let passed = self.persisted.everything(request.wait_ms).await;
        let (page, page_size) = if request.last_sync_time > 0 {
            (1, sized(request.limit, DELTA_LIMIT_DEFAULT, DELTA_LIMIT_MAX))
        } else {
            (request.page.max(1), sized(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX))
        };
        let list = ask(repo::GetUserConversationsWithDetailsRequest {
            user_id: request.user_id,
            pagination: Some(Pagination { page, page_size, ..Pagination::default() }),
            type_filter: request.type_filter,
            last_sync_time: request.last_sync_time,
            include_last_message: request.include_last_message,
            include_sender_info: request.include_last_message,
            wait_ms: 0,
            cursor: request.cursor,
        });
        let answer = self.repo.conversations.clone().get_user_conversations_with_details(list).await?.into_inner();
        let pagination = answer.pagination.unwrap_or_default();
        Ok(api::GetConversationsOptimizedResponse {
            conversations: answer.conversations.into_iter().map(optimized).collect(),
            total: pagination.total,
            page,
            page_size,
            has_more: pagination.has_more,
            removed_ids: answer.removed_ids,
            server_time: answer.server_time,
            complete: answer.complete && passed,
            next_cursor: answer.next_cursor,
        })
    }

    /// Conversations of a user by name or by the peer's name.
    pub(crate) async fn search(
        &self,
        request: api::SearchConversationsRequest,
    ) -> Result<api::SearchConversationsResponse, Status> {
        let wanted = query(&request.query)?.to_owned();
        self.repo.registered(&request.user_id).await?;
        let search = ask(repo::SearchUserConversationsRequest {
            user_id: request.user_id,
            query: wanted,
            type_filter: request.type_filter,
            limit: sized(request.limit, FOUND_DEFAULT, FOUND_MAX),
        });
        let found = self.repo.conversations.clone().search_user_conversations(search).await?.into_inner();
        Ok(api::SearchConversationsResponse { conversations: found.conversations.into_iter().map(shown).collect() })
    }
}

fn optimized(conversation: Conversation) -> api::ConversationOptimized {
    let conversation = shown(conversation);
    api::ConversationOptimized {
        id: conversation.id,
        r#type: conversation.r#type,
        name: conversation.name,
        avatar_url: conversation.avatar_url,
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
        peer: conversation.peer,
    }
}
