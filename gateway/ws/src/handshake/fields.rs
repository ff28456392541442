//! Lines and header fields of an HTTP/1.1 head (RFC 9112 sections 2.2 and 5), for requests and responses. Never
//! interprets a field.

use super::syntax::{is_token, list_elements, trim_whitespace};

/// Bounds on a received head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The longest head in bytes, from the first byte of the start line through the empty line.
    pub head_bytes_max: usize,
    /// The most header fields.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    /// 8 KiB and 100 fields.
    fn default() -> Self {
        Self { head_bytes_max: 8 * 1024, fields_max: 100 }
    }
}

/// A head that is not HTTP/1.1, whatever it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// LF without CR before it (RFC 9112 section 2.2; this server does not take it as a line end).
    #[error("line feed without carriage return")]
    BareLineFeed,
    /// CR without LF behind it (RFC 9112 section 2.2).
    #[error("carriage return without line feed")]
    BareCarriageReturn,
    /// NUL or another control character (RFC 9110 section 5.5).
    #[error("control character in the head")]
    ControlCharacter,
    /// A line that begins with white space: obs-fold, or space before the first field (RFC 9112 sections 2.2, 5.2).
    #[error("header line begins with white space")]
    FoldedLine,
    /// A field line without colon.
    #[error("header line without colon")]
    MissingColon,
    /// White space between name and colon (RFC 9112 section 5.1).
    #[error("white space before the colon of a header")]
    SpaceBeforeColon,
    /// An empty name or one that is not a token.
    #[error("invalid header name")]
    InvalidName,
    /// More fields than [`HeadLimits::fields_max`].
    #[error("too many header fields")]
    TooManyFields,
}

/// The header fields of a checked head, in order. A lookup scans the head, which its limit keeps short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    block: &'a [u8],
}

impl<'a> Fields<'a> {
    /// All fields as (name, value), the value without surrounding white space. Values may hold bytes above 0x7f.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.block;
        core::iter::from_fn(move || {
            let line_len = rest.iter().position(|&b| b == b'\r')?;
            let line = &rest[..line_len];
            rest = &rest[line_len + 2..];
            let colon = line.iter().position(|&b| b == b':')?;
            let name = core::str::from_utf8(&line[..colon]).ok()?;
            Some((name, trim_whitespace(&line[colon + 1..])))
        })
    }

    /// The values of every field called `name`, compared without case, in order.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first field called `name`.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The value of the first field called `name` when that is UTF-8.
    #[must_use]
    pub fn get_str(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Whether a comma-separated list field holds `token`, compared without case, on any of its lines.
    #[must_use]
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(list_elements).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// A head taken apart into its start line and checked fields.
pub(super) struct Head<'a> {
    pub(super) start_line: &'a [u8],
    pub(super) fields: Fields<'a>,
    /// Length in bytes, the empty line included.
    pub(super) bytes: usize,
}

/// What a scan for a head came to.
pub(super) enum Scan<'a> {
    Complete(Head<'a>),
    /// More bytes are needed.
    Incomplete,
    /// The limit is reached within the start line.
    StartLineTooLong,
    /// The limit is reached within the fields.
    TooLong,
}

/// Takes the head at the start of `buf` apart; `check_start_line` runs as soon as that line is complete, so that a bad
/// one is refused before the fields arrive.
pub(super) fn scan_head<'a, E: From<HeadError>>(
    buf: &'a [u8],
    limits: &HeadLimits,
    check_start_line: impl FnOnce(&'a [u8]) -> Result<(), E>,
) -> Result<Scan<'a>, E> {
    let window = &buf[..buf.len().min(limits.head_bytes_max)];
    let exhausted = buf.len() >= limits.head_bytes_max;
    let Some(start_len) = line_length(window)? else {
        return Ok(if exhausted { Scan::StartLineTooLong } else { Scan::Incomplete });
    };
    let start_line = &window[..start_len];
    check_start_line(start_line)?;
    let block_start = start_len + 2;
    let mut at = block_start;
    let mut count = 0;
    loop {
        let Some(line_len) = line_length(&window[at..])? else {
            return Ok(if exhausted { Scan::TooLong } else { Scan::Incomplete });
        };
        if line_len == 0 {
            let fields = Fields { block: &window[block_start..at] };
            return Ok(Scan::Complete(Head { start_line, fields, bytes: at + 2 }));
        }
        check_field(&window[at..at + line_len])?;
        count += 1;
        if count > limits.fields_max {
            return Err(HeadError::TooManyFields.into());
        }
        at += line_len + 2;
    }
}

/// The length of the line at the start of `buf` without its CRLF; `None` while that has not arrived.
fn line_length(buf: &[u8]) -> Result<Option<usize>, HeadError> {
    let Some(at) = buf.iter().position(|&b| (b < b' ' && b != b'\t') || b == 0x7f) else { return Ok(None) };
    match (buf[at], buf.get(at + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some(at)),
        (b'\r', None) => Ok(None),
        (b'\r', Some(_)) => Err(HeadError::BareCarriageReturn),
        (b'\n', _) => Err(HeadError::BareLineFeed),
        _ => Err(HeadError::ControlCharacter),
    }
}

/// Checks a line that is free of control characters.
fn check_field(line: &[u8]) -> Result<(), HeadError> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Err(HeadError::FoldedLine);
    }
    let Some(colon) = line.iter().position(|&b| b == b':') else { return Err(HeadError::MissingColon) };
    let name = &line[..colon];
    if matches!(name, [.., b' ' | b'\t']) {
        return Err(HeadError::SpaceBeforeColon);
    }
    if !is_token(name) {
        return Err(HeadError::InvalidName);
    }
    Ok(())
}
