//! Who calls: the bearer token of a request, checked here and, at most every 30 s, by logic (spec 06 §1.5).
//!
//! Owns the order of the checks and their codes. Never issues or revokes a token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use gochat_infra::token::{Claims, TokenError, TokenKind, token_hash};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::User;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1::ValidateTokenRequest;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::api::{Api, ask};
use super::envelope::ApiError;
use super::verified::{Known, Said};

/// The user that a request is made for.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Decimal.
    pub(crate) user_id: String,
    pub(crate) user: Arc<User>,
    pub(crate) claims: Claims,
    pub(crate) token: String,
    /// Names the token in tables.
    pub(crate) hash: String,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Caller, ApiError> {
        // Something in front of the handler has asked already.
        if let Some(caller) = parts.extensions.remove::<Caller>() {
            return Ok(caller);
        }
        let token = bearer(&parts.headers)?;
        let claims = api.parts.tokens.verify(token, TokenKind::Access, api.now_s()).map_err(|error| match error {
            TokenError::Expired => ErrorCode::TokenExpired,
            TokenError::Invalid | TokenError::WeakKey => ErrorCode::InvalidToken,
        })?;
        let hash = token_hash(token);
        let user = validate(api, token, &hash).await?;
        api.limits.user(&claims.user_id)?;
        Ok(Caller { user_id: claims.user_id.clone(), user, claims, token: token.to_owned(), hash })
    }
}

/// A caller with an account of their own. Logic refuses guests too, where a rule says so: this only spares the call.
pub(crate) struct Registered(pub(crate) Caller);

impl FromRequestParts<Api> for Registered {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Registered, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        if caller.claims.guest { Err(ErrorCode::GuestForbidden.into()) } else { Ok(Registered(caller)) }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, ErrorCode> {
    let value: &HeaderValue = headers.get(AUTHORIZATION).ok_or(ErrorCode::Unauthorized)?;
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or(ErrorCode::InvalidTokenFormat)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ') {
        Ok(token)
    } else {
        Err(ErrorCode::InvalidTokenFormat)
    }
}

/// Whether a token with a good signature still counts.
async fn validate(api: &Api, token: &str, hash: &str) -> Result<Arc<User>, ApiError> {
    let stale = match api.verified.known(hash).await {
        Known::Fresh(said) => return accept(said),
        Known::Stale(user) => Some(user),
        Known::Nothing => None,
    };
    let request = ask(ValidateTokenRequest { access_token: token.to_owned() });
    let said = match api.auth.clone().validate_token(request).await.map(tonic::Response::into_inner) {
        Ok(answer) if answer.valid => Said::Good(Arc::new(answer.user.ok_or(ErrorCode::InternalError)?)),
        Ok(answer) => Said::Bad(ErrorCode::from_number(answer.error_code).unwrap_or(ErrorCode::InvalidToken)),
        Err(status) => {
            let failure = Failure::from_status(&status);
            tracing::warn!(code = %failure.code, "a token could not be validated");
            // Better the word of a minute ago than locking everybody out; a token never seen here is not let in.
            return stale.ok_or_else(|| ErrorCode::ServiceUnavailable.into());
        }
    };
    api.verified.said(hash, said.clone()).await;
    accept(said)
}

fn accept(said: Said) -> Result<Arc<User>, ApiError> {
    match said {
        Said::Good(user) => Ok(user),
        Said::Bad(code) => Err(code.into()),
    }
}

/// The address a request came from.
pub(crate) struct Peer(pub(crate) IpAddr);

impl FromRequestParts<Api> for Peer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Peer, ApiError> {
        let peer = parts.extensions.get::<SocketAddr>();
        peer.map(|peer| Peer(peer.ip())).ok_or_else(|| ErrorCode::InternalError.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn only_a_bearer_token_is_one() {
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(bearer(&HeaderMap::new()), Err(ErrorCode::Unauthorized));
        for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "] {
            assert_eq!(read(good.as_bytes()).as_deref(), Ok("a.b.c"), "{good}");
        }
        for bad in [&b""[..], b"Bearer", b"Bearer ", b"Basic abc", b"a.b.c", b"Bearer a b", b"Bearer \xff"] {
            assert_eq!(read(bad), Err(ErrorCode::InvalidTokenFormat), "{bad:?}");
        }
    }
}
