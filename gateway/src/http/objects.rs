//! The API's data objects (spec 01 §2), as the contract has them, and those that only HTTP answers.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as wire;
use gochat_proto::im::logic::v1 as logic;
pub(crate) use gochat_proto::objects::{Conversation, Friend, FriendRequest, Member, Message, User};
use serde::Serialize;
use utoipa::ToSchema;

/// What others may see of a user.
pub(crate) fn light(user: &wire::User) -> wire::UserInfo {
    wire::UserInfo {
        id: user.id.clone(),
        username: user.username.clone(),
        avatar_url: user.avatar_url.clone(),
        is_guest: user.is_guest,
    }
}

/// A user as a search finds it: light, and since when there.
pub(crate) fn found(user: wire::User) -> User {
    User::from(wire::User { status: 0, updated_at: 0, ..user })
}

/// A pair of tokens.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenPair {
    /// For requests and connections; send it, do not parse it.
    pub(crate) access_token: String,
    /// Good for one refresh.
    pub(crate) refresh_token: String,
    /// Absolute Unix second at which the access token expires.
    pub(crate) expires_in: i64,
    /// Absent on refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<User>,
}

impl From<logic::LoginResponse> for TokenPair {
    fn from(pair: logic::LoginResponse) -> TokenPair {
        TokenPair {
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_in,
            user: pair.user.map(User::from),
        }
    }
}

/// A user to whom something could not be done.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailedUser {
    user_id: String,
    /// For humans.
    reason: String,
    /// An error code.
    code: &'static str,
}

impl From<logic::FailedUser> for FailedUser {
    fn from(failed: logic::FailedUser) -> FailedUser {
        let code = code_of(&failed.code_name, failed.error_code);
        let reason = if failed.reason.is_empty() { code.default_message().to_owned() } else { failed.reason };
        FailedUser { user_id: failed.user_id, reason, code: code.as_str() }
    }
}

/// The code that a record names: by its string where it has no number of its own.
pub(crate) fn code_of(name: &str, number: i32) -> ErrorCode {
    let by_number = || ErrorCode::from_number(number).unwrap_or(ErrorCode::InternalError);
    name.parse().unwrap_or_else(|_| by_number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_without_a_number_of_its_own_goes_by_its_name() {
        assert_eq!(code_of("GUEST_FORBIDDEN", ErrorCode::Forbidden.number()), ErrorCode::GuestForbidden);
        assert_eq!(code_of("", ErrorCode::Muted.number()), ErrorCode::Muted);
        assert_eq!(code_of("of a later version", 0), ErrorCode::InternalError);
    }
}
