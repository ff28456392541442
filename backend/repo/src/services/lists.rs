//! A user's list of conversations: pages by activity, and deltas by change (pipeline.md D4).
//!
//! Owns the cursor of deltas and what makes a list complete. A delta walks its changes oldest first: what changes meanwhile
//! comes again at its end, so that no page misses it.

use super::conversations::Conversations;
use super::convert::listed;
use super::{convert, fail};
use crate::store::conversation::{ListQuery, Select};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as common;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::{GetUserConversationsWithDetailsRequest, GetUserConversationsWithDetailsResponse};
use std::collections::HashSet;
use tonic::Status;

const PAGE_DEFAULT: i64 = 20;
const PAGE_MAX: i64 = 200;
/// A list's server time lies back so far, so that a delta never misses a commit in flight (D4).
const SERVER_TIME_BACK_SECONDS: i64 = 5;
/// What was removed is known so long; whoever was away longer loads everything.
const DELTA_SECONDS_MAX: i64 = 30 * 24 * 3600;
/// Detail of a refusal: load everything.
const FULL_SYNC: &str = "fullSync";

/// Where a page of a delta ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    /// Server time of the first page: what changed while the pages were read comes with the next delta.
    server_time: i64,
    /// Change time and key of the last row.
    after: (i64, i64),
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let mut parts = text.split('.').map(str::parse::<i64>);
        let mut next = || parts.next()?.ok();
        let (server_time, changed_at, key) = (next()?, next()?, next()?);
        parts.next().is_none().then_some(Cursor { server_time, after: (changed_at, key) })
    }

    fn text(self) -> String {
        format!("{}.{}.{}", self.server_time, self.after.0, self.after.1)
    }
}

impl Conversations {
    pub(super) async fn list(
        &self,
        request: GetUserConversationsWithDetailsRequest,
    ) -> Result<GetUserConversationsWithDetailsResponse, Status> {
        // Before the read: what the read misses has this time or a later one.
        let change_time = self.store.change_time().await.map_err(fail::store)?;
        let server_time = convert::seconds(change_time) - SERVER_TIME_BACK_SECONDS;
        match request.last_sync_time > 0 || !request.cursor.is_empty() {
            true => self.delta(request, server_time).await,
            false => self.page(request, server_time).await,
        }
    }

    async fn page(
        &self,
        request: GetUserConversationsWithDetailsRequest,
        server_time: i64,
    ) -> Result<GetUserConversationsWithDetailsResponse, Status> {
        let size = size_of(&request);
        let page = i64::from(request.pagination.as_ref().map_or(1, |asked| asked.page.max(1)));
        let select = Select::Page { offset: (page - 1) * size };
        let (conversations, has_more, total, _) = self.rows(&request, select, size).await?;
        let pagination = common::Pagination { page: page as i32, page_size: size as i32, total, has_more };
        Ok(GetUserConversationsWithDetailsResponse {
            conversations,
            pagination: Some(pagination),
            removed_ids: Vec::new(),
            server_time,
            complete: !has_more && request.type_filter == 0,
            next_cursor: String::new(),
        })
    }

    async fn delta(
        &self,
        request: GetUserConversationsWithDetailsRequest,
        server_time: i64,
    ) -> Result<GetUserConversationsWithDetailsResponse, Status> {
        if request.last_sync_time < server_time - DELTA_SECONDS_MAX {
            let failure = Failure::new(ErrorCode::InvalidParams, "last_sync lies too far back: load everything");
            return Err(failure.with(FULL_SYNC, "true").into());
        }
        let since_ms = request.last_sync_time.saturating_mul(1000);
        let cursor = match request.cursor.as_str() {
            "" => Cursor { server_time, after: (since_ms, 0) },
            text => Cursor::parse(text).ok_or_else(|| fail::invalid("cursor is not one of ours"))?,
        };
        let size = size_of(&request);
        let user = convert::id(&request.user_id, "user_id")?;
        let select = Select::Changed { since_ms, after: cursor.after };
        // Before the rows: who gets a conversation back meanwhile has it among these.
        let mut removed_ids = self.store.removed_conversations(user, since_ms).await.map_err(fail::store)?;
        let (conversations, has_more, total, last) = self.rows(&request, select, size).await?;
        let next_cursor = match last.filter(|_| has_more) {
            Some(after) => Cursor { after, ..cursor }.text(),
            None => String::new(),
        };
        // With the last page: an earlier page may show what was removed since.
        if has_more {
            removed_ids.clear();
        }
        let shown: HashSet<&str> = conversations.iter().map(|c| c.id.as_str()).collect();
        removed_ids.retain(|id| !shown.contains(id.as_str()));
        let pagination = common::Pagination { page: 1, page_size: size as i32, total, has_more };
        Ok(GetUserConversationsWithDetailsResponse {
            conversations,
            pagination: Some(pagination),
            removed_ids,
            server_time: cursor.server_time,
            complete: !has_more && request.type_filter == 0,
            next_cursor,
        })
    }

    /// Rows, whether there are more, how many in all, and where the last one stands.
    async fn rows(
        &self,
        request: &GetUserConversationsWithDetailsRequest,
        select: Select,
        size: i64,
    ) -> Result<(Vec<common::Conversation>, bool, i64, Option<(i64, i64)>), Status> {
        let user = convert::id(&request.user_id, "user_id")?;
        let query = ListQuery { user, kind: request.type_filter, select, limit: size + 1 };
        let mut rows = self.store.conversation_list(query).await.map_err(fail::store)?;
        let has_more = rows.len() as i64 > size;
        rows.truncate(size as usize);
        let total = rows.first().map_or(0, |row| row.total);
        let last = rows.last().map(|row| (row.changed_at_ms, row.conversation.head.key));
        let mut conversations: Vec<_> = rows.into_iter().map(|row| listed(row, &request.user_id)).collect();
        self.raise_assigned(&mut conversations).await?;
        Ok((conversations, has_more, total, last))
    }
}

fn size_of(request: &GetUserConversationsWithDetailsRequest) -> i64 {
    match request.pagination.as_ref().map_or(0, |asked| asked.page_size) {
        ..=0 => PAGE_DEFAULT,
        asked => i64::from(asked).min(PAGE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        let cursor = Cursor { server_time: 5, after: (1_800_000_000_123, 7) };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1..3", "99999999999999999999.1.1"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
