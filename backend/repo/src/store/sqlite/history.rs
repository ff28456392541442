//! Statements that read messages.

use super::super::conversation::{Head, Profile};
use super::super::error::{Result, StoreError};
use super::super::message::{Message, MessagePage, MessageQuery, MessageStore};
use super::connection::SqliteStore;
use super::rows::{MESSAGE_WIDTH, col, flag, message_at, profile_at};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

const ASCENDING: &str = "\
SELECT x.id, ?1, x.seq, x.sender_id, x.type, x.content, x.extra, x.client_msg_id, x.created_at, x.deleted, \
  u.id, u.username, u.avatar_url, u.is_guest \
FROM messages x LEFT JOIN users u ON u.id = x.sender_id \
WHERE x.conversation_key = ?2 AND x.seq BETWEEN ?3 AND ?4 \
  AND (?5 = '[]' OR x.type IN (SELECT value FROM json_each(?5))) \
ORDER BY x.seq LIMIT ?6";
const DESCENDING: &str = "\
SELECT x.id, ?1, x.seq, x.sender_id, x.type, x.content, x.extra, x.client_msg_id, x.created_at, x.deleted, \
  u.id, u.username, u.avatar_url, u.is_guest \
FROM messages x LEFT JOIN users u ON u.id = x.sender_id \
WHERE x.conversation_key = ?2 AND x.seq BETWEEN ?3 AND ?4 \
  AND (?5 = '[]' OR x.type IN (SELECT value FROM json_each(?5))) \
ORDER BY x.seq DESC LIMIT ?6";

#[async_trait]
impl MessageStore for SqliteStore {
    async fn message(&self, id: i64) -> Result<Option<Message>> {
        let row = sqlx::query(
            "SELECT x.id, c.id, x.seq, x.sender_id, x.type, x.content, x.extra, x.client_msg_id, x.created_at, x.deleted \
             FROM messages x JOIN conversations c ON c.key = x.conversation_key WHERE x.id = ?",
        )
        .bind(id)
        .fetch_optional(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        row.map(|row| message_at(&row, 0)).transpose()
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<MessagePage>> {
        let head = sqlx::query("SELECT key, last_seq, stored_through_seq, parked FROM conversations WHERE id = ?")
            .bind(&query.conversation)
            .fetch_optional(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        let Some(head) = head else { return Ok(None) };
        let head = Head {
            key: col(&head, 0)?,
            last_seq: col(&head, 1)?,
            stored_through_seq: col(&head, 2)?,
            parked: flag(&head, 3)?,
        };
        let kinds = serde_json::to_string(&query.kinds).map_err(|e| StoreError::Broken(e.to_string()))?;
        let rows = sqlx::query(if query.ascending { ASCENDING } else { DESCENDING })
            .bind(&query.conversation)
            .bind(head.key)
            .bind(query.low)
            .bind(query.high)
            .bind(kinds)
            .bind(query.limit)
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|e| self.inner.fail(e))?;
        let messages = rows.iter().map(message_and_sender).collect::<Result<_>>()?;
        Ok(Some(MessagePage { head, messages }))
    }

    async fn highest_id(&self) -> Result<i64> {
        let row = sqlx::query(
            "SELECT max(coalesce((SELECT max(id) FROM messages), 0), coalesce((SELECT max(id) FROM users), 0), \
             coalesce((SELECT max(message_id) FROM parked_records), 0), \
             coalesce((SELECT max(id) FROM friendship_requests), 0))",
        )
        .fetch_one(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        col(&row, 0)
    }
}

fn message_and_sender(row: &SqliteRow) -> Result<(Message, Option<Profile>)> {
    Ok((message_at(row, 0)?, profile_at(row, MESSAGE_WIDTH)?))
}
