//! The tables of the claims index: one a period of 31 days, the current and the one before it (pipeline.md B1).
//!
//! A fixed length instead of calendar months keeps the promise of 30 days in February too.

use super::super::{Result, StoreError};
use super::batch::{Batched, Values};
use super::{Inner, SqliteStore, col};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

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
    pub(super) insert: Batched,
    /// Holder of places: place, message id.
    pub(super) holders: Batched,
    /// Rows at places: place, then the columns of a stored row, null when the row is gone.
    pub(super) rows: Batched,
}

impl ClaimTable {
    fn new(period: i64) -> ClaimTable {
        ClaimTable {
            period,
            insert: Batched::named(format!("INSERT OR IGNORE INTO claims_{period} (place, message_id) VALUES "), "(?,?)", ""),
            holders: Batched::named(format!("SELECT place, message_id FROM claims_{period} WHERE place IN ("), "?", ")"),
            rows: Batched::named(
                format!(
                    "SELECT c.place, m.id, m.conversation_key, m.seq, m.sender_id, m.client_msg_id, m.content_hash, \
                     m.created_at FROM claims_{period} c LEFT JOIN messages m ON m.id = c.message_id WHERE c.place IN ("
                ),
                "?",
                ")",
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

impl SqliteStore {
    /// Reads which tables exist.
    pub(super) async fn load_claim_tables(&self) -> Result<()> {
        let rows = sqlx::query("SELECT period FROM claim_periods ORDER BY period DESC")
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        let tables = rows.iter().map(|row| Ok(Arc::new(ClaimTable::new(col(row, 0)?)))).collect::<Result<_>>()?;
        self.inner.set_claim_tables(Arc::new(ClaimTables { tables }));
        Ok(())
    }
}

impl Inner {
    /// To be called when a transaction that changed the tables has been committed.
    pub(super) fn set_claim_tables(&self, tables: Arc<ClaimTables>) {
        *self.claims.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// Makes a period's table inside a transaction and drops those before its predecessor.
    pub(super) async fn begin_period(&self, tx: &mut Transaction<'static, Sqlite>, period: i64) -> Result<Arc<ClaimTables>> {
        let before = self.claim_tables();
        let mut statements = vec![
            // A commit whose answer was lost may have made it already.
            format!(
                "CREATE TABLE IF NOT EXISTS claims_{period} \
                 (place INTEGER PRIMARY KEY, message_id INTEGER NOT NULL) STRICT"
            ),
            format!("INSERT OR IGNORE INTO claim_periods (period) VALUES ({period})"),
        ];
        for old in before.tables.iter().skip(1) {
            statements.push(format!("DROP TABLE IF EXISTS claims_{}", old.period));
            statements.push(format!("DELETE FROM claim_periods WHERE period = {}", old.period));
        }
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        let tables = [Arc::new(ClaimTable::new(period))].into_iter().chain(before.tables.iter().take(1).cloned()).collect();
        Ok(Arc::new(ClaimTables { tables }))
    }

    /// Who holds these places in one table?
    pub(super) async fn holders(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        table: &ClaimTable,
        places: &[i64],
    ) -> Result<HashMap<i64, i64>> {
        let mut held = HashMap::new();
        for (sql, keys) in table.holders.padded(places) {
            let rows =
                sqlx::query_with(sql, Values::keys(keys)?).fetch_all(&mut **tx).await.map_err(|e| self.fail(e))?;
            for row in &rows {
                held.insert(col(row, 0)?, col(row, 1)?);
            }
        }
        Ok(held)
    }
}
