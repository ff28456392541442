//! Who may open a session: credentials, origin and revocations of one upgrade request (spec 02 section 1), and the
//! wording of refusals. Decides per request; keeps nothing of it.

use std::borrow::Cow;
use std::collections::HashMap;

use gochat_infra::token::{Claims, TokenError, TokenKind, token_hash};
use gochat_proto::codes::ErrorCode;
use gochat_ws::handshake::{Request, Upgrade};

use crate::bridge::Revocation;
use crate::config::ChatConfig;
use crate::engine::Refusal;
use crate::limits::{CLIENT_INFO_BYTES_MAX, DEVICE_BYTES_MAX};

/// The subprotocol that is answered when it was offered.
pub(super) const SUBPROTOCOL: &str = "gochat.v1";
const BEARER: &str = "bearer.";
/// Revocations after which expired ones are looked for.
const SWEEP_MIN: usize = 1024;

/// What an accepted request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) user_id: i64,
    pub(super) claims: Claims,
    /// Of the access token; of a ticket, of the one it was made from.
    pub(super) token_hash: Box<str>,
    /// End of the session unless it is renewed, Unix seconds.
    pub(super) expires_at_s: i64,
    pub(super) is_ticket: bool,
    pub(super) device: Box<str>,
    pub(super) client_info: Box<str>,
    pub(super) protocol: Option<&'static str>,
}

/// Void tokens, as far as control has told this shard.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    tokens: HashMap<Box<str>, i64>,
    versions: HashMap<i64, i64>,
    /// Until when an account counts as disabled without asking.
    disabled: HashMap<i64, i64>,
    sweep_at: usize,
}

impl Revocations {
    pub(super) fn add(&mut self, revocation: Revocation, now_s: i64) {
        match revocation {
            Revocation::Token { token_id, expires_at_s } => {
                self.tokens.insert(token_id, expires_at_s);
                if self.tokens.len() >= self.sweep_at.max(SWEEP_MIN) {
                    self.tokens.retain(|_, expires_at_s| *expires_at_s > now_s);
                    self.sweep_at = self.tokens.len() * 2;
                }
            }
            Revocation::User { user_id, version_min } => {
                let version = self.versions.entry(user_id).or_insert(version_min);
                *version = version_min.max(*version);
            }
            Revocation::Disabled { user_id, until_s } => {
                if self.disabled.len() >= SWEEP_MIN {
                    self.disabled.retain(|_, until_s| *until_s > now_s);
                }
                self.disabled.insert(user_id, until_s);
            }
        }
    }

    fn is_disabled(&self, user_id: i64, now_s: i64) -> bool {
        self.disabled.get(&user_id).is_some_and(|until_s| *until_s > now_s)
    }

    fn is_void(&self, user_id: i64, claims: &Claims) -> bool {
        self.tokens.contains_key(claims.jti.as_str())
            || self.versions.get(&user_id).is_some_and(|version_min| claims.ver < *version_min)
    }
}

/// Judges a request at `now_s`, Unix seconds.
///
/// # Errors
/// The code to refuse with.
pub(super) fn admit(
    request: &Request<'_>,
    upgrade: &Upgrade<'_>,
    config: &ChatConfig,
    revocations: &Revocations,
    now_s: i64,
) -> Result<Admitted, ErrorCode> {
    if let (Some(allowed), Some(origin)) = (&config.allowed_origins, request.fields.get_str("origin"))
        && !allowed.iter().any(|a| a == origin)
    {
        return Err(ErrorCode::Forbidden);
    }
    let query = Query::parse(request.query.unwrap_or_default());
    let (token, kind) = credential(request, upgrade, &query, config)?;
    let (user_id, claims) = verify(&token, kind, config, revocations, now_s)?;
    let (token_hash, expires_at_s) = match kind {
        TokenKind::Ticket if claims.ath.is_empty() || claims.sxp <= now_s => return Err(ErrorCode::InvalidToken),
        TokenKind::Ticket => (claims.ath.as_str().into(), claims.sxp),
        TokenKind::Access | TokenKind::Refresh => (token_hash(&token).into(), claims.exp),
    };
    let protocol = upgrade.protocols().any(|p| p == SUBPROTOCOL).then_some(SUBPROTOCOL);
    Ok(Admitted {
        user_id,
        claims,
        token_hash,
        expires_at_s,
        is_ticket: kind == TokenKind::Ticket,
        device: cut(&query.device, DEVICE_BYTES_MAX).into(),
        client_info: cut(&query.client, CLIENT_INFO_BYTES_MAX).into(),
        protocol,
    })
}

/// Checks a token of this kind.
///
/// # Errors
/// `INVALID_TOKEN`, `TOKEN_EXPIRED` or `USER_DISABLED`.
pub(super) fn verify(
    token: &str,
    kind: TokenKind,
    config: &ChatConfig,
    revocations: &Revocations,
    now_s: i64,
) -> Result<(i64, Claims), ErrorCode> {
    let claims = config.token_key.verify(token, kind, now_s).map_err(|error| match error {
        TokenError::Expired => ErrorCode::TokenExpired,
        TokenError::Invalid | TokenError::WeakKey => ErrorCode::InvalidToken,
    })?;
    let user_id = claims.user_id.parse::<gochat_proto::ids::UserId>().map_err(|_| ErrorCode::InvalidToken)?.0;
    if revocations.is_void(user_id, &claims) {
        return Err(ErrorCode::InvalidToken);
    }
    if revocations.is_disabled(user_id, now_s) {
        return Err(ErrorCode::UserDisabled);
    }
    Ok((user_id, claims))
}

/// The credential, in order of preference: header, subprotocol, ticket, query.
fn credential<'a>(
    request: &Request<'a>,
    upgrade: &Upgrade<'a>,
    query: &Query<'a>,
    config: &ChatConfig,
) -> Result<(Cow<'a, str>, TokenKind), ErrorCode> {
    if let Some(value) = request.fields.get("authorization") {
        let value = std::str::from_utf8(value).map_err(|_| ErrorCode::InvalidTokenFormat)?;
        let (scheme, token) = value.split_once(' ').ok_or(ErrorCode::InvalidTokenFormat)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(ErrorCode::InvalidTokenFormat);
        }
        return Ok((token.trim().into(), TokenKind::Access));
    }
    if let Some(token) = upgrade.protocols().find_map(|p| p.strip_prefix(BEARER)) {
        return Ok((token.into(), TokenKind::Access));
    }
    if !query.ticket.is_empty() {
        return Ok((query.ticket.clone(), TokenKind::Ticket));
    }
    if config.allow_query_token && !query.token.is_empty() {
        return Ok((query.token.clone(), TokenKind::Access));
    }
    Err(ErrorCode::Unauthorized)
}

#[derive(Debug, Default)]
struct Query<'a> {
    token: Cow<'a, str>,
    ticket: Cow<'a, str>,
    device: Cow<'a, str>,
    client: Cow<'a, str>,
}

impl<'a> Query<'a> {
    /// The first of each name counts.
    fn parse(query: &'a str) -> Query<'a> {
        let mut parsed = Query::default();
        for pair in query.split('&').rev() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "token" => &mut parsed.token,
                "ticket" => &mut parsed.ticket,
                "device" => &mut parsed.device,
                "client" => &mut parsed.client,
                _ => continue,
            };
            *place = percent_decode(value);
        }
        parsed
    }
}

/// Decodes `%XX` and `+`; what is no escape stays as it is, what is no UTF-8 becomes the replacement character.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().and_then(|[high, low]| {
            let digit = |b: u8| char::from(b).to_digit(16);
            Some((digit(*high)? * 16 + digit(*low)?) as u8)
        });
        match (first, digits) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The failure envelope of spec 01 section 1.1.
pub(super) fn refusal(status: u16, code: ErrorCode, message: &str, retry_after_s: Option<u32>) -> Refusal {
    let message = if message.is_empty() { code.default_message() } else { message };
    let mut body = serde_json::json!({ "success": false, "message": message, "code": code.as_str() });
    let mut headers = Vec::new();
    if let Some(seconds) = retry_after_s {
        body["details"] = serde_json::json!({ "retryAfter": seconds });
        headers.push(("Retry-After", seconds.to_string()));
    }
    Refusal { status, headers, content_type: "application/json", body: body.to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded() {
        let query = Query::parse("x=1&token=a%2Eb&device=my+phone&client=%zz%e9&token=second");
        assert_eq!((&*query.token, &*query.device, &*query.client), ("a.b", "my phone", "%zz\u{fffd}"));
        assert_eq!(&*Query::parse("").token, "");
    }

    #[test]
    fn expired_revocations_are_forgotten() {
        let mut revocations = Revocations::default();
        for n in 0..3000i64 {
            let token_id = n.to_string().into();
            revocations.add(Revocation::Token { token_id, expires_at_s: n }, 2900);
        }
        assert!(revocations.tokens.len() < 1200, "{}", revocations.tokens.len());
        assert!(revocations.tokens.contains_key("2999"));
    }

    #[test]
    fn a_user_revocation_never_steps_back() {
        let mut revocations = Revocations::default();
        revocations.add(Revocation::User { user_id: 7, version_min: 3 }, 0);
        revocations.add(Revocation::User { user_id: 7, version_min: 2 }, 0);
        assert_eq!(revocations.versions[&7], 3);
    }

    #[test]
    fn a_disabled_account_is_asked_about_again_after_a_while() {
        let mut revocations = Revocations::default();
        revocations.add(Revocation::Disabled { user_id: 7, until_s: 100 }, 50);
        assert!(revocations.is_disabled(7, 99) && !revocations.is_disabled(7, 100) && !revocations.is_disabled(8, 99));
        for user_id in 0..3000 {
            revocations.add(Revocation::Disabled { user_id, until_s: 60 + user_id }, 2900 + 60);
        }
        assert!(revocations.disabled.len() <= SWEEP_MIN, "{}", revocations.disabled.len());
    }

    #[test]
    fn a_refusal_is_the_failure_envelope() {
        let refusal = refusal(429, ErrorCode::RateLimited, "", Some(2));
        let body: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap_or_default();
        assert_eq!((&body["success"], &body["code"]), (&false.into(), &"RATE_LIMITED".into()));
        assert_eq!(body["details"]["retryAfter"], 2);
        assert_eq!(refusal.headers, [("Retry-After", "2".to_owned())]);
    }
}
