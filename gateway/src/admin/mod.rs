//! The admin listener: `/live`, `/ready`, `/health`, `/metrics` (spec 08 §4). Public to nobody: it binds to loopback
//! unless told otherwise. Never changes anything.

mod shard_metrics;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use gochat_infra::clock::Clock;
use gochat_infra::telemetry::metrics;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::shard_metrics::{ShardMetrics, shard_metrics};
use crate::control::status::{Phase, Status};

/// What the endpoints look at.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) shard_metrics: ShardMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) {
    let router = Router::new()
        .route("/live", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/health", get(health))
        .route("/metrics", get(prometheus))
        .with_state(admin);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin endpoints have ended");
    }
}

/// Whether traffic may be sent here.
async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    let status = *admin.status.borrow();
    match (status.is_accepting(), status.phase) {
        (true, _) => (StatusCode::OK, "ok\n"),
        (false, Phase::Running) => (StatusCode::SERVICE_UNAVAILABLE, "the bus takes no messages\n"),
        (false, Phase::Draining | Phase::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

/// A summary: 503 when it fails, 200 when it works, if only slowly.
async fn health(State(admin): State<Admin>) -> impl IntoResponse {
    let status = *admin.status.borrow();
    let word = |is_good: bool, bad: &'static str| if is_good { "ok" } else { bad };
    let overall = match status.is_accepting() {
        true => word(status.slow_down_s == 0, "degraded"),
        false => "failing",
    };
    let body = json!({
        "status": overall,
        "time": admin.clock.unix_ms() / 1000,
        "components": {
            "bus": word(status.bus_healthy, "failing"),
            "persistence": word(status.slow_down_s == 0, "lagging"),
            "sessions": word(status.phase == Phase::Running, "draining"),
        },
    });
    let code = if status.is_accepting() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
}

async fn prometheus(State(admin): State<Admin>) -> impl IntoResponse {
    let mut text = metrics::render();
    (admin.shard_metrics)(&mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
