//! Access and refresh tokens: their claims, signing and checking (spec 01 §1.4).
//!
//! Owns the format that logic issues and gateways check. Never knows whether a token was revoked, and never asks the
//! time: the caller gives it.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `iss` of every token.
pub const ISSUER: &str = "im-logic";
/// Longer texts are refused unread, bytes.
const TOKEN_BYTES_MAX: usize = 2_048;
/// Bytes of an HS256 key at least (RFC 7518 §3.2).
const KEY_BYTES_MIN: usize = 32;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Requests and connections.
    Access,
    /// One new pair.
    Refresh,
    /// One connection, once, for a few seconds (pipeline.md H3).
    Ticket,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// User id, decimal.
    pub sub: String,
    /// User id again, for readers that do not know `sub`.
    pub user_id: String,
    /// What it is good for.
    #[serde(rename = "type")]
    pub kind: TokenKind,
    /// Unique per token.
    pub jti: String,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Void from this Unix second on.
    pub exp: i64,
    /// Whether the user is a guest.
    #[serde(default)]
    pub guest: bool,
    /// Token generation of the user; tokens below the user's own are void.
    #[serde(default)]
    pub ver: i64,
    /// Family: all tokens that go back to one login share it.
    #[serde(default)]
    pub fam: String,
    /// Of a ticket: expiry of the session it opens, Unix seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sxp: i64,
    /// Of a ticket: [`token_hash`] of the access token it was made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ath: String,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Why a token was not made or not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The key is too short.
    #[error("a signing key has at least {KEY_BYTES_MIN} bytes")]
    WeakKey,
    /// Good once, not any more.
    #[error("the token has expired")]
    Expired,
    /// Bad form, signature, issuer or kind.
    #[error("the token is invalid")]
    Invalid,
}

/// A key that signs and checks tokens.
#[derive(Clone)]
pub struct TokenKey {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl TokenKey {
    /// A symmetric key, for a single process (pipeline.md H2).
    pub fn hs256(secret: &[u8]) -> Result<TokenKey, TokenError> {
        if secret.len() < KEY_BYTES_MIN {
            return Err(TokenError::WeakKey);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // Expiry is compared with the caller's clock in `verify`.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Ok(TokenKey {
            signing: EncodingKey::from_secret(secret),
            checking: DecodingKey::from_secret(secret),
            validation,
        })
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing).map_err(|_| TokenError::Invalid)
    }

    /// Checks a token's form, signature, kind and expiry at `now`, Unix seconds.
    pub fn verify(&self, token: &str, kind: TokenKind, now: i64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.checking, &self.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.kind != kind || claims.sub != claims.user_id {
            return Err(TokenError::Invalid);
        }
        if claims.exp <= now {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// What stands for a token in the store and in caches: lowercase hex SHA-256 of its text.
pub fn token_hash(token: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(token.as_bytes()) {
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    hex
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn claims(kind: TokenKind) -> Claims {
        Claims {
            iss: ISSUER.into(),
            sub: "7".into(),
            user_id: "7".into(),
            kind,
            jti: "j".into(),
            iat: 100,
            exp: 200,
            guest: false,
            ver: 3,
            fam: "f".into(),
            sxp: 0,
            ath: String::new(),
        }
    }

    fn key(byte: u8) -> TokenKey {
        TokenKey::hs256(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_token_says_what_was_signed() {
        let token = key(1).sign(&claims(TokenKind::Access)).unwrap();
        assert_eq!(key(1).verify(&token, TokenKind::Access, 199), Ok(claims(TokenKind::Access)));
    }

    #[test]
    fn what_is_not_a_good_token_is_refused() {
        let good = key(1).sign(&claims(TokenKind::Access)).unwrap();
        assert_eq!(key(1).verify(&good, TokenKind::Access, 200), Err(TokenError::Expired));
        assert_eq!(key(1).verify(&good, TokenKind::Refresh, 150), Err(TokenError::Invalid));
        assert_eq!(key(2).verify(&good, TokenKind::Access, 150), Err(TokenError::Invalid));
        let foreign = Claims { iss: "other".into(), ..claims(TokenKind::Access) };
        let two_names = Claims { user_id: "8".into(), ..claims(TokenKind::Access) };
        for bad in [foreign, two_names] {
            let token = key(1).sign(&bad).unwrap();
            assert_eq!(key(1).verify(&token, TokenKind::Access, 150), Err(TokenError::Invalid));
        }
        // {"alg":"none","typ":"JWT"}
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", good.split('.').nth(1).unwrap());
        for bad in [unsigned.as_str(), "", "a.b.c", &"x".repeat(5_000), &good[..good.len() - 2]] {
            assert_eq!(key(1).verify(bad, TokenKind::Access, 150), Err(TokenError::Invalid), "{bad}");
        }
    }

    #[test]
    fn short_keys_are_refused() {
        assert_eq!(TokenKey::hs256(&[0; 31]).err(), Some(TokenError::WeakKey));
    }

    #[test]
    fn the_hash_is_sha256_in_lowercase_hex() {
        assert_eq!(token_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
