//! Members of a conversation: listing, adding, removing, roles and mutes (spec 01 G1-G4).
//!
//! Owns the shape of these requests. Never decides by role itself: [`crate::roles`] does.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{ConversationMemberRole, ConversationType};
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::groups::{Groups, MEMBERS_HARD_MAX, others};
use crate::names;
use crate::pages::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, sized};
use crate::repo::{Repo, ask};
use crate::roles::{Action, Role};
use crate::seat::{Seat, group_settings};

/// Users added or removed in one call.
const USERS_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 200;

/// Members.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) repo: Repo,
    pub(crate) groups: Groups,
}

impl Members {
    /// One page of members. The world room shows its members to its moderators only.
    pub(crate) async fn list(&self, request: api::GetMembersRequest) -> Result<api::GetMembersResponse, Status> {
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.user_id).await?;
        if seat.conversation.r#type() == ConversationType::World && seat.role() < Role::Admin {
            return Err(ErrorCode::InsufficientPermission.into());
        }
        let (page, page_size) = (request.page.max(1), sized(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX));
        let list = repo::GetConversationMembersRequest {
            conversation_id: request.conversation_id,
            offset: (page - 1).saturating_mul(page_size),
            limit: page_size,
            role_filter: request.role_filter,
            ..repo::GetConversationMembersRequest::default()
        };
        let answer = self.repo.conversations.clone().get_conversation_members(ask(list)).await?.into_inner();
        Ok(api::GetMembersResponse {
            members: answer.members,
            total: answer.total,
            page,
            page_size,
            has_more: answer.has_more,
        })
    }

    /// Adds users to a group; who cannot be added is named, the rest is.
    pub(crate) async fn add(&self, request: api::AddMembersRequest) -> Result<api::AddMembersResponse, Status> {
        if request.user_ids.is_empty() || request.user_ids.len() > USERS_MAX {
            return Err(Failure::new(ErrorCode::InvalidParams, "members are 1 to 200 ids").into());
        }
        let role = match request.role() {
            ConversationMemberRole::Unspecified => ConversationMemberRole::Member,
            role @ (ConversationMemberRole::Member | ConversationMemberRole::Admin) => role,
            ConversationMemberRole::Owner => return Err(ErrorCode::InvalidParams.into()),
        };
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.operator_id).await?;
        seat.group()?;
        seat.check(Action::Invite)?;
        if role == ConversationMemberRole::Admin {
            seat.check(Action::ChangeRole)?;
        }
        let wanted = others(&request.user_ids, &request.operator_id)?;
        let (user_ids, mut failed) = self.groups.invitable(&request.operator_id, &wanted).await?;
        if wanted.len() < request.user_ids.len() && request.user_ids.contains(&request.operator_id) {
            failed.push((request.operator_id.clone(), ErrorCode::UserAlreadyInConversation));
        }
        let mut added_user_ids = Vec::new();
        if !user_ids.is_empty() {
            let max_members = group_settings(&seat.conversation).max_members.clamp(1, MEMBERS_HARD_MAX);
            let add = repo::AddConversationMemberRequest {
                conversation_id: request.conversation_id,
                user_ids,
                role: role as i32,
                max_members,
                operator_id: request.operator_id,
            };
            let answer = self.repo.conversations.clone().add_conversation_member(ask(add)).await?.into_inner();
            if answer.added_user_ids.is_empty() && !answer.rejected_user_ids.is_empty() {
                return Err(ErrorCode::ConversationFull.into());
            }
            added_user_ids = answer.added_user_ids;
            let with = |code| move |id| (id, code);
            failed.extend(answer.existing_user_ids.into_iter().map(with(ErrorCode::UserAlreadyInConversation)));
            failed.extend(answer.rejected_user_ids.into_iter().map(with(ErrorCode::ConversationFull)));
        }
        Ok(api::AddMembersResponse {
            success: !added_user_ids.is_empty(),
            added_user_ids,
            failed_users: failed.into_iter().map(failed_user).collect(),
        })
    }

    /// Removes users from a group; the caller's own id means leaving. The first refusal of a single user is the call's.
    pub(crate) async fn remove(
        &self,
        request: api::RemoveMembersRequest,
    ) -> Result<api::RemoveMembersResponse, Status> {
        let reason = names::text(&request.reason, REASON_CHARS_MAX, false).ok_or(ErrorCode::InvalidParams)?;
        if request.user_ids.is_empty() || request.user_ids.len() > USERS_MAX {
            return Err(Failure::new(ErrorCode::InvalidParams, "members are 1 to 200 ids").into());
        }
        let mut removed_user_ids = Vec::new();
        let mut failed_users = Vec::new();
        for user_id in &request.user_ids {
            match self.remove_one(&request, user_id, reason).await {
                Ok(()) => removed_user_ids.push(user_id.clone()),
                Err(status) if request.user_ids.len() == 1 => return Err(status),
                Err(status) => {
                    let code = Failure::from_status(&status).code;
                    failed_users.push(failed_user((user_id.clone(), code)));
                }
            }
        }
        Ok(api::RemoveMembersResponse { success: !removed_user_ids.is_empty(), removed_user_ids, failed_users })
    }

    async fn remove_one(&self, request: &api::RemoveMembersRequest, user_id: &str, reason: &str) -> Result<(), Status> {
        if *user_id == request.operator_id {
            return self.groups.leave(&request.conversation_id, user_id, reason).await;
        }
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.operator_id).await?;
        seat.group()?;
        // Before the target is looked up: who may remove nobody learns nothing about membership.
        seat.check(Action::Remove(Role::Member))?;
        let target = self.repo.membership(&request.conversation_id, user_id).await?;
        let target = target.ok_or(ErrorCode::NotConversationMember)?;
        seat.check(Action::Remove(Role::of(&target)))?;
        let remove = repo::RemoveConversationMemberRequest {
            conversation_id: request.conversation_id.clone(),
            user_id: user_id.to_owned(),
            operator_id: request.operator_id.clone(),
            reason: reason.to_owned(),
        };
        self.repo.conversations.clone().remove_conversation_member(ask(remove)).await?;
        Ok(())
    }

    /// Changes a member's role, passes ownership, mutes or unmutes. `now` is Unix seconds.
    pub(crate) async fn update(&self, request: api::UpdateMemberRoleRequest, now: i64) -> Result<(), Status> {
        let named = |field: &str| request.update_mask.iter().any(|name| name == field);
        let (with_role, with_mute) = (named("role"), named("muted"));
        let role = request.new_role();
        let transfers = with_role && role == ConversationMemberRole::Owner;
        let is_sound = (with_role || with_mute)
            && !(with_role && role == ConversationMemberRole::Unspecified)
            && !(transfers && with_mute)
            && (request.muted_until == 0 || with_mute && request.muted && request.muted_until > now);
        if !is_sound {
            return Err(ErrorCode::InvalidParams.into());
        }
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.operator_id).await?;
        if with_role {
            seat.check(if transfers { Action::Transfer } else { Action::ChangeRole })?;
        }
        if with_mute {
            seat.check(Action::Mute(Role::Member))?;
        }
        if request.target_user_id == request.operator_id {
            let why = "one's own role changes by passing ownership to another";
            return Err(Failure::new(ErrorCode::InvalidParams, why).into());
        }
        let target = self.repo.membership(&request.conversation_id, &request.target_user_id).await?;
        let target = target.ok_or(ErrorCode::NotConversationMember)?;
        if with_mute {
            seat.check(Action::Mute(Role::of(&target)))?;
        }
        if transfers {
            return self.transfer(request).await;
        }
        let update = repo::UpdateMemberRoleRequest {
            conversation_id: request.conversation_id,
            user_id: request.target_user_id,
            new_role: role as i32,
            muted: request.muted,
            muted_until: request.muted_until,
            update_mask: request.update_mask,
            operator_id: request.operator_id,
        };
        self.repo.conversations.clone().update_member_role(ask(update)).await?;
        Ok(())
    }

    async fn transfer(&self, request: api::UpdateMemberRoleRequest) -> Result<(), Status> {
        let transfer = repo::TransferOwnershipRequest {
            conversation_id: request.conversation_id,
            from_user_id: request.operator_id,
            to_user_id: request.target_user_id,
        };
        self.repo.conversations.clone().transfer_ownership(ask(transfer)).await?;
        Ok(())
    }
}

fn failed_user((user_id, code): (String, ErrorCode)) -> api::FailedUser {
    api::FailedUser {
        user_id,
        reason: code.default_message().to_owned(),
        error_code: code.number(),
        code_name: code.as_str().to_owned(),
    }
}
