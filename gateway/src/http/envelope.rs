//! What every answer of the API looks like: the success and the failure envelope (spec 01 §1.1).
//!
//! Owns the JSON around data and the mapping of failures to status and headers. Never decides that something failed.

use axum::response::{IntoResponse, Response};
use gochat_infra::rpc;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::{Failure, RETRY_AFTER};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER as RETRY_AFTER_HEADER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

/// Key of the details that lists users to whom something could not be done.
const FAILED_USERS: &str = "failedUsers";
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// A success. `data` that is absent is left out.
#[derive(Debug)]
pub(crate) struct Success<T> {
    status: StatusCode,
    data: Option<T>,
}

impl<T: Serialize> Success<T> {
    /// 200 with data.
    pub(crate) fn ok(data: T) -> Success<T> {
        Success { status: StatusCode::OK, data: Some(data) }
    }

    /// 201 with data.
    pub(crate) fn created(data: T) -> Success<T> {
        Success { status: StatusCode::CREATED, data: Some(data) }
    }
}

impl Success<()> {
    /// 200 without data.
    pub(crate) fn done() -> Success<()> {
        Success { status: StatusCode::OK, data: None }
    }
}

#[derive(Serialize)]
struct SuccessBody<T> {
    success: bool,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        json(self.status, &SuccessBody { success: true, message: "ok", data: self.data })
    }
}

/// A JSON answer outside of the envelope.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => (status, [(CONTENT_TYPE, JSON)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer is not JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A failure, on its way to becoming an answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    /// What clients branch on.
    pub(crate) code: ErrorCode,
    message: String,
    details: Map<String, Value>,
    closes: bool,
}

impl ApiError {
    /// A failure with a text of its own.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), details: Map::new(), closes: false }
    }

    /// A field that is missing or wrong: what is wrong, and where.
    pub(crate) fn field(code: ErrorCode, field: &str, problem: &str) -> ApiError {
        ApiError::new(code, format!("{field}: {problem}")).with("field", field)
    }

    /// `INVALID_PARAMS` for one field.
    pub(crate) fn invalid(field: &str, problem: &str) -> ApiError {
        ApiError::field(ErrorCode::InvalidParams, field, problem)
    }

    /// `RATE_LIMITED` with the seconds to wait.
    pub(crate) fn limited(retry_after_s: u32) -> ApiError {
        ApiError::from(ErrorCode::RateLimited).with(RETRY_AFTER, retry_after_s)
    }

    /// Adds one detail.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> ApiError {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// The connection ends with this answer.
    pub(crate) fn closing(mut self) -> ApiError {
        self.closes = true;
        self
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> ApiError {
        ApiError::new(code, code.default_message())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        match failure.code {
            // What went wrong inside is for the log.
            ErrorCode::InternalError => {
                tracing::error!(trace_id = %rpc::trace_id(), message = failure.message, "a call failed");
                return ErrorCode::InternalError.into();
            }
            ErrorCode::StaleWriter => return ErrorCode::ServiceUnavailable.into(),
            _ => {}
        }
        let retry_after_s = failure.retry_after_s();
        let mut error = ApiError::new(failure.code, failure.message);
        error.details = failure.details.into_iter().map(detail).collect();
        match retry_after_s {
            Some(seconds) => error.with(RETRY_AFTER, seconds),
            None => error,
        }
    }
}

/// A detail as clients see it: services carry texts, of which this one is JSON.
fn detail((key, value): (String, String)) -> (String, Value) {
    match key.as_str() {
        FAILED_USERS => {
            let users = serde_json::from_str(&value).unwrap_or(Value::String(value));
            (key, users)
        }
        _ => (key, Value::from(value)),
    }
}

impl From<tonic::Status> for ApiError {
    fn from(status: tonic::Status) -> ApiError {
        Failure::from_status(&status).into()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureBody<'a> {
    success: bool,
    message: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: &'a Map<String, Value>,
    trace_id: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let trace_id = rpc::trace_id();
        let body = FailureBody {
            success: false,
            message: &self.message,
            code: self.code.as_str(),
            details: &self.details,
            trace_id: trace_id.as_str(),
        };
        let mut response = json(status, &body);
        if let Some(seconds) = self.details.get(RETRY_AFTER).and_then(Value::as_u64) {
            response.headers_mut().insert(RETRY_AFTER_HEADER, HeaderValue::from(seconds));
        }
        if self.closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    async fn shown(answer: impl IntoResponse) -> (u16, http::HeaderMap, Value) {
        let (head, body) = answer.into_response().into_parts();
        let body = to_bytes(body, 10_000).await.unwrap();
        (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn successes_leave_absent_data_out() {
        let (status, headers, body) = shown(Success::created(json!({"id": "1"}))).await;
        assert_eq!((status, body), (201, json!({"success": true, "message": "ok", "data": {"id": "1"}})));
        assert_eq!(headers["content-type"], "application/json; charset=utf-8");
        assert_eq!(shown(Success::done()).await.2, json!({"success": true, "message": "ok"}));
    }

    #[tokio::test]
    async fn failures_say_what_where_and_when_to_come_back() {
        let error = ApiError::from(Failure::new(ErrorCode::RateLimited, "slowly").with(RETRY_AFTER, "7"));
        let (status, headers, mut body) = shown(error).await;
        assert_eq!((status, &headers["retry-after"]), (429, &HeaderValue::from_static("7")));
        assert!(body["traceId"].as_str().is_some_and(|id| !id.is_empty()));
        body.as_object_mut().unwrap().remove("traceId");
        let expected =
            json!({"success": false, "message": "slowly", "code": "RATE_LIMITED", "details": {"retryAfter": 7}});
        assert_eq!(body, expected);
        let (_, _, body) = shown(ApiError::invalid("size", "must be an integer")).await;
        assert_eq!((&body["message"], &body["details"]["field"]), (&json!("size: must be an integer"), &json!("size")));
    }

    #[tokio::test]
    async fn inner_failures_are_not_shown() {
        for (status, code) in [
            (tonic::Status::internal("row 7 of secrets"), (500, "INTERNAL_ERROR")),
            (ErrorCode::StaleWriter.into(), (503, "SERVICE_UNAVAILABLE")),
        ] {
            let (http, _, body) = shown(ApiError::from(status)).await;
            assert_eq!((http, body["code"].as_str().unwrap()), code);
            assert!(!body.to_string().contains("secrets"));
        }
    }

    #[tokio::test]
    async fn every_code_has_its_status() {
        for code in ErrorCode::all() {
            let (status, _, body) = shown(ApiError::from(code)).await;
            assert_eq!((status, body["code"].as_str()), (code.http_status(), Some(code.as_str())));
        }
    }
}
