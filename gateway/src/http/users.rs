//! User endpoints: own profile (U1) and what others may see of a user (U5).

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::ids::UserId;
use gochat_proto::im::logic::v1 as logic;

use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, Success};
use super::extract::Segment;
use super::objects::User;

/// U1.
pub(crate) async fn profile(State(api): State<Api>, caller: Caller) -> Result<Success<User>, ApiError> {
    let request = ask(logic::GetProfileRequest { user_id: caller.user_id });
    let answer = api.users.clone().get_profile(request).await?.into_inner();
    Ok(Success::ok(answer.user.ok_or(ErrorCode::InternalError)?.into()))
}

/// U5.
pub(crate) async fn other(
    State(api): State<Api>,
    caller: Caller,
    Segment(user_id): Segment,
) -> Result<Success<User>, ApiError> {
    if user_id.parse::<UserId>().is_err() {
        return Err(ErrorCode::UserNotFound.into());
    }
    let request = ask(logic::GetUsersInfoRequest { requester_id: caller.user_id, user_ids: vec![user_id] });
    let answer = api.users.clone().get_users_info(request).await?.into_inner();
    let user = answer.users.into_iter().next().ok_or(ErrorCode::UserNotFound)?;
    Ok(Success::ok(user.into()))
}
