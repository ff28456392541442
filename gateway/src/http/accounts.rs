//! Account endpoints: register, log in, refresh, log out (A1, A2, A4, A5). Never judges a name or a password: logic does.

use std::time::Duration;

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;

use super::api::{Api, ask};
use super::auth::{Caller, Peer};
use super::envelope::{ApiError, Success};
use super::extract::{Fields, RawBody};
use super::objects::{TokenPair, User};
use crate::bridge::{Downlink, Revocation};

const CLIENT_INFO_CHARS_MAX: usize = 255;

#[derive(Serialize)]
pub(crate) struct Registered {
    user: User,
}

/// A1.
pub(crate) async fn register(
    State(api): State<Api>,
    Peer(peer): Peer,
    RawBody(body): RawBody,
) -> Result<Success<Registered>, ApiError> {
    api.limits.account(peer)?;
    let mut fields = Fields::parse(&body)?;
    let request = logic::RegisterRequest {
        username: fields.required_text("username")?,
        password: fields.required_text("password")?,
        avatar_url: fields.text("avatarUrl")?.unwrap_or_default(),
    };
    let answer = api.auth.clone().register(ask(request)).await?.into_inner();
    let user = answer.user.ok_or(ErrorCode::InternalError)?.into();
    Ok(Success::created(Registered { user }))
}

/// A2.
pub(crate) async fn login(
    State(api): State<Api>,
    Peer(peer): Peer,
    RawBody(body): RawBody,
) -> Result<Success<TokenPair>, ApiError> {
    api.limits.account(peer)?;
    let mut fields = Fields::parse(&body)?;
    let username = fields.required_text("username")?;
    let password = fields.required_text("password")?;
    let client_info = fields.text_up_to("clientInfo", CLIENT_INFO_CHARS_MAX)?;
    api.limits.login(username.trim(), peer)?;
    let request = logic::LoginRequest { username: username.clone(), password, client_info };
    let answer = api.auth.clone().login(ask(request)).await.map_err(Failure::from);
    match &answer {
        Ok(_) => api.limits.logged_in(username.trim(), peer, true),
        Err(failure) if failure.code == ErrorCode::AuthInvalidCredentials => {
            api.limits.logged_in(username.trim(), peer, false);
        }
        Err(_) => {}
    }
    let pair = answer?.into_inner();
    Ok(Success::ok(TokenPair {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_in,
        user: pair.user.map(User::from),
    }))
}

/// A4.
pub(crate) async fn refresh(
    State(api): State<Api>,
    Peer(peer): Peer,
    RawBody(body): RawBody,
) -> Result<Success<TokenPair>, ApiError> {
    api.limits.account(peer)?;
    let mut fields = Fields::parse(&body)?;
    let request = logic::RefreshTokenRequest {
        refresh_token: fields.required_text("refreshToken")?,
        client_info: fields.text_up_to("clientInfo", CLIENT_INFO_CHARS_MAX)?,
    };
    let pair = api.auth.clone().refresh_token(ask(request)).await?.into_inner();
    Ok(Success::ok(TokenPair {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_in,
        user: None,
    }))
}

/// A5.
pub(crate) async fn logout(
    State(api): State<Api>,
    caller: Caller,
    RawBody(body): RawBody,
) -> Result<Success<()>, ApiError> {
    let refresh_token = Fields::parse(&body)?.text("refreshToken")?.unwrap_or_default();
    let request = logic::LogoutRequest { user_id: caller.user_id, access_token: caller.token, refresh_token };
    api.auth.clone().logout(ask(request)).await?;
    let left_s = u64::try_from(caller.claims.exp - api.now_s()).unwrap_or(0);
    api.verified.revoked(&caller.hash, Duration::from_secs(left_s + 1)).await;
    let (token_id, expires_at_s) = (caller.claims.jti.into_boxed_str(), caller.claims.exp);
    let revoked = || Downlink::Revoked(Revocation::Token { token_id: token_id.clone(), expires_at_s });
    api.parts.shards.tell_all(revoked).await;
    Ok(Success::done())
}
