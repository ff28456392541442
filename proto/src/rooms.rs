//! Where small conversations end and rooms begin: the one number that logic, repo and gateways must agree on (pipeline.md F1).
//!
//! Never says who is a member.

/// Members up to which a conversation is no room: repo lists all of them, frames go to their connections one by one. Above,
/// and in the world room, gateways keep the members.
pub const MEMBERS_WITHOUT_ROOM: i32 = 20;
