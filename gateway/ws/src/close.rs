//! Close codes and the close payload of RFC 6455 sections 5.5.1 and 7.4. Knows no connection state.

use crate::error::ProtocolError;

/// The longest close reason in bytes: a control payload less the two of the code.
pub const REASON_BYTES_MAX: usize = 123;

/// Whether `code` may stand in a close frame: 1000-1003, 1007-1014 and 3000-4999. 1004 is reserved, 1005, 1006 and 1015
/// are never sent, the rest is undefined (RFC 6455 section 7.4 and the IANA registry).
#[must_use]
pub fn is_allowed_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Splits a close payload into code and reason; an empty payload has neither.
///
/// # Errors
/// A payload of one byte and a code not allowed in a frame (1002), then a reason that is not UTF-8 (1007).
pub(crate) fn parse_payload(payload: &[u8]) -> Result<(Option<u16>, &str), ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(ProtocolError::TruncatedCloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_allowed_code(code) {
        return Err(ProtocolError::InvalidCloseCode(code));
    }
    let reason = core::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok((Some(code), reason))
}
