//! Statements about accounts.

use super::super::error::{Noun, Result, StoreError};
use super::super::user::{NewUser, Status, User, UserChange, UserStore};
use super::batch::{Batched, Values};
use super::connection::{Inner, SqliteStore, is_unique_violation};
use super::rows::{col, user_at};
use async_trait::async_trait;

static INSERT: Batched = Batched::new(
    "INSERT INTO users (id, username, name_key, password_hash, avatar_url, is_guest, created_at, updated_at) VALUES ",
    "(?,?,?,?,?,?,?,?)",
    "",
);
static BY_ID: Batched = Batched::new(
    "SELECT u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, u.updated_at \
     FROM users u WHERE u.id IN (",
    "?",
    ")",
);

#[async_trait]
impl UserStore for SqliteStore {
    async fn create_user(&self, user: NewUser) -> Result<User> {
        let made = User {
            id: user.id,
            username: user.username.clone(),
            avatar_url: user.avatar_url.clone(),
            is_guest: user.is_guest,
            status: Status::Normal,
            token_version: 0,
            created_at_ms: user.created_at_ms,
            updated_at_ms: user.created_at_ms,
        };
        self.inner.insert_users(&[user]).await?;
        Ok(made)
    }

    async fn create_users(&self, users: Vec<NewUser>) -> Result<()> {
        self.inner.insert_users(&users).await
    }

    async fn users(&self, ids: &[i64]) -> Result<Vec<User>> {
        let mut found = Vec::with_capacity(ids.len());
        for (sql, keys) in BY_ID.padded(ids) {
            let rows = sqlx::query_with(sql, Values::keys(keys)?)
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                found.push(user_at(row, 0)?);
            }
        }
        Ok(found)
    }

    async fn user_by_name(&self, username: &str) -> Result<Option<User>> {
        let row = sqlx::query(
            "SELECT u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, u.updated_at \
             FROM users u WHERE u.name_key = ?",
        )
        .bind(username.to_lowercase())
        .fetch_optional(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        row.map(|row| user_at(&row, 0)).transpose()
    }

    async fn password_hash(&self, id: i64) -> Result<Option<String>> {
        let row = sqlx::query("SELECT password_hash FROM users WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        row.map(|row| col(&row, 0)).transpose()
    }

    async fn update_user(&self, id: i64, change: UserChange, now_ms: i64) -> Result<User> {
        let mut tx = self.inner.begin().await?;
        let row = sqlx::query(
            "UPDATE users AS u SET avatar_url = coalesce(?, avatar_url), status = coalesce(?, status), \
             password_hash = coalesce(?, password_hash), updated_at = ? WHERE id = ? \
             RETURNING id, username, avatar_url, is_guest, status, token_version, created_at, updated_at",
        )
        .bind(change.avatar_url)
        .bind(change.status.map(|s| s as i64))
        .bind(change.password_hash)
        .bind(now_ms)
        .bind(id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let user = user_at(&row.ok_or(StoreError::Missing(Noun::User))?, 0)?;
        self.inner.commit(tx).await?;
        Ok(user)
    }
}

impl Inner {
    async fn insert_users(&self, users: &[NewUser]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (sql, slice) in INSERT.exact(users) {
            let mut values = Values::default();
            for user in slice {
                values
                    .add(user.id)?
                    .add(&user.username)?
                    .add(user.username.to_lowercase())?
                    .add(&user.password_hash)?
                    .add(&user.avatar_url)?
                    .add(user.is_guest)?
                    .add(user.created_at_ms)?
                    .add(user.created_at_ms)?;
            }
            sqlx::query_with(sql, values.done())
                .execute(&mut *tx)
                .await
                .map_err(|e| if is_unique_violation(&e) { StoreError::Exists(Noun::Username) } else { self.fail(e) })?;
        }
        self.commit(tx).await
    }
}
