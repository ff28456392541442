//! The conversation list: one statement for a whole page (spec 05 §4.1).

use super::super::conversation::{ListQuery, ListedConversation};
use super::super::error::Result;
use super::connection::Inner;
use super::rows::{CONVERSATION_WIDTH, MESSAGE_WIDTH, col, conversation_at, flag, message_at, profile_at, small};
use sqlx::sqlite::SqliteRow;

/// The page is cut inside, so that only its rows are joined and counted.
const LIST: &str = "\
SELECT c.key, c.last_seq, c.stored_through_seq, c.parked, c.id, c.type, c.name, c.avatar_url, c.description, \
  c.settings, c.info_version, c.owner_id, c.member_count, c.created_at, c.updated_at, \
  x.id, c.id, x.seq, x.sender_id, x.type, x.content, x.extra, x.client_msg_id, x.created_at, x.deleted, \
  su.id, su.username, su.avatar_url, su.is_guest, \
  pu.id, pu.username, pu.avatar_url, pu.is_guest, \
  page.role, page.muted, page.joined_at, \
  coalesce(p.last_read_seq, page.join_seq), \
  (SELECT count(*) FROM (SELECT 1 FROM messages n WHERE n.conversation_key = c.key \
    AND n.seq > coalesce(p.last_read_seq, page.join_seq) AND n.sender_id <> ?1 AND n.deleted = 0 LIMIT 100)), \
  page.total \
FROM (SELECT m.conversation_key, m.role, m.muted, m.joined_at, m.join_seq, count(*) OVER () AS total \
      FROM conversation_members m JOIN conversations k ON k.key = m.conversation_key \
      WHERE m.user_id = ?1 AND (?2 = 0 OR k.type = ?2) AND (k.updated_at >= ?3 OR m.updated_at >= ?3) \
      ORDER BY k.updated_at DESC, k.last_message_id DESC, k.id LIMIT ?4 OFFSET ?5) page \
JOIN conversations c ON c.key = page.conversation_key \
LEFT JOIN read_pointers p ON p.conversation_key = c.key AND p.user_id = ?1 \
LEFT JOIN messages x ON x.id = c.last_message_id \
LEFT JOIN users su ON su.id = x.sender_id \
LEFT JOIN conversation_members o ON o.conversation_key = iif(c.type = 1, c.key, NULL) AND o.user_id <> ?1 \
LEFT JOIN users pu ON pu.id = o.user_id \
ORDER BY c.updated_at DESC, c.last_message_id DESC, c.id";

const MESSAGE: usize = CONVERSATION_WIDTH;
const SENDER: usize = MESSAGE + MESSAGE_WIDTH;
const PEER: usize = SENDER + 4;
const MINE: usize = PEER + 4;

impl Inner {
    pub(super) async fn conversation_list(&self, query: ListQuery) -> Result<Vec<ListedConversation>> {
        let rows = sqlx::query(LIST)
            .bind(query.user)
            .bind(query.kind)
            .bind(query.since_ms)
            .bind(query.limit)
            .bind(query.offset)
            .fetch_all(&self.readers)
            .await
            .map_err(|e| self.fail(e))?;
        rows.iter().map(listed).collect()
    }
}

fn listed(row: &SqliteRow) -> Result<ListedConversation> {
    let last_message = match col::<Option<i64>>(row, MESSAGE)? {
        Some(_) => Some((message_at(row, MESSAGE)?, profile_at(row, SENDER)?)),
        None => None,
    };
    Ok(ListedConversation {
        conversation: conversation_at(row, 0)?,
        last_message,
        peer: profile_at(row, PEER)?,
        role: small(row, MINE)?,
        muted: flag(row, MINE + 1)?,
        joined_at_ms: col(row, MINE + 2)?,
        last_read_seq: col(row, MINE + 3)?,
        unread: col(row, MINE + 4)?,
        total: col(row, MINE + 5)?,
    })
}
