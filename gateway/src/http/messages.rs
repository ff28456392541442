//! Message endpoints: history (M1), send (M2), mark read (M3). Never decides who may send or read: logic does.

use axum::extract::State;
use gochat_proto::bus::v1::{Ack, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as wire;
use gochat_proto::frames::{FrameError, SendMessage, parse_send_body};
use gochat_proto::ids::ConversationId;
use gochat_proto::im::logic::v1 as logic;
use serde::Serialize;
use serde::de::IgnoredAny;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, ask};
use super::auth::{Caller, Peer};
use super::envelope::{ApiError, Success};
use super::extract::{Asked, Fields, FromQuery, QueryFields, RawBody};
use super::objects::{Message, light};
use super::paths::ConversationPath;
use super::stream;

const LIMIT: i32 = 50;
const LIMIT_MAX: i32 = 100;
/// For persistence to pass what the request could know of (pipeline.md D2).
const WAIT_MS: i32 = 1000;
/// Means everything so far.
const NEWEST: i64 = -1;

/// Which part of a history.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Oldest first, above this `seqId`. Excludes `cursor`.
    #[param(minimum = 0)]
    after_seq: Option<i64>,
    /// Newest first, below this `seqId`; absent: from the newest.
    #[param(minimum = 0)]
    cursor: Option<i64>,
    /// Messages at most, 50 when absent; out of range it is clamped.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// Only these message types, with commas between them. Such a page is never `complete`.
    #[param(rename = "type", value_type = Option<String>)]
    kinds: Vec<i32>,
}

impl FromQuery for HistoryQuery {
    fn read(query: &QueryFields) -> Result<HistoryQuery, ApiError> {
        Ok(HistoryQuery {
            after_seq: query.integer("after_seq")?,
            cursor: query.integer("cursor")?,
            limit: query.clamped("limit", LIMIT_MAX)?,
            kinds: query.list("type")?,
        })
    }
}

/// A page of history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = History)]
pub(crate) struct Page {
    messages: Vec<Message>,
    /// For `after_seq` or `cursor` of the next page; absent when this one is empty and the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
    has_more: bool,
    /// Highest number handed out, for information.
    assigned_seq: i64,
    /// At or below it a hole is final.
    stored_through_seq: i64,
    /// Whether this, with the pages before it, is everything as of now.
    complete: bool,
}

/// Read the history
///
/// Recalled messages stay, `deleted` and empty. A recall is a message of type 4 of its own.
#[utoipa::path(
    get, path = "/conversations/{id}/messages", tag = "Messages", operation_id = "history", params(HistoryQuery),
    responses((status = 200, body = Page)),
    extensions(("x-id" = json!("M1")), ("x-guest" = json!("yes")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn history(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    Asked(asked): Asked<HistoryQuery>,
) -> Result<Success<Page>, ApiError> {
    let range = Range::read(&asked)?;
    let request = logic::GetMessagesRequest {
        user_id: caller.user_id,
        conversation_id,
        start_seq_id: range.start,
        end_seq_id: range.end,
        limit: asked.limit.unwrap_or(LIMIT),
        ascending: range.ascending,
        type_filter: asked.kinds,
        wait_ms: WAIT_MS,
    };
    let is_filtered = !request.type_filter.is_empty();
    let answer = api.conversations.clone().get_messages(ask(request)).await?.into_inner();
    let last_seq = answer.messages.last().map(|last| last.seq_id);
    let behind = if range.ascending { answer.next_seq_id - 1 } else { answer.next_seq_id + 1 };
    Ok(Success::ok(Page {
        messages: answer.messages.into_iter().map(Message::from).collect(),
        next_cursor: last_seq.or(answer.has_more.then_some(behind)),
        has_more: answer.has_more,
        assigned_seq: answer.assigned_seq,
        stored_through_seq: answer.stored_through_seq,
        complete: answer.complete && !is_filtered,
    }))
}

/// Which part of a history, both ends included.
#[derive(Debug, PartialEq)]
struct Range {
    start: i64,
    end: i64,
    ascending: bool,
}

impl Range {
    fn read(query: &HistoryQuery) -> Result<Range, ApiError> {
        match (query.cursor, query.after_seq) {
            (Some(_), Some(_)) => Err(ApiError::invalid("cursor", "and after_seq exclude each other")),
            (None, Some(after)) => Ok(Range { start: after + 1, end: 0, ascending: true }),
            (None, None) => Ok(Range { start: 0, end: 0, ascending: false }),
            // Nothing lies before the first message, but 0 would mean the newest: an empty range says nothing.
            (Some(0 | 1), None) => Ok(Range { start: 1, end: 2, ascending: false }),
            (Some(cursor), None) => Ok(Range { start: cursor - 1, end: 0, ascending: false }),
        }
    }
}

/// A message; the fields of the frame `send-message`, without the conversation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the frame's own parser reads the body; this is what it takes, as tests check")]
pub(crate) struct SendBody {
    /// 1 text, 2 image, 3 file, 5 voice, 6 video.
    #[schema(rename = "messageType", minimum = 1, maximum = 6)]
    message_type: i32,
    /// Text, or the address of what was uploaded.
    #[schema(min_length = 1, max_length = 5000)]
    content: String,
    /// The client's own id of the message, new for each: sent again with the same one it is stored once.
    #[schema(min_length = 1, max_length = 64)]
    client_msg_id: String,
    /// JSON as a text, at most 4096 bytes.
    #[schema(max_length = 4096)]
    extra: Option<String>,
}

/// Send a message
///
/// Answered when the message is durable. `TIMEOUT` and `SERVICE_UNAVAILABLE`: it may be stored; send it again with the
/// same `client_msg_id`.
#[utoipa::path(
    post, path = "/conversations/{id}/messages", tag = "Messages", operation_id = "send", request_body = SendBody,
    responses((status = 201, body = Message)),
    extensions(("x-id" = json!("M2")), ("x-guest" = json!("restricted")), ("x-limit" = json!("user_send_message")),
        ("x-errors" = json!(["INVALID_MESSAGE", "MESSAGE_EMPTY", "MESSAGE_TOO_LARGE", "UNSUPPORTED_MESSAGE_TYPE",
            "NOT_CONVERSATION_MEMBER", "MUTED", "BLOCKED", "GUEST_FORBIDDEN", "CONVERSATION_NOT_FOUND",
            "CONVERSATION_DISSOLVED", "CLIENT_MSG_ID_REUSED"])))
)]
pub(crate) async fn send(
    State(api): State<Api>,
    caller: Caller,
    Peer(peer): Peer,
    ConversationPath(conversation_id): ConversationPath,
    RawBody(body): RawBody,
) -> Result<Success<Message>, ApiError> {
    let message = parse_send_body(&conversation_id, &body).map_err(refused)?;
    if message.extra.as_deref().is_some_and(|extra| serde_json::from_str::<IgnoredAny>(extra).is_err()) {
        return Err(ApiError::field(ErrorCode::InvalidMessage, "extra", "is not JSON"));
    }
    stream::admit(&api, &caller)?;
    if conversation_id.parse() == Ok(ConversationId::World) {
        api.limits.send_to_world(&caller.user_id, caller.claims.guest.then_some(peer))?;
    }
    let entry = UpstreamMessage {
        conversation_id: message.conversation_id.to_string(),
        message_type: message.message_type as i32,
        content: message.content.to_string(),
        extra: message.extra.as_deref().unwrap_or_default().to_owned(),
        client_msg_id: message.client_msg_id.to_string(),
        ..UpstreamMessage::default()
    };
    let ack = stream::append(&api, &caller, entry).await?;
    Ok(Success::created(sent(&caller, &message, ack).into()))
}

fn sent(caller: &Caller, message: &SendMessage<'_>, ack: Ack) -> wire::Message {
    wire::Message {
        id: ack.message_id.to_string(),
        conversation_id: ack.conversation_id,
        sender: Some(wire::UserInfo { id: caller.user_id.clone(), ..light(&caller.user) }),
        r#type: message.message_type as i32,
        content: message.content.to_string(),
        seq_id: ack.seq_id,
        client_msg_id: ack.client_msg_id,
        deleted: false,
        extra: message.extra.as_deref().unwrap_or_default().to_owned(),
        created_at: ack.created_at_ms.div_euclid(1000),
        updated_at: 0,
    }
}

fn refused(error: FrameError<'_>) -> ApiError {
    if error.field.is_empty() {
        return ApiError::new(error.code, format!("body: {}", error.reason)).with("field", "body");
    }
    ApiError::field(error.code, error.field, error.reason)
}

/// How far the caller has read. No body at all means everything so far.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct MarkRead {
    /// Capped at the highest number there is; the mark never goes back.
    #[schema(minimum = 0)]
    seq_id: i64,
}

impl MarkRead {
    fn read(body: &[u8]) -> Result<MarkRead, ApiError> {
        match Fields::parse(body)?.integer("seqId")? {
            Some(seq_id) => Ok(MarkRead { seq_id }),
            None if body.is_empty() => Ok(MarkRead { seq_id: NEWEST }),
            None => Err(ApiError::invalid("seqId", "is required")),
        }
    }
}

/// The new number of unread messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UnreadNow)]
pub(crate) struct Unread {
    /// Counts to 100.
    unread_count: i64,
}

/// Mark as read
#[utoipa::path(
    put, path = "/conversations/{id}/read", tag = "Messages", operation_id = "markRead",
    request_body = Option<MarkRead>, responses((status = 200, body = Unread)),
    extensions(("x-id" = json!("M3")), ("x-guest" = json!("yes")),
        ("x-errors" = json!(["NOT_CONVERSATION_MEMBER", "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn read(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    RawBody(body): RawBody,
) -> Result<Success<Unread>, ApiError> {
    let MarkRead { seq_id } = MarkRead::read(&body)?;
    let request = logic::MarkAsReadRequest { user_id: caller.user_id, conversation_id, seq_id };
    let answer = api.conversations.clone().mark_as_read(ask(request)).await?.into_inner();
    Ok(Success::ok(Unread { unread_count: answer.unread_count }))
}
