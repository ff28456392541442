//! Statements over many rows, in sizes that are powers of two, so that few prepared statements serve every batch.

use super::super::error::{Result, StoreError};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// Rows a statement: more cost as much each (performance.md), fewer cost more.
const POWERS: usize = 9;
const ROWS_MAX: usize = 1 << (POWERS - 1);

/// A statement whose middle repeats once a row.
pub(super) struct Batched {
    head: Cow<'static, str>,
    row: &'static str,
    tail: &'static str,
    made: [OnceLock<Arc<str>>; POWERS],
}

impl Batched {
    /// `head row,row,… tail`.
    pub(super) const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Batched {
        Batched { head: Cow::Borrowed(head), row, tail, made: [const { OnceLock::new() }; POWERS] }
    }

    /// The same with a head that is known at run time only: it holds the name of a claims table, never outside text.
    pub(super) fn named(head: String, row: &'static str, tail: &'static str) -> Batched {
        Batched { head: Cow::Owned(head), row, tail, made: [const { OnceLock::new() }; POWERS] }
    }

    fn sql(&self, rows: usize) -> AssertSqlSafe<Arc<str>> {
        let power = rows.trailing_zeros() as usize;
        let made = self.made[power].get_or_init(|| {
            let rows = vec![self.row; rows].join(",");
            format!("{}{rows}{}", self.head, self.tail).into()
        });
        AssertSqlSafe(made.clone())
    }

    /// Cuts items into slices of exact sizes, each with its statement: for inserts.
    pub(super) fn exact<'b, T>(&'b self, items: &'b [T]) -> impl Iterator<Item = (AssertSqlSafe<Arc<str>>, &'b [T])> {
        let mut rest = items;
        std::iter::from_fn(move || {
            let size = ROWS_MAX.min(1 << rest.len().checked_ilog2()?);
            let (slice, after) = rest.split_at(size);
            rest = after;
            Some((self.sql(size), slice))
        })
    }

    /// Cuts keys into slices, the last one filled up with its last key: for look-ups, where a key asked twice is harmless.
    pub(super) fn padded<'b, T: Clone>(
        &'b self,
        keys: &'b [T],
    ) -> impl Iterator<Item = (AssertSqlSafe<Arc<str>>, Vec<T>)> {
        keys.chunks(ROWS_MAX).map(|chunk| {
            let mut keys = chunk.to_vec();
            keys.resize(chunk.len().next_power_of_two(), chunk[chunk.len() - 1].clone());
            (self.sql(keys.len()), keys)
        })
    }
}

/// Bound values of one statement.
#[derive(Default)]
pub(super) struct Values(SqliteArguments);

impl Values {
    /// Adds one value.
    pub(super) fn add<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> Result<&mut Values> {
        Arguments::add(&mut self.0, value).map_err(|e| StoreError::Broken(e.to_string()))?;
        Ok(self)
    }

    /// The finished list.
    pub(super) fn done(self) -> SqliteArguments {
        self.0
    }

    /// One column of keys.
    pub(super) fn keys<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(
        keys: impl IntoIterator<Item = T>,
    ) -> Result<SqliteArguments> {
        let mut values = Values::default();
        for key in keys {
            values.add(key)?;
        }
        Ok(values.done())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_slices_cover_everything_in_order() {
        let statement = Batched::new("i ", "(?)", "");
        for length in [0, 1, 2, 3, 127, 255, 256, 257, 1000] {
            let items: Vec<usize> = (0..length).collect();
            let mut seen = Vec::new();
            for (sql, slice) in statement.exact(&items) {
                assert_eq!(sql.0.matches("(?)").count(), slice.len());
                seen.extend_from_slice(slice);
            }
            assert_eq!(seen, items);
        }
    }

    #[test]
    fn padded_slices_repeat_only_the_last_key() {
        let statement = Batched::new("s (", "?", ")");
        let keys: Vec<i64> = (0..300).collect();
        let slices: Vec<_> = statement.padded(&keys).collect();
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[0].1, keys[..256]);
        assert_eq!(slices[1].1[..44], keys[256..]);
        assert!(slices[1].1[44..].iter().all(|k| *k == 299) && slices[1].1.len() == 64);
    }
}
