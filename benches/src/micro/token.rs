//! The step "token": an access token is found good. Its floor is the HMAC-SHA256 of the same bytes with a prepared key,
//! compared with the signature, and nothing else.

use std::hint::black_box;

use gochat_infra::token::{Claims, ISSUER, TokenKey, TokenKind};
use sha2::{Digest, Sha256};

use super::Outcome;
use super::case::{Case, OURS, Work, checked};

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
/// Unix seconds.
const NOW: i64 = 1_800_000_000;
/// Bytes SHA-256 takes at a time.
const BLOCK: usize = 64;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("token", OURS, ours), Case::new("token", "bare HMAC", bare)]
}

fn signed() -> Outcome<(TokenKey, String)> {
    let key = TokenKey::hs256(SECRET)?;
    let claims = Claims {
        iss: ISSUER.into(),
        sub: "7402018462213120000".into(),
        user_id: "7402018462213120000".into(),
        kind: TokenKind::Access,
        jti: "01989f3e-7a1b-7000-8000-00000000002a".into(),
        iat: NOW - 60,
        exp: NOW + 840,
        guest: false,
        ver: 3,
        fam: "01989f3e-7a1b-7000-8000-00000000002b".into(),
        sxp: 0,
        ath: String::new(),
    };
    let token = key.sign(&claims)?;
    Ok((key, token))
}

fn ours() -> Outcome<Work> {
    let (key, token) = signed()?;
    checked(&true, move || key.verify(black_box(&token), TokenKind::Access, NOW).is_ok())
}

fn bare() -> Outcome<Work> {
    let (_, token) = signed()?;
    let (content, _) = token.rsplit_once('.').ok_or("the token has no signature")?;
    let content = content.to_owned();
    let padded = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(SECRET).for_each(|(byte, key)| *byte ^= key);
        Sha256::new_with_prefix(block)
    };
    let (inner, outer) = (padded(0x36), padded(0x5c));
    let hmac =
        move |content: &str| outer.clone().chain_update(inner.clone().chain_update(content).finalize()).finalize();
    let signature = hmac(&content);
    if !is_signature(&token, &signature) {
        return Err("the floor computes another signature than the token has".into());
    }
    checked(&true, move || hmac(black_box(&content)) == signature)
}

/// Whether the token ends with it, in base64 for URLs.
fn is_signature(token: &str, signature: &[u8]) -> bool {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in signature.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        text.extend((0..=group.len()).map(digit));
    }
    token.rsplit('.').next() == Some(text.as_str())
}
