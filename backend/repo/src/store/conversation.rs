//! Conversations, their members and read pointers at the store's seam.

use super::error::Result;
use super::message::Message;
use super::user::User;
use async_trait::async_trait;

pub use super::head::Head;
pub use super::roster::{Roster, Standing};
pub use super::user::Profile;

/// Conversations, members, read pointers.
#[async_trait]
pub trait ConversationStore: Send + Sync + 'static {
    /// Creates a conversation with all its members, and its event, in one transaction. One with this id exists: it is returned
    /// and the flag is true; a single chat that its operator hid is shown again, nothing else changes. A member who is no
    /// user: `Missing(User)`.
    async fn create_conversation(&self, new: NewConversation) -> Result<(Conversation, bool)>;

    /// Conversations by id, in any order; absent ones are left out.
    async fn conversations(&self, ids: &[String]) -> Result<Vec<Conversation>>;

    /// Key, kind and members of conversations, in any order; absent ones are left out.
    async fn rosters(&self, ids: &[String]) -> Result<Vec<Roster>>;

    /// Members among `users`, with their accounts; everyone else is left out.
    async fn members(&self, conversation: &str, users: &[i64]) -> Result<Vec<Member>>;

    /// A page of the members of a conversation.
    async fn member_page(&self, query: MemberQuery) -> Result<Vec<Member>>;

    /// Ids of members above one, ascending: a page of a walk through all of them.
    async fn member_ids(&self, conversation: &str, after: i64, limit: i64) -> Result<Vec<i64>>;

    /// Number of members with a role; 0: all.
    async fn member_total(&self, conversation: &str, role: i32) -> Result<i64>;

    /// What a conversation is to a user.
    async fn access(&self, user: i64, conversation: &str) -> Result<Access>;

    /// Some of a user's conversations with everything a list shows, in **one** statement (spec 05 §4.1).
    async fn conversation_list(&self, query: ListQuery) -> Result<Vec<ListedConversation>>;

    /// Conversations that a user had at or after a change time and has no more, or has hidden: left, removed from, dissolved.
    async fn removed_conversations(&self, user: i64, since_ms: i64) -> Result<Vec<String>>;

    /// Unix milliseconds by the clock of change times: every change that a list does not show yet will have this time or a
    /// later one, so a delta that starts here misses nothing (D4). Never steps back.
    async fn change_time(&self) -> Result<i64>;

    /// Raises a read pointer; a lower value changes nothing. `None`: no such conversation or not a member.
    async fn raise_read_pointer(&self, raise: RaisePointer) -> Result<Option<RaisedPointer>>;

    /// Where a member has read up to; `None` for who is no member.
    async fn read_pointer(&self, user: i64, conversation: &str) -> Result<Option<ReadPointer>>;

    /// Ids of a user's conversations of one kind, last active first.
    async fn conversation_ids(&self, user: i64, kind: i32, limit: i64) -> Result<Vec<String>>;

    /// Unread counts of a user's conversations, up to [`UNREAD_SHOWN_MAX`] each, in one statement; no ids mean all.
    async fn unread_counts(&self, user: i64, conversations: &[String]) -> Result<Vec<(String, i64)>>;
}

/// Unread counts stop here: clients show 99+ (pipeline.md C2).
pub const UNREAD_SHOWN_MAX: i64 = 100;

/// A conversation to be made.
#[derive(Clone, Debug, Default)]
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
    /// Who makes it; 0: nobody.
    pub operator: i64,
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
    /// Last activity, Unix milliseconds: its making, or the last message stored in it; recalls do not count.
    pub active_at_ms: i64,
    /// Change time, Unix milliseconds: of anything about it that all its members see.
    pub updated_at_ms: i64,
    /// It has ended.
    pub dissolved: bool,
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

impl Member {
    /// What they may do.
    pub fn standing(&self) -> Standing {
        Standing { role: self.role, muted: self.muted, muted_until: self.muted_until }
    }
}

/// Which members.
#[derive(Clone, Debug)]
pub struct MemberQuery {
    /// Text id.
    pub conversation: String,
    /// 0: all roles.
    pub role: i32,
    /// Owner and admins first, then by joining; else by user id, which is cheap in the world room.
    pub by_role: bool,
    /// Rows to skip.
    pub offset: i64,
    /// Rows at most.
    pub limit: i64,
}

/// What a conversation is to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// There is no such conversation.
    Absent,
    /// Not a member.
    Stranger,
    /// A member when the conversation was dissolved.
    Former,
    /// A member.
    Member {
        /// Where history is closed to newcomers: what they may see has a higher number. Else 0.
        history_after: i64,
    },
}

/// Which of a user's conversations.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Whose list.
    pub user: i64,
    /// 0: all kinds.
    pub kind: i32,
    /// Which, and in what order.
    pub select: Select,
    /// Rows at most.
    pub limit: i64,
}

/// Choice and order of a list. Hidden chats are left out but for [`Select::One`], dissolved conversations always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// Newest activity first.
    Page {
        /// Rows to skip.
        offset: i64,
    },
    /// What changed, oldest change first.
    Changed {
        /// Change time, Unix milliseconds, inclusive.
        since_ms: i64,
        /// Change time and key of the last row of the page before.
        after: (i64, i64),
    },
    /// Whose name, or whose peer's, contains a text in lower case; newest activity first.
    Named(String),
    /// The one with this id.
    One(String),
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
    /// Unix seconds, 0: no end.
    pub muted_until: i64,
    /// Unix milliseconds.
    pub joined_at_ms: i64,
    /// Change time of anything the user sees of it, Unix milliseconds.
    pub changed_at_ms: i64,
    /// Newest message of a person that the user may see, with its sender.
    pub last_message: Option<(Message, Option<Profile>)>,
    /// The other member of a single chat.
    pub peer: Option<Profile>,
    /// Up to [`UNREAD_SHOWN_MAX`].
    pub unread: i64,
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
    /// Change time, Unix milliseconds; 0: never raised.
    pub updated_at_ms: i64,
}
