//! Statements about who is in a conversation.

use super::super::conversation::{Access, Member, MemberQuery};
use super::super::error::{Noun, Result, StoreError};
use super::batch::{Batched, Values};
use super::connection::Inner;
use super::rows::{col, flag, member_at, member_columns};
use sqlx::{Sqlite, Transaction};

static INSERT: Batched = Batched::new(
    "INSERT INTO conversation_members (user_id, conversation_key, role, join_seq, joined_at, updated_at) VALUES ",
    "(?,?,?,?,?,?)",
    "",
);
static COUNT_USERS: Batched =
    Batched::new("SELECT count(*) FROM (SELECT DISTINCT id FROM users WHERE id IN (", "?", "))");
static AMONG: Batched = Batched::new(
    concat!(
        "SELECT ",
        member_columns!(),
        " FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key \
         JOIN users u ON u.id = m.user_id WHERE c.id = ? AND m.user_id IN ("
    ),
    "?",
    ")",
);
const BY_ROLE: &str = concat!(
    "SELECT ",
    member_columns!(),
    " FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key JOIN users u ON u.id = m.user_id \
     WHERE c.id = ?1 AND (?2 = 0 OR m.role = ?2) ORDER BY m.role DESC, m.joined_at, m.user_id LIMIT ?3 OFFSET ?4"
);
const BY_ID: &str = concat!(
    "SELECT ",
    member_columns!(),
    " FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key JOIN users u ON u.id = m.user_id \
     WHERE c.id = ?1 AND (?2 = 0 OR m.role = ?2) ORDER BY m.user_id LIMIT ?3 OFFSET ?4"
);
/// Goes through the index of those who are no plain members.
const BY_HIGHER_ROLE: &str = concat!(
    "SELECT ",
    member_columns!(),
    " FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key JOIN users u ON u.id = m.user_id \
     WHERE c.id = ?1 AND (m.role > 1 OR m.muted > 0) AND m.role = ?2 ORDER BY m.user_id LIMIT ?3 OFFSET ?4"
);

/// How members come in.
#[derive(Clone, Copy)]
pub(super) struct Joining {
    /// Key of the conversation.
    pub(super) key: i64,
    /// They have read up to here.
    pub(super) seq: i64,
    /// Unix milliseconds.
    pub(super) at_ms: i64,
    /// Change time.
    pub(super) changed_at: i64,
}

impl Inner {
    pub(super) async fn members(&self, conversation: &str, users: &[i64]) -> Result<Vec<Member>> {
        let mut found = Vec::new();
        for (sql, keys) in AMONG.padded(users) {
            let mut values = Values::default();
            values.add(conversation)?;
            for key in keys {
                values.add(key)?;
            }
            let rows = sqlx::query_with(sql, values.done()).fetch_all(&self.readers).await.map_err(|e| self.fail(e))?;
            for row in &rows {
                found.push(member_at(row)?);
            }
        }
        Ok(found)
    }

    pub(super) async fn member_page(&self, query: MemberQuery) -> Result<Vec<Member>> {
        let sql = match (query.role, query.by_role) {
            (2.., _) => BY_HIGHER_ROLE,
            (_, true) => BY_ROLE,
            (_, false) => BY_ID,
        };
        let rows = sqlx::query(sql)
            .bind(&query.conversation)
            .bind(query.role)
            .bind(query.limit)
            .bind(query.offset)
            .fetch_all(&self.readers)
            .await
            .map_err(|e| self.fail(e))?;
        rows.iter().map(member_at).collect()
    }

    pub(super) async fn member_ids(&self, conversation: &str, after: i64, limit: i64) -> Result<Vec<i64>> {
        let rows = sqlx::query(
            "SELECT m.user_id FROM conversations c JOIN conversation_members m ON m.conversation_key = c.key \
             WHERE c.id = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?",
        )
        .bind(conversation)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(|e| self.fail(e))?;
        rows.iter().map(|row| col(row, 0)).collect()
    }

    pub(super) async fn member_total(&self, conversation: &str, role: i32) -> Result<i64> {
        let row = sqlx::query(
            "SELECT CASE ?2 WHEN 0 THEN c.member_count \
             WHEN 1 THEN c.member_count - (SELECT count(*) FROM conversation_members m WHERE m.conversation_key = c.key \
               AND (m.role > 1 OR m.muted > 0) AND m.role > 1) \
             ELSE (SELECT count(*) FROM conversation_members m WHERE m.conversation_key = c.key \
               AND (m.role > 1 OR m.muted > 0) AND m.role = ?2) END \
             FROM conversations c WHERE c.id = ?1",
        )
        .bind(conversation)
        .bind(role)
        .fetch_optional(&self.readers)
        .await
        .map_err(|e| self.fail(e))?;
        row.map_or(Ok(0), |row| col(&row, 0))
    }

    pub(super) async fn access(&self, user: i64, conversation: &str) -> Result<Access> {
        let row = sqlx::query(
            "SELECT m.join_seq, c.history_closed, EXISTS (SELECT 1 FROM sync_tombstones t \
               WHERE t.user_id = ?1 AND t.kind = 1 AND t.object_id = c.key AND t.dissolved = 1) \
             FROM conversations c LEFT JOIN conversation_members m ON m.user_id = ?1 AND m.conversation_key = c.key \
             WHERE c.id = ?2",
        )
        .bind(user)
        .bind(conversation)
        .fetch_optional(&self.readers)
        .await
        .map_err(|e| self.fail(e))?;
        let Some(row) = row else { return Ok(Access::Absent) };
        Ok(match col::<Option<i64>>(&row, 0)? {
            Some(join_seq) => Access::Member { history_after: if flag(&row, 1)? { join_seq } else { 0 } },
            None if flag(&row, 2)? => Access::Former,
            None => Access::Stranger,
        })
    }

    /// All of these are users, or none of them becomes a member. Each is named once.
    pub(super) async fn check_users(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        users: impl Iterator<Item = i64>,
    ) -> Result<()> {
        let users: Vec<i64> = users.collect();
        let mut known = 0;
        for (sql, keys) in COUNT_USERS.padded(&users) {
            let row =
                sqlx::query_with(sql, Values::keys(keys)?).fetch_one(&mut **tx).await.map_err(|e| self.fail(e))?;
            known += col::<i64>(&row, 0)?;
        }
        if known == users.len() as i64 { Ok(()) } else { Err(StoreError::Missing(Noun::User)) }
    }

    pub(super) async fn insert_members(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        members: &[(i64, i32)],
        joining: Joining,
    ) -> Result<()> {
        for (sql, slice) in INSERT.exact(members) {
            let mut values = Values::default();
            for (user, role) in slice {
                values.add(*user)?.add(joining.key)?.add(*role)?;
                values.add(joining.seq)?.add(joining.at_ms)?.add(joining.changed_at)?;
            }
            sqlx::query_with(sql, values.done()).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
    }
}
