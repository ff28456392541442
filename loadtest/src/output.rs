//! Where a finished report goes: standard output and the files that were asked for. Formats nothing itself.

use std::io::Write;
use std::path::Path;

use crate::cli::Common;
use crate::error::LoadError;
use crate::report::Report;
use crate::{html, timeline};

/// Prints the summary and writes the files.
///
/// # Errors
/// A file cannot be written; the others were.
pub fn write(report: &Report, common: &Common) -> Result<(), LoadError> {
    let _ = write!(std::io::stdout(), "{report}");
    let json = || report.json().map_err(|e| e.to_string());
    let files = [
        common.json.as_deref().map(|path| file(path, json())),
        common.csv.as_deref().map(|path| file(path, Ok(timeline::csv(&report.detail.timeline)))),
        common.html.as_deref().map(|path| file(path, Ok(html::page(report)))),
    ];
    files.into_iter().flatten().collect()
}

fn file(path: &Path, text: Result<String, String>) -> Result<(), LoadError> {
    let written = text.and_then(|text| std::fs::write(path, text).map_err(|e| e.to_string()));
    written.map_err(|why| LoadError::File { path: path.to_owned(), why })
}
