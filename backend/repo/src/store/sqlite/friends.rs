//! Statements about friendships and blocks (spec 05 §2.6).

use super::super::conversation::NewConversation;
use super::super::error::{Noun, Result, StoreError};
use super::super::friend::{
    Acceptance, AskRefusal, Asked, FriendStatus, FriendStore, Friendship, HandleRequest, Handled, NewFriendRequest,
    RequestQuery,
};
use super::connection::{Inner, SqliteStore};
use super::rows::{col, flag};
use crate::events;
use async_trait::async_trait;
use gochat_proto::bus::v1::OutboxEvent;
use gochat_proto::events::EventBody;
use gochat_proto::ids::{ConversationId, UserId};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

const COLUMNS: &str =
    "id, requester_id, target_id, status, requester_remarks, message, is_mirror, created_at, updated_at";
/// Kind of a lost friend in `sync_tombstones`.
const FRIEND: i64 = 2;
const SINGLE: i32 = 1;
const MEMBER: i32 = 1;

type Tx = Transaction<'static, Sqlite>;

#[async_trait]
impl FriendStore for SqliteStore {
    async fn ask_friend(&self, ask: NewFriendRequest) -> Result<Asked> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        if let Some(refusal) = self.inner.ask_refusal(&mut tx, ask.requester, ask.target).await? {
            return Ok(Asked::Refused(refusal));
        }
        let forward = self.inner.direction(&mut tx, ask.requester, ask.target).await?;
        match forward {
            Some(Friendship { status: FriendStatus::Accepted, .. }) => return Ok(Asked::Refused(AskRefusal::Friends)),
            Some(Friendship { status: FriendStatus::Pending, .. }) => return Ok(Asked::Refused(AskRefusal::Pending)),
            Some(_) | None => {}
        }
        let backward = self.inner.direction(&mut tx, ask.target, ask.requester).await?;
        if let Some(asked) = backward.filter(|f| f.status == FriendStatus::Pending) {
            let handle =
                HandleRequest { request: asked.id, handler: ask.requester, mirror_id: ask.id, now_ms: ask.now_ms };
            let accepted = self.inner.accept(&mut tx, asked, handle, stamp.ms).await?;
            self.inner.commit(tx).await?;
            return Ok(Asked::Accepted(accepted));
        }
        let again_at = forward.map(|f| f.updated_at_ms.saturating_add(ask.reopen_after_ms));
        if let Some(at) = again_at.filter(|at| *at > ask.now_ms) {
            return Ok(Asked::Refused(AskRefusal::CoolingDown(at)));
        }
        let request = self.inner.open_request(&mut tx, &ask, stamp.ms).await?;
        self.inner.commit(tx).await?;
        Ok(Asked::Pending(request))
    }

    async fn accept_friend(&self, handle: HandleRequest) -> Result<Handled> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        let request = match self.inner.to_handle(&mut tx, handle).await? {
            Ok(request) => request,
            Err(refused) => return Ok(refused),
        };
        if self.inner.blocked_either_way(&mut tx, request.requester, request.target).await? {
            return Ok(Handled::Blocked);
        }
        let accepted = self.inner.accept(&mut tx, request, handle, stamp.ms).await?;
        self.inner.commit(tx).await?;
        Ok(Handled::Done(accepted))
    }

    async fn reject_friend(&self, handle: HandleRequest) -> Result<Handled> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        let request = match self.inner.to_handle(&mut tx, handle).await? {
            Ok(request) => request,
            Err(refused) => return Ok(refused),
        };
        let request = self.inner.set_status(&mut tx, request.id, FriendStatus::Rejected, stamp.ms).await?;
        let body = EventBody::FriendRequestRejected { request_id: request.id.to_string() };
        let event = events::of_friend(handle.now_ms, request.requester, request.target, body);
        self.inner.add_events(&mut tx, &[event]).await?;
        self.inner.commit(tx).await?;
        Ok(Handled::Done(Acceptance { request, conversation: String::new() }))
    }

    async fn friend_request(&self, id: i64) -> Result<Option<Friendship>> {
        Ok(self.inner.friendships("id = ?1", &[id]).await?.pop())
    }

    async fn friendships_between(&self, a: i64, b: i64) -> Result<(Option<Friendship>, Option<Friendship>)> {
        let filter = "requester_id = ?1 AND target_id = ?2 OR requester_id = ?2 AND target_id = ?1";
        let (forward, backward): (Vec<_>, Vec<_>) =
            self.inner.friendships(filter, &[a, b]).await?.into_iter().partition(|f| f.requester == a);
        Ok((forward.into_iter().next(), backward.into_iter().next()))
    }

    async fn friends(&self, user: i64, offset: i64, limit: i64) -> Result<Vec<Friendship>> {
        let filter = "requester_id = ?1 AND status = 1 ORDER BY target_id LIMIT ?2 OFFSET ?3";
        self.inner.friendships(filter, &[user, limit, offset]).await
    }

    async fn friend_changes(&self, user: i64, since_ms: i64) -> Result<(Vec<Friendship>, Vec<i64>)> {
        // Lost ones first: who became a friend again in between stands among the friends only.
        let rows =
            sqlx::query("SELECT object_id FROM sync_tombstones WHERE user_id = ? AND kind = ? AND removed_at >= ?")
                .bind(user)
                .bind(FRIEND)
                .bind(since_ms)
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|e| self.inner.fail(e))?;
        let mut lost: Vec<i64> = rows.iter().map(|row| col(row, 0)).collect::<Result<_>>()?;
        let filter = "requester_id = ?1 AND status = 1 AND updated_at >= ?2 ORDER BY updated_at, id";
        let friends = self.inner.friendships(filter, &[user, since_ms]).await?;
        lost.retain(|id| !friends.iter().any(|f| f.target == *id));
        Ok((friends, lost))
    }

    async fn friend_requests(&self, query: RequestQuery) -> Result<Vec<Friendship>> {
        let status = query.status.map_or(-1, |status| status as i64);
        let filter = match query.received {
            true => {
                "target_id = ?1 AND is_mirror = 0 AND (?2 < 0 OR status = ?2) \
                 ORDER BY updated_at DESC, id DESC LIMIT ?3 OFFSET ?4"
            }
            false => {
                "requester_id = ?1 AND is_mirror = 0 AND (?2 < 0 OR status = ?2) \
                 ORDER BY updated_at DESC, id DESC LIMIT ?3 OFFSET ?4"
            }
        };
        self.inner.friendships(filter, &[query.user, status, query.limit, query.offset]).await
    }

    async fn friend_ids(&self, user: i64) -> Result<Vec<i64>> {
        let rows = sqlx::query(
            "SELECT target_id FROM friendship_requests WHERE requester_id = ? AND status = 1 ORDER BY target_id",
        )
        .bind(user)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| col(row, 0)).collect()
    }

    async fn set_remark(&self, user: i64, friend: i64, remark: &str) -> Result<Option<Friendship>> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        let sql = format!(
            "UPDATE friendship_requests SET requester_remarks = ?, updated_at = ? \
             WHERE requester_id = ? AND target_id = ? AND status = 1 RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(remark)
            .bind(stamp.ms)
            .bind(user)
            .bind(friend)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| self.inner.fail(e))?;
        let changed = row.as_ref().map(friendship).transpose()?;
        self.inner.commit(tx).await?;
        Ok(changed)
    }

    async fn remove_friend(&self, user: i64, friend: i64, now_ms: i64) -> Result<bool> {
        let mut tx = self.inner.begin().await?;
        let stamp = self.inner.changes.stamp();
        let are_friends = self.inner.direction(&mut tx, user, friend).await?;
        if are_friends.is_none_or(|f| f.status != FriendStatus::Accepted) {
            return Ok(false);
        }
        self.inner.end_friendship(&mut tx, user, friend, now_ms, stamp.ms).await?;
        self.inner.commit(tx).await?;
        Ok(true)
    }

    async fn set_block(&self, user: i64, target: i64, blocked: bool, now_ms: i64) -> Result<bool> {
        let mut tx = self.inner.begin().await?;
        let known = sqlx::query("SELECT 1 FROM users WHERE id = ? AND status <> 2")
            .bind(target)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| self.inner.fail(e))?;
        if blocked && known.is_none() {
            return Err(StoreError::Missing(Noun::User));
        }
        let query = match blocked {
            true => sqlx::query(
                "INSERT INTO blocks (blocker_id, blocked_id, created_at) VALUES (?1,?2,?3) ON CONFLICT DO NOTHING",
            ),
            false => sqlx::query("DELETE FROM blocks WHERE blocker_id = ?1 AND blocked_id = ?2 AND ?3 = ?3"),
        };
        let done = query.bind(user).bind(target).bind(now_ms).execute(&mut *tx).await;
        let changed = done.map_err(|e| self.inner.fail(e))?.rows_affected() > 0;
        self.inner.commit(tx).await?;
        Ok(changed)
    }

    async fn blocks(&self, user: i64, others: &[i64]) -> Result<(Vec<i64>, Vec<i64>)> {
        let asked = serde_json::to_string(others).map_err(|e| StoreError::Broken(e.to_string()))?;
        let rows = sqlx::query(
            "SELECT 0, blocked_id FROM blocks WHERE blocker_id = ?1 AND blocked_id IN (SELECT value FROM json_each(?2)) \
             UNION ALL \
             SELECT 1, blocker_id FROM blocks WHERE blocked_id = ?1 AND blocker_id IN (SELECT value FROM json_each(?2))",
        )
        .bind(user)
        .bind(asked)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        let (mut blocked, mut blocking) = (Vec::new(), Vec::new());
        for row in &rows {
            if flag(row, 0)? { &mut blocking } else { &mut blocked }.push(col(row, 1)?);
        }
        Ok((blocked, blocking))
    }

    async fn blocked_by(&self, user: i64, offset: i64, limit: i64) -> Result<Vec<(i64, i64)>> {
        let rows = sqlx::query(
            "SELECT blocked_id, created_at FROM blocks WHERE blocker_id = ? \
             ORDER BY created_at DESC, blocked_id DESC LIMIT ? OFFSET ?",
        )
        .bind(user)
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|e| self.inner.fail(e))?;
        rows.iter().map(|row| Ok((col(row, 0)?, col(row, 1)?))).collect()
    }
}

impl Inner {
    /// Rows under a condition of this file, never outside text.
    async fn friendships(&self, condition: &str, values: &[i64]) -> Result<Vec<Friendship>> {
        let mut query =
            sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM friendship_requests WHERE {condition}")));
        for value in values {
            query = query.bind(*value);
        }
        let rows = query.fetch_all(&self.readers).await.map_err(|e| self.fail(e))?;
        rows.iter().map(friendship).collect()
    }

    async fn direction(&self, tx: &mut Tx, requester: i64, target: i64) -> Result<Option<Friendship>> {
        let sql = format!("SELECT {COLUMNS} FROM friendship_requests WHERE requester_id = ? AND target_id = ?");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(requester)
            .bind(target)
            .fetch_optional(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        row.as_ref().map(friendship).transpose()
    }

    /// What stands against a request whatever was asked before.
    async fn ask_refusal(&self, tx: &mut Tx, requester: i64, target: i64) -> Result<Option<AskRefusal>> {
        let row =
            sqlx::query("SELECT count(*), coalesce(max(is_guest), 0) FROM users WHERE id IN (?,?) AND status = 0")
                .bind(requester)
                .bind(target)
                .fetch_one(&mut **tx)
                .await
                .map_err(|e| self.fail(e))?;
        if col::<i64>(&row, 0)? != 2 {
            return Ok(Some(AskRefusal::NoSuchUser));
        }
        if flag(&row, 1)? {
            return Ok(Some(AskRefusal::Guest));
        }
        Ok(self.blocked_either_way(tx, requester, target).await?.then_some(AskRefusal::Blocked))
    }

    async fn blocked_either_way(&self, tx: &mut Tx, a: i64, b: i64) -> Result<bool> {
        let row = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM blocks WHERE blocker_id = ?1 AND blocked_id = ?2 \
             OR blocker_id = ?2 AND blocked_id = ?1)",
        )
        .bind(a)
        .bind(b)
        .fetch_one(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        flag(&row, 0)
    }

    /// Makes a request, or opens one that was rejected again.
    async fn open_request(&self, tx: &mut Tx, ask: &NewFriendRequest, changed_at: i64) -> Result<Friendship> {
        let sql = format!(
            "INSERT INTO friendship_requests (id, requester_id, target_id, status, message, created_at, updated_at) \
             VALUES (?,?,?,0,?,?,?) ON CONFLICT (requester_id, target_id) DO UPDATE SET status = 0, is_mirror = 0, \
             requester_remarks = '', message = excluded.message, updated_at = excluded.updated_at RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(ask.id)
            .bind(ask.requester)
            .bind(ask.target)
            .bind(&ask.message)
            .bind(ask.now_ms)
            .bind(changed_at)
            .fetch_one(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        let request = friendship(&row)?;
        let (request_id, message) = (request.id.to_string(), ask.message.clone());
        let sent = EventBody::FriendRequestSent { request_id: request_id.clone(), message: message.clone() };
        let received = EventBody::FriendRequestReceived { request_id, message };
        let events = [
            events::of_friend(ask.now_ms, ask.requester, ask.target, sent),
            events::of_friend(ask.now_ms, ask.target, ask.requester, received),
        ];
        self.add_events(tx, &events).await?;
        Ok(request)
    }

    /// A request that is pending and the handler's to answer.
    async fn to_handle(&self, tx: &mut Tx, handle: HandleRequest) -> Result<std::result::Result<Friendship, Handled>> {
        let sql = format!("SELECT {COLUMNS} FROM friendship_requests WHERE id = ? AND is_mirror = 0");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(handle.request)
            .fetch_optional(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        let Some(row) = row else { return Ok(Err(Handled::Missing)) };
        let request = friendship(&row)?;
        if handle.handler != 0 && handle.handler != request.target {
            return Ok(Err(Handled::NotTarget));
        }
        Ok(match request.status {
            FriendStatus::Pending => Ok(request),
            FriendStatus::Accepted => {
                let conversation = single(request.requester, request.target)?;
                Err(Handled::Before(Acceptance { request, conversation }))
            }
            FriendStatus::Rejected => Err(Handled::Before(Acceptance { request, conversation: String::new() })),
        })
    }

    async fn set_status(&self, tx: &mut Tx, id: i64, status: FriendStatus, changed_at: i64) -> Result<Friendship> {
        let sql = format!("UPDATE friendship_requests SET status = ?, updated_at = ? WHERE id = ? RETURNING {COLUMNS}");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(status as i64)
            .bind(changed_at)
            .bind(id)
            .fetch_one(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        friendship(&row)
    }

    /// Makes two users friends: both directions, their single conversation, events.
    async fn accept(
        &self,
        tx: &mut Tx,
        request: Friendship,
        handle: HandleRequest,
        changed_at: i64,
    ) -> Result<Acceptance> {
        let request = self.set_status(tx, request.id, FriendStatus::Accepted, changed_at).await?;
        let (asker, other) = (request.requester, request.target);
        sqlx::query(
            "INSERT INTO friendship_requests (id, requester_id, target_id, status, is_mirror, created_at, updated_at) \
             VALUES (?,?,?,1,1,?,?) ON CONFLICT (requester_id, target_id) DO UPDATE SET status = 1, is_mirror = 1, \
             requester_remarks = '', message = '', updated_at = excluded.updated_at",
        )
        .bind(handle.mirror_id)
        .bind(other)
        .bind(asker)
        .bind(handle.now_ms)
        .bind(changed_at)
        .execute(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        sqlx::query(
            "DELETE FROM sync_tombstones WHERE kind = ?1 AND (user_id = ?2 AND object_id = ?3 \
             OR user_id = ?3 AND object_id = ?2)",
        )
        .bind(FRIEND)
        .bind(asker)
        .bind(other)
        .execute(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        let conversation = single(asker, other)?;
        let new = NewConversation {
            id: conversation.clone(),
            kind: SINGLE,
            name: String::new(),
            avatar_url: String::new(),
            description: String::new(),
            owner_id: 0,
            settings: String::new(),
            members: vec![(asker.min(other), MEMBER), (asker.max(other), MEMBER)],
            operator: 0,
            created_at_ms: handle.now_ms,
        };
        self.create_conversation_in(tx, &new, changed_at).await?;
        self.add_events(tx, &acceptance_events(&request, &conversation, handle.now_ms)).await?;
        Ok(Acceptance { request, conversation })
    }

    /// Ends a friendship in both directions, with what delta sync and clients are told.
    pub(super) async fn end_friendship(
        &self,
        tx: &mut Tx,
        user: i64,
        friend: i64,
        now_ms: i64,
        changed_at: i64,
    ) -> Result<()> {
        sqlx::query(
            "DELETE FROM friendship_requests WHERE requester_id = ?1 AND target_id = ?2 \
             OR requester_id = ?2 AND target_id = ?1",
        )
        .bind(user)
        .bind(friend)
        .execute(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        sqlx::query(
            "INSERT INTO sync_tombstones (user_id, kind, object_id, removed_at) VALUES (?1,?3,?2,?4), (?2,?3,?1,?4) \
             ON CONFLICT (user_id, kind, object_id) DO UPDATE SET removed_at = excluded.removed_at",
        )
        .bind(user)
        .bind(friend)
        .bind(FRIEND)
        .bind(changed_at)
        .execute(&mut **tx)
        .await
        .map_err(|e| self.fail(e))?;
        let lost = |user, friend| events::of_friend(now_ms, user, friend, EventBody::FriendRemoved {});
        self.add_events(tx, &[lost(user, friend), lost(friend, user)]).await
    }

    /// Ends every friendship, request and block of a user.
    pub(super) async fn end_relations(&self, tx: &mut Tx, user: i64, now_ms: i64, changed_at: i64) -> Result<()> {
        let rows = sqlx::query("SELECT target_id FROM friendship_requests WHERE requester_id = ? AND status = 1")
            .bind(user)
            .fetch_all(&mut **tx)
            .await
            .map_err(|e| self.fail(e))?;
        for row in &rows {
            self.end_friendship(tx, user, col(row, 0)?, now_ms, changed_at).await?;
        }
        for sql in [
            "DELETE FROM friendship_requests WHERE requester_id = ?1 OR target_id = ?1",
            "DELETE FROM blocks WHERE blocker_id = ?1 OR blocked_id = ?1",
        ] {
            sqlx::query(sql).bind(user).execute(&mut **tx).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
    }
}

/// What an acceptance tells; its conversation tells for itself when it is new.
fn acceptance_events(request: &Friendship, conversation: &str, now_ms: i64) -> Vec<OutboxEvent> {
    let (asker, other) = (request.requester, request.target);
    let accepted = EventBody::FriendRequestAccepted { request_id: request.id.to_string() };
    let added = || EventBody::FriendAdded { conversation_id: conversation.to_owned() };
    vec![
        events::of_friend(now_ms, asker, other, accepted),
        events::of_friend(now_ms, asker, other, added()),
        events::of_friend(now_ms, other, asker, added()),
    ]
}

fn single(a: i64, b: i64) -> Result<String> {
    let id = ConversationId::single(UserId(a), UserId(b));
    let id = id.ok_or_else(|| StoreError::Broken(format!("a friendship of {a} with {b}")))?;
    Ok(id.to_string())
}

fn friendship(row: &SqliteRow) -> Result<Friendship> {
    let status: i64 = col(row, 3)?;
    Ok(Friendship {
        id: col(row, 0)?,
        requester: col(row, 1)?,
        target: col(row, 2)?,
        status: FriendStatus::from_number(status)
            .ok_or_else(|| StoreError::Broken(format!("a friendship of status {status}")))?,
        remark: col(row, 4)?,
        message: col(row, 5)?,
        is_mirror: flag(row, 6)?,
        created_at_ms: col(row, 7)?,
        updated_at_ms: col(row, 8)?,
    })
}
