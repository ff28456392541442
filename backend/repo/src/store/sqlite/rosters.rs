//! Rosters: what is kept in memory of a conversation's members. Single chats, which are many, take one statement a batch;
//! groups two more.

use super::super::error::Result;
use super::super::roster::{Roster, Standing};
use super::batch::{Batched, Values};
use super::connection::Inner;
use super::rows::{col, flag, small};
use gochat_proto::settings::Settings;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

/// The members of single chats stand in it; the key of others is compared with nothing, so that theirs are not walked.
static HEADS: Batched = Batched::new(
    "SELECT c.id, c.key, c.type, c.membership_version, c.member_count, c.settings, c.dissolved_at, m.user_id, \
     m.user_id IS NOT NULL AND EXISTS (SELECT 1 FROM conversation_members o JOIN blocks b \
       ON b.blocker_id = m.user_id AND b.blocked_id = o.user_id WHERE o.conversation_key = c.key) \
     FROM conversations c LEFT JOIN conversation_members m ON m.conversation_key = iif(c.type = 1, c.key, NULL) \
     WHERE c.id IN (",
    "?",
    ") ORDER BY c.key, m.user_id",
);
static MEMBERS: Batched = Batched::new(
    "SELECT conversation_key, user_id FROM conversation_members WHERE conversation_key IN (",
    "?",
    ") ORDER BY conversation_key, user_id",
);
static SPECIAL: Batched = Batched::new(
    "SELECT conversation_key, user_id, role, muted, muted_until FROM conversation_members \
     WHERE (role > 1 OR muted > 0) AND conversation_key IN (",
    "?",
    ") ORDER BY conversation_key, user_id",
);
static FORMER: Batched = Batched::new(
    "SELECT object_id, user_id FROM sync_tombstones WHERE dissolved = 1 AND kind = 1 AND object_id IN (",
    "?",
    ") ORDER BY object_id, user_id",
);

impl Inner {
    /// As they stand at one moment.
    pub(super) async fn rosters(&self, ids: &[String]) -> Result<Vec<Roster>> {
        let mut found: Vec<Roster> = Vec::with_capacity(ids.len());
        let mut tx = self.readers.begin().await.map_err(|e| self.fail(e))?;
        for (sql, keys) in HEADS.padded(ids) {
            let rows =
                sqlx::query_with(sql, Values::keys(keys)?).fetch_all(&mut *tx).await.map_err(|e| self.fail(e))?;
            for row in &rows {
                if found.last().is_none_or(|last| Ok(last.key) != col(row, 1)) {
                    found.push(head_at(row)?);
                }
                if let (Some(last), Some(member)) = (found.last_mut(), col::<Option<i64>>(row, 7)?) {
                    last.members.push(member);
                    last.blocked |= flag(row, 8)?;
                }
            }
        }
        let of = |wanted: fn(&Roster) -> bool| -> Vec<i64> {
            found.iter().filter(|roster| wanted(roster)).map(|roster| roster.key).collect()
        };
        let groups = of(|roster| roster.kind == 2 && !roster.dissolved);
        let dissolved = of(|roster| roster.dissolved);
        found.sort_unstable_by_key(|roster| roster.key);
        let member = |roster: &mut Roster, row: &SqliteRow| {
            roster.members.push(col(row, 1)?);
            Ok(())
        };
        self.fill(&mut tx, &MEMBERS, &groups, &mut found, member).await?;
        self.fill(&mut tx, &SPECIAL, &groups, &mut found, |roster, row| {
            let standing = Standing { role: small(row, 2)?, muted: flag(row, 3)?, muted_until: col(row, 4)? };
            roster.special.push((col(row, 1)?, standing));
            Ok(())
        })
        .await?;
        self.fill(&mut tx, &FORMER, &dissolved, &mut found, member).await?;
        tx.commit().await.map_err(|e| self.fail(e))?;
        Ok(found)
    }

    /// Gives every row of a statement to the roster, among sorted ones, whose key is its first column.
    async fn fill(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        statement: &'static Batched,
        keys: &[i64],
        rosters: &mut [Roster],
        take: impl Fn(&mut Roster, &SqliteRow) -> Result<()>,
    ) -> Result<()> {
        // A key that fills up a statement is asked twice in one statement: its rows come once.
        for (sql, keys) in statement.padded(keys) {
            let rows =
                sqlx::query_with(sql, Values::keys(keys)?).fetch_all(&mut **tx).await.map_err(|e| self.fail(e))?;
            for row in &rows {
                let key: i64 = col(row, 0)?;
                if let Ok(at) = rosters.binary_search_by_key(&key, |roster| roster.key) {
                    take(&mut rosters[at], row)?;
                }
            }
        }
        Ok(())
    }
}

fn head_at(row: &SqliteRow) -> Result<Roster> {
    let kind = small(row, 2)?;
    Ok(Roster {
        id: col(row, 0)?,
        key: col(row, 1)?,
        kind,
        membership_version: col(row, 3)?,
        member_count: small(row, 4)?,
        settings: Settings::stored(kind, &col::<String>(row, 5)?),
        dissolved: flag(row, 6)?,
        ..Roster::default()
    })
}
