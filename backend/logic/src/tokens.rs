//! Pairs of access and refresh token.
//!
//! Owns what the claims of a pair are and how a pair is kept for the refresh grace: as unsigned claims, from which only
//! the holder of the key can make the same pair again. Never stores anything.

use bytes::Bytes;
use gochat_infra::token::{Claims, ISSUER, TokenError, TokenKey, TokenKind};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::User;
use gochat_proto::failure::Failure;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::AuthConfig;

/// The claims of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairClaims {
    pub(crate) access: Claims,
    pub(crate) refresh: Claims,
}

/// A signed pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    /// Unix second at which the access token expires.
    pub(crate) expires_at: i64,
}

/// Issues pairs.
#[derive(Clone)]
pub(crate) struct Tokens {
    key: TokenKey,
    access_ttl_s: i64,
    refresh_ttl_s: i64,
    guest_refresh_ttl_s: i64,
}

impl Tokens {
    pub(crate) fn new(config: &AuthConfig) -> Result<Tokens, TokenError> {
        Ok(Tokens {
            key: TokenKey::hs256(&config.signing_key)?,
            access_ttl_s: config.access_ttl_s,
            refresh_ttl_s: config.refresh_ttl_s,
            guest_refresh_ttl_s: config.guest_refresh_ttl_s,
        })
    }

    /// Life of a user's refresh token, seconds.
    pub(crate) fn refresh_ttl_s(&self, user: &User) -> i64 {
        if user.is_guest { self.guest_refresh_ttl_s } else { self.refresh_ttl_s }
    }

    /// Checks a token at `now`, Unix seconds.
    pub(crate) fn verify(&self, token: &str, kind: TokenKind, now: i64) -> Result<Claims, ErrorCode> {
        self.key.verify(token, kind, now).map_err(|error| match error {
            TokenError::Expired => ErrorCode::TokenExpired,
            TokenError::Invalid | TokenError::WeakKey => ErrorCode::InvalidToken,
        })
    }

    /// Claims of a new pair of one family.
    pub(crate) fn claims(&self, user: &User, version: i64, family: &str, now: i64) -> PairClaims {
        let claims = |kind, ttl_s| Claims {
            iss: ISSUER.to_owned(),
            sub: user.id.clone(),
            user_id: user.id.clone(),
            kind,
            jti: Uuid::now_v7().to_string(),
            iat: now,
            exp: now + ttl_s,
            guest: user.is_guest,
            ver: version,
            fam: family.to_owned(),
            sxp: 0,
            ath: String::new(),
        };
        PairClaims {
            access: claims(TokenKind::Access, self.access_ttl_s),
            refresh: claims(TokenKind::Refresh, self.refresh_ttl_s(user)),
        }
    }

    /// Signs a pair; the same claims always give the same tokens.
    pub(crate) fn sign(&self, claims: &PairClaims) -> Result<Pair, Failure> {
        let sign = |c| self.key.sign(c).map_err(|e| Failure::new(ErrorCode::InternalError, e.to_string()));
        Ok(Pair {
            access_token: sign(&claims.access)?,
            refresh_token: sign(&claims.refresh)?,
            expires_at: claims.access.exp,
        })
    }

    /// A family for a new login.
    pub(crate) fn new_family() -> String {
        Uuid::now_v7().to_string()
    }
}

impl PairClaims {
    /// For the refresh grace.
    pub(crate) fn to_replay(&self) -> Result<Bytes, Failure> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|e| Failure::new(ErrorCode::InternalError, e.to_string()))
    }

    /// What [`PairClaims::to_replay`] made.
    pub(crate) fn from_replay(replay: &[u8]) -> Result<PairClaims, Failure> {
        serde_json::from_slice(replay).map_err(|e| Failure::new(ErrorCode::InternalError, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use crate::config::LogicConfig;

    #[test]
    fn a_replayed_pair_is_the_same_pair() {
        let tokens = Tokens::new(&LogicConfig::new(Bytes::from_static(&[7; 32])).auth).unwrap();
        let user = User { id: "5".into(), ..User::default() };
        let claims = tokens.claims(&user, 2, "family", 1_000);
        let pair = tokens.sign(&claims).unwrap();
        let replayed = PairClaims::from_replay(&claims.to_replay().unwrap()).unwrap();
        assert_eq!(tokens.sign(&replayed).unwrap(), pair);
        assert_eq!(pair.expires_at, 1_000 + 24 * 3600);
        assert!(tokens.verify(&pair.access_token, TokenKind::Access, 1_001).is_ok());
        assert_eq!(tokens.verify(&pair.refresh_token, TokenKind::Access, 1_001), Err(ErrorCode::InvalidToken));
        assert_ne!(tokens.claims(&user, 2, "family", 1_000), claims, "every token has its own jti");
        let guest = User { is_guest: true, ..user };
        assert_eq!(tokens.claims(&guest, 2, "family", 1_000).refresh.exp, 1_000 + 7 * 24 * 3600);
    }
}
