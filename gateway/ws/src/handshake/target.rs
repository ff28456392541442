//! Request targets and hosts: RFC 9112 section 3.2 over the grammar of RFC 3986. Resolves nothing and decodes nothing.

use core::net::Ipv6Addr;

/// A request target taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Host and port of an absolute-form target, which stand before the Host field.
    pub(super) authority: Option<&'a str>,
    /// The path, "/" for an absolute-form target without one, "*" for the asterisk-form.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

/// Parses origin-form, absolute-form (http and https) and, for OPTIONS, asterisk-form; `None` when malformed.
pub(super) fn parse_target<'a>(method: &str, raw: &'a str) -> Option<Target<'a>> {
    if raw.starts_with('/') {
        return parse_path(raw).map(|(path, query)| Target { authority: None, path, query });
    }
    if raw == "*" {
        return (method == "OPTIONS").then_some(Target { authority: None, path: raw, query: None });
    }
    let (scheme, rest) = raw.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !is_host(authority.as_bytes()) {
        return None;
    }
    let (path, query) = parse_path(path_and_query)?;
    Some(Target { authority: Some(authority), path: if path.is_empty() { "/" } else { path }, query })
}

/// Whether `value` is `uri-host [":" port]` with a host that is not empty and without user information, as both Host
/// and the authority of an http URI must be (RFC 9110 sections 4.2 and 7.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    if let [b'[', rest @ ..] = value {
        let Some(end) = rest.iter().position(|&b| b == b']') else { return false };
        let address = core::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        return address.is_some() && is_port_suffix(&rest[end + 1..]);
    }
    let (name, port) = value.split_at(value.iter().position(|&b| b == b':').unwrap_or(value.len()));
    !name.is_empty()
        && has_valid_escapes(name)
        && name.iter().all(|&b| is_unreserved(b) || is_sub_delim(b) || b == b'%')
        && is_port_suffix(port)
}

/// Nothing, or a colon and a port that may be empty.
fn is_port_suffix(suffix: &[u8]) -> bool {
    match suffix {
        [] | [b':'] => true,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            core::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

/// Splits path and query and checks their characters. The path follows RFC 3986; the query may also hold the few
/// characters that browsers leave as they are (the query percent-encode set of the WHATWG URL standard).
fn parse_path(raw: &str) -> Option<(&str, Option<&str>)> {
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    let path_ok = path.bytes().all(|b| is_path_byte(b) || b == b'%') && has_valid_escapes(path.as_bytes());
    let query_ok = query.is_none_or(|query| {
        query.bytes().all(|b| is_path_byte(b) || b"%?[]{}|^`\\".contains(&b)) && has_valid_escapes(query.as_bytes())
    });
    (path_ok && query_ok).then_some((path, query))
}

fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || is_sub_delim(byte) || matches!(byte, b':' | b'@' | b'/')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_sub_delim(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}

/// Whether every percent sign begins an escape of two hexadecimal digits.
fn has_valid_escapes(bytes: &[u8]) -> bool {
    bytes
        .split(|&b| b == b'%')
        .skip(1)
        .all(|rest| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}
