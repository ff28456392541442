//! Members of a conversation: list (G1), add (G2), remove (G3), role and mute (G4). Never knows what a role may do: logic
//! does.

use axum::extract::State;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::{Caller, Registered};
use super::conversations::Paging;
use super::envelope::{ApiError, Success};
use super::extract::{Asked, Body, Fields, FromFields, FromQuery, QueryFields};
use super::groups::Reason;
use super::objects::{FailedUser, Member, code_of};
use super::paths::{ConversationPath, UserPath};

/// Users added at once.
const ADDED_MAX: usize = 200;

/// Which members.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RoleQuery {
    /// Only plain members (1), admins (2) or the owner (3).
    #[param(minimum = 1, maximum = 3)]
    role: Option<i32>,
}

impl FromQuery for RoleQuery {
    fn read(query: &QueryFields) -> Result<RoleQuery, ApiError> {
        Ok(RoleQuery { role: query.one_of("role", 1..=3)? })
    }
}

/// A page of members.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Members {
    members: Vec<Member>,
    has_more: bool,
    total: i64,
}

/// List the members
///
/// For members; in the world room for its admins.
#[utoipa::path(
    get, path = "/conversations/{id}/members", tag = "Members", operation_id = "listMembers",
    params(Paging, RoleQuery), responses((status = 200, body = Members)),
    extensions(("x-id" = json!("G1")), ("x-guest" = json!("yes")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "INSUFFICIENT_PERMISSION", "CONVERSATION_NOT_FOUND",
            "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    Asked(paging): Asked<Paging>,
    Asked(asked): Asked<RoleQuery>,
) -> Result<Success<Members>, ApiError> {
    let request = logic::GetMembersRequest {
        user_id: caller.user_id,
        conversation_id,
        page: paging.page(),
        page_size: paging.size(),
        role_filter: asked.role.unwrap_or(0),
    };
    let answer = api.conversations.clone().get_members(ask(request)).await?.into_inner();
    Ok(Success::ok(Members {
        members: answer.members.into_iter().map(Member::from).collect(),
        has_more: answer.has_more,
        total: answer.total,
    }))
}

/// Users to add.
#[derive(ToSchema)]
pub(crate) struct AddMembers {
    /// 1 to 200 user ids.
    #[schema(min_items = 1, max_items = 200)]
    members: Vec<String>,
    /// 1 member, the default, or 2 admin.
    #[schema(minimum = 1, maximum = 2)]
    role: Option<i64>,
}

impl FromFields for AddMembers {
    fn read(fields: &mut Fields) -> Result<AddMembers, ApiError> {
        let mut members = fields.ids("members")?;
        if !(1..=ADDED_MAX).contains(&members.len()) {
            return Err(ApiError::invalid("members", "must be 1 to 200 ids"));
        }
        members.sort_unstable();
        members.dedup();
        match fields.integer("role")? {
            role @ (None | Some(1 | 2)) => Ok(AddMembers { members, role }),
            Some(_) => Err(ApiError::invalid("role", "must be 1 member or 2 admin")),
        }
    }
}

/// Who was added, and who was not.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MembersAdded)]
pub(crate) struct Added {
    added_user_ids: Vec<String>,
    /// Members already, unknown, disabled, blocked users and guests.
    failed_users: Vec<FailedUser>,
}

/// Add members to a group
///
/// Admins and the owner; plain members where the group lets them invite. Who cannot be added is listed, the others are.
#[utoipa::path(
    post, path = "/conversations/{id}/members", tag = "Members", operation_id = "addMembers",
    request_body = AddMembers, responses((status = 201, body = Added)),
    extensions(("x-id" = json!("G2")), ("x-guest" = json!("no")), ("x-idempotent" = json!(true)),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "INSUFFICIENT_PERMISSION", "CONVERSATION_FULL",
            "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn add(
    State(api): State<Api>,
    Registered(caller): Registered,
    ConversationPath(conversation_id): ConversationPath,
    Body(asked): Body<AddMembers>,
) -> Result<Success<Added>, ApiError> {
    let request = logic::AddMembersRequest {
        operator_id: caller.user_id,
        conversation_id,
        user_ids: asked.members,
        role: asked.role.unwrap_or(1) as i32,
    };
    let answer = api.conversations.clone().add_members(ask(request)).await?.into_inner();
    Ok(Success::created(Added {
        added_user_ids: answer.added_user_ids,
        failed_users: answer.failed_users.into_iter().map(FailedUser::from).collect(),
    }))
}

/// Remove a member from a group
///
/// Admins remove plain members, the owner everybody else. Oneself: as leaving.
#[utoipa::path(
    delete, path = "/conversations/{id}/members/{userId}", tag = "Members", operation_id = "removeMember",
    params(Reason), responses((status = 200)),
    extensions(("x-id" = json!("G3")), ("x-guest" = json!("no")),
        ("x-errors" = json!(["CANNOT_LEAVE_CONVERSATION", "NOT_CONVERSATION_MEMBER", "INSUFFICIENT_PERMISSION",
            "USER_NOT_FOUND", "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    Registered(caller): Registered,
    ConversationPath(conversation_id): ConversationPath,
    UserPath(user_id): UserPath,
    Asked(asked): Asked<Reason>,
) -> Result<Success<()>, ApiError> {
    let mut conversations = api.conversations.clone();
    if user_id == caller.user_id {
        let request = logic::LeaveConversationRequest { user_id, conversation_id };
        conversations.leave_conversation(ask(request)).await?;
        return Ok(Success::done());
    }
    let request = logic::RemoveMembersRequest {
        operator_id: caller.user_id,
        conversation_id,
        user_ids: vec![user_id],
        reason: asked.reason.unwrap_or_default(),
    };
    let answer = conversations.remove_members(ask(request)).await?.into_inner();
    match answer.failed_users.into_iter().next() {
        Some(failed) => Err(code_of(&failed.code_name, failed.error_code).into()),
        None => Ok(Success::done()),
    }
}

/// What of a membership changes; at least one of `role` and `muted`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct UpdateMember {
    /// 1 member, 2 admin, 3 owner: the caller becomes admin then.
    #[schema(minimum = 1, maximum = 3)]
    role: Option<i64>,
    /// Whether the member may not send.
    muted: Option<bool>,
    /// Unix second at which a mute ends by itself; absent: it does not.
    #[schema(minimum = 0)]
    muted_until: Option<i64>,
}

impl FromFields for UpdateMember {
    fn read(fields: &mut Fields) -> Result<UpdateMember, ApiError> {
        let (role, muted) = (fields.integer("role")?, fields.boolean("muted")?);
        let muted_until = fields.integer("mutedUntil")?;
        if role.is_some_and(|role| !(1..=3).contains(&role)) {
            return Err(ApiError::invalid("role", "must be 1 member, 2 admin or 3 owner"));
        }
        if role.is_none() && muted.is_none() {
            return Err(ApiError::invalid("role", "is required unless muted is given"));
        }
        Ok(UpdateMember { role, muted, muted_until })
    }
}

/// Change the role of a member, or mute them
///
/// Roles: the owner. Mutes: admins and the owner, over lower roles.
#[utoipa::path(
    put, path = "/conversations/{id}/members/{userId}", tag = "Members", operation_id = "updateMember",
    request_body = UpdateMember, responses((status = 200)),
    extensions(("x-id" = json!("G4")), ("x-guest" = json!("no")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "INSUFFICIENT_PERMISSION", "USER_NOT_FOUND",
            "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn update(
    State(api): State<Api>,
    Registered(caller): Registered,
    ConversationPath(conversation_id): ConversationPath,
    UserPath(target_user_id): UserPath,
    Body(asked): Body<UpdateMember>,
) -> Result<Success<()>, ApiError> {
    let mut update_mask = Vec::new();
    if asked.role.is_some() {
        update_mask.push("role".to_owned());
    }
    if asked.muted.is_some() {
        update_mask.push("muted".to_owned());
    }
    let request = logic::UpdateMemberRoleRequest {
        operator_id: caller.user_id,
        conversation_id,
        target_user_id,
        new_role: asked.role.unwrap_or(0) as i32,
        muted: asked.muted.unwrap_or(false),
        update_mask,
        muted_until: asked.muted_until.unwrap_or(0),
    };
    api.conversations.clone().update_member_role(ask(request)).await?;
    Ok(Success::done())
}
