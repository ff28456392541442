//! Account endpoints: register, log in, come as a guest, refresh, log out (A1-A5). Never judges a name or a password:
//! logic does.

use std::time::Duration;

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Api, ask};
use super::auth::{Caller, Peer};
use super::envelope::{ApiError, Success};
use super::extract::{Body, Fields, FromFields};
use super::objects::{TokenPair, User};
use crate::bridge::{Downlink, Revocation};

pub(crate) const CLIENT_INFO_CHARS_MAX: usize = 255;
const GUEST_NAME_CHARS_MAX: usize = 14;

/// A new account.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Register {
    /// 3 to 20 letters, digits, `_`, `-` or `.`; unique without case. Not `system`, `world`, `admin`, `guest_…`.
    username: String,
    /// 6 to 50 characters, at most 72 bytes.
    #[schema(format = Password)]
    password: String,
    /// http or https.
    #[schema(max_length = 255, pattern = "^https?://")]
    avatar_url: Option<String>,
}

impl FromFields for Register {
    fn read(fields: &mut Fields) -> Result<Register, ApiError> {
        Ok(Register {
            username: fields.required_text("username")?,
            password: fields.required_text("password")?,
            avatar_url: fields.text("avatarUrl")?,
        })
    }
}

/// Whom a registration made.
#[derive(Serialize, ToSchema)]
#[schema(as = RegisteredUser)]
pub(crate) struct Registered {
    user: User,
}

/// Make an account
///
/// Does not log in. Where the operator wants it, the user is in the world room at once.
#[utoipa::path(
    post, path = "/auth/register", tag = "Accounts", operation_id = "register", security(()),
    request_body = Register, responses((status = 201, body = Registered)),
    extensions(("x-id" = json!("A1")), ("x-limit" = json!("user_login_attempt")),
        ("x-errors" = json!(["INVALID_USERNAME", "WEAK_PASSWORD", "USER_ALREADY_EXISTS"])))
)]
pub(crate) async fn register(
    State(api): State<Api>,
    Peer(peer): Peer,
    Body(asked): Body<Register>,
) -> Result<Success<Registered>, ApiError> {
    api.limits.account(peer)?;
    let request = logic::RegisterRequest {
        username: asked.username,
        password: asked.password,
        avatar_url: asked.avatar_url.unwrap_or_default(),
    };
    let answer = api.auth.clone().register(ask(request)).await?.into_inner();
    let user = answer.user.ok_or(ErrorCode::InternalError)?.into();
    Ok(Success::created(Registered { user }))
}

/// A name and its password.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Login {
    username: String,
    #[schema(format = Password)]
    password: String,
    /// Names the device in the list of sessions.
    #[schema(max_length = 255)]
    client_info: Option<String>,
}

impl FromFields for Login {
    fn read(fields: &mut Fields) -> Result<Login, ApiError> {
        Ok(Login {
            username: fields.required_text("username")?,
            password: fields.required_text("password")?,
            client_info: Some(fields.text_up_to("clientInfo", CLIENT_INFO_CHARS_MAX)?),
        })
    }
}

/// Log in
///
/// An unknown name and a wrong password look the same. After some failures in a row the next attempt has to wait.
#[utoipa::path(
    post, path = "/auth/login", tag = "Accounts", operation_id = "login", security(()),
    request_body = Login, responses((status = 200, body = TokenPair)),
    extensions(("x-id" = json!("A2")), ("x-limit" = json!("user_login_attempt")),
        ("x-errors" = json!(["AUTH_INVALID_CREDENTIALS", "USER_DISABLED"])))
)]
pub(crate) async fn login(
    State(api): State<Api>,
    Peer(peer): Peer,
    Body(asked): Body<Login>,
) -> Result<Success<TokenPair>, ApiError> {
    api.limits.account(peer)?;
    let Login { username, password, client_info } = asked;
    api.limits.login(username.trim(), peer)?;
    let client_info = client_info.unwrap_or_default();
    let request = logic::LoginRequest { username: username.clone(), password, client_info };
    let answer = api.auth.clone().login(ask(request)).await.map_err(Failure::from);
    match &answer {
        Ok(_) => api.limits.logged_in(username.trim(), peer, true),
        Err(failure) if failure.code == ErrorCode::AuthInvalidCredentials => {
            api.limits.logged_in(username.trim(), peer, false);
        }
        Err(_) => {}
    }
    Ok(Success::ok(answer?.into_inner().into()))
}

/// Who comes as a guest; all of it may be left out.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Guest {
    /// The user is called `guest_{guestName}` when that is free.
    #[schema(min_length = 1, max_length = 14)]
    guest_name: Option<String>,
    /// As at a login.
    #[schema(max_length = 255)]
    client_info: Option<String>,
}

impl FromFields for Guest {
    fn read(fields: &mut Fields) -> Result<Guest, ApiError> {
        let guest_name = fields.text_up_to("guestName", GUEST_NAME_CHARS_MAX)?;
        let client_info = fields.text_up_to("clientInfo", CLIENT_INFO_CHARS_MAX)?;
        Ok(Guest { guest_name: Some(guest_name), client_info: Some(client_info) })
    }
}

/// Come as a guest
///
/// Makes an account without a password: for the world room, and for single chats that others open. The body may be absent.
#[utoipa::path(
    post, path = "/auth/guest", tag = "Accounts", operation_id = "guest", security(()),
    request_body = Option<Guest>, responses((status = 201, body = TokenPair)),
    extensions(("x-id" = json!("A3")), ("x-limit" = json!("guest_creation")),
        ("x-errors" = json!(["GUEST_DISABLED", "INVALID_USERNAME"])))
)]
pub(crate) async fn guest(
    State(api): State<Api>,
    Peer(peer): Peer,
    Body(asked): Body<Guest>,
) -> Result<Success<TokenPair>, ApiError> {
    api.limits.account(peer)?;
    api.limits.guest(peer)?;
    let request = logic::GuestLoginRequest {
        client_info: asked.client_info.unwrap_or_default(),
        guest_name: asked.guest_name.unwrap_or_default(),
    };
    let pair = api.auth.clone().guest_login(ask(request)).await?.into_inner();
    Ok(Success::created(pair.into()))
}

/// A refresh token.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Refresh {
    refresh_token: String,
    /// As at the login.
    #[schema(max_length = 255)]
    client_info: Option<String>,
}

impl FromFields for Refresh {
    fn read(fields: &mut Fields) -> Result<Refresh, ApiError> {
        Ok(Refresh {
            refresh_token: fields.required_text("refreshToken")?,
            client_info: Some(fields.text_up_to("clientInfo", CLIENT_INFO_CHARS_MAX)?),
        })
    }
}

/// Get a new pair of tokens
///
/// A refresh token is good once: within 10 s the same client gets the same pair again (its answer was lost), later the
/// whole login is void.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "Accounts", operation_id = "refresh", security(()),
    request_body = Refresh, responses((status = 200, body = TokenPair)),
    extensions(("x-id" = json!("A4")), ("x-limit" = json!("user_login_attempt")), ("x-guest" = json!("yes")),
        ("x-errors" = json!(["INVALID_TOKEN", "TOKEN_EXPIRED", "TOKEN_REUSED", "USER_DISABLED"])))
)]
pub(crate) async fn refresh(
    State(api): State<Api>,
    Peer(peer): Peer,
    Body(asked): Body<Refresh>,
) -> Result<Success<TokenPair>, ApiError> {
    api.limits.account(peer)?;
    let request = logic::RefreshTokenRequest {
        refresh_token: asked.refresh_token,
        client_info: asked.client_info.unwrap_or_default(),
    };
    let pair = api.auth.clone().refresh_token(ask(request)).await?.into_inner();
    Ok(Success::ok(TokenPair {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_in,
        user: None,
    }))
}

/// What ends with this session; all of it may be left out.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Logout {
    /// A refresh token that ends too; without it, all of this login.
    refresh_token: Option<String>,
}

impl FromFields for Logout {
    fn read(fields: &mut Fields) -> Result<Logout, ApiError> {
        Ok(Logout { refresh_token: fields.text("refreshToken")? })
    }
}

/// Log out
///
/// Voids the access token and its refresh tokens at once; connections opened with it close with 4004.
#[utoipa::path(
    post, path = "/auth/logout", tag = "Accounts", operation_id = "logout",
    request_body = Option<Logout>, responses((status = 200)),
    extensions(("x-id" = json!("A5")), ("x-guest" = json!("yes")))
)]
pub(crate) async fn logout(
    State(api): State<Api>,
    caller: Caller,
    Body(asked): Body<Logout>,
) -> Result<Success<()>, ApiError> {
    let request = logic::LogoutRequest {
        user_id: caller.user_id.clone(),
        access_token: caller.token.clone(),
        refresh_token: asked.refresh_token.unwrap_or_default(),
    };
    api.auth.clone().logout(ask(request)).await?;
    // Earlier tokens of this login too, which were refreshed since.
    api.verified.forget(&caller.user_id).await;
    void(&api, &caller).await;
    Ok(Success::done())
}

/// The caller's access token counts here no more, from now on; others learn it from logic.
pub(crate) async fn void(api: &Api, caller: &Caller) {
    let left_s = u64::try_from(caller.claims.exp - api.now_s()).unwrap_or(0);
    api.verified.revoked(&caller.hash, Duration::from_secs(left_s + 1)).await;
    let (token_id, expires_at_s) = (caller.claims.jti.as_str(), caller.claims.exp);
    let revoked = || Downlink::Revoked(Revocation::Token { token_id: token_id.into(), expires_at_s });
    api.parts.shards.tell_all(revoked).await;
}
