//! The tables of the claims index: one a period of 31 days, the current and the one before it (pipeline.md B1).
//!
//! A fixed length instead of calendar months keeps the promise of 30 days in February too.

use super::super::error::{Result, StoreError};
use super::batch::Batched;
use super::filter::PlaceFilter;
use std::sync::Arc;

const PERIOD_MS: i64 = 31 * 24 * 3600 * 1000;

/// Period of a time in Unix milliseconds.
pub(super) fn period_of(now_ms: i64) -> i64 {
    now_ms.max(0) / PERIOD_MS
}

/// The tables that exist, newest first: none in a new store, later one or two.
#[derive(Default)]
pub(super) struct ClaimTables {
    pub(super) tables: Vec<Arc<ClaimTable>>,
}

/// One period's table with its statements.
pub(super) struct ClaimTable {
    pub(super) period: i64,
    /// Asked before the table.
    pub(super) filter: PlaceFilter,
    pub(super) insert: Batched,
    /// Holder of places: place, message id.
    pub(super) holders: Batched,
    /// Rows at places: place, then the columns of a stored row, null when the row is gone.
    pub(super) rows: Batched,
    /// So many places from one on, ascending, as text, and the last of them.
    pub(super) places: String,
}

impl ClaimTable {
    /// `is_empty`: the table has no rows yet.
    pub(super) fn new(period: i64, is_empty: bool) -> ClaimTable {
        ClaimTable {
            period,
            filter: PlaceFilter::new(is_empty),
            insert: Batched::named(
                format!("INSERT OR IGNORE INTO claims_{period} (place, message_id) VALUES "),
                "(?,?)",
                "",
            ),
            holders: Batched::named(
                format!("SELECT place, message_id FROM claims_{period} WHERE place IN ("),
                "?",
                ")",
            ),
            rows: Batched::named(
                format!(
                    "SELECT c.place, m.id, m.conversation_key, m.seq, m.sender_id, m.client_msg_id, m.content_hash, \
                     m.created_at FROM claims_{period} c LEFT JOIN messages m ON m.id = c.message_id WHERE c.place IN ("
                ),
                "?",
                ")",
            ),
            places: format!(
                "SELECT group_concat(place), max(place) FROM \
                 (SELECT place FROM claims_{period} WHERE place >= ? ORDER BY place LIMIT ?)"
            ),
        }
    }
}

impl ClaimTables {
    /// The table that new claims go to.
    pub(super) fn current(&self) -> Result<&ClaimTable> {
        self.tables.first().map(Arc::as_ref).ok_or_else(|| StoreError::Broken("no claims table".into()))
    }

    /// Is a period newer than all tables? A clock that steps back stays in the newest one.
    pub(super) fn needs(&self, period: i64) -> bool {
        self.tables.first().is_none_or(|t| t.period < period)
    }
}
