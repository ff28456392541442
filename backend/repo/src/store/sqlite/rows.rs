//! From columns to the seam's types. Every reader takes the position of its first column.

use super::super::conversation::{Conversation, Head, Info, Member, Profile};
use super::super::error::{Result, StoreError};
use super::super::message::Message;
use super::super::pipeline::{LogState, StoredRow};
use super::super::user::{Status, User};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite};

/// A column by position. The statements name their columns, so an error here is a bug.
pub(super) fn col<'r, T>(row: &'r SqliteRow, index: usize) -> Result<T>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(index).map_err(|e| StoreError::Broken(e.to_string()))
}

pub(super) fn flag(row: &SqliteRow, index: usize) -> Result<bool> {
    Ok(col::<i64>(row, index)? != 0)
}

/// Stored numbers of small enums.
pub(super) fn small(row: &SqliteRow, index: usize) -> Result<i32> {
    i32::try_from(col::<i64>(row, index)?).map_err(|e| StoreError::Broken(e.to_string()))
}

/// An account: id, name, avatar, guest flag, status, token version, creation, change.
pub(super) fn user_at(row: &SqliteRow, first: usize) -> Result<User> {
    Ok(User {
        id: col(row, first)?,
        username: col(row, first + 1)?,
        avatar_url: col(row, first + 2)?,
        is_guest: flag(row, first + 3)?,
        status: Status::from_number(col(row, first + 4)?),
        token_version: col(row, first + 5)?,
        created_at_ms: col(row, first + 6)?,
        updated_at_ms: col(row, first + 7)?,
    })
}

/// Columns of a conversation `c`, as [`conversation_at`] reads them.
macro_rules! conversation_columns {
    () => {
        "c.key, c.last_seq, c.stored_through_seq, c.parked, c.id, c.type, c.name, c.avatar_url, c.description, \
         c.settings, c.info_version, c.owner_id, c.member_count, c.created_at, c.active_at, c.updated_at, c.dissolved_at"
    };
}
pub(super) use conversation_columns;

/// Columns of a member `m` and their account `u`, as [`member_at`] reads them.
macro_rules! member_columns {
    () => {
        "m.role, m.muted, m.muted_until, m.joined_at, m.updated_at, \
         u.id, u.username, u.avatar_url, u.is_guest, u.status, u.token_version, u.created_at, u.updated_at"
    };
}
pub(super) use member_columns;

/// A member with their account.
pub(super) fn member_at(row: &SqliteRow) -> Result<Member> {
    Ok(Member {
        user: user_at(row, 5)?,
        role: small(row, 0)?,
        muted: flag(row, 1)?,
        muted_until: col(row, 2)?,
        joined_at_ms: col(row, 3)?,
        updated_at_ms: col(row, 4)?,
    })
}

/// A conversation: key, head, id, type, info, owner, members, times, end; [`CONVERSATION_WIDTH`] columns.
pub(super) fn conversation_at(row: &SqliteRow, first: usize) -> Result<Conversation> {
    Ok(Conversation {
        head: Head {
            key: col(row, first)?,
            last_seq: col(row, first + 1)?,
            stored_through_seq: col(row, first + 2)?,
            parked: flag(row, first + 3)?,
        },
        id: col(row, first + 4)?,
        kind: small(row, first + 5)?,
        info: Info {
            name: col(row, first + 6)?,
            avatar_url: col(row, first + 7)?,
            description: col(row, first + 8)?,
            settings: col(row, first + 9)?,
            version: col(row, first + 10)?,
        },
        owner_id: col(row, first + 11)?,
        member_count: small(row, first + 12)?,
        created_at_ms: col(row, first + 13)?,
        active_at_ms: col(row, first + 14)?,
        updated_at_ms: col(row, first + 15)?,
        dissolved: flag(row, first + 16)?,
    })
}

/// Columns of a conversation.
pub(super) const CONVERSATION_WIDTH: usize = 17;

/// Reads id, name, avatar, guest flag from a position on; `None` when the account is not there.
pub(super) fn profile_at(row: &SqliteRow, first: usize) -> Result<Option<Profile>> {
    let Some(id) = col::<Option<i64>>(row, first)? else { return Ok(None) };
    let (username, avatar_url) = (col(row, first + 1)?, col(row, first + 2)?);
    Ok(Some(Profile { id, username, avatar_url, is_guest: flag(row, first + 3)? }))
}

/// Columns of a message.
pub(super) const MESSAGE_WIDTH: usize = 10;
/// A message; [`MESSAGE_WIDTH`] columns.
pub(super) fn message_at(row: &SqliteRow, first: usize) -> Result<Message> {
    let client_msg_id: Vec<u8> = col(row, first + 7)?;
    Ok(Message {
        id: col(row, first)?,
        conversation: col(row, first + 1)?,
        seq: col(row, first + 2)?,
        sender_id: col(row, first + 3)?,
        kind: small(row, first + 4)?,
        content: col(row, first + 5)?,
        extra: col(row, first + 6)?,
        client_msg_id: String::from_utf8_lossy(&client_msg_id).into_owned(),
        created_at_ms: col(row, first + 8)?,
        deleted: flag(row, first + 9)?,
    })
}

/// Reads id, conversation key, number, sender, client_msg_id, content hash, creation from a position on.
pub(super) fn stored_row_at(row: &SqliteRow, first: usize) -> Result<StoredRow> {
    let hash: Vec<u8> = col(row, first + 5)?;
    let hash = <[u8; 16]>::try_from(hash.as_slice())
        .map_err(|_| StoreError::Broken(format!("a content hash of {} bytes", hash.len())))?;
    Ok(StoredRow {
        id: col(row, first)?,
        conversation: col(row, first + 1)?,
        seq: col(row, first + 2)?,
        sender_id: col(row, first + 3)?,
        client_msg_id: col(row, first + 4)?,
        content_hash: u128::from_be_bytes(hash),
        created_at_ms: col(row, first + 6)?,
    })
}

/// Log position and highest epoch of one partition's row, or the state of a partition never seen.
pub(super) fn log_state_of(row: Option<&SqliteRow>) -> Result<LogState> {
    match row {
        Some(row) => Ok(LogState { next_offset: col(row, 0)?, epoch_seen: col(row, 1)? }),
        None => Ok(LogState::default()),
    }
}
