//! The API's data objects (spec 01 §2), as the contract has them, and the one that only HTTP answers.

use gochat_proto::common::v1 as wire;
pub(crate) use gochat_proto::objects::{Conversation, Member, Message, User};
use serde::Serialize;

/// What others may see of a user.
pub(crate) fn light(user: &wire::User) -> wire::UserInfo {
    wire::UserInfo {
        id: user.id.clone(),
        username: user.username.clone(),
        avatar_url: user.avatar_url.clone(),
        is_guest: user.is_guest,
    }
}

/// A pair of tokens.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenPair {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    /// Absolute Unix second at which the access token expires.
    pub(crate) expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<User>,
}
