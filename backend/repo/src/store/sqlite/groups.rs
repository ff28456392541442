//! Statements that change conversations and their members: one write transaction each, with its event (pipeline.md F2).

use super::super::conversation::Conversation;
use super::super::error::{Noun, Result, StoreError};
use super::super::group::{AddMembers, AddedMembers, GroupStore, RemoveMember, UpdateInfo, UpdateMember};
use super::batch::{Batched, Values};
use super::changes::Stamp;
use super::connection::{Inner, SqliteStore};
use super::conversations::is_history_closed;
use super::members::Joining;
use super::rows::{col, conversation_at, conversation_columns, flag, small};
use crate::events;
use async_trait::async_trait;
use gochat_proto::common::v1::{ConversationMemberRole, ConversationType};
use gochat_proto::events::EventBody;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, Transaction};
use std::collections::HashSet;
use std::sync::Arc;

const SINGLE: i32 = ConversationType::Single as i32;
const GROUP: i32 = ConversationType::Group as i32;
const WORLD: i32 = ConversationType::World as i32;
const ADMIN: i32 = ConversationMemberRole::Admin as i32;
const OWNER: i32 = ConversationMemberRole::Owner as i32;
/// Tombstones of conversations in their table.
const CONVERSATION: i64 = 1;
/// Tombstones are kept so long; a client that was away longer loads everything again (spec 06 §10).
const TOMBSTONE_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

static EXISTING: Batched =
    Batched::new("SELECT user_id FROM conversation_members WHERE user_id IN (", "?", ") AND conversation_key = ?");
static FORGET_TOMBSTONES: Batched =
    Batched::new("DELETE FROM sync_tombstones WHERE user_id IN (", "?", ") AND kind = ? AND object_id = ?");

#[async_trait]
impl GroupStore for SqliteStore {
    async fn add_members(&self, add: AddMembers) -> Result<AddedMembers> {
        let mut change = Change::begin(&self.inner, &add.conversation).await?;
        let at = change.at.clone();
        if at.kind == SINGLE {
            return Err(StoreError::WrongKind);
        }
        let mut seen = HashSet::new();
        let users: Vec<i64> = add.users.iter().copied().filter(|user| seen.insert(*user)).collect();
        change.inner.check_users(&mut change.tx, users.iter().copied()).await?;
        let members = change.members_among(&users).await?;
        let (existing, new): (Vec<i64>, Vec<i64>) = users.into_iter().partition(|user| members.contains(user));
        let room = if add.max_members == 0 { usize::MAX } else { (add.max_members - at.member_count).max(0) as usize };
        let (added, rejected) = new.split_at(room.min(new.len()));
        let member_count = at.member_count + added.len() as i32;
        let answer = AddedMembers { added: added.to_vec(), existing, rejected: rejected.to_vec(), member_count };
        if added.is_empty() {
            return Ok(answer);
        }
        let rows: Vec<(i64, i32)> = added.iter().map(|user| (*user, add.role)).collect();
        let seq = add.assigned.unwrap_or(0).max(at.top_seq);
        let joining = Joining { key: at.key, seq, at_ms: add.now_ms, changed_at: change.stamp.ms };
        change.inner.insert_members(&mut change.tx, &rows, joining).await?;
        change.forget_tombstones(added).await?;
        let version = change.count_members(member_count).await?;
        let body = EventBody::MembersAdded {
            kind: at.kind,
            added_user_ids: events::ids(added),
            added_by: events::id(add.operator),
            member_count,
            version,
        };
        change.finish(&add.conversation, add.operator, add.now_ms, body).await?;
        Ok(answer)
    }

    async fn remove_member(&self, remove: RemoveMember) -> Result<i32> {
        let mut change = Change::begin(&self.inner, &remove.conversation).await?;
        let at = change.at.clone();
        let member = change.member(remove.user).await?;
        if at.kind == SINGLE || (at.kind == GROUP && member.role == OWNER) {
            return Err(StoreError::CannotLeave);
        }
        let delete = sqlx::query("DELETE FROM conversation_members WHERE user_id = ? AND conversation_key = ?");
        change.run(delete.bind(remove.user).bind(at.key)).await?;
        // A pointer of before would lie below where they join again.
        let delete = sqlx::query("DELETE FROM read_pointers WHERE user_id = ? AND conversation_key = ?");
        change.run(delete.bind(remove.user).bind(at.key)).await?;
        change.leave_tombstone(remove.user).await?;
        let member_count = (at.member_count - 1).max(0);
        let version = change.count_members(member_count).await?;
        let body = EventBody::MemberRemoved {
            kind: at.kind,
            removed_user_id: events::id(remove.user),
            removed_by: events::id(remove.operator),
            reason: remove.reason,
            member_count,
            version,
        };
        change.finish(&remove.conversation, remove.operator, remove.now_ms, body).await?;
        Ok(member_count)
    }

    async fn update_member(&self, update: UpdateMember) -> Result<()> {
        let mut change = Change::begin(&self.inner, &update.conversation).await?;
        let at = change.at.clone();
        if at.kind == SINGLE {
            return Err(StoreError::WrongKind);
        }
        let before = change.member(update.user).await?;
        let mut after = before;
        after.role = update.role.unwrap_or(before.role);
        (after.muted, after.muted_until) = update.mute.unwrap_or((before.muted, before.muted_until));
        if !after.muted {
            after.muted_until = 0;
        }
        if at.kind == GROUP && before.role != after.role && (before.role == OWNER || after.role == OWNER) {
            return Err(StoreError::NotOwner);
        }
        if before == after {
            return Ok(());
        }
        change.set_member(update.user, after).await?;
        let body = EventBody::RoleUpdated {
            user_id: events::id(update.user),
            old_role: before.role,
            new_role: after.role,
            muted: after.muted,
            muted_until: after.muted_until,
        };
        change.finish(&update.conversation, update.operator, update.now_ms, body).await
    }

    async fn transfer_ownership(&self, conversation: &str, from: i64, to: i64, now_ms: i64) -> Result<()> {
        let mut change = Change::begin(&self.inner, conversation).await?;
        let at = change.at.clone();
        if at.kind != GROUP {
            return Err(StoreError::WrongKind);
        }
        if at.owner_id != from {
            return Err(StoreError::NotOwner);
        }
        let (giver, taker) = (change.member(from).await?, change.member(to).await?);
        if from == to {
            return Ok(());
        }
        change.set_member(from, MemberRow { role: ADMIN, ..giver }).await?;
        change.set_member(to, MemberRow { role: OWNER, ..taker }).await?;
        let info_version = at.info_version + 1;
        let update =
            sqlx::query("UPDATE conversations SET owner_id = ?, info_version = ?, updated_at = ? WHERE key = ?");
        let changed_at = change.stamp.ms;
        change.run(update.bind(to).bind(info_version).bind(changed_at).bind(at.key)).await?;
        let body =
            EventBody::OwnerTransferred { from_user_id: events::id(from), to_user_id: events::id(to), info_version };
        change.finish(conversation, from, now_ms, body).await
    }

    async fn update_info(&self, update: UpdateInfo) -> Result<Conversation> {
        let mut change = Change::begin(&self.inner, &update.conversation).await?;
        let at = change.at.clone();
        if update.expected_version != 0 && update.expected_version != at.info_version {
            return Err(StoreError::Conflict);
        }
        let before = change.conversation().await?;
        let mut info = before.info.clone();
        let mut updates = serde_json::Map::new();
        let mut put = |name: &str, there: &mut String, new: &Option<String>| {
            if let Some(new) = new.as_ref().filter(|new| *new != there) {
                updates.insert(name.to_owned(), new.as_str().into());
                there.clone_from(new);
            }
        };
        put("name", &mut info.name, &update.name);
        put("avatarUrl", &mut info.avatar_url, &update.avatar_url);
        put("description", &mut info.description, &update.description);
        put("settings", &mut info.settings, &update.settings);
        if updates.is_empty() {
            return Ok(before);
        }
        if let Some(settings) = updates.get_mut("settings") {
            *settings = serde_json::from_str(&info.settings).map_err(|e| StoreError::Broken(e.to_string()))?;
        }
        info.version += 1;
        let sql = "UPDATE conversations SET name = ?, name_key = ?, avatar_url = ?, description = ?, settings = ?, \
                   history_closed = ?, info_version = ?, updated_at = ? WHERE key = ?";
        let changed_at = change.stamp.ms;
        let run = sqlx::query(sql)
            .bind(&info.name)
            .bind(info.name.to_lowercase())
            .bind(&info.avatar_url)
            .bind(&info.description)
            .bind(&info.settings)
            .bind(is_history_closed(at.kind, &info.settings))
            .bind(info.version)
            .bind(changed_at)
            .bind(at.key);
        change.run(run).await?;
        let body = EventBody::InfoUpdated {
            updated_fields: updates.keys().cloned().collect(),
            updates: updates.into(),
            info_version: info.version,
        };
        change.finish(&update.conversation, update.operator, update.now_ms, body).await?;
        Ok(Conversation { info, updated_at_ms: changed_at, ..before })
    }

    async fn dissolve(&self, conversation: &str, operator: i64, reason: &str, now_ms: i64) -> Result<()> {
        let mut change = Change::begin(&self.inner, conversation).await?;
        let at = change.at.clone();
        if at.kind != GROUP {
            return Err(StoreError::WrongKind);
        }
        let members = change.all_members().await?;
        let changed_at = change.stamp.ms;
        let insert = "INSERT INTO sync_tombstones (user_id, kind, object_id, removed_at, dissolved) \
                      SELECT user_id, ?, conversation_key, ?, 1 FROM conversation_members WHERE conversation_key = ? \
                      ON CONFLICT (user_id, kind, object_id) DO UPDATE SET removed_at = excluded.removed_at, dissolved = 1";
        change.run(sqlx::query(insert).bind(CONVERSATION).bind(changed_at).bind(at.key)).await?;
        let delete = "DELETE FROM read_pointers WHERE conversation_key = ?1 AND user_id IN \
                      (SELECT user_id FROM conversation_members WHERE conversation_key = ?1)";
        change.run(sqlx::query(delete).bind(at.key)).await?;
        let delete = sqlx::query("DELETE FROM conversation_members WHERE conversation_key = ?");
        change.run(delete.bind(at.key)).await?;
        let version = change.count_members(0).await?;
        let update = sqlx::query("UPDATE conversations SET dissolved_at = ? WHERE key = ?");
        change.run(update.bind(changed_at).bind(at.key)).await?;
        let body = EventBody::Dissolved { reason: reason.to_owned(), member_ids: events::ids(&members), version };
        change.finish(conversation, operator, now_ms, body).await
    }

    async fn hide(&self, conversation: &str, user: i64) -> Result<()> {
        let mut change = Change::begin(&self.inner, conversation).await?;
        let at = change.at.clone();
        if at.kind != SINGLE {
            return Err(StoreError::WrongKind);
        }
        let changed_at = change.stamp.ms;
        let hide = sqlx::query(
            "UPDATE conversation_members SET hidden_seq = ?, updated_at = ? WHERE user_id = ? AND conversation_key = ?",
        );
        if change.run(hide.bind(at.last_message_seq).bind(changed_at).bind(user).bind(at.key)).await? == 0 {
            return Err(StoreError::Missing(Noun::Member));
        }
        change.commit().await
    }
}

/// A conversation as it stands while nobody else can change it.
#[derive(Clone)]
struct At {
    key: i64,
    kind: i32,
    member_count: i32,
    membership_version: i64,
    owner_id: i64,
    info_version: i64,
    /// Highest number stored or passed.
    top_seq: i64,
    last_message_seq: i64,
}

/// What may change of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
struct MemberRow {
    role: i32,
    muted: bool,
    muted_until: i64,
}

/// A change on its way. Dropped, it leaves no trace.
struct Change {
    inner: Arc<Inner>,
    tx: Transaction<'static, Sqlite>,
    stamp: Stamp,
    at: At,
}

impl Change {
    async fn begin(inner: &Arc<Inner>, conversation: &str) -> Result<Change> {
        let mut tx = inner.begin().await?;
        let stamp = inner.changes.stamp();
        let row = sqlx::query(
            "SELECT key, type, member_count, membership_version, owner_id, info_version, \
             max(last_seq, stored_through_seq), last_message_seq, dissolved_at FROM conversations WHERE id = ?",
        )
        .bind(conversation)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| inner.fail(e))?
        .ok_or(StoreError::Missing(Noun::Conversation))?;
        if flag(&row, 8)? {
            return Err(StoreError::Dissolved);
        }
        let at = At {
            key: col(&row, 0)?,
            kind: small(&row, 1)?,
            member_count: small(&row, 2)?,
            membership_version: col(&row, 3)?,
            owner_id: col(&row, 4)?,
            info_version: col(&row, 5)?,
            top_seq: col(&row, 6)?,
            last_message_seq: col(&row, 7)?,
        };
        Ok(Change { inner: inner.clone(), tx, stamp, at })
    }

    /// Runs one statement; answers with the rows it changed.
    async fn run(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64> {
        Ok(query.execute(&mut *self.tx).await.map_err(|e| self.inner.fail(e))?.rows_affected())
    }

    async fn rows(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Vec<SqliteRow>> {
        query.fetch_all(&mut *self.tx).await.map_err(|e| self.inner.fail(e))
    }

    async fn conversation(&mut self) -> Result<Conversation> {
        let sql = concat!("SELECT ", conversation_columns!(), " FROM conversations c WHERE c.key = ?");
        let rows = self.rows(sqlx::query(sql).bind(self.at.key)).await?;
        rows.first().map_or(Err(StoreError::Missing(Noun::Conversation)), |row| conversation_at(row, 0))
    }

    async fn member(&mut self, user: i64) -> Result<MemberRow> {
        let sql =
            "SELECT role, muted, muted_until FROM conversation_members WHERE user_id = ? AND conversation_key = ?";
        let rows = self.rows(sqlx::query(sql).bind(user).bind(self.at.key)).await?;
        let row = rows.first().ok_or(StoreError::Missing(Noun::Member))?;
        Ok(MemberRow { role: small(row, 0)?, muted: flag(row, 1)?, muted_until: col(row, 2)? })
    }

    async fn set_member(&mut self, user: i64, row: MemberRow) -> Result<()> {
        let sql = "UPDATE conversation_members SET role = ?, muted = ?, muted_until = ?, updated_at = ? \
                   WHERE user_id = ? AND conversation_key = ?";
        let set = sqlx::query(sql).bind(row.role).bind(row.muted).bind(row.muted_until).bind(self.stamp.ms);
        self.run(set.bind(user).bind(self.at.key)).await.map(drop)
    }

    async fn all_members(&mut self) -> Result<Vec<i64>> {
        let sql = "SELECT user_id FROM conversation_members WHERE conversation_key = ? ORDER BY user_id";
        let rows = self.rows(sqlx::query(sql).bind(self.at.key)).await?;
        rows.iter().map(|row| col(row, 0)).collect()
    }

    async fn members_among(&mut self, users: &[i64]) -> Result<HashSet<i64>> {
        let mut found = HashSet::new();
        for (sql, keys) in EXISTING.padded(users) {
            let mut values = Values::default();
            for key in keys {
                values.add(key)?;
            }
            values.add(self.at.key)?;
            for row in &self.rows(sqlx::query_with(sql, values.done())).await? {
                found.insert(col(row, 0)?);
            }
        }
        Ok(found)
    }

    /// They have it again.
    async fn forget_tombstones(&mut self, users: &[i64]) -> Result<()> {
        for (sql, keys) in FORGET_TOMBSTONES.padded(users) {
            let mut values = Values::default();
            for key in keys {
                values.add(key)?;
            }
            values.add(CONVERSATION)?.add(self.at.key)?;
            self.run(sqlx::query_with(sql, values.done())).await?;
        }
        Ok(())
    }

    /// Also forgets those that are older than any delta.
    async fn leave_tombstone(&mut self, user: i64) -> Result<()> {
        let changed_at = self.stamp.ms;
        let leave = sqlx::query(
            "INSERT INTO sync_tombstones (user_id, kind, object_id, removed_at) VALUES (?,?,?,?) \
             ON CONFLICT (user_id, kind, object_id) DO UPDATE SET removed_at = excluded.removed_at",
        );
        self.run(leave.bind(user).bind(CONVERSATION).bind(self.at.key).bind(changed_at)).await?;
        let forget = sqlx::query("DELETE FROM sync_tombstones WHERE dissolved = 0 AND removed_at < ?");
        self.run(forget.bind(changed_at - TOMBSTONE_KEPT_MS)).await.map(drop)
    }

    /// Writes the number of members down and moves the version, by one; answers with it. The world room has none, and its
    /// number is no change that every member learns of.
    async fn count_members(&mut self, member_count: i32) -> Result<i64> {
        if self.at.kind == WORLD {
            let set = sqlx::query("UPDATE conversations SET member_count = ? WHERE key = ?");
            self.run(set.bind(member_count).bind(self.at.key)).await?;
            return Ok(0);
        }
        let version = self.at.membership_version + 1;
        let set = sqlx::query(
            "UPDATE conversations SET member_count = ?, membership_version = ?, updated_at = ? WHERE key = ?",
        );
        self.run(set.bind(member_count).bind(version).bind(self.stamp.ms).bind(self.at.key)).await?;
        Ok(version)
    }

    /// Commits, with the event.
    async fn finish(mut self, conversation: &str, operator: i64, now_ms: i64, body: EventBody) -> Result<()> {
        let event = events::of_conversation(now_ms, conversation, operator, body);
        self.inner.add_events(&mut self.tx, &[event]).await?;
        self.commit().await
    }

    async fn commit(self) -> Result<()> {
        let Change { inner, tx, stamp, .. } = self;
        inner.commit(tx).await?;
        drop(stamp);
        Ok(())
    }
}
