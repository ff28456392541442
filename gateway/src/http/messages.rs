//! Message endpoints: history (M1), send (M2), mark read (M3). A send goes the way of every message, through the
//! upstream topic, and waits for what comes back (pipeline.md A1).

use axum::extract::State;
use bytes::Bytes;
use gochat_infra::rpc;
use gochat_proto::bus::v1::{Ack, Origin, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as wire;
use gochat_proto::frames::{FrameError, SendMessage, parse_send_body};
use gochat_proto::im::logic::v1 as logic;
use prost::Message as _;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, Success};
use super::extract::{ConversationPath, Fields, QueryFields, RawBody};
use super::objects::{Message, light};
use crate::control::waiting::Outcome;

const LIMIT: i32 = 50;
const LIMIT_MAX: i32 = 100;
/// For persistence to pass what the request could know of (pipeline.md D2).
const WAIT_MS: i32 = 1000;
/// Means everything so far.
const NEWEST: i64 = -1;

/// A page of history.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
    has_more: bool,
    assigned_seq: i64,
    stored_through_seq: i64,
    complete: bool,
}

/// M1.
pub(crate) async fn history(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    query: QueryFields,
) -> Result<Success<Page>, ApiError> {
    let range = Range::read(&query)?;
    let request = logic::GetMessagesRequest {
        user_id: caller.user_id,
        conversation_id,
        start_seq_id: range.start,
        end_seq_id: range.end,
        limit: query.clamped("limit", LIMIT_MAX)?.unwrap_or(LIMIT),
        ascending: range.ascending,
        type_filter: query.list("type")?,
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
    fn read(query: &QueryFields) -> Result<Range, ApiError> {
        match (query.integer("cursor")?, query.integer("after_seq")?) {
            (Some(_), Some(_)) => Err(ApiError::invalid("cursor", "and after_seq exclude each other")),
            (None, Some(after)) => Ok(Range { start: after + 1, end: 0, ascending: true }),
            (None, None) => Ok(Range { start: 0, end: 0, ascending: false }),
            // Nothing lies before the first message, but 0 would mean the newest: an empty range says nothing.
            (Some(0 | 1), None) => Ok(Range { start: 1, end: 2, ascending: false }),
            (Some(cursor), None) => Ok(Range { start: cursor - 1, end: 0, ascending: false }),
        }
    }
}

/// M2.
pub(crate) async fn send(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    RawBody(body): RawBody,
) -> Result<Success<Message>, ApiError> {
    let message = parse_send_body(&conversation_id, &body).map_err(refused)?;
    if message.extra.as_deref().is_some_and(|extra| serde_json::from_str::<IgnoredAny>(extra).is_err()) {
        return Err(ApiError::field(ErrorCode::InvalidMessage, "extra", "is not JSON"));
    }
    let status = *api.parts.status.borrow();
    if !status.bus_healthy {
        return Err(ErrorCode::ServiceUnavailable.into());
    }
    if status.slow_down_s > 0 {
        return Err(ApiError::limited(status.slow_down_s));
    }
    api.limits.send(&caller.user_id)?;
    match submit(&api, &caller, &message).await? {
        Outcome::Acked(ack) => Ok(Success::created(sent(&caller, &message, ack).into())),
        Outcome::Refused(refusal) => {
            let code = ErrorCode::from_number(refusal.code).unwrap_or(ErrorCode::InternalError);
            Err(match refusal.retry_after_s {
                0 => ApiError::from(code),
                seconds => ApiError::from(code).with("retryAfter", seconds),
            })
        }
    }
}

/// Produces the message and waits for what becomes of it.
async fn submit(api: &Api, caller: &Caller, message: &SendMessage<'_>) -> Result<Outcome, ApiError> {
    let (gateway, incarnation) = api.parts.origin;
    let (request, outcome) = api.parts.waiting.register().await;
    let record = UpstreamMessage {
        sender_id: caller.user_id.parse().map_err(|_| ErrorCode::InvalidToken)?,
        conversation_id: message.conversation_id.to_string(),
        message_type: message.message_type as i32,
        content: message.content.to_string(),
        extra: message.extra.as_deref().unwrap_or_default().to_owned(),
        client_msg_id: message.client_msg_id.to_string(),
        temp_message_id: String::new(),
        received_at_ms: api.parts.clock.unix_ms(),
        origin: Some(Origin { gateway: gateway.number(), incarnation, address: 0, request }),
        ..UpstreamMessage::default()
    };
    let value = Bytes::from(record.encode_to_vec());
    let trace_id = rpc::trace_id().as_bytes().clone();
    let submitted = api.parts.upstream.submit(&message.conversation_id, value, trace_id).await;
    submitted.map_err(|_| ErrorCode::ServiceUnavailable)?;
    match tokio::time::timeout(api.parts.send_timeout, outcome).await {
        Ok(outcome) => outcome.map_err(|_| ErrorCode::ServiceUnavailable.into()),
        // It may still be stored: the client sends it again with the same client_msg_id.
        Err(_) => Err(ErrorCode::Timeout.into()),
    }
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

/// The new number of unread messages.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unread {
    unread_count: i64,
}

/// M3.
pub(crate) async fn read(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    RawBody(body): RawBody,
) -> Result<Success<Unread>, ApiError> {
    let seq_id = match Fields::parse(&body)?.integer("seqId")? {
        Some(seq_id) => seq_id,
        None if body.is_empty() => NEWEST,
        None => return Err(ApiError::invalid("seqId", "is required")),
    };
    let request = logic::MarkAsReadRequest { user_id: caller.user_id, conversation_id, seq_id };
    let answer = api.conversations.clone().mark_as_read(ask(request)).await?.into_inner();
    Ok(Success::ok(Unread { unread_count: answer.unread_count }))
}
