//! What a backup is made of: the manifest beside its files, written last and checked first. Owns its form; knows nothing
//! of how files came to be.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The manifest's name in a backup.
const FILE: &str = "MANIFEST";
/// Version of its form, and of what a backup consists of.
const FORMAT: u32 = 1;
/// Names in a data directory that a backup holds besides segments of the log.
pub(super) const STORE: &str = "gochat.sqlite";
pub(super) const KEY: &str = "signing.key";
pub(super) const LOG: &str = "log";
/// No manifest is larger, bytes.
const BYTES_MAX: u64 = 16 << 20;

/// See the top of this file.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// Of the program that wrote it.
    pub(crate) program: String,
    /// Unix seconds at which the moment was fixed that it shows.
    pub(crate) taken_at: i64,
    /// `bus.partitions` of the installation.
    pub(crate) partitions: u32,
    pub(crate) files: Vec<Entry>,
}

/// One file, by its path in the backup and in a data directory.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Manifest {
    /// Begins one.
    pub(super) fn new(taken_at: i64, partitions: u32) -> Manifest {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Manifest { format: FORMAT, program, taken_at, partitions, files: Vec::new() }
    }

    /// Takes in a file that was written below `dir`.
    pub(super) fn add(&mut self, dir: &Path, name: String) -> Result<(), String> {
        let (bytes, sha256) = digest(&dir.join(&name))?;
        self.files.push(Entry { name, bytes, sha256 });
        Ok(())
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Writes it into `dir`, synced. Its last line is the checksum of what stands before.
    pub(super) fn write(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(FILE);
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        let mut text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        text.push('\n');
        let sum = hex(&Sha256::digest(&text));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(format!("{text}sha256 {sum}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads the one in `dir` and checks it, and that every file it names is there as it was written. Reads all of them.
    pub(crate) fn verify(dir: &Path) -> Result<Manifest, String> {
        let manifest = Manifest::read(dir)?;
        manifest.check_files(dir)?;
        Ok(manifest)
    }

    /// Whether the files below `dir` are as they were written.
    pub(super) fn check_files(&self, dir: &Path) -> Result<(), String> {
        for entry in &self.files {
            let path = dir.join(&entry.name);
            let (bytes, sha256) = digest(&path)?;
            if (bytes, &sha256) != (entry.bytes, &entry.sha256) {
                return Err(format!(
                    "{} is not what was written ({bytes} bytes, it had {}): this backup is damaged, use another one",
                    path.display(),
                    entry.bytes
                ));
            }
        }
        Ok(())
    }

    fn read(dir: &Path) -> Result<Manifest, String> {
        let path = dir.join(FILE);
        let damaged = |what: &str| format!("{} {what}: this backup is damaged, use another one", path.display());
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| format!("{} is no backup of gochat, its {FILE} cannot be read: {error}", dir.display()))?;
        let (body, sum) = text.trim_end().rsplit_once('\n').ok_or_else(|| damaged("is cut short"))?;
        let body = format!("{body}\n");
        if sum.strip_prefix("sha256 ") != Some(hex(&Sha256::digest(&body)).as_str()) {
            return Err(damaged("does not have the checksum that it was written with"));
        }
        let format = serde_json::from_str::<serde_json::Value>(&body).ok().and_then(|json| json["format"].as_u64());
        if let Some(format) = format.filter(|format| *format != u64::from(FORMAT)) {
            return Err(format!(
                "{} has format {format}, this program reads format {FORMAT}: use the program that wrote it",
                path.display()
            ));
        }
        let manifest: Manifest = serde_json::from_str(&body).map_err(|error| damaged(&error.to_string()))?;
        match manifest.files.iter().find(|file| !is_known(&file.name)) {
            Some(file) => Err(damaged(&format!("names {:?}, which is no file of a backup", file.name))),
            None if [STORE, KEY].iter().any(|name| !manifest.files.iter().any(|file| file.name == *name)) => {
                Err(damaged("names no database or no key"))
            }
            None => Ok(manifest),
        }
    }
}

/// Nothing leads out of the directory.
fn is_known(name: &str) -> bool {
    let segment = |name: &str| {
        name.strip_suffix(".log").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    name == STORE || name == KEY || name.strip_prefix("log/").is_some_and(segment)
}

/// Size and SHA-256 of a file.
fn digest(path: &PathBuf) -> Result<(u64, String), String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if !fs::symlink_metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let len = file.read(&mut chunk).map_err(failed)?;
        if len == 0 {
            return Ok((bytes, hex(&hasher.finalize())));
        }
        hasher.update(&chunk[..len]);
        bytes += len as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn backup() -> (tempfile::TempDir, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        let mut manifest = Manifest::new(7, 4);
        for name in [STORE, KEY, "log/000000000001.log"] {
            fs::write(dir.path().join(name), format!("content of {name}")).unwrap();
            manifest.add(dir.path(), name.to_owned()).unwrap();
        }
        manifest.write(dir.path()).unwrap();
        (dir, manifest)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (dir, manifest) = backup();
        assert_eq!(Manifest::verify(dir.path()).unwrap(), manifest);
        assert_eq!(manifest.files[1].sha256.len(), 64);
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let (dir, _) = backup();
        for name in [STORE, KEY, "log/000000000001.log", FILE] {
            let path = dir.path().join(name);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() - 1 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(&path, flipped).unwrap();
                let why = Manifest::verify(dir.path()).unwrap_err();
                assert!(why.contains("damaged") || why.contains("no backup"), "{name} byte {at}: {why}");
            }
            fs::write(&path, &whole[..whole.len() - 2]).unwrap();
            assert!(Manifest::verify(dir.path()).is_err(), "{name} cut short");
            fs::write(&path, &whole).unwrap();
        }
        fs::remove_file(dir.path().join(KEY)).unwrap();
        assert!(Manifest::verify(dir.path()).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["../x", "log/../../x.log", "/etc/passwd", "log/x.log", "log/.log", "LOCK", "", "log/1.log/2.log"] {
            assert!(!is_known(name), "{name}");
        }
        let (dir, mut manifest) = backup();
        manifest.files[0].name = "../gochat.sqlite".into();
        fs::remove_file(dir.path().join(FILE)).unwrap();
        manifest.write(dir.path()).unwrap();
        assert!(Manifest::verify(dir.path()).unwrap_err().contains("no file of a backup"));
        manifest.format = 2;
        fs::remove_file(dir.path().join(FILE)).unwrap();
        manifest.write(dir.path()).unwrap();
        assert!(Manifest::verify(dir.path()).unwrap_err().contains("has format 2"));
    }
}
