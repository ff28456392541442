//! What answers outside of the API: `/health` (H1).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use utoipa::ToSchema;

use super::api::Api;
use super::envelope::{ApiError, json as answer};

/// What a look at the health says.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what the answer holds, which stands outside of the envelope")]
pub(crate) struct Health {
    /// `ok` or `unavailable`.
    status: String,
    /// Unix seconds.
    time: i64,
}

/// See whether sessions and messages are taken
///
/// Outside of `/api`, without envelope.
#[utoipa::path(
    get, path = "/health", tag = "Operation", operation_id = "health", security(()),
    responses((status = 200, body = Health, description = "They are."),
        (status = 503, body = Health, description = "Starting, stopping, or a part has failed.")),
    extensions(("x-id" = json!("H1")), ("x-limit" = json!("health_check")))
)]
pub(crate) async fn health(State(api): State<Api>) -> Result<Response, ApiError> {
    api.limits.health()?;
    let is_ok = api.parts.status.borrow().is_accepting();
    let (status, word) = if is_ok { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    Ok(answer(status, &json!({"status": word, "time": api.now_s()})).into_response())
}
