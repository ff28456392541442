//! The file of acknowledged messages, one JSON object a line: written during a run, read by the audit. Owns the format.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// What gathers before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

/// One acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AckedMessage<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) seq: u32,
    pub(crate) client_msg_id: Cow<'a, str>,
    pub(crate) conversation: Cow<'a, str>,
    /// Who sent it.
    pub(crate) user: Cow<'a, str>,
    /// It replaces an earlier acknowledgement of the same client_msg_id.
    #[serde(default)]
    pub(crate) corrected: bool,
}

/// The file being written.
#[derive(Debug)]
pub(crate) struct AckedLog {
    file: BufWriter<File>,
    error: Option<io::Error>,
}

impl AckedLog {
    /// Creates or empties `path`.
    pub(crate) fn create(path: &Path) -> Result<AckedLog, LoadError> {
        let file = File::create(path).map_err(|e| failure(path, &e))?;
        Ok(AckedLog { file: BufWriter::with_capacity(BUFFER_BYTES, file), error: None })
    }

    /// Adds a line. The first error is kept for `finish`.
    pub(crate) fn write(&mut self, message: &AckedMessage<'_>) {
        if self.error.is_none() {
            let written = serde_json::to_writer(&mut self.file, message).map_err(io::Error::from);
            self.error = written.and_then(|()| self.file.write_all(b"\n")).err();
        }
    }

    /// Writes what is left and says whether everything was.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => self.file.flush(),
        }
    }
}

/// Reads a file of acknowledgements.
pub(crate) fn read(path: &Path) -> Result<Vec<AckedMessage<'static>>, LoadError> {
    let file = File::open(path).map_err(|e| failure(path, &e))?;
    let mut messages = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|e| failure(path, &e))?;
        let message = serde_json::from_str(&line).map_err(|e| failure(path, &format!("line {}: {e}", at + 1)))?;
        messages.push(message);
    }
    Ok(messages)
}

fn failure(path: &Path, why: &dyn ToString) -> LoadError {
    LoadError::File { path: PathBuf::from(path), why: why.to_string() }
}
