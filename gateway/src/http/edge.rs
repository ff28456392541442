//! What every request goes through, whatever it asks for: trace id, CORS, refusal of late upgrades, isolation of panics,
//! measurement. Never looks at a body.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use gochat_infra::rpc::{self, TRACE_HEADER, TraceId};
use gochat_infra::telemetry::metrics::{counter, histogram};
use gochat_infra::uid;
use gochat_proto::codes::ErrorCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::envelope::ApiError;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS");
const HEADERS: HeaderValue =
    HeaderValue::from_static("Origin, Content-Type, Accept, Authorization, X-Trace-ID, X-Idempotency-Key");
const EXPOSED: HeaderValue = HeaderValue::from_static("X-Trace-ID, X-Idempotency-Replayed, Retry-After");
/// A browser asks again after ten minutes.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");
const REQUEST_ID_HEADER: &str = "x-request-id";

/// The way from a request to its answer.
#[derive(Clone)]
pub(crate) struct Edge {
    router: Router,
    origins: std::sync::Arc<[String]>,
}

impl Edge {
    /// Origins that browsers may call from; `*` allows all.
    pub(crate) fn new(router: Router, origins: Vec<String>) -> Edge {
        Edge { router, origins: origins.into() }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let trace_id = trace_id(request.headers());
        let origin = request.headers().get(ORIGIN).cloned();
        let answer = rpc::with_trace(trace_id.clone(), self.route(request));
        let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                tracing::error!(%trace_id, "an HTTP handler panicked");
                ApiError::from(ErrorCode::InternalError).into_response()
            }
        };
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_maybe_shared(trace_id.as_bytes().clone()) {
            headers.insert(TRACE_HEADER, value);
        }
        self.allow_origin(origin, headers);
        response
    }

    async fn route(&self, request: Request) -> Response {
        if is_upgrade(request.headers()) {
            let text = "an upgrade must be the first request of its connection, GET /ws";
            return ApiError::new(ErrorCode::InvalidParams, text).closing().into_response();
        }
        if request.method() == Method::OPTIONS {
            return preflight();
        }
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }

    fn allow_origin(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.iter().any(|allowed| allowed == "*") {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            let Some(origin) = origin else { return };
            if !self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
                return;
            }
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    response
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let protocols = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    protocols.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The caller's, or a new one.
fn trace_id(headers: &HeaderMap) -> TraceId {
    let given = headers.get(TRACE_HEADER).and_then(|value| TraceId::from_bytes(value.as_bytes()));
    let synonym = || {
        let id = headers.get(REQUEST_ID_HEADER)?.to_str().ok()?;
        uid::is_valid_uuid(id).then(|| TraceId::from_bytes(id))?
    };
    given.or_else(synonym).or_else(|| TraceId::from_bytes(uid::uuid_v7())).unwrap_or_else(TraceId::generate)
}

/// Counts one request by its route; a path that nobody serves is `other`.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "OTHER",
    };
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    let status = response.status();
    let labels = [("method", method), ("path", path), ("status", status.as_str())];
    counter("http_requests_total", "HTTP requests answered.", &labels).inc();
    let labels = [("method", method), ("path", path)];
    histogram("http_request_duration_seconds", "Time to answer an HTTP request.", &labels).observe(started.elapsed());
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use axum::body::Body;
    use axum::routing::get;

    use super::*;

    fn edge(origins: &[&str]) -> Edge {
        let router = Router::new()
            .route("/ok", get(async || rpc::trace_id().to_string()))
            .route("/panic", get(async || -> String { panic!("as asked") }));
        Edge::new(router, origins.iter().map(|origin| (*origin).to_owned()).collect())
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let request = Request::builder().method(method).uri(path);
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(Body::empty())
            .unwrap()
    }

    #[tokio::test]
    async fn the_trace_is_the_callers_or_new() {
        let edge = edge(&["*"]);
        let uuid = "0190a7b0-0000-7000-8000-000000000001";
        for (headers, expected) in [
            (vec![("x-trace-id", "mine")], Some("mine")),
            (vec![("x-request-id", uuid)], Some(uuid)),
            (vec![("x-trace-id", "mine"), ("x-request-id", uuid)], Some("mine")),
            (vec![("x-trace-id", "with space")], None),
            (vec![("x-request-id", "no uuid")], None),
        ] {
            let response = edge.answer(request("GET", "/ok", &headers)).await;
            let shown = response.headers()["x-trace-id"].to_str().unwrap().to_owned();
            let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
            assert_eq!(shown.as_bytes(), body, "the handler sees the same");
            match expected {
                Some(expected) => assert_eq!(shown, expected),
                None => assert!(uid::is_valid_uuid(&shown), "{shown}"),
            }
        }
    }

    #[tokio::test]
    async fn origins() {
        let page = [("origin", "https://page.example")];
        let allowed = |response: &Response| response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned();
        for (origins, expected) in [
            (&["*"][..], Some("*")),
            (&["https://page.example"], Some(page[0].1)),
            (&["https://other"], None),
            (&[], None),
        ] {
            let preflight = edge(origins).answer(request("OPTIONS", "/anything", &page)).await;
            assert_eq!(preflight.status(), 204);
            assert!(preflight.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS));
            assert_eq!(allowed(&preflight).as_ref().map(|value| value.to_str().unwrap()), expected);
            let response = edge(origins).answer(request("GET", "/ok", &page)).await;
            assert_eq!(allowed(&response).as_ref().map(|value| value.to_str().unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn panics_and_late_upgrades_are_answered() {
        assert_eq!(edge(&[]).answer(request("GET", "/panic", &[])).await.status(), 500);
        let late = [("connection", "upgrade"), ("upgrade", "h2c, WebSocket")];
        let response = edge(&[]).answer(request("GET", "/ok", &late)).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["connection"]),
            (400, &HeaderValue::from_static("close"))
        );
    }
}
