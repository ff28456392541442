//! The two documents that describe the API to programs: OpenAPI 3.1 of the HTTP endpoints, made from the routes and
//! handlers, and AsyncAPI 3.0 of `/ws`. Never describes an endpoint by hand: see `describe` for what is added to all.

use axum::Extension;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use gochat_proto::contract::asyncapi as frames;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use utoipa::openapi::OpenApi;

use super::describe::describe;

const TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// They change with the binary only.
const CACHED: HeaderValue = HeaderValue::from_static("max-age=300");

/// The documents as they are served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Documents {
    openapi: Bytes,
    asyncapi: Bytes,
}

/// From what the routes say: those below `/api`, and those outside of it.
pub(crate) fn documents(resources: OpenApi, probes: OpenApi) -> Documents {
    let text = |document: &serde_json::Value| Bytes::from(document.to_string());
    Documents { openapi: text(&describe(resources, probes)), asyncapi: text(&frames()) }
}

/// `GET /api/openapi.json`.
pub(crate) async fn openapi(Extension(documents): Extension<Documents>) -> Response {
    json(documents.openapi)
}

/// `GET /api/asyncapi.json`.
pub(crate) async fn asyncapi(Extension(documents): Extension<Documents>) -> Response {
    json(documents.asyncapi)
}

fn json(text: Bytes) -> Response {
    let no_sniffing = HeaderValue::from_static("nosniff");
    ([(CONTENT_TYPE, TYPE), (CACHE_CONTROL, CACHED), (X_CONTENT_TYPE_OPTIONS, no_sniffing)], text).into_response()
}
