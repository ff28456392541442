//! Users and their access tokens: `user_id,username,access_token` a line, as `gochat user mint` writes them.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::LoadError;

/// Someone who can connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) access_token: String,
}

/// Reads the first `wanted` users of a file; an error when it has fewer.
pub(crate) fn read(path: &Path, wanted: usize) -> Result<Vec<User>, LoadError> {
    let users = read_all(path)?;
    if users.len() < wanted {
        let why = format!(
            "it has {} users and the run needs {wanted}: mint more with `gochat user mint --count {wanted}`",
            users.len()
        );
        return Err(LoadError::File { path: path.to_owned(), why });
    }
    Ok(users.into_iter().take(wanted).collect())
}

/// Reads all users of a file.
pub(crate) fn read_all(path: &Path) -> Result<Vec<User>, LoadError> {
    let failure = |why: String| LoadError::File { path: path.to_owned(), why };
    let text = fs::read_to_string(path).map_err(|e| failure(e.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with("user_id,"));
    lines
        .map(|(at, line)| {
            let mut fields = line.trim().split(',').map(|field| field.trim().to_owned());
            match (fields.next(), fields.next(), fields.next(), fields.next()) {
                (Some(id), Some(name), Some(access_token), None) if !id.is_empty() && !access_token.is_empty() => {
                    Ok(User { id, name, access_token })
                }
                _ => Err(failure(format!("line {} is not user_id,username,access_token", at + 1))),
            }
        })
        .collect()
}

/// Writes users so that a later run or an audit can use them.
pub(crate) fn write(path: &Path, users: &[User]) -> Result<(), LoadError> {
    let mut text = Vec::new();
    for user in users {
        let _ = writeln!(text, "{},{},{}", user.id, user.name, user.access_token);
    }
    fs::write(path, text).map_err(|e| LoadError::File { path: path.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn files_survive_and_bad_ones_say_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.csv");
        let user = |n: u32| User { id: n.to_string(), name: format!("u{n}"), access_token: format!("t.{n}") };
        let users = vec![user(1), user(2)];
        write(&path, &users).unwrap();
        assert_eq!(read(&path, 1).unwrap(), users[..1]);
        assert!(read(&path, 3).unwrap_err().to_string().contains("user mint --count 3"));
        fs::write(&path, "user_id,username,access_token\n1,a,t\n2,b\n").unwrap();
        assert!(read_all(&path).unwrap_err().to_string().contains("line 3"));
    }
}
