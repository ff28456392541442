//! Accounts at the store's seam. Never hashes or checks a password.

use super::error::Result;
use async_trait::async_trait;

/// Accounts.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Creates one account, with its event. The name is unique without regard to case: `Exists(Username)`.
    async fn create_user(&self, user: NewUser) -> Result<User>;

    /// Creates many accounts in one transaction, all or none: `Exists(Username)`.
    async fn create_users(&self, users: Vec<NewUser>) -> Result<()>;

    /// Accounts by id, in any order; absent ones are left out. At most 1,000 ids a call are sensible.
    async fn users(&self, ids: &[i64]) -> Result<Vec<User>>;

    /// An account by name, without regard to case.
    async fn user_by_name(&self, username: &str) -> Result<Option<User>>;

    /// The stored password hash; empty for guests, `None` without such a user.
    async fn password_hash(&self, id: i64) -> Result<Option<String>>;

    /// Changes one account and returns it: `Missing(User)`, also for a deleted one. A new password, or a status that ends
    /// [`Status::Normal`], ends all logins in the same transaction; events tell of that, and of a new avatar.
    async fn update_user(&self, id: i64, change: UserChange, now_ms: i64) -> Result<User>;

    /// Takes the person out of an account: name, avatar and password, logins, friendships, requests and blocks, in one
    /// transaction with its events. False: it was so before. `Missing(User)`.
    async fn delete_user(&self, id: i64, now_ms: i64) -> Result<bool>;

    /// What a deleted account still is a member of, single chats apart.
    async fn memberships_to_end(&self, user: i64) -> Result<Vec<Membership>>;

    /// Who is to own a group after its owner: the member who has been an admin, else a member, for longest.
    async fn successor(&self, conversation: &str, owner: i64) -> Result<Option<i64>>;

    /// Deleted accounts with memberships to end.
    async fn unfinished_deletions(&self, limit: u32) -> Result<Vec<i64>>;

    /// Guests who were not active since, Unix milliseconds, longest first.
    async fn inactive_guests(&self, before_ms: i64, limit: u32) -> Result<Vec<i64>>;

    /// Users were active now, Unix milliseconds. Never steps back.
    async fn touch_users(&self, ids: &[i64], now_ms: i64) -> Result<()>;

    /// Accounts that may act and are no guests, by name without regard to case: first names that begin with the text, then
    /// names that contain it, among the newest [`SEARCHED_MAX`] accounts. Without `searcher` and who blocks that user.
    async fn search_users(&self, text: &str, searcher: i64, limit: u32) -> Result<Vec<User>>;

    /// All accounts above an id, ascending, whose names begin with a text without regard to case.
    async fn list_users(&self, after: i64, name_prefix: &str, limit: u32) -> Result<Vec<User>>;
}

/// Accounts that a search inside names looks through.
pub const SEARCHED_MAX: u32 = 20_000;

/// Somebody's place in a group or the world room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Text id.
    pub conversation: String,
    /// 2 group, 3 world.
    pub kind: i32,
    /// The group is theirs.
    pub is_owner: bool,
}

/// An account to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Snowflake.
    pub id: i64,
    /// As typed; compared in lower case.
    pub username: String,
    /// bcrypt, or empty for a guest.
    pub password_hash: String,
    /// May be empty.
    pub avatar_url: String,
    /// A guest cannot log in by password.
    pub is_guest: bool,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// An account, without its password hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Snowflake.
    pub id: i64,
    /// As typed.
    pub username: String,
    /// May be empty.
    pub avatar_url: String,
    /// Made by a guest login.
    pub is_guest: bool,
    /// Whether it may act.
    pub status: Status,
    /// Access tokens with a lower version are void (pipeline.md H2).
    pub token_version: i64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
}

/// What others see of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Snowflake.
    pub id: i64,
    /// As typed.
    pub username: String,
    /// May be empty.
    pub avatar_url: String,
    /// Made by a guest login.
    pub is_guest: bool,
}

/// May the account act?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Normal = 0,
    /// Not now.
    Disabled = 1,
    /// Never again.
    Deleted = 2,
}

impl Status {
    /// From its stored number; an unknown one counts as disabled.
    pub fn from_number(number: i64) -> Status {
        match number {
            0 => Status::Normal,
            2 => Status::Deleted,
            _ => Status::Disabled,
        }
    }
}

/// What to change in an account; `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// New avatar; empty removes it.
    pub avatar_url: Option<String>,
    /// New status.
    pub status: Option<Status>,
    /// New bcrypt hash.
    pub password_hash: Option<String>,
}
