//! Accounts at the store's seam. Never hashes or checks a password.

use super::error::Result;
use async_trait::async_trait;

/// Accounts.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Creates one account. The name is unique without regard to case: `Exists(Username)`.
    async fn create_user(&self, user: NewUser) -> Result<User>;

    /// Creates many accounts in one transaction, all or none: `Exists(Username)`.
    async fn create_users(&self, users: Vec<NewUser>) -> Result<()>;

    /// Accounts by id, in any order; absent ones are left out. At most 1,000 ids a call are sensible.
    async fn users(&self, ids: &[i64]) -> Result<Vec<User>>;

    /// An account by name, without regard to case.
    async fn user_by_name(&self, username: &str) -> Result<Option<User>>;

    /// The stored password hash; empty for guests, `None` without such a user.
    async fn password_hash(&self, id: i64) -> Result<Option<String>>;

    /// Changes one account and returns it: `Missing(User)`.
    async fn update_user(&self, id: i64, change: UserChange, now_ms: i64) -> Result<User>;
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
