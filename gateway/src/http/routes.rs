//! The routes of the API and which handler serves each, one list for the router and for its description. Whatever is not
//! here is an envelope with 404 or 405.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gochat_proto::codes::ErrorCode;
use http::{Method, StatusCode};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::Api;
use super::envelope::ApiError;
use super::{
    accounts, contract, conversations, credentials, edge, friends, groups, health, idempotency, members, messages,
    page, presence, recall, requests, sessions, users,
};

/// Everything that is served over HTTP.
pub(crate) fn router(api: Api) -> Router {
    let (resources, description) = resources(&api).split_for_parts();
    let (health, of_health) = probes().split_for_parts();
    let documents = contract::documents(description, of_health);
    let described = resources
        .route("/openapi.json", get(contract::openapi))
        .route("/asyncapi.json", get(contract::asyncapi))
        .layer(axum::Extension(documents));
    Router::new()
        .nest("/api", described.clone())
        .nest("/api/v1", described)
        .merge(health)
        .route("/", get(page::index))
        .route("/docs", get(page::docs))
        .route("/page/{*path}", get(page::file))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), limit))
        .layer(middleware::from_fn(edge::measure))
        .with_state(api)
}

/// What stands below `/api`.
fn resources(api: &Api) -> OpenApiRouter<Api> {
    let creating = OpenApiRouter::new()
        .routes(routes!(conversations::create))
        .routes(routes!(members::add))
        .routes(routes!(requests::send))
        .route_layer(middleware::from_fn_with_state(api.clone(), idempotency::once));
    OpenApiRouter::with_openapi(OpenApi::default())
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::login))
        .routes(routes!(accounts::guest))
        .routes(routes!(accounts::refresh))
        .routes(routes!(accounts::logout))
        .routes(routes!(sessions::ticket))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::end))
        .routes(routes!(users::profile, users::update_profile, credentials::delete_account))
        .routes(routes!(credentials::change_password))
        .routes(routes!(users::search))
        .routes(routes!(presence::statuses))
        .routes(routes!(users::other))
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::unread))
        .routes(routes!(groups::search))
        .routes(routes!(groups::join_world))
        .routes(routes!(conversations::detail, groups::update, groups::delete))
        .routes(routes!(groups::leave))
        .routes(routes!(messages::history, messages::send))
        .routes(routes!(recall::recall))
        .routes(routes!(messages::read))
        .routes(routes!(members::list))
        .routes(routes!(members::remove, members::update))
        .routes(routes!(friends::list))
        .routes(routes!(friends::blocked))
        .routes(routes!(friends::remove, friends::update))
        .routes(routes!(requests::list))
        .routes(routes!(requests::handle))
        .merge(creating)
}

fn probes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(OpenApi::default()).routes(routes!(health::health))
}

/// Protection of the instance; health has a rule of its own.
async fn limit(State(api): State<Api>, request: Request, next: Next) -> Response {
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
