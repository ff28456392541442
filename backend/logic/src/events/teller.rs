//! From an event to who tells it.
//!
//! Owns the list of events that clients hear of. Never repeats: its caller does.

use gochat_proto::events::{Event, EventBody};

use super::{conversations, friends, users};
use crate::friendship::Views;
use crate::repo::Repo;
use crate::signals::{SendError, Signals};

/// What telling needs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) repo: Repo,
    pub(super) signals: Signals,
    pub(super) views: Views,
}

impl Teller {
    /// Tells everybody concerned; all of it may be repeated.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), SendError> {
        match &event.body {
            EventBody::ConversationCreated { .. }
            | EventBody::MembersAdded { .. }
            | EventBody::MemberRemoved { .. }
            | EventBody::RoleUpdated { .. }
            | EventBody::OwnerTransferred { .. }
            | EventBody::InfoUpdated { .. }
            | EventBody::Dissolved { .. } => conversations::tell(self, event).await,
            EventBody::FriendRequestReceived { .. }
            | EventBody::FriendRequestAccepted { .. }
            | EventBody::FriendRequestRejected { .. }
            | EventBody::FriendAdded { .. }
            | EventBody::FriendRemoved {} => friends::tell(self, event).await,
            EventBody::UserOnline { .. } | EventBody::UserOffline { .. } | EventBody::UserRevoked { .. } => {
                users::tell(self, event).await
            }
            EventBody::UserRegistered { .. }
            | EventBody::GuestCreated { .. }
            | EventBody::ProfileUpdated { .. }
            | EventBody::FriendRequestSent { .. }
            | EventBody::MessageRead { .. }
            | EventBody::MessageRecalled { .. } => Ok(()),
        }
    }
}
