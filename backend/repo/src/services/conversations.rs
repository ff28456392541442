//! ConversationService: conversations, membership, read pointers, unread counts. Lists stand in [`super::lists`], changes in
//! [`super::groups`].

use super::convert::listed;
use super::rooms::Rooms;
use super::{convert, fail};
use crate::directory::Directory;
use crate::store::Store;
use crate::store::conversation::{Access, ListQuery, NewConversation, RaisePointer, RaisedPointer, Select};
use gochat_infra::cache::Cache;
use gochat_infra::clock::Clock;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as common;
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::repo::v1::conversation_service_server::ConversationService;
use gochat_proto::im::repo::v1::*;
use std::sync::Arc;
use tonic::{Request, Response, Status};

const CONVERSATIONS_MAX: usize = 500;
/// Users of one question about members.
const ASKED_MAX: usize = 500;
/// Members of a new group.
const MEMBERS_MAX: usize = 10_000;
const SINGLE: i32 = common::ConversationType::Single as i32;
const WORLD: i32 = common::ConversationType::World as i32;
const MEMBER: i32 = common::ConversationMemberRole::Member as i32;
const OWNER: i32 = common::ConversationMemberRole::Owner as i32;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) rooms: Rooms,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl ConversationService for Conversations {
    async fn get_user_conversations_with_details(
        &self,
        request: Request<GetUserConversationsWithDetailsRequest>,
    ) -> Result<Response<GetUserConversationsWithDetailsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new)
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
            return Err(fail::invalid("at most 10000 members"));
        }
        let id = checked_id(&request, &members)?;
        check_settings(&request.settings_json)?;
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
            operator: owner,
            created_at_ms: self.clock.unix_ms(),
        };
        let (made, already_existed) = self.store.create_conversation(new).await.map_err(fail::store)?;
        Ok(Response::new(CreateConversationResponse {
            conversation: Some(convert::conversation(&made)),
            already_existed,
        }))
    }

    async fn update_conversation(
        &self,
        request: Request<UpdateConversationRequest>,
    ) -> Result<Response<UpdateConversationResponse>, Status> {
        self.update_info(request.into_inner()).await.map(Response::new)
    }

    async fn delete_conversation(
        &self,
        request: Request<DeleteConversationRequest>,
    ) -> Result<Response<DeleteConversationResponse>, Status> {
        self.dissolve_or_hide(request.into_inner()).await.map(Response::new)
    }

    async fn search_user_conversations(
        &self,
        request: Request<SearchUserConversationsRequest>,
    ) -> Result<Response<SearchUserConversationsResponse>, Status> {
        self.search(request.into_inner()).await.map(Response::new)
    }

    async fn add_conversation_member(
        &self,
        request: Request<AddConversationMemberRequest>,
    ) -> Result<Response<AddConversationMemberResponse>, Status> {
        self.add_members(request.into_inner()).await.map(Response::new)
    }

    async fn remove_conversation_member(
        &self,
        request: Request<RemoveConversationMemberRequest>,
    ) -> Result<Response<RemoveConversationMemberResponse>, Status> {
        self.remove_member(request.into_inner()).await.map(Response::new)
    }

    async fn update_member_role(
        &self,
        request: Request<UpdateMemberRoleRequest>,
    ) -> Result<Response<UpdateMemberRoleResponse>, Status> {
        self.update_member(request.into_inner()).await.map(Response::new)
    }

    async fn transfer_ownership(
        &self,
        request: Request<TransferOwnershipRequest>,
    ) -> Result<Response<TransferOwnershipResponse>, Status> {
        self.pass_ownership(request.into_inner()).await.map(Response::new)
    }

    async fn get_conversation_members(
        &self,
        request: Request<GetConversationMembersRequest>,
    ) -> Result<Response<GetConversationMembersResponse>, Status> {
        self.members(request.into_inner()).await.map(Response::new)
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<GetConversationResponse>, Status> {
        let request = request.into_inner();
        if !request.viewer_id.is_empty() {
            let conversation = self.viewed(&request.viewer_id, &request.conversation_id).await?;
            return Ok(Response::new(GetConversationResponse { conversation: Some(conversation) }));
        }
        let found = self.conversations(&[request.conversation_id]).await?.pop();
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
        if request.user_ids.len() > ASKED_MAX {
            return Err(fail::invalid("at most 500 user_ids"));
        }
        let users = convert::ids(&request.user_ids, "user_ids")?;
        let members = self.store.members(&request.conversation_id, &users).await.map_err(fail::store)?;
        if let ([user], true) = (users.as_slice(), members.is_empty())
            && self.access(*user, &request.conversation_id).await? == Access::Former
        {
            return Err(ErrorCode::ConversationDissolved.into());
        }
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
        };
        let asked = (raise.user, raise.conversation.clone());
        let raised = self.store.raise_read_pointer(raise).await.map_err(fail::store)?;
        let Some(RaisedPointer { previous, unread, .. }) = raised else {
            return Err(self.no_member(asked.0, &asked.1).await);
        };
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
        let Some(pointer) = found else { return Err(self.no_member(user, &request.conversation_id).await) };
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
        fail::access(self.access(user, &request.conversation_id).await?)?;
        let counts = self.store.unread_counts(user, &[request.conversation_id]).await.map_err(fail::store)?;
        // A hidden chat shows none.
        let unread_count = counts.first().map_or(0, |(_, unread)| *unread);
        Ok(Response::new(GetUnreadCountResponse { unread_count }))
    }

    async fn list_conversation_ids(
        &self,
        request: Request<ListConversationIdsRequest>,
    ) -> Result<Response<ListConversationIdsResponse>, Status> {
        let request = request.into_inner();
        let user = convert::id(&request.user_id, "user_id")?;
        let limit = i64::from(request.limit).clamp(1, CONVERSATIONS_MAX as i64);
        let conversation_ids = self.store.conversation_ids(user, request.r#type, limit).await.map_err(fail::store)?;
        Ok(Response::new(ListConversationIdsResponse { conversation_ids }))
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

    /// A conversation as one of its members sees it.
    async fn viewed(&self, viewer: &str, conversation: &str) -> Result<common::Conversation, Status> {
        let user = convert::id(viewer, "viewer_id")?;
        let query = ListQuery { user, kind: 0, select: Select::One(conversation.to_owned()), limit: 1 };
        let row = self.store.conversation_list(query).await.map_err(fail::store)?.pop();
        let Some(row) = row else { return Err(self.no_member(user, conversation).await) };
        let mut rows = [listed(row, viewer)];
        self.raise_assigned(&mut rows).await?;
        let [row] = rows;
        Ok(row)
    }

    /// Adds what the cache knows of numbers handed out (D1, informational).
    pub(super) async fn raise_assigned(&self, conversations: &mut [common::Conversation]) -> Result<(), Status> {
        let ids: Vec<String> = conversations.iter().map(|c| c.id.clone()).collect();
        let assigned = self.cache.assigned(&ids).await.map_err(fail::cache)?;
        for (conversation, assigned) in conversations.iter_mut().zip(assigned) {
            conversation.assigned_seq = conversation.assigned_seq.max(assigned.unwrap_or(0));
        }
        Ok(())
    }

    /// Highest number handed out in a conversation, if the cache knows it.
    pub(super) async fn assigned(&self, conversation: &str) -> Result<Option<i64>, Status> {
        let assigned = self.cache.assigned(&[conversation.to_owned()]).await.map_err(fail::cache)?;
        Ok(assigned.first().copied().flatten())
    }

    async fn access(&self, user: i64, conversation: &str) -> Result<Access, Status> {
        self.store.access(user, conversation).await.map_err(fail::store)
    }

    /// Why a user was not found among the members.
    async fn no_member(&self, user: i64, conversation: &str) -> Status {
        match self.access(user, conversation).await.and_then(fail::access) {
            // A member by now.
            Ok(_) => ErrorCode::NotConversationMember.into(),
            Err(status) => status,
        }
    }
}

fn id_of(member: &crate::store::conversation::Member) -> String {
    member.user.id.to_string()
}

/// Empty, or a JSON object.
pub(super) fn check_settings(json: &str) -> Result<(), Status> {
    if json.is_empty() || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).is_ok() {
        Ok(())
    } else {
        Err(fail::invalid("settings_json is not an object"))
    }
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
        2 | WORLD => match request.id.parse::<ConversationId>() {
            Ok(ConversationId::Group(_)) if request.r#type == 2 => Ok(request.id.clone()),
            Ok(ConversationId::World) if request.r#type == WORLD => Ok(request.id.clone()),
            _ => Err(fail::invalid("the id does not fit the type")),
        },
        _ => Err(fail::invalid("type is 1, 2 or 3")),
    }
}
