//! Statements about conversations, members and read pointers. The list stands in [`super::list`].

use super::super::conversation::{
    Conversation, ConversationStore, ListQuery, ListedConversation, Member, NewConversation, RaisePointer,
    RaisedPointer, ReadPointer, Roster,
};
use super::super::error::{Noun, Result, StoreError};
use super::batch::{Batched, Values};
use super::connection::{Inner, SqliteStore};
use super::rows::{col, conversation_at, flag, small, user_at};
use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

static BY_ID: Batched = Batched::new(
    "SELECT c.key, c.last_seq, c.stored_through_seq, c.parked, c.id, c.type, c.name, c.avatar_url, c.description, \
     c.settings, c.info_version, c.owner_id, c.member_count, c.created_at, c.updated_at \
     FROM conversations c WHERE c.id IN (",
    "?",
    ")",
);
static ROSTERS: Batched = Batched::new(
    "SELECT c.id, c.key, c.type, c.membership_version, m.user_id FROM conversations c \
     LEFT JOIN conversation_members m ON m.conversation_key = c.key WHERE c.id IN (",
    "?",
    ") ORDER BY c.key, m.user_id",
);
static INSERT_MEMBERS: Batched = Batched::new(
    "INSERT INTO conversation_members (user_id, conversation_key, role, joined_at, updated_at) VALUES ",
    "(?,?,?,?,?)",
    "",
);
static COUNT_USERS: Batched =
    Batched::new("SELECT count(*) FROM (SELECT DISTINCT id FROM users WHERE id IN (", "?", "))");
static MEMBERS: Batched = Batched::new(
    "SELECT m.role, m.muted, m.muted_until, m.joined_at, m.updated_at, \
     u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, u.updated_at \
     FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key JOIN users u ON u.id = m.user_id \
     WHERE c.id = ? AND m.user_id IN (",
    "?",
    ")",
);

#[async_trait]
impl ConversationStore for SqliteStore {
    async fn create_conversation(&self, new: NewConversation) -> Result<(Conversation, bool)> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        let made = self.inner.create_conversation_in(&mut tx, &new, stamp.ms).await?;
        self.inner.commit(tx).await?;
        Ok(made)
    }

    async fn conversations(&self, ids: &[String]) -> Result<Vec<Conversation>> {
        let mut found = Vec::with_capacity(ids.len());
        for (sql, keys) in BY_ID.padded(ids) {
            let rows = sqlx::query_with(sql, Values::keys(keys)?)
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                found.push(conversation_at(row, 0)?);
            }
        }
        Ok(found)
    }

    async fn rosters(&self, ids: &[String]) -> Result<Vec<Roster>> {
        let mut found: Vec<Roster> = Vec::with_capacity(ids.len());
        for (sql, keys) in ROSTERS.padded(ids) {
            let rows = sqlx::query_with(sql, Values::keys(keys)?)
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                let key: i64 = col(row, 1)?;
                if found.last().is_none_or(|last| last.key != key) {
                    let (id, kind, membership_version) = (col(row, 0)?, small(row, 2)?, col(row, 3)?);
                    found.push(Roster { id, key, kind, membership_version, members: Vec::new() });
                }
                if let (Some(last), Some(member)) = (found.last_mut(), col::<Option<i64>>(row, 4)?) {
                    last.members.push(member);
                }
            }
        }
        Ok(found)
    }

    async fn members(&self, conversation: &str, users: &[i64]) -> Result<Vec<Member>> {
        let mut found = Vec::new();
        for (sql, keys) in MEMBERS.padded(users) {
            let mut values = Values::default();
            values.add(conversation)?;
            for key in keys {
                values.add(key)?;
            }
            let rows = sqlx::query_with(sql, values.done())
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
            for row in &rows {
                found.push(Member {
                    user: user_at(row, 5)?,
                    role: small(row, 0)?,
                    muted: flag(row, 1)?,
                    muted_until: col(row, 2)?,
                    joined_at_ms: col(row, 3)?,
                    updated_at_ms: col(row, 4)?,
                });
            }
        }
        Ok(found)
    }

    async fn conversation_list(&self, query: ListQuery) -> Result<Vec<ListedConversation>> {
        self.inner.conversation_list(query).await
    }

    async fn change_time(&self) -> Result<i64> {
        Ok(self.inner.changes.settled())
    }

    async fn raise_read_pointer(&self, raise: RaisePointer) -> Result<Option<RaisedPointer>> {
        let mut tx = self.inner.begin().await?;
        let row = sqlx::query(
            "SELECT c.key, c.last_seq, coalesce(p.last_read_seq, m.join_seq) \
             FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key AND m.user_id = ?1 \
             LEFT JOIN read_pointers p ON p.conversation_key = c.key AND p.user_id = ?1 WHERE c.id = ?2",
        )
        .bind(raise.user)
        .bind(&raise.conversation)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let Some(row) = row else { return Ok(None) };
        let (key, last_seq, previous): (i64, i64, i64) = (col(&row, 0)?, col(&row, 1)?, col(&row, 2)?);
        // Not the reserved bound where the counter is unknown: messages to come would count as read.
        let highest = raise.assigned.map_or(last_seq, |assigned| assigned.max(last_seq));
        let wanted = if raise.seq < 0 { highest } else { raise.seq.min(highest) };
        let current = wanted.max(previous);
        if current > previous {
            sqlx::query(
                "INSERT INTO read_pointers (user_id, conversation_key, last_read_seq, updated_at) VALUES (?,?,?,?) \
                 ON CONFLICT (user_id, conversation_key) DO UPDATE SET last_read_seq = excluded.last_read_seq, \
                 updated_at = excluded.updated_at",
            )
            .bind(raise.user)
            .bind(key)
            .bind(current)
            .bind(raise.now_ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.inner.fail(e))?;
        }
        let unread = sqlx::query(
            "SELECT count(*) FROM (SELECT 1 FROM messages WHERE conversation_key = ? AND seq > ? AND sender_id <> ? \
             AND deleted = 0 LIMIT 100)",
        )
        .bind(key)
        .bind(current)
        .bind(raise.user)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let unread = col(&unread, 0)?;
        self.inner.commit(tx).await?;
        Ok(Some(RaisedPointer { previous, current, unread }))
    }

    async fn read_pointer(&self, user: i64, conversation: &str) -> Result<Option<ReadPointer>> {
        let row = sqlx::query(
            "SELECT coalesce(p.last_read_seq, m.join_seq), coalesce(p.updated_at, 0) \
             FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key AND m.user_id = ?1 \
             LEFT JOIN read_pointers p ON p.conversation_key = c.key AND p.user_id = ?1 WHERE c.id = ?2",
        )
        .bind(user)
        .bind(conversation)
        .fetch_optional(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        row.map(|row| Ok(ReadPointer { last_read_seq: col(&row, 0)?, updated_at_ms: col(&row, 1)? })).transpose()
    }

    async fn unread_counts(&self, user: i64, conversations: &[String]) -> Result<Vec<(String, i64)>> {
        let wanted = serde_json::to_string(conversations).map_err(|e| StoreError::Broken(e.to_string()))?;
        let rows = sqlx::query(
            "SELECT c.id, (SELECT count(*) FROM (SELECT 1 FROM messages x WHERE x.conversation_key = c.key \
             AND x.seq > coalesce(p.last_read_seq, m.join_seq) AND x.sender_id <> ?1 AND x.deleted = 0 LIMIT 100)) \
             FROM conversation_members m JOIN conversations c ON c.key = m.conversation_key \
             LEFT JOIN read_pointers p ON p.conversation_key = m.conversation_key AND p.user_id = ?1 \
             WHERE m.user_id = ?1 AND (?2 = '[]' OR c.id IN (SELECT value FROM json_each(?2)))",
        )
        .bind(user)
        .bind(wanted)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| Ok((col(row, 0)?, col(row, 1)?))).collect()
    }
}

impl Inner {
    /// Creates a conversation with its members in the running transaction, unless one with its id exists.
    pub(super) async fn create_conversation_in(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        new: &NewConversation,
        changed_at: i64,
    ) -> Result<(Conversation, bool)> {
        let row = sqlx::query(
            "INSERT INTO conversations (id, type, name, avatar_url, description, owner_id, member_count, settings, \
             created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING RETURNING key",
        )
        .bind(&new.id)
        .bind(new.kind)
        .bind(&new.name)
        .bind(&new.avatar_url)
        .bind(&new.description)
        .bind(new.owner_id)
        .bind(new.members.len() as i64)
        .bind(&new.settings)
        .bind(new.created_at_ms)
        .bind(changed_at)
        .fetch_optional(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        if let Some(row) = &row {
            self.insert_members(tx, col(row, 0)?, new, changed_at).await?;
        }
        let there = sqlx::query(
            "SELECT c.key, c.last_seq, c.stored_through_seq, c.parked, c.id, c.type, c.name, c.avatar_url, \
             c.description, c.settings, c.info_version, c.owner_id, c.member_count, c.created_at, c.updated_at \
             FROM conversations c WHERE c.id = ?",
        )
        .bind(&new.id)
        .fetch_one(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        Ok((conversation_at(&there, 0)?, row.is_none()))
    }

    async fn insert_members(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        key: i64,
        new: &NewConversation,
        changed_at: i64,
    ) -> Result<()> {
        let ids: Vec<i64> = new.members.iter().map(|(user, _)| *user).collect();
        let mut known = 0;
        for (sql, keys) in COUNT_USERS.padded(&ids) {
            let row =
                sqlx::query_with(sql, Values::keys(keys)?).fetch_one(&mut **tx).await.map_err(|e| self.fail(e))?;
            known += col::<i64>(&row, 0)?;
        }
        if known != ids.len() as i64 {
            return Err(StoreError::Missing(Noun::User));
        }
        for (sql, slice) in INSERT_MEMBERS.exact(&new.members) {
            let mut values = Values::default();
            for (user, role) in slice {
                values.add(*user)?.add(key)?.add(*role)?.add(new.created_at_ms)?.add(changed_at)?;
            }
            sqlx::query_with(sql, values.done()).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
    }
}
