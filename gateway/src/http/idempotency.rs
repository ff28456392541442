//! `X-Idempotency-Key` (spec 01 §1, pipeline.md H4): a creation that is asked for twice under one key happens once, and
//! both get the same answer, for 24 hours.
//!
//! Owns the key's scope (user, method, path, body) and what a second request gets. Never applies to accounts, nor to
//! messages, which have ids of their own. Kept where the cache is: a restart of the whole process forgets it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gochat_infra::rpc;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1 as repo;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, JSON};
use super::extract::RawBody;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-idempotency-key");
/// Stands on an answer that was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("x-idempotency-replayed");
pub(crate) const KEY_CHARS_MAX: usize = 64;
/// A result is remembered this long.
const KEPT_S: i32 = 24 * 3600;
/// A request that is being worked on; beyond it nobody works on it any more.
const WORKING_S: i32 = 60;
/// Marks a request that is being worked on; a result is never empty.
const WORKING: &str = "";
/// Bytes of a result that is remembered; of a larger one only that it was a success.
const RESULT_BYTES_MAX: usize = 64 << 10;
/// How long, and how often, a second request looks for the first one's result.
const WAIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Seconds after which a second request is to be repeated.
const RETRY_AFTER_S: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    body: String,
}

/// In front of routes that create. A request without the header goes straight through.
pub(crate) async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    match replay_or_run(&api, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn replay_or_run(api: &Api, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, api).await?;
    let RawBody(body) = RawBody::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    let key = scoped(&parts, &caller.user_id, &body)?;
    if let Some(kept) = claim(api, &key).await? {
        return Ok(kept.replayed());
    }
    // The handler takes the caller from here instead of asking again.
    parts.extensions.insert(caller);
    let request = Request::from_parts(parts, Body::from(body));
    let (api, trace_id) = (api.clone(), rpc::trace_id());
    // A client that goes away does not leave half of it behind: the task ends by itself.
    let work = tokio::spawn(rpc::with_trace(trace_id, async move {
        let response = next.run(request).await;
        settle(&api, key, response).await
    }));
    work.await.map_err(|_| ErrorCode::InternalError)?
}

/// Whose key it is and what for: user, method, path, the key itself and the body.
fn scoped(parts: &Parts, user_id: &str, body: &[u8]) -> Result<String, ApiError> {
    let given = parts.headers.get(HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    if !(1..=KEY_CHARS_MAX).contains(&given.len()) || !given.iter().all(u8::is_ascii_graphic) {
        return Err(ApiError::invalid("X-Idempotency-Key", "must be 1 to 64 visible ASCII characters"));
    }
    let mut hash = Sha256::new();
    for part in [user_id.as_bytes(), parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), given, body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The result of an earlier request, or `None` for the first one, which works on it from now on.
async fn claim(api: &Api, key: &str) -> Result<Option<Kept>, ApiError> {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let mark = repo::CheckOrSetRequest { key: key.to_owned(), value: WORKING.to_owned(), ttl_seconds: WORKING_S };
        let found = api.idempotency.clone().check_or_set(ask(mark)).await?.into_inner();
        if found.first {
            return Ok(None);
        }
        if found.existing_value != WORKING {
            let kept = serde_json::from_str(&found.existing_value).map_err(|_| ErrorCode::InternalError)?;
            return Ok(Some(kept));
        }
        if tokio::time::Instant::now() >= deadline {
            let text = "the first request with this X-Idempotency-Key is still being worked on";
            return Err(ApiError::new(ErrorCode::ServiceUnavailable, text).with("retryAfter", RETRY_AFTER_S));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keeps a success; a failure changed nothing, so the key is free again.
async fn settle(api: &Api, key: String, response: Response) -> Result<Response, ApiError> {
    let status = response.status();
    if !status.is_success() {
        let cleared = api.idempotency.clone().clear(ask(repo::ClearRequest { key })).await;
        if let Err(error) = cleared {
            tracing::warn!(code = ?error.code(), "an idempotency key stays taken until it expires");
        }
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| ErrorCode::InternalError)?;
    let text = match body.len() <= RESULT_BYTES_MAX {
        true => String::from_utf8_lossy(&body).into_owned(),
        false => r#"{"success":true,"message":"ok"}"#.to_owned(),
    };
    let value = serde_json::to_string(&Kept { status: status.as_u16(), body: text }).unwrap_or_default();
    let set = repo::SetRequest { key, value, ttl_seconds: KEPT_S };
    if let Err(error) = api.idempotency.clone().set(ask(set)).await {
        tracing::warn!(code = ?error.code(), "the result under an idempotency key is not kept");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

impl Kept {
    fn replayed(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let headers = [(CONTENT_TYPE, JSON), (REPLAYED, HeaderValue::from_static("true"))];
        (status, headers, self.body).into_response()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn key(user_id: &str, method: &str, path: &str, given: &str, body: &str) -> Result<String, ApiError> {
        let request = Request::builder().method(method).uri(path).header(HEADER, given).body(()).unwrap();
        scoped(&request.into_parts().0, user_id, body.as_bytes())
    }

    #[test]
    fn a_key_belongs_to_one_user_route_and_body() {
        let first = key("7", "POST", "/conversations", "k", "{}").unwrap();
        assert_eq!(key("7", "POST", "/conversations", "k", "{}").unwrap(), first);
        for other in [
            key("8", "POST", "/conversations", "k", "{}"),
            key("7", "PUT", "/conversations", "k", "{}"),
            key("7", "POST", "/conversation", "sk", "{}"),
            key("7", "POST", "/conversations", "k", "{} "),
            key("7", "POST", "/conversations", "k{", "}"),
        ] {
            assert_ne!(other.unwrap(), first);
        }
        for bad in ["", "with space", &"x".repeat(65)] {
            assert_eq!(key("7", "POST", "/", bad, "").unwrap_err().code, ErrorCode::InvalidParams, "{bad:?}");
        }
    }
}
