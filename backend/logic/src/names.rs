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

/// The name to register, trimmed.
pub(crate) fn username(wished: &str) -> Result<&str, ErrorCode> {
    let name = wished.trim();
    let lower = name.to_lowercase();
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !USERNAME_CHARS.contains(&name.chars().count())
        || !name.chars().all(allowed)
        || RESERVED.contains(&lower.as_str())
        || lower.starts_with(GUEST_PREFIX)
    {
        return Err(ErrorCode::InvalidUsername);
    }
    Ok(name)
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
