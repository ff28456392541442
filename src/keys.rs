//! The token signing key of an embedded installation: made on first start, read on every later one. Owns the file
//! `signing.key` of the data directory (mode 0600); never prints the key.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of a key: 256 bits, as HS256 asks for.
const KEY_BYTES: usize = 32;

/// The key of this data directory. An existing file that others may read, or that holds no key, is an error: whoever
/// knows the key can be any user.
pub(crate) fn signing_key(data_dir: &Path) -> Result<Vec<u8>, String> {
    let path = data_dir.join("signing.key");
    let failed = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", path.display());
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return make(data_dir, &path).map_err(|error| failed("make", error));
        }
        Err(error) => return Err(failed("read", error)),
    };
    let mode = file.metadata().map_err(|error| failed("read", error))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("{} may be read by others (mode {mode:o}): `chmod 600` it", path.display()));
    }
    let mut key = Vec::new();
    file.read_to_end(&mut key).map_err(|error| failed("read", error))?;
    if key.len() != KEY_BYTES {
        return Err(format!(
            "{} holds {} bytes, a key has {KEY_BYTES}: restore it from a backup, or remove it and everybody logs in again",
            path.display(),
            key.len()
        ));
    }
    Ok(key)
}

/// Writes it whole or not at all: a torn key would lock everybody out.
fn make(data_dir: &Path, path: &Path) -> std::io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let draft = data_dir.join("signing.key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(data_dir)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let key = signing_key(dir.path()).unwrap();
        assert_eq!(signing_key(dir.path()).unwrap(), key);
        let path = dir.path().join("signing.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(signing_key(tempfile::tempdir().unwrap().path()).unwrap(), key);

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(signing_key(dir.path()).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(signing_key(dir.path()).unwrap_err().contains("5 bytes"));
    }
}
