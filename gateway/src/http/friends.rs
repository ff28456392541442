//! Friends: list (F1), remove (F5), remark and block (F6), and whom the caller has blocked.

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::Registered;
use super::conversations::Paging;
use super::envelope::{ApiError, Success};
use super::extract::{Asked, Body, Fields, FromFields, FromQuery, QueryFields};
use super::objects::Friend;
use super::paths::FriendPath;

const REMARK_CHARS_MAX: usize = 100;
/// Status of a relation that the caller blocked.
const BLOCKED: i32 = 3;

/// Which friends.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FriendsQuery {
    /// A delta: who changed since this `serverTime`.
    #[param(minimum = 0)]
    last_sync: Option<i64>,
    /// Whether presence is told; true when absent.
    include_online: Option<bool>,
    /// 3: those blocked instead.
    status: Option<i32>,
}

impl FromQuery for FriendsQuery {
    fn read(query: &QueryFields) -> Result<FriendsQuery, ApiError> {
        let status = query.integer("status")?;
        if status.is_some_and(|status| status != 1 && status != 3) {
            return Err(ApiError::invalid("status", "must be 1 friends or 3 blocked"));
        }
        Ok(FriendsQuery {
            last_sync: query.integer("last_sync")?,
            include_online: query.boolean("include_online")?,
            status: status.and_then(|status| i32::try_from(status).ok()),
        })
    }
}

/// Friends.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Friends {
    friends: Vec<Friend>,
    /// For the next `last_sync`; not with `status=3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time: Option<i64>,
    /// Of a delta: users who are friends no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_ids: Option<Vec<String>>,
}

/// List the friends
///
/// All of them; with `last_sync` those that changed, and `removedIds`.
#[utoipa::path(
    get, path = "/friends", tag = "Friends", operation_id = "listFriends", params(FriendsQuery),
    responses((status = 200, body = Friends)),
    extensions(("x-id" = json!("F1")), ("x-guest" = json!("no")))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Registered(caller): Registered,
    Asked(asked): Asked<FriendsQuery>,
) -> Result<Success<Friends>, ApiError> {
    let include_online_status = asked.include_online.unwrap_or(true);
    let mut friends = api.friends.clone();
    if asked.status == Some(BLOCKED) {
        let request =
            logic::GetFriendsRequest { user_id: caller.user_id, include_online_status: false, status: BLOCKED };
        let answer = friends.get_friends(ask(request)).await?.into_inner();
        let friends = answer.friends.into_iter().map(|friend| Friend::new(friend, false)).collect();
        return Ok(Success::ok(Friends { friends, server_time: None, removed_ids: None }));
    }
    let last_sync_time = asked.last_sync.unwrap_or(0);
    let request = logic::GetFriendsWithSyncRequest { user_id: caller.user_id, last_sync_time, include_online_status };
    let answer = friends.get_friends_with_sync(ask(request)).await?.into_inner();
    Ok(Success::ok(Friends {
        friends: answer.friends.into_iter().map(|friend| Friend::new(friend, include_online_status)).collect(),
        server_time: Some(answer.server_time),
        removed_ids: (last_sync_time > 0).then_some(answer.removed_friend_ids),
    }))
}

/// A page of blocked users.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blocked {
    /// Of status 3; friends or strangers.
    blocked: Vec<Friend>,
    has_more: bool,
}

/// List whom the caller has blocked
#[utoipa::path(
    get, path = "/friends/blocked", tag = "Friends", operation_id = "listBlocked", params(Paging),
    responses((status = 200, body = Blocked)),
    extensions(("x-guest" = json!("no")))
)]
pub(crate) async fn blocked(
    State(api): State<Api>,
    Registered(caller): Registered,
    Asked(paging): Asked<Paging>,
) -> Result<Success<Blocked>, ApiError> {
    let request = logic::ListBlockedRequest { user_id: caller.user_id, page: paging.page(), page_size: paging.size() };
    let answer = api.friends.clone().list_blocked(ask(request)).await?.into_inner();
    let blocked = answer.blocked.into_iter().map(|friend| Friend::new(friend, false)).collect();
    Ok(Success::ok(Blocked { blocked, has_more: answer.has_more }))
}

/// End a friendship
///
/// For both; their conversation and its history stay.
#[utoipa::path(
    delete, path = "/friends/{friendId}", tag = "Friends", operation_id = "removeFriend",
    responses((status = 200)),
    extensions(("x-id" = json!("F5")), ("x-guest" = json!("no")),
        ("x-errors" = json!(["NOT_FRIENDS", "USER_NOT_FOUND"])))
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    Registered(caller): Registered,
    FriendPath(friend_id): FriendPath,
) -> Result<Success<()>, ApiError> {
    let request = logic::RemoveFriendRequest { user_id: caller.user_id, friend_id };
    api.friends.clone().remove_friend(ask(request)).await?;
    Ok(Success::done())
}

/// What of a relation changes; at least one of both.
#[derive(ToSchema)]
pub(crate) struct UpdateFriend {
    /// A name for the caller's own eyes.
    #[schema(max_length = 100)]
    remark: Option<String>,
    /// Whether the other may write to the caller, ask for friendship and see presence. Works on strangers too; the other
    /// is not told.
    blocked: Option<bool>,
}

impl FromFields for UpdateFriend {
    fn read(fields: &mut Fields) -> Result<UpdateFriend, ApiError> {
        let (remark, blocked) = (fields.text("remark")?, fields.boolean("blocked")?);
        if remark.as_ref().is_some_and(|remark| remark.chars().count() > REMARK_CHARS_MAX) {
            return Err(ApiError::invalid("remark", "is longer than 100 characters"));
        }
        if remark.is_none() && blocked.is_none() {
            return Err(ApiError::invalid("body", "must have a remark or blocked"));
        }
        Ok(UpdateFriend { remark, blocked })
    }
}

/// Set a remark, block or unblock
#[utoipa::path(
    put, path = "/friends/{friendId}", tag = "Friends", operation_id = "updateFriend",
    request_body = UpdateFriend, responses((status = 200, body = Friend)),
    extensions(("x-id" = json!("F6")), ("x-guest" = json!("no")),
        ("x-errors" = json!(["NOT_FRIENDS", "USER_NOT_FOUND"])))
)]
pub(crate) async fn update(
    State(api): State<Api>,
    Registered(caller): Registered,
    FriendPath(friend_id): FriendPath,
    Body(asked): Body<UpdateFriend>,
) -> Result<Success<Friend>, ApiError> {
    let mut update_mask = Vec::new();
    if asked.remark.is_some() {
        update_mask.push("remark".to_owned());
    }
    if asked.blocked.is_some() {
        update_mask.push("blocked".to_owned());
    }
    let request = logic::UpdateFriendRequest {
        user_id: caller.user_id,
        friend_id,
        remark: asked.remark.unwrap_or_default(),
        blocked: asked.blocked.unwrap_or(false),
        update_mask,
    };
    let answer = api.friends.clone().update_friend(ask(request)).await?.into_inner();
    Ok(Success::ok(Friend::new(answer.friend.ok_or(ErrorCode::InternalError)?, false)))
}
