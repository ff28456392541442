//! Appends JSON to a byte buffer: no intermediate values, no allocation but the buffer's own growth.
//!
//! Owns escaping and commas. Never reads.

use std::fmt;

use bytes::BufMut;

/// An object being written; [`Object::end`] closes it.
pub(super) struct Object<'o, B> {
    out: &'o mut B,
    empty: bool,
}

impl<'o, B: BufMut> Object<'o, B> {
    pub(super) fn begin(out: &'o mut B) -> Self {
        out.put_u8(b'{');
        Object { out, empty: true }
    }

    pub(super) fn end(self) {
        self.out.put_u8(b'}');
    }

    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        string(self.out, value);
    }

    /// Nothing when empty: absent optional fields are omitted.
    pub(super) fn text_if(&mut self, key: &'static str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    pub(super) fn int(&mut self, key: &'static str, value: i64) {
        self.key(key);
        integer(self.out, value);
    }

    pub(super) fn bool(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.out.put_slice(if value { b"true" } else { b"false" });
    }

    /// An id: its decimal digits in quotes.
    pub(super) fn id(&mut self, key: &'static str, value: impl fmt::Display) {
        self.key(key);
        self.out.put_u8(b'"');
        display(self.out, value);
        self.out.put_u8(b'"');
    }

    /// `json` is one JSON value already.
    pub(super) fn raw(&mut self, key: &'static str, json: &[u8]) {
        self.key(key);
        self.out.put_slice(json);
    }

    pub(super) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Object<'_, B>)) {
        self.key(key);
        let mut inner = Object::begin(self.out);
        fill(&mut inner);
        inner.end();
    }

    /// The value of `key` is written by `write`, which must write exactly one JSON value.
    pub(super) fn value(&mut self, key: &'static str, write: impl FnOnce(&mut B)) {
        self.key(key);
        write(self.out);
    }

    fn key(&mut self, key: &'static str) {
        if !self.empty {
            self.out.put_u8(b',');
        }
        self.empty = false;
        self.out.put_u8(b'"');
        self.out.put_slice(key.as_bytes());
        self.out.put_slice(b"\":");
    }
}

/// The text in quotes; escapes only what RFC 8259 §7 asks for.
fn string<B: BufMut>(out: &mut B, text: &str) {
    out.put_u8(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            control => {
                out.put_slice(b"\\u00");
                out.put_u8(b"0123456789abcdef"[usize::from(control >> 4)]);
                out.put_u8(b"0123456789abcdef"[usize::from(control & 15)]);
            }
        }
    }
    out.put_slice(&bytes[plain..]);
    out.put_u8(b'"');
}

fn integer<B: BufMut>(out: &mut B, value: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.put_slice(&digits[at..]);
}

fn display<B: BufMut>(out: &mut B, value: impl fmt::Display) {
    struct Writer<'o, B>(&'o mut B);

    impl<B: BufMut> fmt::Write for Writer<'_, B> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.put_slice(text.as_bytes());
            Ok(())
        }
    }

    // The writer never fails, so an error could only come from the value's own Display; ours have none.
    let _infallible = fmt::Write::write_fmt(&mut Writer(out), format_args!("{value}"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn every_character_survives() {
        let all: String = (0..0x3000).filter_map(char::from_u32).chain("\u{2028}\u{10ffff}😀".chars()).collect();
        let mut out = Vec::new();
        string(&mut out, &all);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
    }

    #[test]
    fn integers_are_exact() {
        for value in [0, 1, -1, 9, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            integer(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
