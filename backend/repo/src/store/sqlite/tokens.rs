//! Statements about refresh tokens and revocations. What has expired is swept, a little with every write.

use super::super::error::{Noun, Result, StoreError};
use super::super::token::{ConsumeToken, Consumed, NewRefreshToken, Revocation, TokenOwner, TokenStore};
use super::connection::{Inner, SqliteStore, is_unique_violation};
use super::rows::col;
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

const SWEEP: [&str; 3] = [
    "DELETE FROM refresh_tokens WHERE token_hash IN \
     (SELECT token_hash FROM refresh_tokens WHERE expires_at < ? ORDER BY expires_at LIMIT 32)",
    "DELETE FROM refresh_families WHERE id IN \
     (SELECT id FROM refresh_families WHERE expires_at < ? ORDER BY expires_at LIMIT 32)",
    "DELETE FROM revocations WHERE id IN \
     (SELECT id FROM revocations WHERE expires_at < ? ORDER BY expires_at LIMIT 32)",
];

/// Expired tokens are known as such for a day before they are swept.
const SWEEP_AFTER_SECONDS: i64 = 24 * 3600;

#[async_trait]
impl TokenStore for SqliteStore {
    async fn store_refresh_token(&self, token: NewRefreshToken) -> Result<()> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, token.now).await?;
        sqlx::query(
            "INSERT INTO refresh_families (id, user_id, expires_at) VALUES (?,?,?) \
             ON CONFLICT (id) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        )
        .bind(&token.family)
        .bind(token.user)
        .bind(token.expires_at)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        self.inner.insert_token(&mut tx, &token).await?;
        self.inner.commit(tx).await
    }

    async fn consume_refresh_token(&self, consume: ConsumeToken) -> Result<Consumed> {
        let mut tx = self.inner.begin().await?;
        let row = sqlx::query(
            "SELECT t.user_id, t.family_id, t.expires_at, t.used_at, t.client_info, t.replay, coalesce(f.revoked, 1) \
             FROM refresh_tokens t LEFT JOIN refresh_families f ON f.id = t.family_id WHERE t.token_hash = ?",
        )
        .bind(&consume.token_hash)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let Some(row) = row else { return Ok(Consumed::Unknown) };
        let owner = TokenOwner { user: col(&row, 0)?, family: col(&row, 1)? };
        let (expires_at, used_at, client_info): (i64, i64, String) = (col(&row, 2)?, col(&row, 3)?, col(&row, 4)?);
        let revoked = col::<i64>(&row, 6)? != 0;
        if expires_at <= consume.now {
            return Ok(Consumed::Expired);
        }
        if used_at == 0 {
            if revoked {
                return Ok(Consumed::Unknown);
            }
            self.inner.use_up(&mut tx, &consume, &owner).await?;
            self.inner.commit(tx).await?;
            return Ok(Consumed::First(owner));
        }
        let within = (consume.now - used_at).abs() <= consume.grace_seconds;
        if within && client_info == consume.client_info && !revoked {
            return Ok(Consumed::Grace(owner, Bytes::from(col::<Vec<u8>>(&row, 5)?)));
        }
        self.inner
            .revoke_families(&mut tx, "UPDATE refresh_families SET revoked = 1 WHERE id = ?", &owner.family)
            .await?;
        self.inner.commit(tx).await?;
        Ok(Consumed::Reused(owner))
    }

    async fn revoke_family(&self, family: &str) -> Result<u64> {
        let mut tx = self.inner.begin().await?;
        let unused = sqlx::query(
            "SELECT count(*) FROM refresh_tokens t JOIN refresh_families f ON f.id = t.family_id \
             WHERE t.family_id = ? AND t.used_at = 0 AND f.revoked = 0",
        )
        .bind(family)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let unused: i64 = col(&unused, 0)?;
        self.inner.revoke_families(&mut tx, "UPDATE refresh_families SET revoked = 1 WHERE id = ?", family).await?;
        self.inner.commit(tx).await?;
        Ok(unused.unsigned_abs())
    }

    async fn revoke_user(&self, user: i64, expires_at: i64, now: i64) -> Result<(u64, i64)> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, now).await?;
        let row =
            sqlx::query("UPDATE users SET token_version = token_version + 1 WHERE id = ? RETURNING token_version")
                .bind(user)
                .fetch_optional(&mut *tx)
                .await
                .map_err(|e| self.inner.fail(e))?;
        let version: i64 = col(&row.ok_or(StoreError::Missing(Noun::User))?, 0)?;
        let revoked = sqlx::query("UPDATE refresh_families SET revoked = 1 WHERE user_id = ? AND revoked = 0")
            .bind(user)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.inner.fail(e))?
            .rows_affected();
        sqlx::query("INSERT INTO revocations (user_id, min_version, expires_at) VALUES (?,?,?)")
            .bind(user)
            .bind(version)
            .bind(expires_at)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.inner.fail(e))?;
        self.inner.commit(tx).await?;
        Ok((revoked, version))
    }

    async fn blacklist(&self, token_hash: &str, expires_at: i64, now: i64) -> Result<()> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, now).await?;
        sqlx::query(
            "INSERT INTO revocations (token_hash, expires_at) VALUES (?,?) \
             ON CONFLICT (token_hash) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        )
        .bind(token_hash)
        .bind(expires_at)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        self.inner.commit(tx).await
    }

    async fn blacklisted(&self, token_hashes: &[String], now: i64) -> Result<Vec<bool>> {
        let wanted = serde_json::to_string(token_hashes).map_err(|e| StoreError::Broken(e.to_string()))?;
        let rows = sqlx::query(
            "SELECT token_hash FROM revocations WHERE token_hash IN (SELECT value FROM json_each(?)) AND expires_at > ?",
        )
        .bind(wanted)
        .bind(now)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let revoked: Vec<String> = rows.iter().map(|row| col(row, 0)).collect::<Result<_>>()?;
        Ok(token_hashes.iter().map(|hash| revoked.contains(hash)).collect())
    }

    async fn revocations(&self, after_id: i64, limit: u32, now: i64) -> Result<Vec<Revocation>> {
        let rows = sqlx::query(
            "SELECT id, coalesce(token_hash, ''), user_id, min_version, expires_at FROM revocations \
             WHERE id > ? AND expires_at > ? ORDER BY id LIMIT ?",
        )
        .bind(after_id)
        .bind(now)
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let revocation = |row: &SqliteRow| {
            Ok(Revocation {
                id: col(row, 0)?,
                token_hash: col(row, 1)?,
                user: col(row, 2)?,
                min_version: col(row, 3)?,
                expires_at: col(row, 4)?,
            })
        };
        rows.iter().map(revocation).collect()
    }
}

impl Inner {
    /// Marks a token as used and stores its successor.
    async fn use_up(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        consume: &ConsumeToken,
        owner: &TokenOwner,
    ) -> Result<()> {
        sqlx::query("UPDATE refresh_tokens SET used_at = ?, client_info = ?, replay = ? WHERE token_hash = ?")
            .bind(consume.now.max(1))
            .bind(&consume.client_info)
            .bind(consume.replay.as_ref())
            .bind(&consume.token_hash)
            .execute(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        sqlx::query("UPDATE refresh_families SET expires_at = max(expires_at, ?) WHERE id = ?")
            .bind(consume.successor_expires_at)
            .bind(&owner.family)
            .execute(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        let successor = NewRefreshToken {
            token_hash: consume.successor_hash.clone(),
            user: owner.user,
            family: owner.family.clone(),
            expires_at: consume.successor_expires_at,
            client_info: consume.client_info.clone(),
            now: consume.now,
        };
        self.insert_token(tx, &successor).await
    }

    async fn insert_token(&self, tx: &mut Transaction<'static, Sqlite>, token: &NewRefreshToken) -> Result<()> {
        sqlx::query(
            "INSERT INTO refresh_tokens (token_hash, family_id, user_id, expires_at, client_info, replay) \
             VALUES (?,?,?,?,?,x'')",
        )
        .bind(&token.token_hash)
        .bind(&token.family)
        .bind(token.user)
        .bind(token.expires_at)
        .bind(&token.client_info)
        .execute(&mut **tx)
        .await
        .map_err(|e| if is_unique_violation(&e) { StoreError::Exists(Noun::RefreshToken) } else { self.fail(e) })?;
        Ok(())
    }

    async fn revoke_families(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        sql: &'static str,
        family: &str,
    ) -> Result<()> {
        sqlx::query(sql).bind(family).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        Ok(())
    }

    async fn sweep(&self, tx: &mut Transaction<'static, Sqlite>, now: i64) -> Result<()> {
        for sql in SWEEP {
            let before = now.saturating_sub(SWEEP_AFTER_SECONDS);
            sqlx::query(sql).bind(before).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
    }
}
