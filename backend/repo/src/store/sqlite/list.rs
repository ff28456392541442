//! The conversation list: one statement for a whole page (spec 05 §4.1).

use super::super::conversation::{ListQuery, ListedConversation, Select};
use super::super::error::Result;
use super::connection::Inner;
use super::rows::{
    CONVERSATION_WIDTH, MESSAGE_WIDTH, col, conversation_at, conversation_columns, flag, message_at, profile_at, small,
};
use sqlx::sqlite::SqliteRow;

/// The page is cut inside, so that only its rows are joined and counted. `$which` chooses, `$order` cuts, `$shown` is the
/// same order outside.
macro_rules! list {
    ($which:literal, $order:literal, $shown:literal) => {
        concat!(
            "SELECT ",
            conversation_columns!(),
            ", x.id, c.id, x.seq, x.sender_id, x.type, x.content, x.extra, x.client_msg_id, x.created_at, x.deleted, \
             su.id, su.username, su.avatar_url, su.is_guest, \
             pu.id, pu.username, pu.avatar_url, pu.is_guest, \
             page.role, page.muted, page.muted_until, page.joined_at, page.changed_at, \
             (SELECT count(*) FROM (SELECT 1 FROM messages n WHERE n.conversation_key = c.key \
               AND n.seq > page.read_seq AND n.sender_id <> ?1 AND n.deleted = 0 AND n.type <> 4 LIMIT 100)), \
             page.total \
             FROM (SELECT m.conversation_key, m.role, m.muted, m.muted_until, m.joined_at, m.join_seq, \
                 coalesce(p.last_read_seq, m.join_seq) AS read_seq, max(k.active_at, m.joined_at) AS active_at, \
                 max(k.updated_at, m.updated_at, coalesce(p.updated_at, 0)) AS changed_at, count(*) OVER () AS total \
               FROM conversation_members m JOIN conversations k ON k.key = m.conversation_key \
               LEFT JOIN read_pointers p ON p.user_id = ?1 AND p.conversation_key = m.conversation_key \
               WHERE m.user_id = ?1 AND (?2 = 0 OR k.type = ?2) AND k.dissolved_at = 0 AND ",
            $which,
            " ORDER BY ",
            $order,
            ") page JOIN conversations c ON c.key = page.conversation_key \
             LEFT JOIN messages x \
               ON x.id = iif(c.history_closed AND c.last_message_seq <= page.join_seq, NULL, c.last_message_id) \
             LEFT JOIN users su ON su.id = x.sender_id \
             LEFT JOIN conversation_members o ON o.conversation_key = iif(c.type = 1, c.key, NULL) AND o.user_id <> ?1 \
             LEFT JOIN users pu ON pu.id = o.user_id ORDER BY ",
            $shown
        )
    };
}

const PAGE: &str = list!(
    "m.hidden_seq < k.last_message_seq",
    "active_at DESC, k.last_message_id DESC, k.id LIMIT ?3 OFFSET ?4",
    "page.active_at DESC, c.last_message_id DESC, c.id"
);
const CHANGED: &str = list!(
    "m.hidden_seq < k.last_message_seq AND max(k.updated_at, m.updated_at, coalesce(p.updated_at, 0)) >= ?4 \
     AND (max(k.updated_at, m.updated_at, coalesce(p.updated_at, 0)), m.conversation_key) > (?5, ?6)",
    "changed_at, m.conversation_key LIMIT ?3",
    "page.changed_at, c.key"
);
const NAMED: &str = list!(
    "m.hidden_seq < k.last_message_seq AND (instr(k.name_key, ?4) > 0 OR EXISTS (SELECT 1 FROM conversation_members w \
     JOIN users v ON v.id = w.user_id WHERE w.conversation_key = iif(k.type = 1, k.key, NULL) AND w.user_id <> ?1 \
     AND instr(v.name_key, ?4) > 0))",
    "active_at DESC, k.last_message_id DESC, k.id LIMIT ?3",
    "page.active_at DESC, c.last_message_id DESC, c.id"
);
const ONE: &str = list!("k.id = ?4", "k.key LIMIT ?3", "c.key");

const MESSAGE: usize = CONVERSATION_WIDTH;
const SENDER: usize = MESSAGE + MESSAGE_WIDTH;
const PEER: usize = SENDER + 4;
const MINE: usize = PEER + 4;

impl Inner {
    pub(super) async fn conversation_list(&self, query: ListQuery) -> Result<Vec<ListedConversation>> {
        let sql = match &query.select {
            Select::Page { .. } => PAGE,
            Select::Changed { .. } => CHANGED,
            Select::Named(_) => NAMED,
            Select::One(_) => ONE,
        };
        let asked = sqlx::query(sql).bind(query.user).bind(query.kind).bind(query.limit);
        let asked = match query.select {
            Select::Page { offset } => asked.bind(offset),
            Select::Changed { since_ms, after: (changed_at, key) } => asked.bind(since_ms).bind(changed_at).bind(key),
            Select::Named(text) => asked.bind(text),
            Select::One(id) => asked.bind(id),
        };
        let rows = asked.fetch_all(&self.readers).await.map_err(|e| self.fail(e))?;
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
        muted_until: col(row, MINE + 2)?,
        joined_at_ms: col(row, MINE + 3)?,
        changed_at_ms: col(row, MINE + 4)?,
        unread: col(row, MINE + 5)?,
        total: col(row, MINE + 6)?,
    })
}
