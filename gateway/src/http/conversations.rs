//! Conversation endpoints: list (C1), create (C2), detail (C3), unread counts (C9).

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::ConversationType;
use gochat_proto::ids::ConversationId;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::{Caller, Registered};
use super::envelope::{ApiError, Success};
use super::extract::{Asked, Body, Fields, FromFields, FromQuery, QueryFields};
use super::objects::{Conversation, Member};
use super::paths::ConversationPath;

const SIZE: i32 = 20;
const SIZE_MAX: i32 = 100;
const DELTA_LIMIT: i32 = 50;
const DELTA_LIMIT_MAX: i32 = 200;
/// An older delta would miss what was purged meanwhile.
const DELTA_AGE_MAX_S: i64 = 30 * 24 * 3600;
/// For persistence to pass what the request could know of (pipeline.md D2).
const WAIT_MS: i32 = 1000;
pub(crate) const NAME_CHARS_MAX: usize = 100;
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 500;
pub(crate) const URL_CHARS_MAX: usize = 255;

/// A page by its number.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct Paging {
    /// From 1, the default.
    #[param(minimum = 1)]
    page: Option<i32>,
    /// Entries of a page, 20 when absent; out of range it is clamped.
    #[param(minimum = 1, maximum = 100)]
    size: Option<i32>,
    /// Another name of `size`.
    #[param(minimum = 1, maximum = 100)]
    page_size: Option<i32>,
}

impl FromQuery for Paging {
    fn read(query: &QueryFields) -> Result<Paging, ApiError> {
        Ok(Paging {
            page: query.clamped("page", i32::MAX)?,
            size: query.clamped("size", SIZE_MAX)?,
            page_size: query.clamped("pageSize", SIZE_MAX)?,
        })
    }
}

impl Paging {
    pub(crate) fn page(&self) -> i32 {
        self.page.unwrap_or(1)
    }

    pub(crate) fn size(&self) -> i32 {
        self.size.or(self.page_size).unwrap_or(SIZE)
    }
}

/// Which conversations.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only single chats (1), groups (2) or the world room (3).
    #[param(rename = "type", minimum = 1, maximum = 3)]
    kind: Option<i32>,
    /// A delta instead of a page: what changed since this `serverTime`, oldest change first. At most 30 days back.
    #[param(minimum = 0)]
    last_sync: Option<i64>,
    /// Of a delta: entries at most, 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i32>,
    /// Of a delta: `nextCursor` of the page before, with the same `last_sync`.
    cursor: Option<String>,
}

impl FromQuery for ListQuery {
    fn read(query: &QueryFields) -> Result<ListQuery, ApiError> {
        Ok(ListQuery {
            kind: query.one_of("type", 1..=3)?,
            last_sync: query.integer("last_sync")?,
            limit: query.clamped("limit", DELTA_LIMIT_MAX)?,
            cursor: query.text("cursor").map(str::to_owned),
        })
    }
}

/// A page of the list, or what changed since the last one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConversationList)]
pub(crate) struct List {
    conversations: Vec<Conversation>,
    has_more: bool,
    /// Of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
    /// Of a delta: conversations the caller is no longer in.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_ids: Option<Vec<String>>,
    /// Of a delta with `hasMore`.
    #[serde(skip_serializing_if = "String::is_empty")]
    next_cursor: String,
    /// For the next `last_sync`, once `complete`; lies 5 s back.
    server_time: i64,
    /// Whether this, with the pages before it, is everything as of now.
    complete: bool,
}

/// List the conversations
///
/// Newest activity first, the world room included for those who joined it; or, with `last_sync`, what changed.
#[utoipa::path(
    get, path = "/conversations", tag = "Conversations", operation_id = "listConversations",
    params(Paging, ListQuery), responses((status = 200, body = List)),
    extensions(("x-id" = json!("C1")), ("x-guest" = json!("yes")))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(paging): Asked<Paging>,
    Asked(asked): Asked<ListQuery>,
) -> Result<Success<List>, ApiError> {
    let last_sync = asked.last_sync.unwrap_or(0);
    let is_delta = last_sync > 0;
    if is_delta && last_sync < api.now_s() - DELTA_AGE_MAX_S {
        return Err(ApiError::invalid("last_sync", "lies more than 30 days back").with("fullSync", true));
    }
    let cursor = asked.cursor.unwrap_or_default();
    if !is_delta && !cursor.is_empty() {
        return Err(ApiError::invalid("cursor", "belongs to a delta, with last_sync"));
    }
    let request = logic::GetConversationsOptimizedRequest {
        user_id: caller.user_id,
        page: paging.page(),
        page_size: paging.size(),
        type_filter: asked.kind.unwrap_or(0),
        order_by: String::new(),
        include_last_message: true,
        include_unread_count: true,
        last_sync_time: last_sync,
        limit: asked.limit.unwrap_or(DELTA_LIMIT),
        wait_ms: WAIT_MS,
        cursor,
    };
    let answer = api.conversations.clone().get_conversations_optimized(ask(request)).await?.into_inner();
    Ok(Success::ok(List {
        conversations: answer.conversations.into_iter().map(Conversation::from).collect(),
        has_more: answer.has_more,
        total: (!is_delta).then_some(answer.total),
        removed_ids: is_delta.then_some(answer.removed_ids),
        next_cursor: answer.next_cursor,
        server_time: answer.server_time,
        complete: answer.complete,
    }))
}

/// A conversation to open.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(as = CreateConversation)]
pub(crate) struct Create {
    /// 1 single chat, 2 group.
    #[schema(minimum = 1, maximum = 2)]
    r#type: i64,
    /// Required for a group.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// User ids, the caller's own is ignored: exactly one other of a single chat, any number of a group.
    members: Option<Vec<String>>,
    /// Of a group.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Of a group; http or https.
    #[schema(max_length = 255, pattern = "^https?://")]
    avatar_url: Option<String>,
}

impl FromFields for Create {
    fn read(fields: &mut Fields) -> Result<Create, ApiError> {
        let kind = fields.integer("type")?.ok_or_else(|| ApiError::invalid("type", "is required"))?;
        if !(1..=2).contains(&kind) {
            return Err(ApiError::invalid("type", "must be 1, a single chat, or 2, a group"));
        }
        Ok(Create {
            r#type: kind,
            name: fields.text("name")?,
            members: Some(fields.ids("members")?),
            description: Some(fields.text_up_to("description", DESCRIPTION_CHARS_MAX)?),
            avatar_url: Some(fields.text_up_to("avatarUrl", URL_CHARS_MAX)?),
        })
    }
}

impl Create {
    fn into_request(self, creator_id: String) -> Result<logic::CreateConversationRequest, ApiError> {
        let mut member_ids = self.members.unwrap_or_default();
        member_ids.retain(|id| *id != creator_id);
        member_ids.sort_unstable();
        member_ids.dedup();
        if self.r#type == i64::from(ConversationType::Single as i32) {
            if member_ids.len() != 1 {
                return Err(ApiError::invalid("members", "must name exactly one other user"));
            }
            let r#type = ConversationType::Single as i32;
            return Ok(logic::CreateConversationRequest { creator_id, r#type, member_ids, ..Default::default() });
        }
        Ok(logic::CreateConversationRequest {
            creator_id,
            r#type: ConversationType::Group as i32,
            name: name(self.name.unwrap_or_default())?,
            avatar_url: self.avatar_url.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            member_ids,
        })
    }
}

/// The name of a group: 1 to 100 characters. Logic has the last word.
pub(crate) fn name(name: String) -> Result<String, ApiError> {
    match name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX {
        true => Err(ApiError::field(ErrorCode::InvalidConversationName, "name", "must have 1 to 100 characters")),
        false => Ok(name),
    }
}

/// Open a single chat or make a group
///
/// A single chat that exists is answered with 200. The caller owns a new group. When users cannot be in it, nothing is
/// made and `details.failedUsers` lists them.
#[utoipa::path(
    post, path = "/conversations", tag = "Conversations", operation_id = "createConversation",
    request_body = Create,
    responses((status = 201, body = Conversation), (status = 200, body = Conversation)),
    extensions(("x-id" = json!("C2")), ("x-guest" = json!("no")), ("x-idempotent" = json!(true)),
        ("x-errors" = json!(["INVALID_CONVERSATION_NAME", "CONVERSATION_FULL", "USER_NOT_FOUND", "BLOCKED"])))
)]
pub(crate) async fn create(
    State(api): State<Api>,
    Registered(caller): Registered,
    Body(asked): Body<Create>,
) -> Result<Success<Conversation>, ApiError> {
    let request = asked.into_request(caller.user_id)?;
    let answer = api.conversations.clone().create_conversation(ask(request)).await?.into_inner();
    let conversation = answer.conversation.ok_or(ErrorCode::InternalError)?.into();
    Ok(if answer.already_existed { Success::ok(conversation) } else { Success::created(conversation) })
}

/// A conversation with its members, where they are listed.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationDetail)]
pub(crate) struct Detail {
    #[serde(flatten)]
    conversation: Conversation,
    /// Of groups: the first 200.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member>,
}

/// See a conversation
#[utoipa::path(
    get, path = "/conversations/{id}", tag = "Conversations", operation_id = "conversation",
    responses((status = 200, body = Detail)),
    extensions(("x-id" = json!("C3")), ("x-guest" = json!("yes")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn detail(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
) -> Result<Success<Detail>, ApiError> {
    let request = logic::GetConversationRequest { user_id: caller.user_id, conversation_id, include_members: true };
    let answer = api.conversations.clone().get_conversation(ask(request)).await?.into_inner();
    let conversation = answer.conversation.ok_or(ErrorCode::InternalError)?.into();
    Ok(Success::ok(Detail { conversation, members: answer.members.into_iter().map(Member::from).collect() }))
}

/// Whose unread messages.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct UnreadQuery {
    /// Only of this conversation.
    conversation_id: Option<String>,
}

impl FromQuery for UnreadQuery {
    fn read(query: &QueryFields) -> Result<UnreadQuery, ApiError> {
        match query.text("conversationId").filter(|id| !id.is_empty()) {
            Some(id) if id.parse::<ConversationId>().is_err() => Err(ErrorCode::ConversationNotFound.into()),
            id => Ok(UnreadQuery { conversation_id: id.map(str::to_owned) }),
        }
    }
}

/// How many messages of others are unread in one conversation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnreadCount {
    conversation_id: String,
    unread_count: i64,
}

/// How many messages of others are unread.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnreadCounts {
    /// All together.
    unread_count: i64,
    /// By conversation, above 0 only; each counts to 100.
    counts: Vec<UnreadCount>,
}

/// Count what is unread
#[utoipa::path(
    get, path = "/conversations/unread", tag = "Conversations", operation_id = "unread", params(UnreadQuery),
    responses((status = 200, body = UnreadCounts)),
    extensions(("x-id" = json!("C9")), ("x-guest" = json!("yes")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "CONVERSATION_NOT_FOUND"])))
)]
pub(crate) async fn unread(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<UnreadQuery>,
) -> Result<Success<UnreadCounts>, ApiError> {
    let conversation_id = asked.conversation_id.unwrap_or_default();
    let request = logic::GetUnreadCountRequest { user_id: caller.user_id, conversation_id };
    let answer = api.conversations.clone().get_unread_count(ask(request)).await?.into_inner();
    let count = |count: logic::ConversationUnreadCount| UnreadCount {
        conversation_id: count.conversation_id,
        unread_count: count.unread_count,
    };
    Ok(Success::ok(UnreadCounts {
        unread_count: answer.unread_count,
        counts: answer.conversation_counts.into_iter().filter(|c| c.unread_count > 0).map(count).collect(),
    }))
}
