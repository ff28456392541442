//! A failed call: its code, text and details, and its two forms on the wire (`common.v1.ErrorResponse`, `tonic::Status`).
//!
//! Owns the conversion both ways. Never decides what the user is shown: the edge does.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

use crate::codes::ErrorCode;
use crate::common::v1::ErrorResponse;

/// Key in [`Failure::details`]: whole seconds until a retry makes sense.
pub const RETRY_AFTER: &str = "retryAfter";
/// Key in `ErrorResponse.details` that names a code without a number of its own.
const CODE: &str = "code";

/// What a service answers instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// What went wrong.
    pub code: ErrorCode,
    /// For humans.
    pub message: String,
    /// Empty when unknown.
    pub trace_id: String,
    /// Machine-readable additions, e.g. [`RETRY_AFTER`].
    pub details: HashMap<String, String>,
}

impl Failure {
    /// A failure with a text of its own.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), trace_id: String::new(), details: HashMap::new() }
    }

    /// Adds one detail.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Failure {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Whole seconds until a retry makes sense, when the failing side said so.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.details.get(RETRY_AFTER)?.parse().ok()
    }

    /// The failure a status stands for. One that carries no readable `ErrorResponse` (made by the transport, a deadline, a
    /// call nobody implements) is judged by its gRPC code.
    pub fn from_status(status: &Status) -> Failure {
        ErrorResponse::decode(status.details())
            .ok()
            .and_then(Failure::from_response)
            .unwrap_or_else(|| Failure::new(nearest(status.code()), status.message()))
    }

    fn from_response(mut response: ErrorResponse) -> Option<Failure> {
        let by_number = ErrorCode::from_number(response.code)?;
        let by_name = response.details.remove(CODE).and_then(|name| name.parse::<ErrorCode>().ok());
        let code = by_name.filter(|c| c.number() == response.code).unwrap_or(by_number);
        Some(Failure { code, message: response.message, trace_id: response.trace_id, details: response.details })
    }

    fn into_response(mut self) -> ErrorResponse {
        if !self.code.owns_number() {
            self.details.insert(CODE.to_owned(), self.code.as_str().to_owned());
        }
        ErrorResponse {
            code: self.code.number(),
            message: self.message,
            trace_id: self.trace_id,
            details: self.details,
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Failure {
        Failure::new(code, code.default_message())
    }
}

impl From<ErrorCode> for Status {
    fn from(code: ErrorCode) -> Status {
        Failure::from(code).into()
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let (code, message) = (failure.code.grpc_code(), failure.message.clone());
        Status::with_details(code, message, Bytes::from(failure.into_response().encode_to_vec()))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::from_status(&status)
    }
}

fn nearest(code: Code) -> ErrorCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidParams,
        Code::Unauthenticated => ErrorCode::Unauthorized,
        Code::PermissionDenied => ErrorCode::Forbidden,
        Code::NotFound => ErrorCode::NotFound,
        Code::Aborted => ErrorCode::VersionConflict,
        Code::ResourceExhausted => ErrorCode::RateLimited,
        Code::Unavailable => ErrorCode::ServiceUnavailable,
        Code::DeadlineExceeded | Code::Cancelled => ErrorCode::Timeout,
        Code::Ok
        | Code::Unknown
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => ErrorCode::InternalError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for code in ErrorCode::all() {
            let sent = Failure {
                trace_id: "trace".into(),
                ..Failure::new(code, format!("about {code}")).with(RETRY_AFTER, "7").with("field", "content")
            };
            let status = Status::from(sent.clone());
            assert_eq!(status.code(), code.grpc_code());
            assert_eq!(status.message(), sent.message);
            assert_eq!(sent.retry_after_s(), Some(7));
            assert_eq!(Failure::from(status), sent);
        }
    }

    #[test]
    fn a_status_without_details_is_judged_by_its_code() {
        for (status, code) in [
            (Status::unavailable("x"), ErrorCode::ServiceUnavailable),
            (Status::deadline_exceeded("x"), ErrorCode::Timeout),
            (Status::cancelled("x"), ErrorCode::Timeout),
            (Status::unimplemented("x"), ErrorCode::InternalError),
            (Status::not_found("x"), ErrorCode::NotFound),
            (Status::invalid_argument("x"), ErrorCode::InvalidParams),
        ] {
            assert_eq!(Failure::from_status(&status), Failure::new(code, "x"));
        }
    }

    #[test]
    fn strange_details_fall_back() {
        let garbage = Status::with_details(Code::NotFound, "x", Bytes::from_static(b"\xff\xff\xff"));
        assert_eq!(Failure::from(garbage).code, ErrorCode::NotFound);

        let with = |number, name: &str| {
            let response = ErrorResponse {
                code: number,
                details: HashMap::from([("code".into(), name.into())]),
                ..Default::default()
            };
            Failure::from(Status::with_details(Code::Unavailable, "x", Bytes::from(response.encode_to_vec()))).code
        };
        assert_eq!(with(1003, "GUEST_FORBIDDEN"), ErrorCode::GuestForbidden);
        assert_eq!(with(1003, "NO_SUCH_CODE"), ErrorCode::Forbidden);
        assert_eq!(with(1003, "TOKEN_REUSED"), ErrorCode::Forbidden, "name and number disagree: the number decides");
        assert_eq!(with(9999, "GUEST_FORBIDDEN"), ErrorCode::ServiceUnavailable, "a number of a later version");
    }
}
