//! Logins: a family of token pairs that goes back to one proof of who somebody is.
//!
//! Owns how a login begins and when its tokens are void. Never checks a password.

use std::sync::Arc;

use gochat_infra::clock::Clock;
use gochat_infra::token::{Claims, TokenKind, token_hash};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{User, UserStatus};
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::repo::{Repo, ask};
use crate::tokens::{Pair, Tokens};

/// Characters of `client_info` at most.
const CLIENT_INFO_CHARS_MAX: usize = 255;
/// What a revoked login is asked for as, before its id.
const FAMILY_KEY: &str = "fam:";

/// Begins and checks logins.
#[derive(Clone)]
pub(crate) struct Logins {
    pub(crate) repo: Repo,
    pub(crate) tokens: Tokens,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Logins {
    /// Unix seconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.unix_ms() / 1_000
    }

    /// A new login of a user who was recognised. A pair that could not be revoked is not given out.
    pub(crate) async fn begin(&self, user: &User, client_info: String) -> Result<Pair, Status> {
        let version = self.repo.token_version(&user.id).await?;
        let claims = self.tokens.claims(user, version, &Tokens::new_family(), self.now());
        let pair = self.tokens.sign(&claims)?;
        let store = repo::StoreRefreshTokenRequest {
            token_hash: token_hash(&pair.refresh_token),
            user_id: user.id.clone(),
            family_id: claims.refresh.fam,
            ttl_seconds: ttl(self.tokens.refresh_ttl_s(user)),
            client_info,
        };
        self.repo.tokens.clone().store_refresh_token(ask(store)).await?;
        Ok(pair)
    }

    /// The user of an access token that is valid and not revoked, nor its login, nor all of the user's.
    pub(crate) async fn validate(&self, token: &str) -> Result<(Claims, User), Status> {
        let claims = self.tokens.verify(token, TokenKind::Access, self.now())?;
        let hashes = ask(repo::IsBlacklistedRequest {
            token_hashes: vec![token_hash(token), format!("{FAMILY_KEY}{}", claims.fam)],
        });
        let mut tokens = self.repo.tokens.clone();
        let (blacklisted, user, version) = futures::try_join!(
            tokens.is_blacklisted(hashes),
            self.repo.user(&claims.user_id),
            self.repo.token_version(&claims.user_id),
        )?;
        if blacklisted.into_inner().blacklisted.contains(&true) || claims.ver < version {
            return Err(ErrorCode::InvalidToken.into());
        }
        usable(&user)?;
        Ok((claims, user))
    }

    /// Logins of a user that can still be refreshed, newest first.
    pub(crate) async fn list(&self, user_id: &str) -> Result<Vec<repo::Family>, Status> {
        let request = ask(repo::ListFamiliesRequest { user_id: user_id.to_owned() });
        Ok(self.repo.tokens.clone().list_families(request).await?.into_inner().families)
    }

    /// Ends a login of this user; false when the user has no such login.
    pub(crate) async fn end(&self, user_id: &str, family_id: &str) -> Result<bool, Status> {
        if family_id.is_empty() {
            return Ok(false);
        }
        let request = ask(repo::RevokeFamilyRequest { family_id: family_id.to_owned(), user_id: user_id.to_owned() });
        Ok(self.repo.tokens.clone().revoke_family(request).await?.into_inner().revoked_count > 0)
    }
}

/// Whether an account may act.
pub(crate) fn usable(user: &User) -> Result<(), ErrorCode> {
    match user.status() {
        UserStatus::Disabled => Err(ErrorCode::UserDisabled),
        UserStatus::Deleted => Err(ErrorCode::InvalidToken),
        UserStatus::Normal | UserStatus::Unspecified => Ok(()),
    }
}

/// Whether a client may describe itself so.
pub(crate) fn check_client_info(client_info: &str) -> Result<(), ErrorCode> {
    if client_info.chars().count() > CLIENT_INFO_CHARS_MAX { Err(ErrorCode::InvalidParams) } else { Ok(()) }
}

/// Seconds as repo takes them.
pub(crate) fn ttl(seconds: i64) -> i32 {
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}
