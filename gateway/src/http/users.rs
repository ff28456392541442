//! User endpoints: own profile (U1, U2), search (U3) and what others may see of a user (U5).

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::{Caller, Registered};
use super::envelope::{ApiError, Success};
use super::extract::{Asked, Body, Fields, FromFields, FromQuery, QueryFields};
use super::objects::{User, found};
use super::paths::UserPath;

const SEARCH_CHARS_MAX: usize = 50;
const SEARCH_LIMIT: i32 = 10;
const SEARCH_LIMIT_MAX: i32 = 20;

/// See the own profile
#[utoipa::path(
    get, path = "/users/profile", tag = "Users", operation_id = "profile",
    responses((status = 200, body = User)),
    extensions(("x-id" = json!("U1")), ("x-guest" = json!("yes")))
)]
pub(crate) async fn profile(State(api): State<Api>, caller: Caller) -> Result<Success<User>, ApiError> {
    let request = ask(logic::GetProfileRequest { user_id: caller.user_id });
    let answer = api.users.clone().get_profile(request).await?.into_inner();
    Ok(Success::ok(answer.user.ok_or(ErrorCode::InternalError)?.into()))
}

/// What of a profile changes.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct UpdateProfile {
    /// http or https; an empty text takes the picture away.
    #[schema(max_length = 255, pattern = "^https?://")]
    avatar_url: String,
}

impl FromFields for UpdateProfile {
    fn read(fields: &mut Fields) -> Result<UpdateProfile, ApiError> {
        Ok(UpdateProfile { avatar_url: fields.required_text("avatarUrl")? })
    }
}

/// Change the own profile
#[utoipa::path(
    put, path = "/users/profile", tag = "Users", operation_id = "updateProfile",
    request_body = UpdateProfile, responses((status = 200, body = User)),
    extensions(("x-id" = json!("U2")), ("x-guest" = json!("no")))
)]
pub(crate) async fn update_profile(
    State(api): State<Api>,
    Registered(caller): Registered,
    Body(asked): Body<UpdateProfile>,
) -> Result<Success<User>, ApiError> {
    let request = logic::UpdateProfileRequest {
        user_id: caller.user_id,
        avatar_url: asked.avatar_url,
        update_mask: vec!["avatar_url".to_owned()],
    };
    let answer = api.users.clone().update_profile(ask(request)).await?.into_inner();
    Ok(Success::ok(answer.user.ok_or(ErrorCode::InternalError)?.into()))
}

/// Whom to look for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserSearch {
    /// Part of the name, in any case.
    #[param(min_length = 1, max_length = 50)]
    q: String,
    /// Results at most; 10 when absent.
    #[param(minimum = 1, maximum = 20)]
    limit: Option<i32>,
}

impl FromQuery for UserSearch {
    fn read(query: &QueryFields) -> Result<UserSearch, ApiError> {
        let (q, limit) = (query.searched("q", SEARCH_CHARS_MAX)?, query.clamped("limit", SEARCH_LIMIT_MAX)?);
        Ok(UserSearch { q, limit })
    }
}

/// Users.
#[derive(Serialize, ToSchema)]
pub(crate) struct Users {
    /// Names that begin with the text first.
    users: Vec<User>,
}

/// Search users by name
///
/// Guests, disabled users and the caller are not found.
#[utoipa::path(
    get, path = "/users/search", tag = "Users", operation_id = "searchUsers", params(UserSearch),
    responses((status = 200, body = Users)),
    extensions(("x-id" = json!("U3")), ("x-guest" = json!("no")), ("x-limit" = json!("user_search")),
        ("x-errors" = json!(["MISSING_QUERY"])))
)]
pub(crate) async fn search(
    State(api): State<Api>,
    Registered(caller): Registered,
    Asked(asked): Asked<UserSearch>,
) -> Result<Success<Users>, ApiError> {
    api.limits.search(&caller.user_id)?;
    let limit = asked.limit.unwrap_or(SEARCH_LIMIT);
    let request = logic::SearchUsersRequest { user_id: caller.user_id, query: asked.q, limit };
    let answer = api.friends.clone().search_users(ask(request)).await?.into_inner();
    Ok(Success::ok(Users { users: answer.users.into_iter().map(found).collect() }))
}

/// See another user
#[utoipa::path(
    get, path = "/users/{userId}", tag = "Users", operation_id = "user",
    responses((status = 200, body = User)),
    extensions(("x-id" = json!("U5")), ("x-guest" = json!("yes")), ("x-errors" = json!(["USER_NOT_FOUND"])))
)]
pub(crate) async fn other(
    State(api): State<Api>,
    caller: Caller,
    UserPath(user_id): UserPath,
) -> Result<Success<User>, ApiError> {
    let request = ask(logic::GetUsersInfoRequest { requester_id: caller.user_id, user_ids: vec![user_id] });
    let answer = api.users.clone().get_users_info(request).await?.into_inner();
    let user = answer.users.into_iter().next().ok_or(ErrorCode::UserNotFound)?;
    Ok(Success::ok(user.into()))
}
