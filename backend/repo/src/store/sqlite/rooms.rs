//! Statements about rooms.

use super::super::error::{Result, StoreError};
use super::super::room::{RoomMembers, RoomSize, RoomStore, RoomVersion};
use super::connection::SqliteStore;
use super::rows::{col, flag, small};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

fn list(values: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(values).map_err(|e| StoreError::Broken(e.to_string()))
}

#[async_trait]
impl RoomStore for SqliteStore {
    async fn rooms(&self, users: &[i64], above: i32) -> Result<Vec<(i64, RoomVersion)>> {
        let rows = sqlx::query(
            "SELECT m.user_id, c.id, iif(c.type = 3, 0, c.membership_version) \
             FROM conversation_members m JOIN conversations c ON c.key = m.conversation_key \
             WHERE m.user_id IN (SELECT value FROM json_each(?)) AND c.dissolved_at = 0 \
             AND (c.type = 3 OR c.type = 2 AND c.member_count > ?) ORDER BY m.user_id, c.key",
        )
        .bind(list(&users)?)
        .bind(above)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let room =
            |row: &SqliteRow| Ok((col(row, 0)?, RoomVersion { conversation: col(row, 1)?, version: col(row, 2)? }));
        rows.iter().map(room).collect()
    }

    async fn room_size(&self, conversation: &str) -> Result<Option<RoomSize>> {
        let row =
            sqlx::query("SELECT c.type = 3, c.member_count FROM conversations c WHERE c.id = ? AND c.dissolved_at = 0")
                .bind(conversation)
                .fetch_optional(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
        row.map(|row| Ok(RoomSize { is_world: flag(&row, 0)?, member_count: small(&row, 1)? })).transpose()
    }

    async fn room_members(&self, conversation: &str) -> Result<Option<RoomMembers>> {
        let rows = sqlx::query(
            "SELECT iif(c.type = 3, 0, c.membership_version), m.user_id FROM conversations c \
             LEFT JOIN conversation_members m ON m.conversation_key = c.key \
             WHERE c.id = ? AND c.dissolved_at = 0 ORDER BY m.user_id",
        )
        .bind(conversation)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let Some(first) = rows.first() else { return Ok(None) };
        let mut room = RoomMembers { version: col(first, 0)?, members: Vec::new() };
        for row in &rows {
            room.members.extend(col::<Option<i64>>(row, 1)?);
        }
        Ok(Some(room))
    }

    async fn room_versions(&self, conversations: &[String]) -> Result<HashMap<String, i64>> {
        let rows = sqlx::query(
            "SELECT c.id, iif(c.type = 3, 0, c.membership_version) FROM conversations c \
             WHERE c.id IN (SELECT value FROM json_each(?)) AND c.dissolved_at = 0",
        )
        .bind(list(&conversations)?)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| Ok((col(row, 0)?, col(row, 1)?))).collect()
    }
}
