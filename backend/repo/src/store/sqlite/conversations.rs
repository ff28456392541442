//! Statements about conversations and read pointers. The list stands in [`super::list`], members in [`super::members`].

use super::super::conversation::{
    Access, Conversation, ConversationStore, ListQuery, ListedConversation, Member, MemberQuery, NewConversation,
    RaisePointer, RaisedPointer, ReadPointer, Roster,
};
use super::super::error::{Result, StoreError};
use super::batch::{Batched, Values};
use super::connection::{Inner, SqliteStore};
use super::members::Joining;
use super::rows::{col, conversation_at, conversation_columns};
use crate::events;
use async_trait::async_trait;
use gochat_proto::bus::v1::OutboxEvent;
use gochat_proto::common::v1::ConversationType;
use gochat_proto::events::EventBody;
use gochat_proto::settings::Settings;
use sqlx::{Sqlite, Transaction};

const SINGLE: i32 = ConversationType::Single as i32;
const WORLD: i32 = ConversationType::World as i32;

static BY_ID: Batched =
    Batched::new(concat!("SELECT ", conversation_columns!(), " FROM conversations c WHERE c.id IN ("), "?", ")");

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
        self.inner.rosters(ids).await
    }

    async fn members(&self, conversation: &str, users: &[i64]) -> Result<Vec<Member>> {
        self.inner.members(conversation, users).await
    }

    async fn member_page(&self, query: MemberQuery) -> Result<Vec<Member>> {
        self.inner.member_page(query).await
    }

    async fn member_ids(&self, conversation: &str, after: i64, limit: i64) -> Result<Vec<i64>> {
        self.inner.member_ids(conversation, after, limit).await
    }

    async fn member_total(&self, conversation: &str, role: i32) -> Result<i64> {
        self.inner.member_total(conversation, role).await
    }

    async fn access(&self, user: i64, conversation: &str) -> Result<Access> {
        self.inner.access(user, conversation).await
    }

    async fn conversation_list(&self, query: ListQuery) -> Result<Vec<ListedConversation>> {
        self.inner.conversation_list(query).await
    }

    async fn removed_conversations(&self, user: i64, since_ms: i64) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT c.id FROM sync_tombstones t JOIN conversations c ON c.key = t.object_id \
             WHERE t.user_id = ?1 AND t.kind = 1 AND t.removed_at >= ?2 \
             UNION ALL SELECT c.id FROM conversation_members m JOIN conversations c ON c.key = m.conversation_key \
             WHERE m.user_id = ?1 AND m.hidden_seq >= c.last_message_seq AND m.updated_at >= ?2",
        )
        .bind(user)
        .bind(since_ms)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| col(row, 0)).collect()
    }

    async fn change_time(&self) -> Result<i64> {
        Ok(self.inner.changes.settled())
    }

    async fn raise_read_pointer(&self, raise: RaisePointer) -> Result<Option<RaisedPointer>> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
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
            .bind(stamp.ms)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.inner.fail(e))?;
        }
        let unread = sqlx::query(
            "SELECT count(*) FROM (SELECT 1 FROM messages WHERE conversation_key = ? AND seq > ? AND sender_id <> ? \
             AND deleted = 0 AND type <> 4 LIMIT 100)",
        )
        .bind(key)
        .bind(current)
        .bind(raise.user)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let unread = col(&unread, 0)?;
        self.inner.commit(tx).await?;
        drop(stamp);
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

    async fn conversation_ids(&self, user: i64, kind: i32, limit: i64) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT c.id FROM conversation_members m JOIN conversations c ON c.key = m.conversation_key \
             WHERE m.user_id = ? AND c.type = ? AND c.dissolved_at = 0 ORDER BY c.active_at DESC LIMIT ?",
        )
        .bind(user)
        .bind(kind)
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| col(row, 0)).collect()
    }

    async fn unread_counts(&self, user: i64, conversations: &[String]) -> Result<Vec<(String, i64)>> {
        let wanted = serde_json::to_string(conversations).map_err(|e| StoreError::Broken(e.to_string()))?;
        let rows = sqlx::query(
            "SELECT c.id, (SELECT count(*) FROM (SELECT 1 FROM messages x WHERE x.conversation_key = c.key \
             AND x.seq > coalesce(p.last_read_seq, m.join_seq) AND x.sender_id <> ?1 AND x.deleted = 0 \
             AND x.type <> 4 LIMIT 100)) \
             FROM conversation_members m JOIN conversations c ON c.key = m.conversation_key \
             LEFT JOIN read_pointers p ON p.conversation_key = m.conversation_key AND p.user_id = ?1 \
             WHERE m.user_id = ?1 AND m.hidden_seq < c.last_message_seq AND (?2 = '[]' OR c.id IN (SELECT value FROM json_each(?2)))",
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
    /// Creates a conversation with its members and its event in the running transaction, unless one with its id exists.
    pub(super) async fn create_conversation_in(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        new: &NewConversation,
        changed_at: i64,
    ) -> Result<(Conversation, bool)> {
        let row = sqlx::query(
            "INSERT INTO conversations (id, type, name, name_key, avatar_url, description, owner_id, member_count, \
             settings, history_closed, created_at, active_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) \
             ON CONFLICT (id) DO NOTHING RETURNING key",
        )
        .bind(&new.id)
        .bind(new.kind)
        .bind(&new.name)
        .bind(new.name.to_lowercase())
        .bind(&new.avatar_url)
        .bind(&new.description)
        .bind(new.owner_id)
        .bind(new.members.len() as i64)
        .bind(&new.settings)
        .bind(is_history_closed(new.kind, &new.settings))
        .bind(new.created_at_ms)
        .bind(changed_at)
        .bind(changed_at)
        .fetch_optional(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        match &row {
            Some(row) => {
                self.check_users(tx, new.members.iter().map(|(user, _)| *user)).await?;
                let joining = Joining { key: col(row, 0)?, seq: 0, at_ms: new.created_at_ms, changed_at };
                self.insert_members(tx, &new.members, joining).await?;
                self.add_events(tx, &created_event(new)).await?;
            }
            None if new.kind == SINGLE && new.operator != 0 => self.show_again(tx, new, changed_at).await?,
            None => {}
        }
        let there = sqlx::query(concat!("SELECT ", conversation_columns!(), " FROM conversations c WHERE c.id = ?"))
            .bind(&new.id)
            .fetch_one(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        Ok((conversation_at(&there, 0)?, row.is_none()))
    }

    /// Who opens a chat that they hid sees it again.
    async fn show_again(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        new: &NewConversation,
        changed_at: i64,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE conversation_members SET hidden_seq = -1, updated_at = ? WHERE user_id = ? AND hidden_seq >= 0 \
             AND conversation_key = (SELECT key FROM conversations WHERE id = ?)",
        )
        .bind(changed_at)
        .bind(new.operator)
        .bind(&new.id)
        .execute(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        Ok(())
    }
}

/// Nobody is told of the world room, which has nobody in it yet.
fn created_event(new: &NewConversation) -> Vec<OutboxEvent> {
    if new.kind == WORLD {
        return Vec::new();
    }
    let members: Vec<i64> = new.members.iter().map(|(user, _)| *user).collect();
    let body = EventBody::ConversationCreated {
        kind: new.kind,
        name: new.name.clone(),
        member_ids: events::ids(&members),
        member_count: members.len() as i32,
        version: 1,
    };
    vec![events::of_conversation(new.created_at_ms, &new.id, new.operator, body)]
}

/// Whether settings hide from members what was said before they joined.
pub(super) fn is_history_closed(kind: i32, settings: &str) -> bool {
    matches!(Settings::stored(kind, settings), Some(Settings::Group(group)) if !group.allow_member_view_history)
}
