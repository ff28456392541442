//! Changes of conversations and of who is in them, at the store's seam.
//!
//! Each is one transaction with its event (pipeline.md F2). Never decides who may ask for it: only what is impossible is
//! refused here.

use super::conversation::Conversation;
use super::error::Result;
use async_trait::async_trait;

/// Changes of conversations and their members.
///
/// Everywhere: `Missing(Conversation)` without such a conversation, `Dissolved` for one that has ended. Every change of the
/// members of a group moves its membership version by exactly one.
#[async_trait]
pub trait GroupStore: Send + Sync + 'static {
    /// Adds members up to a capacity that is judged in the transaction. `Missing(User)`: one is no user; nobody was added.
    /// `WrongKind`: a single chat.
    async fn add_members(&self, add: AddMembers) -> Result<AddedMembers>;

    /// Removes a member, or lets one leave; answers with the members left. `Missing(Member)`; `CannotLeave`: the owner of a
    /// group, or a single chat.
    async fn remove_member(&self, remove: RemoveMember) -> Result<i32>;

    /// Changes a member's role, or whether they may speak. `Missing(Member)`; `NotOwner`: the role of a group's owner passes
    /// by [`GroupStore::transfer_ownership`] only. `WrongKind`: a single chat.
    async fn update_member(&self, update: UpdateMember) -> Result<()>;

    /// Makes another member the owner of a group and its owner an admin. `NotOwner`: `from` is not; `Missing(Member)`:
    /// `to` is not in it.
    async fn transfer_ownership(&self, conversation: &str, from: i64, to: i64, now_ms: i64) -> Result<()>;

    /// Changes how a conversation presents itself, and its settings. `Conflict`: another version than expected.
    async fn update_info(&self, update: UpdateInfo) -> Result<Conversation>;

    /// Ends a group: nobody is in it any more, and those who were are told so from now on. `WrongKind`: no group.
    async fn dissolve(&self, conversation: &str, operator: i64, reason: &str, now_ms: i64) -> Result<()>;

    /// Hides a single chat from one member's lists until there is a newer message. `Missing(Member)`; `WrongKind`.
    async fn hide(&self, conversation: &str, user: i64) -> Result<()>;
}

/// Members to be added.
#[derive(Clone, Debug)]
pub struct AddMembers {
    /// Text id.
    pub conversation: String,
    /// In this order, as long as there is room.
    pub users: Vec<i64>,
    /// 1 member, 2 admin; in the world room 3 too.
    pub role: i32,
    /// Members at most; 0: any number.
    pub max_members: i32,
    /// Who adds them; 0: nobody.
    pub operator: i64,
    /// Highest number handed out, if known: they have read that far, and where history is closed it begins there.
    pub assigned: Option<i64>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Answer to [`AddMembers`]; every user is in one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedMembers {
    /// New.
    pub added: Vec<i64>,
    /// In it before.
    pub existing: Vec<i64>,
    /// No room.
    pub rejected: Vec<i64>,
    /// Members now.
    pub member_count: i32,
}

/// A member to be removed.
#[derive(Clone, Debug)]
pub struct RemoveMember {
    /// Text id.
    pub conversation: String,
    /// Who goes.
    pub user: i64,
    /// Who removes them; the same: leaves.
    pub operator: i64,
    /// For the event; may be empty.
    pub reason: String,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// A change of one member.
#[derive(Clone, Debug)]
pub struct UpdateMember {
    /// Text id.
    pub conversation: String,
    /// Whose.
    pub user: i64,
    /// 1 member, 2 admin; in the world room 3 too.
    pub role: Option<i32>,
    /// May not send, until a Unix second (0: no end).
    pub mute: Option<(bool, i64)>,
    /// Who does it; 0: nobody.
    pub operator: i64,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// A change of what a conversation presents. `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UpdateInfo {
    /// Text id.
    pub conversation: String,
    /// New name.
    pub name: Option<String>,
    /// New picture.
    pub avatar_url: Option<String>,
    /// New description.
    pub description: Option<String>,
    /// All settings, JSON.
    pub settings: Option<String>,
    /// 0: whatever it is.
    pub expected_version: i64,
    /// Who does it; 0: nobody.
    pub operator: i64,
    /// Unix milliseconds.
    pub now_ms: i64,
}
