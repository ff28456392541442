//! Errors of store, cache and pipeline as the contract words them.

use crate::pipeline::PrepareError;
use crate::store::conversation::Access;
use crate::store::{Noun, StoreError};
use gochat_infra::cache::CacheError;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use tonic::Status;

/// A store's error. What the operator must know is logged here, what the caller may know is in the status.
pub(super) fn store(error: StoreError) -> Status {
    let code = match &error {
        StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Stopped(_) | StoreError::Open { .. } => {
            ErrorCode::ServiceUnavailable
        }
        StoreError::Exists(Noun::Username | Noun::User) => ErrorCode::UserAlreadyExists,
        StoreError::Missing(Noun::User | Noun::Username) => ErrorCode::UserNotFound,
        StoreError::Missing(Noun::Conversation) => ErrorCode::ConversationNotFound,
        StoreError::Missing(Noun::Member) => ErrorCode::NotConversationMember,
        StoreError::Dissolved => ErrorCode::ConversationDissolved,
        StoreError::Conflict => ErrorCode::VersionConflict,
        StoreError::CannotLeave => ErrorCode::CannotLeaveConversation,
        StoreError::NotOwner => ErrorCode::InsufficientPermission,
        StoreError::WrongKind => ErrorCode::InvalidParams,
        StoreError::Exists(Noun::Conversation | Noun::Member | Noun::RefreshToken)
        | StoreError::Missing(Noun::RefreshToken) => ErrorCode::InvalidParams,
        StoreError::Broken(_) => ErrorCode::InternalError,
    };
    if matches!(code, ErrorCode::ServiceUnavailable | ErrorCode::InternalError) {
        tracing::error!(%error, "the store failed");
    }
    Failure::new(code, error.to_string()).into()
}

/// A cache's error.
pub(super) fn cache(error: CacheError) -> Status {
    match error {
        CacheError::StaleWriter(_) => ErrorCode::StaleWriter.into(),
        CacheError::Unavailable(_) | CacheError::WrongKind(_) => {
            tracing::error!(%error, "the cache failed");
            Failure::new(ErrorCode::ServiceUnavailable, error.to_string()).into()
        }
    }
}

/// A batch that was not prepared.
pub(super) fn prepare(error: PrepareError) -> Status {
    match error {
        PrepareError::StaleWriter => ErrorCode::StaleWriter.into(),
        PrepareError::Invalid(what) => invalid(what),
        PrepareError::Store(error) => store(error),
        PrepareError::Cache(error) => cache(error),
        PrepareError::Counters(_) => {
            tracing::error!(%error, "a batch was not prepared");
            Failure::new(ErrorCode::ServiceUnavailable, error.to_string()).into()
        }
    }
}

/// A request that contradicts the contract.
pub(super) fn invalid(what: impl Into<String>) -> Status {
    Failure::new(ErrorCode::InvalidParams, what).into()
}

/// Refuses whoever is no member; answers where their history begins: what they may see has a higher number.
pub(super) fn access(access: Access) -> Result<i64, Status> {
    match access {
        Access::Member { history_after } => Ok(history_after),
        Access::Absent => Err(ErrorCode::ConversationNotFound.into()),
        Access::Stranger => Err(ErrorCode::NotConversationMember.into()),
        Access::Former => Err(ErrorCode::ConversationDissolved.into()),
    }
}
