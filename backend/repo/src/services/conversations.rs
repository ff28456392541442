//! ConversationService: conversations, membership, read pointers, unread counts.

use super::{convert, fail};
use crate::store::Store;
use crate::store::conversation::{ListQuery, ListedConversation, NewConversation, RaisePointer, RaisedPointer};
use gochat_infra::cache::Cache;
use gochat_infra::clock::Clock;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as common;
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::repo::v1::conversation_service_server::ConversationService;
use gochat_proto::im::repo::v1::{
    BatchGetConversationsRequest, BatchGetConversationsResponse, BatchGetUnreadCountsRequest,
    BatchGetUnreadCountsResponse, CreateConversationRequest, CreateConversationResponse, GetConversationRequest,
    GetConversationResponse, GetMembershipRequest, GetMembershipResponse, GetReadPointerRequest,
    GetReadPointerResponse, GetUnreadCountRequest, GetUnreadCountResponse, GetUserConversationsWithDetailsRequest,
    GetUserConversationsWithDetailsResponse, ReadPointer, UpdateReadPointerRequest, UpdateReadPointerResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: i64 = 20;
const PAGE_MAX: i64 = 200;
const CONVERSATIONS_MAX: usize = 500;
const MEMBERS_MAX: usize = 500;
const SINGLE: i32 = common::ConversationType::Single as i32;
const MEMBER: i32 = common::ConversationMemberRole::Member as i32;
const OWNER: i32 = common::ConversationMemberRole::Owner as i32;
/// A list's server time lies back so far, so that a delta never misses a commit in flight (D4).
const SERVER_TIME_BACK_SECONDS: i64 = 5;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl ConversationService for Conversations {
    async fn get_user_conversations_with_details(
        &self,
        request: Request<GetUserConversationsWithDetailsRequest>,
    ) -> Result<Response<GetUserConversationsWithDetailsResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let asked = request.pagination.unwrap_or_default();
        let size = if asked.page_size <= 0 { PAGE_DEFAULT } else { i64::from(asked.page_size).min(PAGE_MAX) };
        let page = i64::from(asked.page.max(1));
        let query = ListQuery {
            user,
            kind: request.type_filter,
            since_ms: request.last_sync_time.max(0).saturating_mul(1000),
            offset: (page - 1) * size,
            limit: size + 1,
        };
        // Before the read: what the read misses has this time or a later one.
        let change_time = self.store.change_time().await.map_err(fail::store)?;
        let mut rows = self.store.conversation_list(query).await.map_err(fail::store)?;
        let has_more = rows.len() as i64 > size;
        rows.truncate(size as usize);
        let total = rows.first().map_or(0, |row| row.total);
        let mut conversations: Vec<_> = rows.into_iter().map(|row| listed(row, &request)).collect();
        self.raise_assigned(&mut conversations).await?;
        let pagination = common::Pagination { page: page as i32, page_size: size as i32, total, has_more };
        Ok(Response::new(GetUserConversationsWithDetailsResponse {
            conversations,
            pagination: Some(pagination),
            removed_ids: Vec::new(),
            server_time: convert::seconds(change_time) - SERVER_TIME_BACK_SECONDS,
            complete: !has_more && request.type_filter == 0,
            next_cursor: String::new(),
        }))
    }

    async fn create_conversation(
        &self,
        request: Request<CreateConversationRequest>,
    ) -> Result<Response<CreateConversationResponse>, Status> {
        let request = request.into_inner();
        let owner = if request.owner_id.is_empty() { 0 } else { convert::id(&request.owner_id, "owner_id")? };
        let mut members = convert::ids(&request.member_ids, "member_ids")?;
        if owner != 0 {
            members.push(owner);
        }
        members.sort_unstable();
        members.dedup();
        if members.len() > MEMBERS_MAX {
            return Err(fail::invalid("at most 500 members"));
        }
        let id = checked_id(&request, &members)?;
        let role = |user| if user == owner && request.r#type != SINGLE { OWNER } else { MEMBER };
        let new = NewConversation {
            id,
            kind: request.r#type,
            name: request.name,
            avatar_url: request.avatar_url,
            description: request.description,
            // Both own a single chat.
            owner_id: if request.r#type == SINGLE { 0 } else { owner },
            settings: request.settings_json,
            members: members.into_iter().map(|user| (user, role(user))).collect(),
            created_at_ms: self.clock.unix_ms(),
        };
        let (made, already_existed) = self.store.create_conversation(new).await.map_err(fail::store)?;
        Ok(Response::new(CreateConversationResponse {
            conversation: Some(convert::conversation(&made)),
            already_existed,
        }))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<GetConversationResponse>, Status> {
        let id = request.into_inner().conversation_id;
        let found = self.conversations(&[id]).await?.pop();
        let conversation = found.ok_or_else(|| Status::from(ErrorCode::ConversationNotFound))?;
        Ok(Response::new(GetConversationResponse { conversation: Some(conversation) }))
    }

    async fn batch_get_conversations(
        &self,
        request: Request<BatchGetConversationsRequest>,
    ) -> Result<Response<BatchGetConversationsResponse>, Status> {
        let ids = request.into_inner().conversation_ids;
        if ids.len() > CONVERSATIONS_MAX {
            return Err(fail::invalid("at most 500 conversation_ids"));
        }
        Ok(Response::new(BatchGetConversationsResponse { conversations: self.conversations(&ids).await? }))
    }

    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let request = request.into_inner();
        if request.user_ids.len() > MEMBERS_MAX {
            return Err(fail::invalid("at most 500 user_ids"));
        }
        let users = convert::ids(&request.user_ids, "user_ids")?;
        let members = self.store.members(&request.conversation_id, &users).await.map_err(fail::store)?;
        let entry = |m: &_| (id_of(m), convert::member(&request.conversation_id, m));
        Ok(Response::new(GetMembershipResponse { memberships: members.iter().map(entry).collect() }))
    }

    async fn update_read_pointer(
        &self,
        request: Request<UpdateReadPointerRequest>,
    ) -> Result<Response<UpdateReadPointerResponse>, Status> {
        let request = request.into_inner();
        let assigned = self.cache.assigned(std::slice::from_ref(&request.conversation_id)).await;
        let raise = RaisePointer {
            user: convert::id(&request.user_id, "user_id")?,
            conversation: request.conversation_id,
            seq: request.seq_id,
            assigned: assigned.map_err(fail::cache)?.first().copied().flatten(),
            now_ms: self.clock.unix_ms(),
        };
        let raised = self.store.raise_read_pointer(raise).await.map_err(fail::store)?;
        let RaisedPointer { previous, unread, .. } =
            raised.ok_or_else(|| Status::from(ErrorCode::NotConversationMember))?;
        let answer = UpdateReadPointerResponse { success: true, unread_count: unread, previous_seq_id: previous };
        Ok(Response::new(answer))
    }

    async fn get_read_pointer(
        &self,
        request: Request<GetReadPointerRequest>,
    ) -> Result<Response<GetReadPointerResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let found = self.store.read_pointer(user, &request.conversation_id).await.map_err(fail::store)?;
        let pointer = found.ok_or_else(|| Status::from(ErrorCode::NotConversationMember))?;
        let read_pointer = ReadPointer {
            user_id: request.user_id,
            conversation_id: request.conversation_id,
            last_read_seq_id: pointer.last_read_seq,
            updated_at: convert::seconds(pointer.updated_at_ms),
        };
        Ok(Response::new(GetReadPointerResponse { read_pointer: Some(read_pointer) }))
    }

    async fn get_unread_count(
        &self,
        request: Request<GetUnreadCountRequest>,
    ) -> Result<Response<GetUnreadCountResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let counts = self.store.unread_counts(user, &[request.conversation_id]).await.map_err(fail::store)?;
        let (_, unread_count) = counts.first().ok_or_else(|| Status::from(ErrorCode::NotConversationMember))?;
        Ok(Response::new(GetUnreadCountResponse { unread_count: *unread_count }))
    }

    async fn batch_get_unread_counts(
        &self,
        request: Request<BatchGetUnreadCountsRequest>,
    ) -> Result<Response<BatchGetUnreadCountsResponse>, Status> {
        let request = request.into_inner();
        if request.conversation_ids.len() > CONVERSATIONS_MAX {
            return Err(fail::invalid("at most 500 conversation_ids"));
        }
        let user = convert::id(&request.user_id, "user_id")?;
        let counts = self.store.unread_counts(user, &request.conversation_ids).await.map_err(fail::store)?;
        Ok(Response::new(BatchGetUnreadCountsResponse { unread_counts: counts.into_iter().collect() }))
    }
}

impl Conversations {
    async fn conversations(&self, ids: &[String]) -> Result<Vec<common::Conversation>, Status> {
        let found = self.store.conversations(ids).await.map_err(fail::store)?;
        let mut conversations: Vec<_> = found.iter().map(convert::conversation).collect();
        self.raise_assigned(&mut conversations).await?;
        Ok(conversations)
    }

    /// Adds what the cache knows of numbers handed out (D1, informational).
    async fn raise_assigned(&self, conversations: &mut [common::Conversation]) -> Result<(), Status> {
        let ids: Vec<String> = conversations.iter().map(|c| c.id.clone()).collect();
        let assigned = self.cache.assigned(&ids).await.map_err(fail::cache)?;
        for (conversation, assigned) in conversations.iter_mut().zip(assigned) {
            conversation.assigned_seq = conversation.assigned_seq.max(assigned.unwrap_or(0));
        }
        Ok(())
    }
}

fn id_of(member: &crate::store::conversation::Member) -> String {
    member.user.id.to_string()
}

/// The id asked for, which for a single chat follows from its two members.
fn checked_id(request: &CreateConversationRequest, members: &[i64]) -> Result<String, Status> {
    match request.r#type {
        SINGLE => {
            let [low, high] = *members else { return Err(fail::invalid("a single chat has two members")) };
            let id = ConversationId::Single { low: UserId(low), high: UserId(high) }.to_string();
            match request.id.is_empty() || request.id == id {
                true => Ok(id),
                false => Err(fail::invalid("the id is not that of the two members")),
            }
        }
        2 | 3 => match request.id.parse::<ConversationId>() {
            Ok(ConversationId::Group(_)) if request.r#type == 2 => Ok(request.id.clone()),
            Ok(ConversationId::World) if request.r#type == 3 => Ok(request.id.clone()),
            _ => Err(fail::invalid("the id does not fit the type")),
        },
        _ => Err(fail::invalid("type is 1, 2 or 3")),
    }
}

fn listed(row: ListedConversation, request: &GetUserConversationsWithDetailsRequest) -> common::Conversation {
    let membership = common::ConversationMember {
        user: Some(common::UserInfo { id: request.user_id.clone(), ..common::UserInfo::default() }),
        role: row.role,
        muted: row.muted,
        joined_at: convert::seconds(row.joined_at_ms),
        conversation_id: row.conversation.id.clone(),
        ..common::ConversationMember::default()
    };
    common::Conversation {
        last_message: row.last_message.map(|(message, from)| convert::message(message, from)),
        unread_count: row.unread,
        my_membership: Some(membership),
        peer: row.peer.map(convert::info),
        ..convert::conversation(&row.conversation)
    }
}
