//! Changes of conversations and of who is in them, and the pages of members: that part of ConversationService.
//!
//! Owns that whatever was changed is forgotten in memory before anybody hears that it was, also when the caller has gone away
//! meanwhile: each change runs to its end. Never decides who may ask for one.

use super::conversations::{Conversations, check_settings};
use super::convert::listed;
use super::{convert, fail};
use crate::store::conversation::{ListQuery, MemberQuery, Select};
use crate::store::group::{AddMembers, RemoveMember, UpdateInfo, UpdateMember};
use crate::store::{self, Store};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as common;
use gochat_proto::ids::WORLD;
use gochat_proto::im::repo::v1::*;
use std::sync::Arc;
use tonic::Status;

/// Users added at once.
const ADDED_MAX: usize = 10_000;
const PAGE_DEFAULT: i64 = 20;
const PAGE_MAX: i64 = 200;
/// Of a walk over ids only.
const ID_PAGE_MAX: i64 = 10_000;
const SEARCH_DEFAULT: i64 = 20;
const SEARCH_MAX: i64 = 50;
const REASON_CHARS_MAX: usize = 200;
const MEMBER: i32 = common::ConversationMemberRole::Member as i32;
const OWNER: i32 = common::ConversationMemberRole::Owner as i32;
/// Modes of DeleteConversation.
const DISSOLVE: i32 = 1;
const HIDE: i32 = 2;

/// What a change makes untrue in memory.
enum Forget {
    Nothing,
    Conversation(String),
    WorldMember(i64),
}

impl Forget {
    /// A member went, or is another one now.
    fn member(conversation: &str, user: i64) -> Forget {
        if conversation == WORLD { Forget::WorldMember(user) } else { Forget::Conversation(conversation.to_owned()) }
    }

    /// Absence of a member of the world room is not kept in memory: there is nothing to forget.
    fn newcomers(conversation: &str) -> Forget {
        if conversation == WORLD { Forget::Nothing } else { Forget::Conversation(conversation.to_owned()) }
    }
}

impl Conversations {
    pub(super) async fn update_info(
        &self,
        request: UpdateConversationRequest,
    ) -> Result<UpdateConversationResponse, Status> {
        let mut update = UpdateInfo {
            conversation: request.conversation_id,
            expected_version: request.expected_info_version,
            operator: convert::operator(&request.operator_id)?,
            now_ms: self.clock.unix_ms(),
            ..UpdateInfo::default()
        };
        for field in &request.update_mask {
            match field.as_str() {
                "name" => update.name = Some(request.name.clone()),
                "avatar_url" => update.avatar_url = Some(request.avatar_url.clone()),
                "description" => update.description = Some(request.description.clone()),
                "settings_json" if !request.settings_json.is_empty() => {
                    check_settings(&request.settings_json)?;
                    update.settings = Some(request.settings_json.clone());
                }
                other => return Err(fail::invalid(format!("update_mask does not know {other:?}"))),
            }
        }
        let forget = Forget::Conversation(update.conversation.clone());
        let updated = self.change(forget, |store| async move { store.update_info(update).await }).await?;
        let mut updated = vec![convert::conversation(&updated)];
        self.raise_assigned(&mut updated).await?;
        Ok(UpdateConversationResponse { conversation: updated.pop() })
    }

    pub(super) async fn dissolve_or_hide(
        &self,
        request: DeleteConversationRequest,
    ) -> Result<DeleteConversationResponse, Status> {
        let operator = convert::id(&request.operator_id, "operator_id")?;
        let DeleteConversationRequest { conversation_id: id, reason, mode, .. } = request;
        check_reason(&reason)?;
        let now_ms = self.clock.unix_ms();
        match mode {
            DISSOLVE => {
                let forget = Forget::Conversation(id.clone());
                self.change(forget, move |store| async move { store.dissolve(&id, operator, &reason, now_ms).await })
                    .await?;
            }
            HIDE => {
                self.change(Forget::Nothing, move |store| async move { store.hide(&id, operator).await }).await?;
            }
            _ => return Err(fail::invalid("mode is 1 or 2")),
        }
        Ok(DeleteConversationResponse { success: true })
    }

    pub(super) async fn search(
        &self,
        request: SearchUserConversationsRequest,
    ) -> Result<SearchUserConversationsResponse, Status> {
        if request.query.is_empty() {
            return Err(ErrorCode::MissingQuery.into());
        }
        let query = ListQuery {
            user: convert::id(&request.user_id, "user_id")?,
            kind: request.type_filter,
            select: Select::Named(request.query.to_lowercase()),
            limit: sized(request.limit, SEARCH_DEFAULT, SEARCH_MAX),
        };
        let rows = self.store.conversation_list(query).await.map_err(fail::store)?;
        let mut conversations: Vec<_> = rows.into_iter().map(|row| listed(row, &request.user_id)).collect();
        self.raise_assigned(&mut conversations).await?;
        Ok(SearchUserConversationsResponse { conversations })
    }

    pub(super) async fn add_members(
        &self,
        request: AddConversationMemberRequest,
    ) -> Result<AddConversationMemberResponse, Status> {
        if request.user_ids.len() > ADDED_MAX || request.max_members < 0 {
            return Err(fail::invalid("at most 10000 user_ids, and no negative max_members"));
        }
        let id = request.conversation_id;
        let add = AddMembers {
            conversation: id.clone(),
            users: convert::ids(&request.user_ids, "user_ids")?,
            role: checked_role(if request.role == 0 { MEMBER } else { request.role }, &id)?,
            max_members: request.max_members,
            operator: convert::operator(&request.operator_id)?,
            assigned: self.assigned(&id).await?,
            now_ms: self.clock.unix_ms(),
        };
        let forget = Forget::newcomers(&id);
        let rooms = self.rooms.clone();
        let added = self.change(forget, |store| async move {
            let added = store.add_members(add).await?;
            // What is missed here is made up for when the gateways name their rooms again.
            if let Err(status) = rooms.members_added(&id, &added.added).await {
                tracing::warn!(conversation = %id, %status, "the gateways of new members are not known to be concerned");
            }
            Ok(added)
        });
        let added = added.await?;
        Ok(AddConversationMemberResponse {
            success: added.rejected.is_empty(),
            added_user_ids: convert::texts(&added.added),
            existing_user_ids: convert::texts(&added.existing),
            rejected_user_ids: convert::texts(&added.rejected),
            member_count: added.member_count,
        })
    }

    pub(super) async fn remove_member(
        &self,
        request: RemoveConversationMemberRequest,
    ) -> Result<RemoveConversationMemberResponse, Status> {
        check_reason(&request.reason)?;
        let remove = RemoveMember {
            user: convert::id(&request.user_id, "user_id")?,
            operator: convert::operator(&request.operator_id)?,
            conversation: request.conversation_id,
            reason: request.reason,
            now_ms: self.clock.unix_ms(),
        };
        let forget = Forget::member(&remove.conversation, remove.user);
        let member_count = self.change(forget, |store| async move { store.remove_member(remove).await }).await?;
        Ok(RemoveConversationMemberResponse { success: true, member_count })
    }

    pub(super) async fn update_member(
        &self,
        request: UpdateMemberRoleRequest,
    ) -> Result<UpdateMemberRoleResponse, Status> {
        let mut update = UpdateMember {
            user: convert::id(&request.user_id, "user_id")?,
            role: None,
            mute: None,
            operator: convert::operator(&request.operator_id)?,
            conversation: request.conversation_id,
            now_ms: self.clock.unix_ms(),
        };
        for field in &request.update_mask {
            match field.as_str() {
                "new_role" | "role" => update.role = Some(checked_role(request.new_role, &update.conversation)?),
                "muted" | "muted_until" => update.mute = Some((request.muted, request.muted_until.max(0))),
                other => return Err(fail::invalid(format!("update_mask does not know {other:?}"))),
            }
        }
        let forget = Forget::member(&update.conversation, update.user);
        self.change(forget, |store| async move { store.update_member(update).await }).await?;
        Ok(UpdateMemberRoleResponse { success: true })
    }

    pub(super) async fn pass_ownership(
        &self,
        request: TransferOwnershipRequest,
    ) -> Result<TransferOwnershipResponse, Status> {
        let from = convert::id(&request.from_user_id, "from_user_id")?;
        let to = convert::id(&request.to_user_id, "to_user_id")?;
        let (id, now_ms) = (request.conversation_id, self.clock.unix_ms());
        let forget = Forget::Conversation(id.clone());
        self.change(forget, move |store| async move { store.transfer_ownership(&id, from, to, now_ms).await }).await?;
        Ok(TransferOwnershipResponse { success: true })
    }

    pub(super) async fn members(
        &self,
        request: GetConversationMembersRequest,
    ) -> Result<GetConversationMembersResponse, Status> {
        let id = request.conversation_id.as_str();
        let total = self.store.member_total(id, request.role_filter).await.map_err(fail::store)?;
        if request.ids_only || !request.after_user_id.is_empty() {
            return self.id_page(&request, total).await;
        }
        let limit = sized(request.limit, PAGE_DEFAULT, PAGE_MAX);
        let query = MemberQuery {
            conversation: id.to_owned(),
            role: request.role_filter,
            by_role: id != WORLD,
            offset: i64::from(request.offset.max(0)),
            limit: limit + 1,
        };
        let mut members = self.store.member_page(query).await.map_err(fail::store)?;
        let has_more = members.len() as i64 > limit;
        members.truncate(limit as usize);
        let members = members.iter().map(|member| convert::member(id, member)).collect();
        Ok(GetConversationMembersResponse { members, total, has_more, next_user_id: String::new() })
    }

    /// A page of a walk through all members, by id.
    async fn id_page(
        &self,
        request: &GetConversationMembersRequest,
        total: i64,
    ) -> Result<GetConversationMembersResponse, Status> {
        let after = convert::operator(&request.after_user_id)?;
        let limit = sized(request.limit, ID_PAGE_MAX, ID_PAGE_MAX);
        let mut ids = self.store.member_ids(&request.conversation_id, after, limit + 1).await.map_err(fail::store)?;
        let has_more = ids.len() as i64 > limit;
        ids.truncate(limit as usize);
        let member = |id: &i64| common::ConversationMember {
            user: Some(common::UserInfo { id: id.to_string(), ..common::UserInfo::default() }),
            ..common::ConversationMember::default()
        };
        let next_user_id = ids.last().filter(|_| has_more).map_or_else(String::new, i64::to_string);
        Ok(GetConversationMembersResponse { members: ids.iter().map(member).collect(), total, has_more, next_user_id })
    }

    /// Makes a change to its end, whatever becomes of the caller, and forgets what it made untrue.
    async fn change<T, W>(&self, forget: Forget, work: impl FnOnce(Arc<dyn Store>) -> W) -> Result<T, Status>
    where
        T: Send + 'static,
        W: Future<Output = store::Result<T>> + Send + 'static,
    {
        let (work, directory) = (work(self.store.clone()), self.directory.clone());
        let running = tokio::spawn(async move {
            let done = work.await;
            match forget {
                Forget::Nothing => {}
                Forget::Conversation(id) => directory.forget_conversation(&id),
                Forget::WorldMember(user) => directory.forget_world_member(user),
            }
            done
        });
        running.await.map_err(|error| Status::internal(error.to_string()))?.map_err(fail::store)
    }
}

fn sized(asked: i32, default: i64, max: i64) -> i64 {
    if asked <= 0 { default } else { i64::from(asked).min(max) }
}

/// A group's owner is made by passing ownership only.
fn checked_role(role: i32, conversation: &str) -> Result<i32, Status> {
    let highest = if conversation == WORLD { OWNER } else { OWNER - 1 };
    if (MEMBER..=highest).contains(&role) { Ok(role) } else { Err(fail::invalid("no such role here")) }
}

fn check_reason(reason: &str) -> Result<(), Status> {
    match reason.chars().count() <= REASON_CHARS_MAX {
        true => Ok(()),
        false => Err(fail::invalid("a reason has at most 200 characters")),
    }
}
