//! What answers outside of the API: `/` for whoever opens the address in a browser, and `/health` (H1).

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::api::Api;
use super::envelope::{ApiError, json as answer};

const PAGE: &str = include_str!("root.html");

/// `GET /`.
pub(crate) async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// H1: whether new sessions and messages are taken.
pub(crate) async fn health(State(api): State<Api>) -> Result<Response, ApiError> {
    api.limits.health()?;
    let is_ok = api.parts.status.borrow().is_accepting();
    let (status, word) = if is_ok { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    Ok(answer(status, &json!({"status": word, "time": api.now_s()})).into_response())
}
