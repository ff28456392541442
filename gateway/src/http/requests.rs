//! Friend requests: list (F2), send (F3), decide (F4).

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
use super::objects::{Conversation, FriendRequest};
use super::paths::RequestPath;

const MESSAGE_CHARS_MAX: usize = 200;
const RECEIVED: i32 = 1;
const SENT: i32 = 2;
const ANY_STATUS: i32 = -1;
const ACCEPT: i32 = 1;
const REJECT: i32 = 2;

/// Which requests.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RequestsQuery {
    /// `received`, the default, or `sent`.
    #[param(rename = "type")]
    kind: Option<String>,
    /// Only pending (0), accepted (1) or rejected (2) ones.
    #[param(minimum = 0, maximum = 2)]
    status: Option<i32>,
}

impl FromQuery for RequestsQuery {
    fn read(query: &QueryFields) -> Result<RequestsQuery, ApiError> {
        match query.text("type") {
            None | Some("received" | "sent") => {}
            Some(_) => return Err(ApiError::invalid("type", "must be received or sent")),
        }
        Ok(RequestsQuery { kind: query.text("type").map(str::to_owned), status: query.one_of("status", 0..=2)? })
    }
}

/// A page of requests.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Requests {
    /// Newest first.
    requests: Vec<FriendRequest>,
    has_more: bool,
}

/// List friend requests
#[utoipa::path(
    get, path = "/friends/requests", tag = "Friends", operation_id = "listRequests", params(RequestsQuery, Paging),
    responses((status = 200, body = Requests)),
    extensions(("x-id" = json!("F2")), ("x-guest" = json!("no")))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Registered(caller): Registered,
    Asked(asked): Asked<RequestsQuery>,
    Asked(paging): Asked<Paging>,
) -> Result<Success<Requests>, ApiError> {
    let request = logic::GetFriendRequestsRequest {
        user_id: caller.user_id,
        status: asked.status.unwrap_or(ANY_STATUS),
        r#type: if asked.kind.as_deref() == Some("sent") { SENT } else { RECEIVED },
        page: paging.page(),
        page_size: paging.size(),
    };
    let answer = api.friends.clone().get_friend_requests(ask(request)).await?.into_inner();
    let requests = answer.requests.into_iter().map(FriendRequest::from).collect();
    Ok(Success::ok(Requests { requests, has_more: answer.has_more }))
}

/// Whom to ask.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct SendRequest {
    /// A user id.
    target_user_id: String,
    /// For them to read.
    #[schema(max_length = 200)]
    message: Option<String>,
}

impl FromFields for SendRequest {
    fn read(fields: &mut Fields) -> Result<SendRequest, ApiError> {
        let message = Some(fields.text_up_to("message", MESSAGE_CHARS_MAX)?);
        Ok(SendRequest { target_user_id: fields.id("targetUserId")?, message })
    }
}

/// A request that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = RequestMade)]
pub(crate) struct Made {
    /// Of status 1 when the other had asked already: the two are friends now.
    request: FriendRequest,
}

/// Ask for friendship
///
/// A rejected request can be repeated after 24 hours.
#[utoipa::path(
    post, path = "/friends/requests", tag = "Friends", operation_id = "sendRequest",
    request_body = SendRequest, responses((status = 201, body = Made)),
    extensions(("x-id" = json!("F3")), ("x-guest" = json!("no")), ("x-idempotent" = json!(true)),
        ("x-errors" = json!(["CANNOT_ADD_SELF_AS_FRIEND", "BLOCKED", "USER_NOT_FOUND", "ALREADY_FRIENDS",
            "FRIEND_REQUEST_ALREADY_EXISTS"])))
)]
pub(crate) async fn send(
    State(api): State<Api>,
    Registered(caller): Registered,
    Body(asked): Body<SendRequest>,
) -> Result<Success<Made>, ApiError> {
    let request = logic::SendFriendRequestRequest {
        requester_id: caller.user_id,
        target_id: asked.target_user_id,
        message: asked.message.unwrap_or_default(),
    };
    let answer = api.friends.clone().send_friend_request(ask(request)).await?.into_inner();
    Ok(Success::created(Made { request: answer.request.ok_or(ErrorCode::InternalError)?.into() }))
}

/// The decision.
#[derive(ToSchema)]
pub(crate) struct HandleRequest {
    /// `accept` or `reject`.
    #[schema(value_type = String)]
    action: i32,
}

impl FromFields for HandleRequest {
    fn read(fields: &mut Fields) -> Result<HandleRequest, ApiError> {
        let wrong = || ApiError::invalid("action", "must be accept or reject");
        let value = fields.value("action").ok_or_else(wrong)?;
        let action = match (value.as_str(), value.as_i64()) {
            (Some("accept"), _) | (_, Some(1)) => ACCEPT,
            (Some("reject"), _) | (_, Some(2)) => REJECT,
            _ => return Err(wrong()),
        };
        Ok(HandleRequest { action })
    }
}

/// What came of a decision.
#[derive(Serialize, ToSchema)]
#[schema(as = RequestHandled)]
pub(crate) struct Handled {
    /// Of an accepted request: the single chat of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<Conversation>,
}

/// Accept or reject a friend request
///
/// Only who was asked. Accepting makes the two friends and opens their single chat in one step.
#[utoipa::path(
    put, path = "/friends/requests/{requestId}", tag = "Friends", operation_id = "handleRequest",
    request_body = HandleRequest, responses((status = 200, body = Handled)),
    extensions(("x-id" = json!("F4")), ("x-guest" = json!("no")),
        ("x-errors" = json!(["FORBIDDEN", "BLOCKED", "FRIEND_REQUEST_NOT_FOUND", "FRIEND_REQUEST_ALREADY_HANDLED"])))
)]
pub(crate) async fn handle(
    State(api): State<Api>,
    Registered(caller): Registered,
    RequestPath(request_id): RequestPath,
    Body(asked): Body<HandleRequest>,
) -> Result<Success<Handled>, ApiError> {
    let action = asked.action;
    let request = logic::HandleFriendRequestRequest { request_id, handler_id: caller.user_id, action };
    let answer = api.friends.clone().handle_friend_request(ask(request)).await?.into_inner();
    let conversation = answer.conversation.filter(|_| action == ACCEPT).map(Conversation::from);
    Ok(Success::ok(Handled { conversation }))
}
