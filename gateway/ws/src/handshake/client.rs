//! The client's side of the opening handshake (RFC 6455 section 4.1). Makes no random numbers and follows no redirect.

use alloc::vec::Vec;

use super::accept::{accept_value, encode_key};
use super::fields::{Fields, HeadError, HeadLimits, Scan, scan_head};
use super::syntax::{is_token, is_value_byte};
use super::target::{is_host, parse_target};

/// What to ask a server for.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// Host and, unless default, port.
    pub host: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// 16 bytes, random for each connection.
    pub key: [u8; 16],
    /// Subprotocols to offer, best first.
    pub protocols: &'a [&'a str],
    /// Further header fields, such as Origin or Authorization.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A request that cannot be written because one of its parts would break the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientRequest {
    /// Not a host with an optional port.
    #[error("invalid host")]
    Host,
    /// Not a path with an optional query.
    #[error("invalid request target")]
    Target,
    /// A subprotocol that is not a token.
    #[error("invalid subprotocol")]
    Protocol,
    /// A field name that is not a token or a value with control characters.
    #[error("invalid header field")]
    Header,
}

/// Appends the upgrade request. It offers no extension.
///
/// # Errors
/// A part that is malformed; `out` is unchanged then.
pub fn write_request(request: &ClientRequest<'_>, out: &mut Vec<u8>) -> Result<(), InvalidClientRequest> {
    if !is_host(request.host.as_bytes()) {
        return Err(InvalidClientRequest::Host);
    }
    if !request.target.starts_with('/') || parse_target("GET", request.target).is_none() {
        return Err(InvalidClientRequest::Target);
    }
    if !request.protocols.iter().all(|protocol| is_token(protocol.as_bytes())) {
        return Err(InvalidClientRequest::Protocol);
    }
    if !request.headers.iter().all(|(name, value)| is_token(name.as_bytes()) && value.bytes().all(is_value_byte)) {
        return Err(InvalidClientRequest::Header);
    }
    for part in ["GET ", request.target, " HTTP/1.1\r\nHost: ", request.host] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13");
    out.extend_from_slice(b"\r\nSec-WebSocket-Key: ");
    out.extend_from_slice(&encode_key(request.key));
    for (i, protocol) in request.protocols.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\r\nSec-WebSocket-Protocol: " } else { b", " });
        out.extend_from_slice(protocol.as_bytes());
    }
    for (name, value) in request.headers {
        for part in ["\r\n", name, ": ", value] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
    Ok(())
}

/// A response head, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status code, 100-599.
    pub status: u16,
    /// The header fields.
    pub fields: Fields<'a>,
    /// Length of the head in bytes, the empty line included; after a 101 frames follow.
    pub head_len: usize,
}

/// Why a server's response does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not HTTP/1.1 syntax.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Longer than the limit.
    #[error("response head too large")]
    HeadTooLarge,
    /// Not `HTTP/1.1 SP status SP reason`.
    #[error("malformed status line")]
    InvalidStatusLine,
    /// A status other than 101.
    #[error("server answered with status {0}")]
    Refused(u16),
    /// Upgrade is not `websocket`.
    #[error("upgrade header is not websocket")]
    MissingUpgrade,
    /// Connection does not name `upgrade`.
    #[error("connection header does not name upgrade")]
    MissingConnectionUpgrade,
    /// Sec-WebSocket-Accept is missing, doubled or does not answer the key.
    #[error("Sec-WebSocket-Accept does not match the key")]
    InvalidAccept,
    /// An extension although none was offered.
    #[error("server uses an extension that was not offered")]
    UnexpectedExtension,
    /// A subprotocol that was not offered, or several.
    #[error("server uses a subprotocol that was not offered")]
    UnexpectedProtocol,
}

/// Parses the response head at the start of `buf`; `None` while it is incomplete.
///
/// # Errors
/// A head that is malformed or too large. Whether it opens a WebSocket, [`Response::verify`] tells.
pub fn parse_response<'a>(buf: &'a [u8], limits: &HeadLimits) -> Result<Option<Response<'a>>, ResponseError> {
    match scan_head(buf, limits, |line| parse_status_line(line).map(|_| ()))? {
        Scan::Complete(head) => Ok(Some(Response {
            status: parse_status_line(head.start_line)?,
            fields: head.fields,
            head_len: head.bytes,
        })),
        Scan::Incomplete => Ok(None),
        Scan::StartLineTooLong | Scan::TooLong => Err(ResponseError::HeadTooLarge),
    }
}

fn parse_status_line(line: &[u8]) -> Result<u16, ResponseError> {
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', a @ b'1'..=b'5', b, c, rest @ ..]
            if minor.is_ascii_digit()
                && b.is_ascii_digit()
                && c.is_ascii_digit()
                && rest.first().is_none_or(|&b| b == b' ') =>
        {
            Ok([a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0')))
        }
        _ => Err(ResponseError::InvalidStatusLine),
    }
}

impl<'a> Response<'a> {
    /// Checks that the response opens a WebSocket for the request made with `key` and `offered` subprotocols, and
    /// returns the subprotocol in use.
    ///
    /// # Errors
    /// See [`ResponseError`]; the connection must be closed then.
    pub fn verify(&self, key: [u8; 16], offered: &[&str]) -> Result<Option<&'a str>, ResponseError> {
        if self.status != 101 {
            return Err(ResponseError::Refused(self.status));
        }
        if !self.fields.get("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
            return Err(ResponseError::MissingUpgrade);
        }
        if !self.fields.has_token("connection", "upgrade") {
            return Err(ResponseError::MissingConnectionUpgrade);
        }
        let expected = accept_value(&encode_key(key));
        let mut accepts = self.fields.all("sec-websocket-accept");
        if accepts.next() != Some(&expected[..]) || accepts.next().is_some() {
            return Err(ResponseError::InvalidAccept);
        }
        if self.fields.get("sec-websocket-extensions").is_some() {
            return Err(ResponseError::UnexpectedExtension);
        }
        let mut chosen = self.fields.all("sec-websocket-protocol");
        let Some(first) = chosen.next() else { return Ok(None) };
        let first = core::str::from_utf8(first).ok().filter(|first| offered.contains(first));
        match (first, chosen.next()) {
            (Some(protocol), None) => Ok(Some(protocol)),
            _ => Err(ResponseError::UnexpectedProtocol),
        }
    }
}
