//! Statements about the tables of the claims index: which there are, the turn of a period, who holds a place.

use super::super::error::Result;
use super::batch::Values;
use super::claims::{ClaimTable, ClaimTables};
use super::connection::{Inner, SqliteStore};
use super::rows::col;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

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
    pub(super) async fn begin_period(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        period: i64,
    ) -> Result<Arc<ClaimTables>> {
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
        let tables =
            [Arc::new(ClaimTable::new(period))].into_iter().chain(before.tables.iter().take(1).cloned()).collect();
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
