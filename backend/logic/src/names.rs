//! What usernames, passwords and avatar addresses may look like (spec 01 §4.1).
//!
//! Pure rules. Never asks whether a name is taken.

use gochat_proto::codes::ErrorCode;

const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=20;
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 6..=50;
/// bcrypt reads no further.
pub(crate) const PASSWORD_BYTES_MAX: usize = 72;
const AVATAR_URL_CHARS_MAX: usize = 255;
const RESERVED: [&str; 3] = ["system", "world", "admin"];
const GUEST_PREFIX: &str = "guest_";
const GUEST_NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=14;
const GUEST_RANDOM_CHARS: usize = 8;

/// The name to register, trimmed.
pub(crate) fn username(wished: &str) -> Result<&str, ErrorCode> {
    let name = wished.trim();
    let lower = name.to_lowercase();
    if !USERNAME_CHARS.contains(&name.chars().count())
        || !name.chars().all(is_allowed)
        || RESERVED.contains(&lower.as_str())
        || lower.starts_with(GUEST_PREFIX)
    {
        return Err(ErrorCode::InvalidUsername);
    }
    Ok(name)
}

/// The name of a guest who wished for one.
pub(crate) fn guest(wished: &str) -> Result<String, ErrorCode> {
    let name = wished.trim();
    if !GUEST_NAME_CHARS.contains(&name.chars().count()) || !name.chars().all(is_allowed) {
        return Err(ErrorCode::InvalidUsername);
    }
    Ok(format!("{GUEST_PREFIX}{name}"))
}

/// A guest's name out of 64 random bits.
pub(crate) fn random_guest(mut bits: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = GUEST_PREFIX.to_owned();
    for _ in 0..GUEST_RANDOM_CHARS {
        name.push(char::from(DIGITS[(bits % 36) as usize]));
        bits /= 36;
    }
    name
}

/// Trimmed text of at most `max` characters without control characters other than line breaks, at least one when
/// `required`.
pub(crate) fn text(value: &str, max: usize, required: bool) -> Option<&str> {
    let text = value.trim();
    let is_clean = !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    (is_clean && text.chars().count() <= max && !(required && text.is_empty())).then_some(text)
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether a password may be registered.
pub(crate) fn password(wished: &str) -> Result<(), ErrorCode> {
    // A zero byte ends a bcrypt password early.
    if !PASSWORD_CHARS.contains(&wished.chars().count()) || wished.len() > PASSWORD_BYTES_MAX || wished.contains('\0') {
        return Err(ErrorCode::WeakPassword);
    }
    Ok(())
}

/// Whether an avatar may be linked; empty means none.
pub(crate) fn avatar_url(url: &str) -> Result<(), ErrorCode> {
    let is_http = ["https://", "http://"].iter().any(|scheme| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) && url.len() > scheme.len()
    });
    let is_clean =
        url.chars().count() <= AVATAR_URL_CHARS_MAX && !url.chars().any(|c| c.is_whitespace() || c.is_control());
    if url.is_empty() || is_http && is_clean { Ok(()) } else { Err(ErrorCode::InvalidParams) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames() {
        for good in ["bob", "Ünïcødé", "a.b-c_9", "  trimmed ", "用户名", "x2345678901234567890"] {
            assert_eq!(username(good), Ok(good.trim()), "{good:?}");
        }
        for bad in [
            "",
            "ab",
            "  ab ",
            "x23456789012345678901",
            "a b c",
            "tab\tname",
            "emo😀ji",
            "admin",
            "System",
            "WORLD",
            "guest_x1",
            "Guest_abc",
            "a/b/c",
            "a\u{200b}bc",
            "null\0byte",
        ] {
            assert_eq!(username(bad), Err(ErrorCode::InvalidUsername), "{bad:?}");
        }
    }

    #[test]
    fn guests() {
        assert_eq!(guest(" zoe "), Ok("guest_zoe".to_owned()));
        for bad in ["", "   ", "fifteen_letters", "a b", "a/b", "guest\0"] {
            assert_eq!(guest(bad), Err(ErrorCode::InvalidUsername), "{bad:?}");
        }
        assert_eq!(random_guest(0), "guest_00000000");
        assert_eq!(random_guest(u64::MAX).len(), "guest_".len() + 8);
        assert_ne!(random_guest(35), random_guest(36));
    }

    #[test]
    fn texts() {
        assert_eq!(text(" a b ", 3, true), Some("a b"));
        assert_eq!(text("  ", 3, true), None);
        assert_eq!(text("  ", 3, false), Some(""));
        assert_eq!(text("éééé", 3, false), None);
        assert_eq!(text("a\u{1}b", 9, false), None);
        assert_eq!(text("a\nb", 9, false), Some("a\nb"));
    }

    #[test]
    fn passwords() {
        for good in ["secret", &"x".repeat(50), &"é".repeat(36), "with space"] {
            assert_eq!(password(good), Ok(()), "{good:?}");
        }
        for bad in ["", "12345", &"x".repeat(51), &"é".repeat(37), "secret\0tail"] {
            assert_eq!(password(bad), Err(ErrorCode::WeakPassword), "{bad:?}");
        }
    }

    #[test]
    fn avatars() {
        for good in ["", "https://a.example/x.png", "HTTP://a/b"] {
            assert_eq!(avatar_url(good), Ok(()), "{good:?}");
        }
        for bad in ["javascript:alert(1)", "data:image/png;base64,AA", "https://", "https://a b", "ftp://x", "/x.png"] {
            assert_eq!(avatar_url(bad), Err(ErrorCode::InvalidParams), "{bad:?}");
        }
        assert_eq!(avatar_url(&format!("https://{}", "x".repeat(255))), Err(ErrorCode::InvalidParams));
    }
}
