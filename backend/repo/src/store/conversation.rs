//! Conversations, their members and read pointers at the store's seam.

use super::error::Result;
use super::message::Message;
use super::user::User;
use async_trait::async_trait;

pub use super::head::Head;
pub use super::user::Profile;

/// Conversations, members, read pointers.
#[async_trait]
pub trait ConversationStore: Send + Sync + 'static {
    /// Creates a conversation with all its members in one transaction. One with this id exists: it is returned unchanged
    /// and the flag is true. A member who is no user: `Missing(User)`.
    async fn create_conversation(&self, new: NewConversation) -> Result<(Conversation, bool)>;

    /// Conversations by id, in any order; absent ones are left out.
    async fn conversations(&self, ids: &[String]) -> Result<Vec<Conversation>>;

    /// Key, kind and members of conversations, in any order; absent ones are left out.
    async fn rosters(&self, ids: &[String]) -> Result<Vec<Roster>>;

    /// Members among `users`, with their accounts; everyone else is left out.
    async fn members(&self, conversation: &str, users: &[i64]) -> Result<Vec<Member>>;

    /// One page of a user's conversations with everything a list shows, newest activity first, in **one** statement
    /// (spec 05 §4.1).
    async fn conversation_list(&self, query: ListQuery) -> Result<Vec<ListedConversation>>;

    /// Unix milliseconds by the clock of change times: every change that a list does not show yet will have this time or a
    /// later one, so a delta that starts here misses nothing (D4). Never steps back.
    async fn change_time(&self) -> Result<i64>;

    /// Raises a read pointer; a lower value changes nothing. `None`: no such conversation or not a member.
    async fn raise_read_pointer(&self, raise: RaisePointer) -> Result<Option<RaisedPointer>>;

    /// Where a member has read up to; `None` for who is no member.
    async fn read_pointer(&self, user: i64, conversation: &str) -> Result<Option<ReadPointer>>;

    /// Unread counts of a user's conversations, up to [`UNREAD_SHOWN_MAX`] each, in one statement; no ids mean all.
    async fn unread_counts(&self, user: i64, conversations: &[String]) -> Result<Vec<(String, i64)>>;
}

/// Unread counts stop here: clients show 99+ (pipeline.md C2).
pub const UNREAD_SHOWN_MAX: i64 = 100;

/// A conversation to be made.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// Text id, at most 64 bytes.
    pub id: String,
    /// 1 single, 2 group, 3 world.
    pub kind: i32,
    /// May be empty.
    pub name: String,
    /// May be empty.
    pub avatar_url: String,
    /// May be empty.
    pub description: String,
    /// 0: none.
    pub owner_id: i64,
    /// JSON or empty.
    pub settings: String,
    /// User and role, each user once.
    pub members: Vec<(i64, i32)>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Key and head.
    pub head: Head,
    /// Text id.
    pub id: String,
    /// 1 single, 2 group, 3 world.
    pub kind: i32,
    /// Name, picture and the like.
    pub info: Info,
    /// 0: none.
    pub owner_id: i64,
    /// Number of members.
    pub member_count: i32,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Change time, Unix milliseconds: of its making or the last message stored in it.
    pub updated_at_ms: i64,
}

/// How a conversation presents itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// May be empty.
    pub name: String,
    /// May be empty.
    pub avatar_url: String,
    /// May be empty.
    pub description: String,
    /// JSON or empty.
    pub settings: String,
    /// Moves with every change of these.
    pub version: i64,
}

/// Who is in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Text id.
    pub id: String,
    /// Integer key.
    pub key: i64,
    /// 1 single, 2 group, 3 world.
    pub kind: i32,
    /// Moves with every change of the members.
    pub membership_version: i64,
    /// Ascending.
    pub members: Vec<i64>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub user: User,
    /// 1 member, 2 admin, 3 owner.
    pub role: i32,
    /// May not send.
    pub muted: bool,
    /// Unix seconds, 0: no end.
    pub muted_until: i64,
    /// Unix milliseconds.
    pub joined_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
}

/// A page of a user's list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Whose list.
    pub user: i64,
    /// 0: all kinds.
    pub kind: i32,
    /// Only what changed at or after, Unix milliseconds; 0: all.
    pub since_ms: i64,
    /// Rows to skip.
    pub offset: i64,
    /// Rows at most.
    pub limit: i64,
}

/// A row of a user's list.
#[derive(Clone, Debug)]
pub struct ListedConversation {
    /// The conversation.
    pub conversation: Conversation,
    /// The asking user's own membership; `user` holds only the id.
    pub role: i32,
    /// The user's own: may not send.
    pub muted: bool,
    /// Unix milliseconds.
    pub joined_at_ms: i64,
    /// Newest message and its sender, if there is one.
    pub last_message: Option<(Message, Option<Profile>)>,
    /// The other member of a single chat.
    pub peer: Option<Profile>,
    /// Up to [`UNREAD_SHOWN_MAX`].
    pub unread: i64,
    /// The user's read pointer.
    pub last_read_seq: i64,
    /// Rows of the whole list.
    pub total: i64,
}

/// A read pointer to be raised.
#[derive(Clone, Debug)]
pub struct RaisePointer {
    /// Whose.
    pub user: i64,
    /// Where.
    pub conversation: String,
    /// Up to here; negative: the highest handed out, as far as that is known.
    pub seq: i64,
    /// Highest number handed out, if known: nobody has read beyond. Unknown: the highest stored takes its place.
    pub assigned: Option<i64>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// A read pointer after it was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedPointer {
    /// Before.
    pub previous: i64,
    /// Now.
    pub current: i64,
    /// Still unread, up to [`UNREAD_SHOWN_MAX`].
    pub unread: i64,
}

/// A read pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPointer {
    /// Up to here.
    pub last_read_seq: i64,
    /// Unix milliseconds; 0: never raised.
    pub updated_at_ms: i64,
}
