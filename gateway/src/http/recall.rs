//! Recall of a message (M4): an entry of the stream like a message, so that whoever was away learns of it in order
//! (pipeline.md D3).

use axum::extract::State;
use gochat_proto::bus::v1::{StreamKind, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1 as wire;
use gochat_proto::im::logic::v1 as logic;

use super::api::{Api, ask};
use super::auth::Caller;
use super::envelope::{ApiError, Success};
use super::extract::Asked;
use super::groups::Reason;
use super::objects::Message;
use super::paths::{ConversationPath, MessagePath};
use super::stream;

/// For persistence to pass the recall, milliseconds.
const WAIT_MS: i32 = 1000;

/// Recall a message
///
/// The sender within two minutes, admins those of members, the owner all. Answers the message in its recalled form. Safe
/// to repeat after `TIMEOUT`.
#[utoipa::path(
    delete, path = "/conversations/{id}/messages/{messageId}", tag = "Messages", operation_id = "recall",
    params(Reason), responses((status = 200, body = Message)),
    extensions(("x-id" = json!("M4")), ("x-guest" = json!("yes")), ("x-limit" = json!("user_send_message")),
        ("x-errors" = json!(["INSUFFICIENT_PERMISSION", "NOT_CONVERSATION_MEMBER", "MESSAGE_NOT_FOUND",
            "MESSAGE_RECALLED", "RECALL_TIME_EXCEEDED", "CONVERSATION_NOT_FOUND", "CONVERSATION_DISSOLVED"])))
)]
pub(crate) async fn recall(
    State(api): State<Api>,
    caller: Caller,
    ConversationPath(conversation_id): ConversationPath,
    MessagePath(message_id): MessagePath,
    Asked(asked): Asked<Reason>,
) -> Result<Success<Message>, ApiError> {
    stream::admit(&api, &caller)?;
    let entry = UpstreamMessage {
        conversation_id: conversation_id.clone(),
        message_type: wire::MessageType::System as i32,
        client_msg_id: format!("\u{1}r{message_id}"),
        kind: StreamKind::Recall as i32,
        recalled_message_id: message_id.parse().map_err(|_| ErrorCode::MessageNotFound)?,
        reason: asked.reason.unwrap_or_default(),
        ..UpstreamMessage::default()
    };
    stream::append(&api, &caller, entry).await?;
    let user_id = caller.user_id;
    let request = logic::GetMessageRequest { user_id, conversation_id, message_id, wait_ms: WAIT_MS };
    let answer = api.messages.clone().get_message(ask(request)).await?.into_inner();
    let message = answer.message.ok_or(ErrorCode::InternalError)?;
    // It is recalled, whether or not the store has come that far.
    let recalled = wire::Message { deleted: true, content: String::new(), extra: String::new(), ..message };
    Ok(Success::ok(recalled.into()))
}
