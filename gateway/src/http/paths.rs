//! What the path of a request names: one that cannot exist is not found, without asking anybody.

use axum::extract::{FromRequestParts, RawPathParams};
use gochat_proto::codes::ErrorCode;
use gochat_proto::ids::{ConversationId, MessageId, UserId};
use http::request::Parts;

use super::envelope::ApiError;

/// One segment of the path by its name in the route, decoded.
async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, ApiError> {
    // Also refuses what is not UTF-8 once decoded.
    let named = RawPathParams::from_request_parts(parts, state).await.map_err(|_| ErrorCode::NotFound)?;
    let found = named.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| ErrorCode::NotFound.into())
}

macro_rules! path_segment {
    ($(#[$doc:meta])* $name:ident, $segment:literal, $valid:expr, $missing:ident) => {
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) String);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<$name, ApiError> {
                let text = segment(parts, state, $segment).await?;
                let is_valid: fn(&str) -> bool = $valid;
                if is_valid(&text) { Ok($name(text)) } else { Err(ErrorCode::$missing.into()) }
            }
        }
    };
}

path_segment!(
    /// The conversation that the path names.
    ConversationPath,
    "id",
    |text| text.parse::<ConversationId>().is_ok(),
    ConversationNotFound
);
path_segment!(
    /// A user.
    UserPath,
    "userId",
    |text| text.parse::<UserId>().is_ok(),
    UserNotFound
);
path_segment!(
    /// A message.
    MessagePath,
    "messageId",
    |text| text.parse::<MessageId>().is_ok(),
    MessageNotFound
);
path_segment!(
    /// A friend, or somebody to block.
    FriendPath,
    "friendId",
    |text| text.parse::<UserId>().is_ok(),
    UserNotFound
);
path_segment!(
    /// A friend request.
    RequestPath,
    "requestId",
    |text| text.parse::<UserId>().is_ok(),
    FriendRequestNotFound
);
path_segment!(
    /// A login, by its own id: 1 to 64 visible characters.
    LoginPath,
    "sessionId",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
    NotFound
);
