//! From an event to who tells it.
//!
//! Owns the list of events that clients hear of. Never repeats: its caller does.

use gochat_proto::events::{Event, EventBody};

use super::teller::Teller;
use super::{conversations, friends, users};
use crate::signals::SendError;

/// Tells everybody concerned; all of it may be repeated.
pub(super) async fn tell(teller: &Teller, event: &Event) -> Result<(), SendError> {
    match &event.body {
        EventBody::ConversationCreated { .. }
        | EventBody::MembersAdded { .. }
        | EventBody::MemberRemoved { .. }
        | EventBody::RoleUpdated { .. }
        | EventBody::OwnerTransferred { .. }
        | EventBody::InfoUpdated { .. }
        | EventBody::Dissolved { .. } => conversations::tell(teller, event).await,
        EventBody::FriendRequestReceived { .. }
        | EventBody::FriendRequestAccepted { .. }
        | EventBody::FriendRequestRejected { .. }
        | EventBody::FriendAdded { .. }
        | EventBody::FriendRemoved {} => friends::tell(teller, event).await,
        EventBody::UserOnline { .. } | EventBody::UserOffline { .. } | EventBody::UserRevoked { .. } => {
            users::tell(teller, event).await
        }
        EventBody::UserRegistered { .. }
        | EventBody::GuestCreated { .. }
        | EventBody::ProfileUpdated { .. }
        | EventBody::FriendRequestSent { .. }
        | EventBody::MessageRead { .. }
        | EventBody::MessageRecalled { .. } => Ok(()),
    }
}
