//! Conversation endpoints: list (C1), create a single chat (C2), detail (C3).

use axum::extract::State;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::ConversationType;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;

use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, Success};
use super::extract::{ConversationPath, Fields, QueryFields, RawBody};
use super::objects::{Conversation, Member};

const SIZE_MAX: i32 = 100;
const DELTA_LIMIT_MAX: i32 = 200;
/// An older delta would miss what was purged meanwhile.
const DELTA_AGE_MAX_S: i64 = 30 * 24 * 3600;
/// For persistence to pass what the request could know of (pipeline.md D2).
const WAIT_MS: i32 = 1000;

/// A page of the list, or what changed since the last one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct List {
    conversations: Vec<Conversation>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_ids: Option<Vec<String>>,
    server_time: i64,
    complete: bool,
}

/// C1.
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    query: QueryFields,
) -> Result<Success<List>, ApiError> {
    let last_sync = query.integer("last_sync")?.unwrap_or(0);
    let is_delta = last_sync > 0;
    if is_delta && last_sync < api.now_s() - DELTA_AGE_MAX_S {
        return Err(ApiError::invalid("last_sync", "lies more than 30 days back").with("fullSync", true));
    }
    let size = match query.clamped("size", SIZE_MAX)? {
        Some(size) => Some(size),
        None => query.clamped("pageSize", SIZE_MAX)?,
    };
    let request = logic::GetConversationsOptimizedRequest {
        user_id: caller.user_id,
        page: query.clamped("page", i32::MAX)?.unwrap_or(1),
        page_size: size.unwrap_or(20),
        type_filter: type_filter(&query)?,
        order_by: String::new(),
        include_last_message: true,
        include_unread_count: true,
        last_sync_time: last_sync,
        limit: query.clamped("limit", DELTA_LIMIT_MAX)?.unwrap_or(50),
        wait_ms: WAIT_MS,
        cursor: String::new(),
    };
    let answer = api.conversations.clone().get_conversations_optimized(ask(request)).await?.into_inner();
    Ok(Success::ok(List {
        conversations: answer.conversations.into_iter().map(Conversation::from).collect(),
        has_more: answer.has_more,
        total: (!is_delta).then_some(answer.total),
        removed_ids: is_delta.then_some(answer.removed_ids),
        server_time: answer.server_time,
        complete: answer.complete,
    }))
}

fn type_filter(query: &QueryFields) -> Result<i32, ApiError> {
    match query.integer("type")? {
        None => Ok(0),
        Some(kind @ 1..=3) => Ok(kind as i32),
        Some(_) => Err(ApiError::invalid("type", "must be 1 single, 2 group or 3 world")),
    }
}

/// C2, of type 1.
pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    RawBody(body): RawBody,
) -> Result<Success<Conversation>, ApiError> {
    let mut fields = Fields::parse(&body)?;
    match fields.integer("type")? {
        Some(1) => {}
        Some(_) => return Err(ApiError::invalid("type", "must be 1, a single chat")),
        None => return Err(ApiError::invalid("type", "is required")),
    }
    let mut members = fields.ids("members")?;
    members.retain(|id| *id != caller.user_id);
    members.dedup();
    if members.len() != 1 {
        return Err(ApiError::invalid("members", "must name exactly one other user"));
    }
    let request = logic::CreateConversationRequest {
        creator_id: caller.user_id,
        r#type: ConversationType::Single as i32,
        member_ids: members,
        ..logic::CreateConversationRequest::default()
    };
    let answer = api.conversations.clone().create_conversation(ask(request)).await?.into_inner();
    let conversation = answer.conversation.ok_or(ErrorCode::InternalError)?.into();
    Ok(if answer.already_existed { Success::ok(conversation) } else { Success::created(conversation) })
}

/// A conversation with its members, where they are listed.
#[derive(Serialize)]
pub(crate) struct Detail {
    #[serde(flatten)]
    conversation: Conversation,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member>,
}

/// C3.
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
