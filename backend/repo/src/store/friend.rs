//! Friendships, requests for them, and blocks at the store's seam (spec 05 §2.6).
//!
//! A friendship is two rows, one a direction; each holds what its requester calls the other. A block is a relation of its own,
//! between any two users. Every change stands in one transaction with its events.

use super::error::Result;
use async_trait::async_trait;

/// Friendships, requests, blocks.
#[async_trait]
pub trait FriendStore: Send + Sync + 'static {
    /// Asks for a friendship. The other one has asked before: both are friends at once. Judged and written in one transaction,
    /// so two who ask each other at the same moment become friends.
    async fn ask_friend(&self, ask: NewFriendRequest) -> Result<Asked>;

    /// Accepts a pending request in one transaction: its status, the mirror row, the single conversation with both members.
    async fn accept_friend(&self, handle: HandleRequest) -> Result<Handled>;

    /// Rejects a pending request.
    async fn reject_friend(&self, handle: HandleRequest) -> Result<Handled>;

    /// A request or friendship by its id.
    async fn friend_request(&self, id: i64) -> Result<Option<Friendship>>;

    /// The two directions between two users: of the first towards the second, and back.
    async fn friendships_between(&self, a: i64, b: i64) -> Result<(Option<Friendship>, Option<Friendship>)>;

    /// A user's friends, by the id of the friend.
    async fn friends(&self, user: i64, offset: i64, limit: i64) -> Result<Vec<Friendship>>;

    /// A user's friends that changed at or after a change time, Unix milliseconds, and the ids of those lost since.
    async fn friend_changes(&self, user: i64, since_ms: i64) -> Result<(Vec<Friendship>, Vec<i64>)>;

    /// Requests that a user got or sent, newest first. Never a mirror.
    async fn friend_requests(&self, query: RequestQuery) -> Result<Vec<Friendship>>;

    /// Ids of all friends, ascending.
    async fn friend_ids(&self, user: i64) -> Result<Vec<i64>>;

    /// What a user calls a friend; `None`: they are no friends.
    async fn set_remark(&self, user: i64, friend: i64, remark: &str) -> Result<Option<Friendship>>;

    /// Ends a friendship in both directions; false: there was none.
    async fn remove_friend(&self, user: i64, friend: i64, now_ms: i64) -> Result<bool>;

    /// Blocks a user for another, or ends that; tells whether it was otherwise before. `Missing(User)`: no such target.
    async fn set_block(&self, user: i64, target: i64, blocked: bool, now_ms: i64) -> Result<bool>;

    /// Among others: whom the user blocks, and who blocks the user.
    async fn blocks(&self, user: i64, others: &[i64]) -> Result<(Vec<i64>, Vec<i64>)>;

    /// Whom a user blocks, with Unix milliseconds, newest first.
    async fn blocked_by(&self, user: i64, offset: i64, limit: i64) -> Result<Vec<(i64, i64)>>;
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FriendStatus {
    /// Not answered.
    Pending = 0,
    /// Friends.
    Accepted = 1,
    /// Refused; may be asked again after [`NewFriendRequest::reopen_after_ms`].
    Rejected = 2,
}

impl FriendStatus {
    /// From its stored number.
    pub fn from_number(number: i64) -> Option<FriendStatus> {
        match number {
            0 => Some(FriendStatus::Pending),
            1 => Some(FriendStatus::Accepted),
            2 => Some(FriendStatus::Rejected),
            _ => None,
        }
    }
}

/// One direction between two users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Friendship {
    /// Snowflake.
    pub id: i64,
    /// Who asked, or whose friend list a mirror is of.
    pub requester: i64,
    /// The other one.
    pub target: i64,
    /// Where it stands.
    pub status: FriendStatus,
    /// The requester's name for the target; may be empty.
    pub remark: String,
    /// The request's text; may be empty.
    pub message: String,
    /// Made by an acceptance.
    pub is_mirror: bool,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Change time, Unix milliseconds.
    pub updated_at_ms: i64,
}

/// A request to be made.
#[derive(Clone, Debug)]
pub struct NewFriendRequest {
    /// Snowflake, of the request or, when both are friends at once, of the mirror.
    pub id: i64,
    /// Who asks.
    pub requester: i64,
    /// Who is asked.
    pub target: i64,
    /// May be empty.
    pub message: String,
    /// A rejected request may be asked again so long after it was rejected.
    pub reopen_after_ms: i64,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Answer to a [`NewFriendRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It stands.
    Pending(Friendship),
    /// The other one had asked: that request is accepted.
    Accepted(Acceptance),
    /// Nothing was changed.
    Refused(AskRefusal),
}

/// Why a request was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskRefusal {
    /// One of the two has no account that may act.
    NoSuchUser,
    /// One of the two is a guest.
    Guest,
    /// One of the two blocks the other.
    Blocked,
    /// They are friends.
    Friends,
    /// Asked before, and not answered.
    Pending,
    /// Rejected not long ago; may be asked again at this Unix millisecond.
    CoolingDown(i64),
}

/// A request to be accepted or rejected.
#[derive(Clone, Copy, Debug)]
pub struct HandleRequest {
    /// The request.
    pub request: i64,
    /// Who handles it; only its target may. 0: whoever.
    pub handler: i64,
    /// Snowflake for the mirror row.
    pub mirror_id: i64,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Answer to a [`HandleRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Done.
    Done(Acceptance),
    /// Somebody was faster; how it stands.
    Before(Acceptance),
    /// No such request.
    Missing,
    /// The handler is not its target.
    NotTarget,
    /// One of the two blocks the other.
    Blocked,
}

/// A request after it was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The request.
    pub request: Friendship,
    /// The single conversation of the two; empty when it was rejected.
    pub conversation: String,
}

/// A page of requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestQuery {
    /// Whose.
    pub user: i64,
    /// True: those the user got; false: those the user sent.
    pub received: bool,
    /// `None`: any.
    pub status: Option<FriendStatus>,
    /// Rows to skip.
    pub offset: i64,
    /// Rows at most.
    pub limit: i64,
}
