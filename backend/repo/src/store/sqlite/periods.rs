//! Statements about the tables of the claims index: which there are, the turn of a period, who holds a place.

use super::super::error::{Result, StoreError};
use super::batch::Values;
use super::claims::{ClaimTable, ClaimTables};
use super::connection::{Inner, SqliteStore};
use super::rows::{col, flag};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

/// Places that one statement brings while a filter is filled.
const FILL_PLACES: i64 = 16_384;

impl SqliteStore {
    /// Drops the tables of periods that are over, then reads which there are. A table is dropped at a start and not when
    /// its period ends: freeing its pages takes seconds, and nothing could be stored meanwhile.
    pub(super) async fn load_claim_tables(&self) -> Result<()> {
        let over = sqlx::query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'claims_*' \
             AND name NOT IN (SELECT 'claims_' || period FROM claim_periods)",
        )
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        for row in &over {
            let table: String = col(row, 0)?;
            tracing::info!(table, "removing claims that are no longer needed");
            sqlx::query(AssertSqlSafe(format!("DROP TABLE {table}")))
                .persistent(false)
                .execute(&self.inner.writer)
                .await
                .map_err(|e| self.inner.fail(e))?;
        }
        let rows = sqlx::query("SELECT period FROM claim_periods ORDER BY period DESC")
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        let tables =
            rows.iter().map(|row| Ok(Arc::new(ClaimTable::new(col(row, 0)?, false)))).collect::<Result<_>>()?;
        self.inner.set_claim_tables(Arc::new(ClaimTables { tables }));
        Ok(())
    }

    /// Fills the filters of the tables that have rows, while the store works already. One that cannot be filled costs
    /// look-ups; it is filled at the next start.
    pub(super) fn fill_filters(&self) {
        for table in &self.inner.claim_tables().tables {
            let (inner, table) = (Arc::downgrade(&self.inner), table.clone());
            tokio::spawn(async move {
                if let Err(error) = fill_filter(&inner, &table).await {
                    tracing::warn!(%error, "the filter of a claims table was not filled: look-ups take longer");
                }
            });
        }
    }
}

/// Adds a table's places to its filter, some thousands at a time; ends early when the store is gone.
async fn fill_filter(store: &Weak<Inner>, table: &ClaimTable) -> Result<()> {
    let mut next = Some(i64::MIN);
    while let (Some(first), Some(inner)) = (next, store.upgrade()) {
        let row = sqlx::query(AssertSqlSafe(table.places.clone()))
            .bind(first)
            .bind(FILL_PLACES)
            .fetch_one(&inner.readers)
            .await
            .map_err(|e| inner.fail(e))?;
        let Some(last) = col::<Option<i64>>(&row, 1)? else {
            table.filter.set_complete();
            return Ok(());
        };
        let places: Result<Vec<i64>> = col::<&str>(&row, 0)?
            .split(',')
            .map(|place| place.parse().map_err(|_| StoreError::Broken(format!("{place} is no place"))))
            .collect();
        table.filter.add(places?.into_iter());
        next = last.checked_add(1);
        if next.is_none() {
            table.filter.set_complete();
        }
    }
    Ok(())
}

impl Inner {
    /// To be called when a transaction that changed the tables has been committed.
    pub(super) fn set_claim_tables(&self, tables: Arc<ClaimTables>) {
        *self.claims.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// Makes a period's table inside a transaction and forgets those before its predecessor.
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
            statements.push(format!("DELETE FROM claim_periods WHERE period = {}", old.period));
        }
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        let any = sqlx::query(AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM claims_{period})")))
            .persistent(false)
            .fetch_one(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        let table = self.shared_table(period, !flag(&any, 0)?);
        let tables = [table].into_iter().chain(before.tables.iter().take(1).cloned()).collect();
        Ok(Arc::new(ClaimTables { tables }))
    }

    /// The one table object of a period: what one transaction adds to its filter, another must not find missing.
    fn shared_table(&self, period: i64, is_empty: bool) -> Arc<ClaimTable> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(table) if table.period == period => table.clone(),
            _ => made.insert(Arc::new(ClaimTable::new(period, is_empty))).clone(),
        }
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
