//! How far a conversation is stored: what lists and history pages both carry.

/// How far a conversation's messages are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Integer key of the conversation in the store.
    pub key: i64,
    /// Highest number stored.
    pub last_seq: i64,
    /// Everything at or below is stored or void for ever (D1).
    pub stored_through_seq: i64,
    /// A record could not be stored: `stored_through_seq` has stopped.
    pub parked: bool,
}
