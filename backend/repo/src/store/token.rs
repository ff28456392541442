//! Refresh tokens and revocations at the store's seam (pipeline.md H2). Durable, so a restart forgets nothing.

use super::error::Result;
use async_trait::async_trait;
use bytes::Bytes;

/// Refresh tokens, families, revocations. Times are Unix seconds by the caller's clock.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// Stores a family's first refresh token: `Exists(RefreshToken)`.
    async fn store_refresh_token(&self, token: NewRefreshToken) -> Result<()>;

    /// Uses up a refresh token, or says why not, in one transaction.
    async fn consume_refresh_token(&self, consume: ConsumeToken) -> Result<Consumed>;

    /// Revokes a family, and the access tokens that name it. `None`: no such family, revoked before, or not
    /// of `user` (0: whose ever). Else its user and the number of its unused tokens.
    async fn revoke_family(&self, family: &str, user: i64, now: i64) -> Result<Option<(i64, u64)>>;

    /// Families of a user that can still be refreshed, newest first.
    async fn families(&self, user: i64, now: i64, limit: u32) -> Result<Vec<Family>>;

    /// Revokes all of a user's families, with an event, and raises the version that access tokens must carry; a revocation of everything
    /// below is listed for [`REVOCATION_SECONDS`]. Answers with the number of families and the version: `Missing(User)`.
    async fn revoke_user(&self, user: i64, now: i64) -> Result<(u64, i64)>;

    /// Revokes one access token until `expires_at`; twice is fine.
    async fn blacklist(&self, token_hash: &str, expires_at: i64, now: i64) -> Result<()>;

    /// For each hash, or [`family_key`]: revoked, and not yet expired?
    async fn blacklisted(&self, token_hashes: &[String], now: i64) -> Result<Vec<bool>>;

    /// Revocations with a higher id, ascending, without those that have expired.
    async fn revocations(&self, after_id: i64, limit: u32, now: i64) -> Result<Vec<Revocation>>;
}

/// A revocation of a login, or of all of a user's, is listed so long: longer than any access token lives.
pub const REVOCATION_SECONDS: i64 = 31 * 24 * 3600;

/// The key under which a login is listed as revoked, beside hashes of tokens.
pub fn family_key(family: &str) -> String {
    format!("fam:{family}")
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// One per login.
    pub id: String,
    /// The client that refreshed last.
    pub client_info: String,
    /// When the user logged in.
    pub created_at: i64,
    /// When it was refreshed last.
    pub refreshed_at: i64,
    /// When its youngest token ends.
    pub expires_at: i64,
}

/// A refresh token to be stored.
#[derive(Clone, Debug)]
pub struct NewRefreshToken {
    /// Lowercase hex SHA-256.
    pub token_hash: String,
    /// Whose.
    pub user: i64,
    /// One per login.
    pub family: String,
    /// When it ends.
    pub expires_at: i64,
    /// Which client holds it.
    pub client_info: String,
    /// Now.
    pub now: i64,
}

/// A refresh token to be used up.
#[derive(Clone, Debug)]
pub struct ConsumeToken {
    /// Lowercase hex SHA-256.
    pub token_hash: String,
    /// The client that shows it.
    pub client_info: String,
    /// Now.
    pub now: i64,
    /// For so many seconds the same client may show it again.
    pub grace_seconds: i64,
    /// Hash of the token that follows.
    pub successor_hash: String,
    /// When that one ends.
    pub successor_expires_at: i64,
    /// Sealed successor pair, handed out again within the grace.
    pub replay: Bytes,
}

/// Answer to a [`ConsumeToken`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// Used for the first time; the successor is stored.
    First(TokenOwner),
    /// Used before by the same client within the grace: the first use's successor pair.
    Grace(TokenOwner, Bytes),
    /// Used before otherwise: its family is revoked now, with the access tokens that name it.
    Reused(TokenOwner),
    /// Never stored, or of a revoked family.
    Unknown,
    /// Too old.
    Expired,
}

/// Whose token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user: i64,
    /// The login.
    pub family: String,
}

/// One access token, or all of a user below a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Ascending in time.
    pub id: i64,
    /// Of a token, or a [`family_key`]. Empty: by user.
    pub token_hash: String,
    /// 0: by token.
    pub user: i64,
    /// Versions below are void.
    pub min_version: i64,
    /// After this everything it names has expired by itself.
    pub expires_at: i64,
}
