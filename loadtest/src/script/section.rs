//! Reading one table of a description: typed values, and errors that name file and key and say what to do. Knows no
//! key by itself.

use std::path::PathBuf;

use toml::{Table, Value};

use crate::error::LoadError;
use crate::suggest::suggestion;

/// One table of a file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a str,
    /// Where it stands: `publish.delivery`; empty for the whole file.
    path: String,
    table: &'a Table,
}

impl<'a> Section<'a> {
    /// The whole file, which has no other keys than `known`.
    pub(super) fn whole(file: &'a str, table: &'a Table, known: &[&str]) -> Result<Section<'a>, LoadError> {
        Section { file, path: String::new(), table }.checked(known)
    }

    fn checked(self, known: &[&str]) -> Result<Section<'a>, LoadError> {
        match self.table.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(self),
            Some(key) => Err(self.error(key, &format!("no such key; {}", suggestion(key, known)))),
        }
    }

    /// An error about a key of this table.
    pub(super) fn error(&self, key: &str, why: &str) -> LoadError {
        let key = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        LoadError::File { path: PathBuf::from(self.file), why: format!("{key}: {why}") }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'a String> {
        self.table.keys()
    }

    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, LoadError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.error(key, "it must be a text in quotes"))
    }

    pub(super) fn needed_text(&self, key: &str) -> Result<&'a str, LoadError> {
        self.text(key)?.ok_or_else(|| self.error(key, "it is missing; add it"))
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, LoadError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.error(key, "it must be true or false"))
    }

    /// A number from 0 to 4,294,967,295.
    pub(super) fn number(&self, key: &str) -> Result<Option<u32>, LoadError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.error(key, "it must be a whole number from 0 to 4294967295"))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'a str>, LoadError> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.ok_or_else(|| self.error(key, "it must be a list of texts, as in [\"a\", \"b\"]"))
    }

    /// A table inside this one, with any keys.
    pub(super) fn open_table(&self, key: &str) -> Result<Option<Section<'a>>, LoadError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let table = value.as_table().ok_or_else(|| self.error(key, "it must be a table"))?;
        Ok(Some(Section { file: self.file, path: self.below(key), table }))
    }

    /// A table inside this one, with no other keys than `known`.
    pub(super) fn table(&self, key: &str, known: &[&str]) -> Result<Option<Section<'a>>, LoadError> {
        self.open_table(key)?.map(|section| section.checked(known)).transpose()
    }

    pub(super) fn needed_table(&self, key: &str, known: &[&str]) -> Result<Section<'a>, LoadError> {
        self.table(key, known)?.ok_or_else(|| self.error(key, "it is missing; add it"))
    }

    /// A list of tables, each with no other keys than `known`.
    pub(super) fn tables(&self, key: &str, known: &[&str]) -> Result<Vec<Section<'a>>, LoadError> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let list: Option<Vec<&Table>> = value.as_array().and_then(|list| list.iter().map(Value::as_table).collect());
        let list = list.ok_or_else(|| self.error(key, &format!("it must be a list of tables: [[{key}]]")))?;
        let section = |(at, table)| Section { file: self.file, path: format!("{}[{at}]", self.below(key)), table };
        list.into_iter().enumerate().map(|one| section(one).checked(known)).collect()
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
