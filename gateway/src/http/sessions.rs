//! Sessions of a user: the ticket that opens a connection, and the logins there are. Never decides which login may be
//! ended: logic does.

use axum::extract::State;
use gochat_infra::token::{Claims, TokenKind};
use gochat_infra::uid;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::void;
use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, Success};
use super::paths::LoginPath;

/// A ticket is to be used at once.
const TICKET_LIFETIME_S: i64 = 30;

/// What opens one connection.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ticket {
    /// For `/ws?ticket=`.
    ticket: String,
    /// Unix second from which on it is void.
    expires_at: i64,
}

/// Get a ticket for one connection
///
/// For browsers, which cannot send a header with `/ws`: a ticket may stand in an address, since it is good once, for 30
/// seconds. The connection lasts as long as one opened with this access token.
#[utoipa::path(
    post, path = "/auth/ticket", tag = "Sessions", operation_id = "ticket",
    responses((status = 200, body = Ticket)),
    extensions(("x-limit" = json!("ticket")), ("x-guest" = json!("yes")))
)]
pub(crate) async fn ticket(State(api): State<Api>, caller: Caller) -> Result<Success<Ticket>, ApiError> {
    api.limits.ticket(&caller.user_id)?;
    let now_s = api.now_s();
    let expires_at = (now_s + TICKET_LIFETIME_S).min(caller.claims.exp);
    let claims = Claims {
        kind: TokenKind::Ticket,
        jti: uid::uuid_v7(),
        iat: now_s,
        exp: expires_at,
        sxp: caller.claims.exp,
        ath: caller.hash,
        ..caller.claims
    };
    let ticket = api.parts.tokens.sign(&claims).map_err(|_| ErrorCode::InternalError)?;
    Ok(Success::ok(Ticket { ticket, expires_at }))
}

/// A login that can still be refreshed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    id: String,
    /// As it was given at the login; may be empty.
    client_info: String,
    created_at: i64,
    refreshed_at: i64,
    /// When it ends unless it is refreshed.
    expires_at: i64,
    /// Whether this request belongs to it.
    current: bool,
}

/// The caller's logins.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sessions {
    /// Newest first.
    sessions: Vec<Session>,
}

/// List the sessions
#[utoipa::path(
    get, path = "/auth/sessions", tag = "Sessions", operation_id = "listSessions",
    responses((status = 200, body = Sessions)),
    extensions(("x-guest" = json!("yes")))
)]
pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Result<Success<Sessions>, ApiError> {
    let request = logic::ListLoginsRequest { user_id: caller.user_id };
    let answer = api.auth.clone().list_logins(ask(request)).await?.into_inner();
    let session = |login: logic::Login| Session {
        current: login.id == caller.claims.fam,
        id: login.id,
        client_info: login.client_info,
        created_at: login.created_at,
        refreshed_at: login.refreshed_at,
        expires_at: login.expires_at,
    };
    Ok(Success::ok(Sessions { sessions: answer.logins.into_iter().map(session).collect() }))
}

/// End a session
///
/// Its tokens are void at once, its connections close with 4004. Ending the current one is a logout.
#[utoipa::path(
    delete, path = "/auth/sessions/{sessionId}", tag = "Sessions", operation_id = "endSession",
    responses((status = 200)),
    extensions(("x-guest" = json!("yes")), ("x-errors" = json!(["NOT_FOUND"])))
)]
pub(crate) async fn end(
    State(api): State<Api>,
    caller: Caller,
    LoginPath(login_id): LoginPath,
) -> Result<Success<()>, ApiError> {
    let is_current = login_id == caller.claims.fam;
    let request = logic::RevokeLoginRequest { user_id: caller.user_id.clone(), login_id };
    api.auth.clone().revoke_login(ask(request)).await?;
    api.verified.forget(&caller.user_id).await;
    if is_current {
        void(&api, &caller).await;
    }
    Ok(Success::done())
}
