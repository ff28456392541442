//! Character classes and lists of RFC 9110 section 5.6 that the other handshake files share. Knows no field by name.

/// The tchars (RFC 9110 section 5.6.2), as a table because every byte of every field name is looked up.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether `bytes` is a token: not empty and of tchars only.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| TOKEN_BYTES[usize::from(b)])
}

/// Whether `byte` may stand in a field value: HTAB, SP, VCHAR or obs-text (RFC 9110 section 5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=0x7e | 0x80..)
}

/// Removes spaces and tabs at both ends.
pub(super) fn trim_whitespace(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, trimmed; empty ones are skipped (RFC 9110 section 5.6.1.2).
pub(super) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_whitespace).filter(|element| !element.is_empty())
}

/// Whether one `value` of Sec-WebSocket-Extensions follows the grammar of RFC 6455 section 9.1. A quoted parameter
/// must hold a token, so a comma or semicolon always separates.
pub(super) fn is_extension_list(value: &[u8]) -> bool {
    let mut offers = list_elements(value).peekable();
    offers.peek().is_some() && offers.all(is_extension)
}

fn is_extension(offer: &[u8]) -> bool {
    let mut parts = offer.split(|&b| b == b';').map(trim_whitespace);
    parts.next().is_some_and(is_token) && parts.all(is_extension_parameter)
}

fn is_extension_parameter(parameter: &[u8]) -> bool {
    let mut sides = parameter.splitn(2, |&b| b == b'=').map(trim_whitespace);
    let name = sides.next().is_some_and(is_token);
    let value = sides.next().is_none_or(|value| match value {
        [b'"', inner @ .., b'"'] => is_token(inner),
        bare => is_token(bare),
    });
    name && value
}
