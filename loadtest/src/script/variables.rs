//! What differs from connection to connection: counters, columns of a file, random text. Owns their values; a connection
//! costs nothing, but for what stands in a file.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::section::Section;
use crate::error::LoadError;
use crate::message::mix;
use crate::suggest::suggestion;

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
const RANDOM_MAX: u32 = 4096;

/// Where a variable has its values from.
#[derive(Debug, Clone)]
enum Source {
    /// The same for all.
    Constant(String),
    /// This for the first connection, one more for each further.
    Counter(u32),
    /// So many letters and digits, others for each connection and run.
    Random(u32),
    Column(Column),
}

/// One column of a file: a row for each connection.
#[derive(Debug, Clone)]
struct Column {
    file: PathBuf,
    text: String,
    rows: Vec<Range<usize>>,
}

/// The variables of a description.
#[derive(Debug)]
pub(super) struct Variables {
    names: Vec<String>,
    sources: Vec<Source>,
    seed: u64,
    /// The number of the first connection, where other agents have others.
    first: u32,
}

impl Variables {
    /// Reads the section of variables; files are looked for in `folder`. `set` are NAME=VALUE and NAME=@FILE:COLUMN of the
    /// command line.
    pub(super) fn read(
        section: Option<&Section<'_>>,
        folder: &Path,
        set: &[String],
        seed: u64,
    ) -> Result<Variables, LoadError> {
        let mut variables = Variables { names: Vec::new(), sources: Vec::new(), seed, first: 0 };
        for section in section.into_iter() {
            for name in section.keys() {
                let source = source(section, name, folder)?;
                variables.names.push(name.clone());
                variables.sources.push(source);
            }
        }
        set.iter().try_for_each(|setting| variables.set(setting))?;
        Ok(variables)
    }

    fn set(&mut self, setting: &str) -> Result<(), LoadError> {
        let bad = |why: String| LoadError::Arguments(format!("--set {setting}: {why}"));
        let (name, value) = setting.split_once('=').ok_or_else(|| bad("it must be NAME=VALUE".to_owned()))?;
        let source = match value.strip_prefix('@') {
            None => Source::Constant(value.to_owned()),
            Some(column) => {
                let (file, column) =
                    column.rsplit_once(':').ok_or_else(|| bad("a column is NAME=@FILE:COLUMN".to_owned()))?;
                Source::Column(Column::read(Path::new(file), column)?)
            }
        };
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let at = known.iter().position(|known| *known == name);
        let at =
            at.ok_or_else(|| bad(format!("the description has no such variable; {}", suggestion(name, &known))))?;
        if let Some(place) = self.sources.get_mut(at) {
            *place = source;
        }
        Ok(())
    }

    /// The connections are `clients` from number `first` on. Checks that there is a value for each.
    pub(super) fn seat(&mut self, first: u32, clients: u32) -> Result<(), LoadError> {
        self.first = first;
        let clients = first.saturating_add(clients);
        for source in &self.sources {
            if let Source::Column(column) = source
                && column.rows.len() < clients as usize
            {
                let why = format!(
                    "it has {} rows and the run has {clients} connections: add rows or lower --connections",
                    column.rows.len()
                );
                return Err(LoadError::File { path: column.file.clone(), why });
            }
        }
        Ok(())
    }

    /// The number of a variable. The error says which there are.
    pub(super) fn find(&self, name: &str, others: &[&str]) -> Result<usize, String> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            let known: Vec<&str> = self.names.iter().map(String::as_str).chain(others.iter().copied()).collect();
            format!("${{{name}}} is no variable; {}; add it under [variables]", suggestion(name, &known))
        })
    }

    /// What the variable is for all connections alike.
    pub(super) fn constant(&self, variable: usize) -> Option<&str> {
        match self.sources.get(variable)? {
            Source::Constant(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a connection among those of all agents.
    pub(super) fn number(&self, client: u32) -> u32 {
        self.first.saturating_add(client)
    }

    /// Appends the variable's value for a connection.
    pub(super) fn write(&self, variable: usize, client: u32, out: &mut Vec<u8>) {
        let client = self.number(client);
        match self.sources.get(variable) {
            Some(Source::Constant(text)) => out.extend_from_slice(text.as_bytes()),
            Some(Source::Counter(from)) => {
                let _ = write!(out, "{}", u64::from(*from) + u64::from(client));
            }
            Some(Source::Random(letters)) => {
                let mut state = mix(self.seed ^ u64::from(client) << 16 ^ variable as u64);
                for _ in 0..*letters {
                    state = mix(state);
                    out.push(LETTERS[(state >> 59) as usize]);
                }
            }
            Some(Source::Column(column)) => {
                let row = column.rows.get(client as usize).and_then(|row| column.text.get(row.clone()));
                out.extend_from_slice(row.unwrap_or_default().as_bytes());
            }
            None => {}
        }
    }
}

fn source(section: &Section<'_>, name: &str, folder: &Path) -> Result<Source, LoadError> {
    if let Some(text) = section.value(name).and_then(|value| value.as_str()) {
        return Ok(Source::Constant(text.to_owned()));
    }
    let wrong =
        || section.error(name, "it must be a text, { counter = N }, { random = N } or { csv = FILE, column = C }");
    if section.value(name).is_none_or(|value| !value.is_table()) {
        return Err(wrong());
    }
    let table = section.table(name, &["counter", "random", "csv", "column"])?.ok_or_else(wrong)?;
    match (table.number("counter")?, table.number("random")?, table.text("csv")?) {
        (Some(from), None, None) => Ok(Source::Counter(from)),
        (None, Some(letters @ 1..=RANDOM_MAX), None) => Ok(Source::Random(letters)),
        (None, Some(_), None) => Err(table.error("random", &format!("it must be 1 to {RANDOM_MAX} letters"))),
        (None, None, Some(file)) => {
            let column = table.needed_text("column")?;
            Ok(Source::Column(Column::read(&folder.join(file), column)?))
        }
        _ => Err(wrong()),
    }
}

impl Column {
    /// Reads a column by its name in the first line, or by its number from 1 in a file without such a line.
    fn read(file: &Path, column: &str) -> Result<Column, LoadError> {
        let failure = |why: String| LoadError::File { path: file.to_owned(), why };
        let text = std::fs::read_to_string(file).map_err(|e| failure(e.to_string()))?;
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let at = match column.parse::<usize>() {
            Ok(number) => number.checked_sub(1).ok_or_else(|| failure("columns are numbered from 1".to_owned()))?,
            Err(_) => {
                let names: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
                let at = names.iter().position(|name| *name == column);
                at.ok_or_else(|| {
                    failure(format!("no column {column:?} in its first line; {}", suggestion(column, &names)))
                })?
            }
        };
        let (mut values, mut rows) = (String::new(), Vec::new());
        for (line_at, line) in lines {
            let bad = |why: &str| failure(format!("line {}: {why}", line_at + 1));
            if line.contains('"') {
                return Err(bad("values in quotes are not supported: write them without"));
            }
            let value = line.split(',').nth(at).map(str::trim).ok_or_else(|| bad("it has too few columns"))?;
            rows.push(values.len()..values.len() + value.len());
            values.push_str(value);
        }
        Ok(Column { file: file.to_owned(), text: values, rows })
    }
}
