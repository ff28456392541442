//! A request head by RFC 9112, with the rules that decide where its body ends. Never reads the body and knows nothing
//! of WebSocket.

use super::fields::{Fields, HeadError, HeadLimits, Scan, scan_head};
use super::syntax::{is_token, list_elements};
use super::target::{Target, is_host, parse_target};

/// The longest method in bytes; a longer one is surely not implemented (RFC 9112 section 3).
const METHOD_BYTES_MAX: usize = 32;

/// The version to answer in. A higher minor version counts as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the body behind the head is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body is announced.
    None,
    /// Content-Length, in bytes.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// A checked request head, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method, case-sensitive.
    pub method: &'a str,
    /// The request target as received.
    pub target: &'a str,
    /// The path, still percent-encoded; "*" for `OPTIONS *`.
    pub path: &'a str,
    /// The query without its question mark, still percent-encoded.
    pub query: Option<&'a str>,
    /// Host and port: of an absolute-form target, else of the Host field; `None` only in HTTP/1.0.
    pub host: Option<&'a str>,
    /// The version to answer in.
    pub version: Version,
    /// The header fields.
    pub fields: Fields<'a>,
    /// How the body is framed.
    pub body: Body,
    /// Length of the head in bytes, the empty line included; what follows in the buffer is body or frames.
    pub head_len: usize,
}

/// A request that must be refused with [`status`](Self::status), after which the connection is closed: where the next
/// request would begin is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not HTTP/1.1 syntax.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The request line reaches the head limit.
    #[error("request target too long")]
    TargetTooLong,
    /// The fields reach the head limit.
    #[error("request head too large")]
    HeadTooLarge,
    /// Not `method SP target SP version` with single spaces.
    #[error("malformed request line")]
    InvalidRequestLine,
    /// CONNECT, which only proxies serve, or a method too long to be one.
    #[error("method not implemented")]
    MethodNotImplemented,
    /// None of the forms of RFC 9112 section 3.2, or a character that may not stand in one.
    #[error("malformed request target")]
    InvalidTarget,
    /// Not `HTTP/` digit `.` digit.
    #[error("malformed HTTP version")]
    InvalidVersion,
    /// A major version other than 1.
    #[error("HTTP version not supported")]
    UnsupportedVersion,
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    #[error("host header missing")]
    MissingHost,
    /// More than one Host.
    #[error("more than one host header")]
    MultipleHosts,
    /// A Host that is no host.
    #[error("invalid host header")]
    InvalidHost,
    /// Content-Length is not one decimal number below 2^64.
    #[error("invalid content length")]
    InvalidContentLength,
    /// More than one Content-Length, even when equal (RFC 9112 section 6.3 allows to reject).
    #[error("more than one content length")]
    MultipleContentLengths,
    /// Content-Length beside Transfer-Encoding: a sign of request smuggling (RFC 9112 section 6.1).
    #[error("content length beside transfer encoding")]
    LengthWithTransferEncoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
    #[error("transfer encoding in HTTP/1.0")]
    TransferEncodingInHttp10,
    /// Transfer-Encoding that does not end with one `chunked` (RFC 9112 section 6.3).
    #[error("invalid transfer encoding")]
    InvalidTransferEncoding,
    /// A transfer coding besides `chunked`.
    #[error("transfer coding not implemented")]
    UnsupportedTransferCoding,
}

impl RequestError {
    /// The HTTP status to refuse with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::Head(HeadError::TooManyFields) => 431,
            Self::MethodNotImplemented | Self::UnsupportedTransferCoding => 501,
            Self::UnsupportedVersion => 505,
            Self::Head(_)
            | Self::InvalidRequestLine
            | Self::InvalidTarget
            | Self::InvalidVersion
            | Self::MissingHost
            | Self::MultipleHosts
            | Self::InvalidHost
            | Self::InvalidContentLength
            | Self::MultipleContentLengths
            | Self::LengthWithTransferEncoding
            | Self::TransferEncodingInHttp10
            | Self::InvalidTransferEncoding => 400,
        }
    }
}

/// Parses the request head at the start of `buf`; `None` while it is incomplete. Complete lines are judged at once, so
/// a bad request is refused before the rest of its head arrives. One empty line before the request is skipped
/// (RFC 9112 section 2.2).
///
/// # Errors
/// See [`RequestError`].
pub fn parse_request<'a>(buf: &'a [u8], limits: &HeadLimits) -> Result<Option<Request<'a>>, RequestError> {
    let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    let limits = HeadLimits { head_bytes_max: limits.head_bytes_max.saturating_sub(skipped), ..*limits };
    let scan = scan_head(&buf[skipped..], &limits, |line| parse_request_line(line).map(|_| ()))?;
    let head = match scan {
        Scan::Complete(head) => head,
        Scan::Incomplete => return Ok(None),
        Scan::StartLineTooLong => return Err(RequestError::TargetTooLong),
        Scan::TooLong => return Err(RequestError::HeadTooLarge),
    };
    let line = parse_request_line(head.start_line)?;
    let framing = Framing::collect(head.fields)?;
    let host = framing.host(line.version)?;
    Ok(Some(Request {
        method: line.method,
        target: line.raw_target,
        path: line.target.path,
        query: line.target.query,
        host: line.target.authority.or(host),
        version: line.version,
        fields: head.fields,
        body: framing.body(line.version)?,
        head_len: skipped + head.bytes,
    }))
}

struct RequestLine<'a> {
    method: &'a str,
    raw_target: &'a str,
    target: Target<'a>,
    version: Version,
}

fn parse_request_line(line: &[u8]) -> Result<RequestLine<'_>, RequestError> {
    let mut parts = line.split(|&b| b == b' ');
    let method = parts.next().unwrap_or_default();
    if !is_token(method) {
        return Err(RequestError::InvalidRequestLine);
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(RequestError::MethodNotImplemented);
    }
    let (Some(raw_target), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(RequestError::InvalidRequestLine);
    };
    if raw_target.is_empty() {
        return Err(RequestError::InvalidRequestLine);
    }
    let version = parse_version(version)?;
    let method = core::str::from_utf8(method).map_err(|_| RequestError::InvalidRequestLine)?;
    if method == "CONNECT" {
        return Err(RequestError::MethodNotImplemented);
    }
    let raw_target = core::str::from_utf8(raw_target).map_err(|_| RequestError::InvalidTarget)?;
    let target = parse_target(method, raw_target).ok_or(RequestError::InvalidTarget)?;
    Ok(RequestLine { method, raw_target, target, version })
}

fn parse_version(version: &[u8]) -> Result<Version, RequestError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(RequestError::UnsupportedVersion)
        }
        _ => Err(RequestError::InvalidVersion),
    }
}

/// The fields that say whose the request is and where it ends, gathered in one pass.
#[derive(Default)]
struct Framing<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    has_transfer_encoding: bool,
    /// Transfer codings before the last.
    chunked_inside: bool,
    other_inside: bool,
    chunked_last: bool,
}

impl<'a> Framing<'a> {
    fn collect(fields: Fields<'a>) -> Result<Self, RequestError> {
        let mut framing = Self::default();
        for (name, value) in fields.iter() {
            if name.eq_ignore_ascii_case("host") {
                if framing.host.replace(value).is_some() {
                    return Err(RequestError::MultipleHosts);
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                if framing.length.replace(value).is_some() {
                    return Err(RequestError::MultipleContentLengths);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing.add_codings(value);
            }
        }
        Ok(framing)
    }

    fn add_codings(&mut self, value: &[u8]) {
        for coding in list_elements(value) {
            if self.has_transfer_encoding {
                self.chunked_inside |= self.chunked_last;
                self.other_inside |= !self.chunked_last;
            }
            self.has_transfer_encoding = true;
            self.chunked_last = coding.eq_ignore_ascii_case(b"chunked");
        }
        // A list of nothing is not `1#transfer-coding`: it counts as a coding that cannot end a message.
        if !self.has_transfer_encoding {
            self.has_transfer_encoding = true;
            self.chunked_last = false;
        }
    }

    fn host(&self, version: Version) -> Result<Option<&'a str>, RequestError> {
        match self.host {
            None if version == Version::Http11 => Err(RequestError::MissingHost),
            None => Ok(None),
            Some(host) if is_host(host) => core::str::from_utf8(host).map(Some).map_err(|_| RequestError::InvalidHost),
            Some(_) => Err(RequestError::InvalidHost),
        }
    }

    fn body(&self, version: Version) -> Result<Body, RequestError> {
        if self.has_transfer_encoding {
            return match () {
                () if self.length.is_some() => Err(RequestError::LengthWithTransferEncoding),
                () if version == Version::Http10 => Err(RequestError::TransferEncodingInHttp10),
                () if !self.chunked_last || self.chunked_inside => Err(RequestError::InvalidTransferEncoding),
                () if self.other_inside => Err(RequestError::UnsupportedTransferCoding),
                () => Ok(Body::Chunked),
            };
        }
        let Some(length) = self.length else { return Ok(Body::None) };
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(RequestError::InvalidContentLength);
        }
        let length = core::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
        length.map(Body::Length).ok_or(RequestError::InvalidContentLength)
    }
}
