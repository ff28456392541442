//! The routes of the API and which handler serves each. Whatever is not here is an envelope with 404 or 405.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use gochat_proto::codes::ErrorCode;
use http::{Method, StatusCode};

use super::api::Api;
use super::envelope::ApiError;
use super::{accounts, conversations, edge, messages, root, users};

/// Everything that is served over HTTP.
pub(crate) fn router(api: Api) -> Router {
    let resources = Router::new()
        .route("/auth/register", post(accounts::register))
        .route("/auth/login", post(accounts::login))
        .route("/auth/refresh", post(accounts::refresh))
        .route("/auth/logout", post(accounts::logout))
        .route("/users/profile", get(users::profile))
        .route("/users/{userId}", get(users::other))
        .route("/conversations", get(conversations::list).post(conversations::create))
        .route("/conversations/{id}", get(conversations::detail))
        .route("/conversations/{id}/messages", get(messages::history).post(messages::send))
        .route("/conversations/{id}/read", put(messages::read));
    Router::new()
        .nest("/api", resources.clone())
        .nest("/api/v1", resources)
        .route("/", get(root::page))
        .route("/health", get(root::health))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), limit))
        .layer(middleware::from_fn(edge::measure))
        .with_state(api)
}

/// Protection of the instance; health has a rule of its own.
async fn limit(axum::extract::State(api): axum::extract::State<Api>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/health"
        && let Err(error) = api.limits.machine()
    {
        return error.into_response();
    }
    next.run(request).await
}

async fn unknown(request: Request) -> ApiError {
    if request.uri().path() == "/ws" {
        return ApiError::new(ErrorCode::InvalidParams, "/ws takes WebSocket upgrades only").closing();
    }
    ErrorCode::NotFound.into()
}

async fn wrong_method(method: Method) -> Response {
    let error = ApiError::new(ErrorCode::InvalidParams, format!("{method} is not served here; see Allow"));
    let mut response = error.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
