//! Rooms at the store's seam: the conversations whose members gateways keep by themselves (pipeline.md F1).

use super::error::Result;
use async_trait::async_trait;
use std::collections::HashMap;

/// Reads of rooms. Dissolved conversations are not there.
#[async_trait]
pub trait RoomStore: Send + Sync + 'static {
    /// Rooms of users, in order of user: groups with more members than `above`, and the world room. One statement.
    async fn rooms(&self, users: &[i64], above: i32) -> Result<Vec<(i64, RoomVersion)>>;

    /// How many are in a conversation, without looking at each.
    async fn room_size(&self, conversation: &str) -> Result<Option<RoomSize>>;

    /// Everybody in a conversation, of whatever size and kind, as it is at one moment.
    async fn room_members(&self, conversation: &str) -> Result<Option<RoomMembers>>;

    /// Membership versions of those conversations that exist.
    async fn room_versions(&self, conversations: &[String]) -> Result<HashMap<String, i64>>;
}

/// A room and how its membership stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomVersion {
    /// Text id.
    pub conversation: String,
    /// Membership version; 0 in the world room.
    pub version: i64,
}

/// How large a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomSize {
    /// Which is a room at any size.
    pub is_world: bool,
    /// Number of members.
    pub member_count: i32,
}

/// Who is in a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomMembers {
    /// Membership version; 0 in the world room.
    pub version: i64,
    /// Ascending.
    pub members: Vec<i64>,
}
