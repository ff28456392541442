//! Sizes of pages and search texts (spec 01 §1.2): clamped, never refused.
//!
//! Owns these limits only.

use gochat_proto::codes::ErrorCode;

pub(crate) const PAGE_SIZE_DEFAULT: i32 = 20;
pub(crate) const PAGE_SIZE_MAX: i32 = 100;
/// Characters of a search text.
const QUERY_CHARS_MAX: usize = 50;

/// A size between 1 and `max`; what was not given is `default`.
pub(crate) fn sized(asked: i32, default: i32, max: i32) -> i32 {
    if asked <= 0 { default } else { asked.min(max) }
}

/// A search text, trimmed: MISSING_QUERY when there is none, INVALID_PARAMS when it is too long.
pub(crate) fn query(text: &str) -> Result<&str, ErrorCode> {
    match text.trim() {
        "" => Err(ErrorCode::MissingQuery),
        text if text.chars().count() > QUERY_CHARS_MAX => Err(ErrorCode::InvalidParams),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_queries() {
        assert_eq!([-1, 0, 1, 100, 101].map(|asked| sized(asked, 20, 100)), [20, 20, 1, 100, 100]);
        assert_eq!(query("  ann "), Ok("ann"));
        assert_eq!(query("  "), Err(ErrorCode::MissingQuery));
        assert_eq!(query(&"é".repeat(50)).map(str::len), Ok(100));
        assert_eq!(query(&"é".repeat(51)), Err(ErrorCode::InvalidParams));
    }
}
