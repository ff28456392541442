//! What can go wrong in front of a database, whichever it is.

use std::fmt;

/// What can go wrong in front of a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, busy for too long, or the answer was lost: the call may or may not have had its effect.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk is full; nothing was changed. Works again when there is room.
    #[error("the store has no room left: {0}")]
    Full(String),
    /// A write or sync failed earlier: nothing is written any more until the process starts again (pipeline.md J2).
    #[error("the store has stopped after an error of its disk: {0}")]
    Stopped(String),
    /// The file cannot be opened, is no database, or was written by a later version.
    #[error("cannot open the store {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Another row has the key already; nothing was changed.
    #[error("{0} exists already")]
    Exists(Noun),
    /// A row that the call needs does not exist; nothing was changed.
    #[error("{0} does not exist")]
    Missing(Noun),
    /// The conversation has ended; nothing was changed.
    #[error("the conversation is dissolved")]
    Dissolved,
    /// Changed by another one since; nothing was changed.
    #[error("changed meanwhile")]
    Conflict,
    /// The owner of a group, or a member of a single chat, cannot leave it; nothing was changed.
    #[error("this conversation cannot be left")]
    CannotLeave,
    /// Only the owner's role passes that way, or may be passed on; nothing was changed.
    #[error("not for this role")]
    NotOwner,
    /// No conversation of this kind can do that; nothing was changed.
    #[error("not for a conversation of this kind")]
    WrongKind,
    /// A statement or a row that this version cannot understand: a bug.
    #[error("the store answered what was not expected: {0}")]
    Broken(String),
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// An account, by id.
    User,
    /// An account's name.
    Username,
    /// A conversation.
    Conversation,
    /// A member of a conversation.
    Member,
    /// A refresh token.
    RefreshToken,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Noun::User => "the user",
            Noun::Username => "the username",
            Noun::Conversation => "the conversation",
            Noun::Member => "the member",
            Noun::RefreshToken => "the refresh token",
        })
    }
}

/// Shorthand of this seam.
pub type Result<T> = std::result::Result<T, StoreError>;
