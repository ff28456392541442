//! The key of the handshake and its answer (RFC 6455 sections 4.1 and 4.2.2). Makes no random numbers.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

/// Appended to the key before hashing (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Length in bytes of a key in base64.
pub(super) const KEY_TEXT_BYTES: usize = 24;

/// Unused low bits in the last character still decode to 16 bytes, all that RFC 6455 asks.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The Sec-WebSocket-Accept value for the `key` field of the request, as 28 ASCII bytes.
#[must_use]
pub fn accept_value(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut out = [0; 28];
    // 20 bytes are 28 characters, so the slice is never too short.
    let _ = BASE64.encode_slice(digest, &mut out);
    out
}

/// The Sec-WebSocket-Key value of a client's 16 random bytes.
pub(super) fn encode_key(key: [u8; 16]) -> [u8; KEY_TEXT_BYTES] {
    let mut out = [0; KEY_TEXT_BYTES];
    // 16 bytes are 24 characters, so the slice is never too short.
    let _ = BASE64.encode_slice(key, &mut out);
    out
}

/// Whether `key` is base64 of 16 bytes.
pub(super) fn is_key(key: &[u8]) -> bool {
    let mut decoded = [0; KEY_TEXT_BYTES / 4 * 3];
    key.len() == KEY_TEXT_BYTES && BASE64.decode_slice(key, &mut decoded) == Ok(16)
}
