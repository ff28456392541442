//! The seam to the database: what repo asks of it, in verbs of the domain.
//!
//! Owns the [`Store`] trait and its plain types, one file per noun. Never holds a rule of the message pipeline: those stand
//! above this seam, in `pipeline`, and every implementation gets them for nothing. Implementations: [`sqlite`].

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod conversation;
mod error;
pub mod friend;
pub mod group;
mod head;
pub mod message;
pub mod pipeline;
pub mod room;
pub mod roster;
pub mod sqlite;
pub mod token;
pub mod upkeep;
pub mod user;

pub use conversation::ConversationStore;
pub use error::{Noun, Result, StoreError};
pub use friend::FriendStore;
pub use group::GroupStore;
pub use message::MessageStore;
pub use pipeline::{PersistTx, PipelineStore};
pub use room::RoomStore;
pub use token::TokenStore;
pub use upkeep::UpkeepStore;
pub use user::UserStore;

/// Everything repo asks of a database. Calls may come from many tasks at once; each is atomic.
pub trait Store:
    UserStore
    + ConversationStore
    + GroupStore
    + MessageStore
    + PipelineStore
    + TokenStore
    + FriendStore
    + RoomStore
    + UpkeepStore
{
}

impl<T> Store for T where
    T: UserStore
        + ConversationStore
        + GroupStore
        + MessageStore
        + PipelineStore
        + TokenStore
        + FriendStore
        + RoomStore
        + UpkeepStore
{
}
