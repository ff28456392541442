//! Statements about accounts.

use super::super::error::{Noun, Result, StoreError};
use super::super::user::{Membership, NewUser, SEARCHED_MAX, Status, User, UserChange, UserStore};
use super::batch::{Batched, Values};
use super::connection::{Inner, SqliteStore, is_unique_violation};
use super::rows::{col, flag, small, user_at};
use crate::events;
use async_trait::async_trait;
use gochat_proto::bus::v1::OutboxEvent;
use gochat_proto::events::EventBody;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

/// Close codes of spec 02 §6.
const CLOSE_TOKEN: u16 = 4001;
const CLOSE_DISABLED: u16 = 4003;
/// No character sorts after it: the end of all names with a prefix.
const LAST_CHAR: char = char::MAX;

static INSERT: Batched = Batched::new(
    "INSERT INTO users (id, username, name_key, password_hash, avatar_url, is_guest, created_at, updated_at, \
     last_active_at) VALUES ",
    "(?,?,?,?,?,?,?,?,?)",
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
        let body = match user.is_guest {
            true => EventBody::GuestCreated { username: user.username.clone() },
            false => EventBody::UserRegistered { username: user.username.clone() },
        };
        let mut tx = self.inner.begin().await?;
        self.inner.insert_users(&mut tx, &[user]).await?;
        self.inner.add_events(&mut tx, &[events::of_user(made.created_at_ms, made.id, 0, body)]).await?;
        self.inner.commit(tx).await?;
        Ok(made)
    }

    async fn create_users(&self, users: Vec<NewUser>) -> Result<()> {
        let mut tx = self.inner.begin().await?;
        self.inner.insert_users(&mut tx, &users).await?;
        self.inner.commit(tx).await
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
        let before = self.inner.user_in(&mut tx, id).await?;
        if before.status == Status::Deleted {
            return Err(StoreError::Missing(Noun::User));
        }
        let ends = before.status == Status::Normal && change.status.is_some_and(|status| status != Status::Normal);
        let new_password = change.password_hash.is_some();
        let mut told = Vec::new();
        if ends || new_password {
            self.inner.end_logins(&mut tx, id, now_ms.div_euclid(1000)).await?;
            told.push(match ends {
                true => revoked_event(now_ms, id, CLOSE_DISABLED, "account disabled"),
                false => revoked_event(now_ms, id, CLOSE_TOKEN, "password changed"),
            });
        }
        if change.avatar_url.as_ref().is_some_and(|avatar| *avatar != before.avatar_url) {
            let body = EventBody::ProfileUpdated { updated_fields: vec!["avatarUrl".to_owned()] };
            told.push(events::of_user(now_ms, id, id, body));
        }
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
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let user = user_at(&row, 0)?;
        self.inner.add_events(&mut tx, &told).await?;
        self.inner.commit(tx).await?;
        Ok(user)
    }

    async fn delete_user(&self, id: i64, now_ms: i64) -> Result<bool> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        if self.inner.user_in(&mut tx, id).await?.status == Status::Deleted {
            return Ok(false);
        }
        self.inner.end_logins(&mut tx, id, now_ms.div_euclid(1000)).await?;
        self.inner.end_relations(&mut tx, id, now_ms, stamp.ms).await?;
        // Longer than any name that can be chosen, so free.
        sqlx::query(
            "UPDATE users SET status = 2, username = 'deleted_' || id, name_key = 'deleted_' || id, \
             password_hash = '', avatar_url = '', updated_at = ? WHERE id = ?",
        )
        .bind(now_ms)
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        self.inner.add_events(&mut tx, &[revoked_event(now_ms, id, CLOSE_DISABLED, "account deleted")]).await?;
        self.inner.commit(tx).await?;
        Ok(true)
    }

    async fn memberships_to_end(&self, user: i64) -> Result<Vec<Membership>> {
        let rows = sqlx::query(
            "SELECT c.id, c.type, c.type = 2 AND m.role = 3 FROM conversation_members m \
             JOIN conversations c ON c.key = m.conversation_key \
             WHERE m.user_id = ? AND c.type <> 1 AND c.dissolved_at = 0 ORDER BY c.key",
        )
        .bind(user)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let membership = |row: &SqliteRow| {
            Ok(Membership { conversation: col(row, 0)?, kind: small(row, 1)?, is_owner: flag(row, 2)? })
        };
        rows.iter().map(membership).collect()
    }

    async fn successor(&self, conversation: &str, owner: i64) -> Result<Option<i64>> {
        let query = sqlx::query(
            "SELECT m.user_id FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key \
             JOIN users u ON u.id = m.user_id AND u.status <> 2 WHERE c.id = ? AND m.user_id <> ? \
             ORDER BY m.role DESC, m.joined_at, m.user_id LIMIT 1",
        );
        Ok(self.inner.ids(query.bind(conversation).bind(owner)).await?.pop())
    }

    async fn unfinished_deletions(&self, limit: u32) -> Result<Vec<i64>> {
        let query = sqlx::query(
            "SELECT u.id FROM users u WHERE u.status = 2 AND EXISTS (SELECT 1 FROM conversation_members m \
             JOIN conversations c ON c.key = m.conversation_key \
             WHERE m.user_id = u.id AND c.type <> 1 AND c.dissolved_at = 0) LIMIT ?",
        );
        self.inner.ids(query.bind(limit)).await
    }

    async fn inactive_guests(&self, before_ms: i64, limit: u32) -> Result<Vec<i64>> {
        let query = sqlx::query(
            "SELECT id FROM users WHERE is_guest = 1 AND status <> 2 AND last_active_at < ? \
             ORDER BY last_active_at LIMIT ?",
        );
        self.inner.ids(query.bind(before_ms).bind(limit)).await
    }

    async fn touch_users(&self, ids: &[i64], now_ms: i64) -> Result<()> {
        let ids = serde_json::to_string(ids).map_err(|e| StoreError::Broken(e.to_string()))?;
        let mut tx = self.inner.begin().await?;
        sqlx::query(
            "UPDATE users SET last_active_at = ?1 WHERE id IN (SELECT value FROM json_each(?2)) AND last_active_at < ?1",
        )
        .bind(now_ms)
        .bind(ids)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        self.inner.commit(tx).await
    }

    async fn search_users(&self, text: &str, searcher: i64, limit: u32) -> Result<Vec<User>> {
        let text = text.to_lowercase();
        let mut found = self.inner.matching(Wanted::Prefix(&text), searcher, limit).await?;
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        if left > 0 {
            found.extend(self.inner.matching(Wanted::Inside(&text), searcher, left).await?);
        }
        Ok(found)
    }

    async fn list_users(&self, after: i64, name_prefix: &str, limit: u32) -> Result<Vec<User>> {
        let rows = sqlx::query(
            "SELECT u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, u.updated_at \
             FROM users u WHERE u.id > ?1 AND (?2 = '' OR u.name_key >= ?2 AND u.name_key < ?2 || ?4) \
             ORDER BY u.id LIMIT ?3",
        )
        .bind(after)
        .bind(name_prefix.to_lowercase())
        .bind(limit)
        .bind(LAST_CHAR.to_string())
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| user_at(row, 0)).collect()
    }
}

impl Inner {
    async fn insert_users(&self, tx: &mut Transaction<'static, Sqlite>, users: &[NewUser]) -> Result<()> {
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
                    .add(user.created_at_ms)?
                    .add(user.created_at_ms)?;
            }
            sqlx::query_with(sql, values.done())
                .execute(&mut **tx)
                .await
                .map_err(|e| if is_unique_violation(&e) { StoreError::Exists(Noun::Username) } else { self.fail(e) })?;
        }
        Ok(())
    }

    async fn user_in(&self, tx: &mut Transaction<'static, Sqlite>, id: i64) -> Result<User> {
        let row = sqlx::query(
            "SELECT id, username, avatar_url, is_guest, status, token_version, created_at, updated_at \
             FROM users WHERE id = ?",
        )
        .bind(id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        user_at(&row.ok_or(StoreError::Missing(Noun::User))?, 0)
    }

    async fn ids(&self, query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>) -> Result<Vec<i64>> {
        let rows = query.fetch_all(&self.readers).await.map_err(|e| self.fail(e))?;
        rows.iter().map(|row| col(row, 0)).collect()
    }

    /// Accounts whose keyed names lie in a range or contain a text.
    async fn matching(&self, wanted: Wanted<'_>, searcher: i64, limit: u32) -> Result<Vec<User>> {
        let query = match wanted {
            Wanted::Prefix(text) => sqlx::query(
                "SELECT u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, \
                 u.updated_at FROM users u WHERE u.name_key >= ?1 AND u.name_key < ?1 || ?4 AND u.status = 0 \
                 AND u.is_guest = 0 AND u.id <> ?2 AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker_id = u.id \
                 AND b.blocked_id = ?2) ORDER BY u.name_key LIMIT ?3",
            )
            .bind(text)
            .bind(searcher)
            .bind(limit)
            .bind(LAST_CHAR.to_string()),
            Wanted::Inside(text) => sqlx::query(
                "SELECT u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, \
                 u.updated_at FROM (SELECT * FROM users ORDER BY id DESC LIMIT ?4) u WHERE instr(u.name_key, ?1) > 1 \
                 AND u.status = 0 AND u.is_guest = 0 AND u.id <> ?2 AND NOT EXISTS (SELECT 1 FROM blocks b \
                 WHERE b.blocker_id = u.id AND b.blocked_id = ?2) ORDER BY u.name_key LIMIT ?3",
            )
            .bind(text)
            .bind(searcher)
            .bind(limit)
            .bind(SEARCHED_MAX),
        };
        let rows = query.fetch_all(&self.readers).await.map_err(|e| self.fail(e))?;
        rows.iter().map(|row| user_at(row, 0)).collect()
    }
}

/// What a name must have.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Prefix(&'a str),
    /// After its first character.
    Inside(&'a str),
}

fn revoked_event(now_ms: i64, user: i64, close_code: u16, reason: &str) -> OutboxEvent {
    events::of_user(now_ms, user, 0, EventBody::UserRevoked { close_code, reason: reason.to_owned() })
}
