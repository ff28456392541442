//! Statements about refresh tokens and revocations. What has expired is swept, a little with every write.

use super::super::error::{Noun, Result, StoreError};
use super::super::token::{
    ConsumeToken, Consumed, Family, NewRefreshToken, REVOCATION_SECONDS, Revocation, TokenOwner, TokenStore, family_key,
};
use super::connection::{Inner, SqliteStore, is_unique_violation};
use super::rows::col;
use crate::events;
use async_trait::async_trait;
use bytes::Bytes;
use gochat_proto::events::EventBody;
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

/// Close code of spec 02 §6.
const CLOSE_TOKEN: u16 = 4001;

/// Expired tokens are known as such for a day before they are swept.
const SWEEP_AFTER_SECONDS: i64 = 24 * 3600;

#[async_trait]
impl TokenStore for SqliteStore {
    async fn store_refresh_token(&self, token: NewRefreshToken) -> Result<()> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, token.now).await?;
        sqlx::query(
            "INSERT INTO refresh_families (id, user_id, expires_at, client_info, created_at, refreshed_at) \
             VALUES (?1,?2,?3,?4,?5,?5) ON CONFLICT (id) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        )
        .bind(&token.family)
        .bind(token.user)
        .bind(token.expires_at)
        .bind(&token.client_info)
        .bind(token.now)
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
        self.inner.end_login(&mut tx, &owner.family, consume.now).await?;
        self.inner.commit(tx).await?;
        Ok(Consumed::Reused(owner))
    }

    async fn revoke_family(&self, family: &str, user: i64, now: i64) -> Result<Option<(i64, u64)>> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, now).await?;
        let row = sqlx::query(
            "SELECT f.user_id, (SELECT count(*) FROM refresh_tokens t WHERE t.family_id = f.id AND t.used_at = 0) \
             FROM refresh_families f WHERE f.id = ?1 AND f.revoked = 0 AND (?2 = 0 OR f.user_id = ?2)",
        )
        .bind(family)
        .bind(user)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let Some(row) = row else { return Ok(None) };
        let (owner, unused): (i64, i64) = (col(&row, 0)?, col(&row, 1)?);
        self.inner.end_login(&mut tx, family, now).await?;
        self.inner.commit(tx).await?;
        Ok(Some((owner, unused.unsigned_abs())))
    }

    async fn families(&self, user: i64, now: i64, limit: u32) -> Result<Vec<Family>> {
        let rows = sqlx::query(
            "SELECT id, client_info, created_at, refreshed_at, expires_at FROM refresh_families \
             WHERE user_id = ? AND revoked = 0 AND expires_at > ? ORDER BY created_at DESC, id DESC LIMIT ?",
        )
        .bind(user)
        .bind(now)
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let family = |row: &SqliteRow| {
            Ok(Family {
                id: col(row, 0)?,
                client_info: col(row, 1)?,
                created_at: col(row, 2)?,
                refreshed_at: col(row, 3)?,
                expires_at: col(row, 4)?,
            })
        };
        rows.iter().map(family).collect()
    }

    async fn revoke_user(&self, user: i64, now: i64) -> Result<(u64, i64)> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, now).await?;
        let ended = self.inner.end_logins(&mut tx, user, now).await?;
        let body = EventBody::UserRevoked { close_code: CLOSE_TOKEN, reason: "all logins ended".to_owned() };
        let event = events::of_user(now.saturating_mul(1000), user, 0, body);
        self.inner.add_events(&mut tx, &[event]).await?;
        self.inner.commit(tx).await?;
        Ok(ended)
    }

    async fn blacklist(&self, token_hash: &str, expires_at: i64, now: i64) -> Result<()> {
        let mut tx = self.inner.begin().await?;
        self.inner.sweep(&mut tx, now).await?;
        self.inner.insert_blacklisted(&mut tx, token_hash, expires_at).await?;
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
        sqlx::query(
            "UPDATE refresh_families SET expires_at = max(expires_at, ?), client_info = ?, refreshed_at = ? WHERE id = ?",
        )
        .bind(consume.successor_expires_at)
        .bind(&consume.client_info)
        .bind(consume.now)
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

    /// Revokes one family, and lists it for the access tokens that name it.
    async fn end_login(&self, tx: &mut Transaction<'static, Sqlite>, family: &str, now: i64) -> Result<()> {
        sqlx::query("UPDATE refresh_families SET revoked = 1 WHERE id = ?")
            .bind(family)
            .execute(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        self.insert_blacklisted(tx, &family_key(family), now.saturating_add(REVOCATION_SECONDS)).await
    }

    async fn insert_blacklisted(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        key: &str,
        expires_at: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO revocations (token_hash, expires_at) VALUES (?,?) \
             ON CONFLICT (token_hash) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        )
        .bind(key)
        .bind(expires_at)
        .execute(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        Ok(())
    }

    /// Ends all logins of a user; answers with their number and the version that access tokens must carry now.
    pub(super) async fn end_logins(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        user: i64,
        now: i64,
    ) -> Result<(u64, i64)> {
        let row =
            sqlx::query("UPDATE users SET token_version = token_version + 1 WHERE id = ? RETURNING token_version")
                .bind(user)
                .fetch_optional(&mut **tx)
                .await
                .map_err(|e| self.fail(e))?;
        let version: i64 = col(&row.ok_or(StoreError::Missing(Noun::User))?, 0)?;
        let revoked = sqlx::query("UPDATE refresh_families SET revoked = 1 WHERE user_id = ? AND revoked = 0")
            .bind(user)
            .execute(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?
            .rows_affected();
        sqlx::query("INSERT INTO revocations (user_id, min_version, expires_at) VALUES (?,?,?)")
            .bind(user)
            .bind(version)
            .bind(now.saturating_add(REVOCATION_SECONDS))
            .execute(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        Ok((revoked, version))
    }

    async fn sweep(&self, tx: &mut Transaction<'static, Sqlite>, now: i64) -> Result<()> {
        for sql in SWEEP {
            let before = now.saturating_sub(SWEEP_AFTER_SECONDS);
            sqlx::query(sql).bind(before).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
    }
}
