//! The MessageService: one message, and signals between members that are never stored (spec 03 §3.4, 06 §13).
//!
//! Owns who may be seen typing where. Never sends a message.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::ConversationType;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::logic::v1::message_service_server::MessageService;
use serde::Serialize;
use tonic::{Request, Response, Status, async_trait};

use crate::history;
use crate::persisted::Persisted;
use crate::repo::{Repo, peer_of};
use crate::roles::is_heard;
use crate::seat::{Seat, group_settings};
use crate::signals::{Frame, Signals};

/// Larger groups do not show who types.
const TYPING_MEMBERS_MAX: i32 = 100;
/// How long a receiver shows it, seconds.
const TYPING_SHOWN_S: i64 = 6;

/// The MessageService of logic.
#[derive(Clone)]
pub struct Messages {
    pub(crate) repo: Repo,
    pub(crate) persisted: Persisted,
    pub(crate) signals: Signals,
}

/// Data of `typing-indicator`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    conversation_id: &'a str,
    user_id: &'a str,
    username: &'a str,
    is_typing: bool,
    expires_at: i64,
}

impl Messages {
    /// Who sees the signal; nobody where it is not shown.
    async fn audience(&self, seat: &Seat, user_id: &str, now: i64) -> Result<Vec<String>, Status> {
        let conversation = &seat.conversation;
        match conversation.r#type() {
            ConversationType::Single => {
                let Some(peer) = peer_of(&conversation.id, user_id) else { return Ok(Vec::new()) };
                let blocked = self.repo.blocked_either_way(user_id, std::slice::from_ref(&peer)).await?;
                Ok(if blocked.is_empty() { vec![peer] } else { Vec::new() })
            }
            ConversationType::Group if conversation.member_count <= TYPING_MEMBERS_MAX => {
                if !is_heard(&seat.member, group_settings(conversation).mute_all, now) {
                    return Ok(Vec::new());
                }
                let max = usize::try_from(TYPING_MEMBERS_MAX).unwrap_or_default();
                let mut members = self.repo.member_ids(&conversation.id, max).await?;
                members.retain(|member| member != user_id);
                Ok(members)
            }
            ConversationType::Group | ConversationType::World | ConversationType::Unspecified => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl MessageService for Messages {
    async fn get_message(
        &self,
        request: Request<api::GetMessageRequest>,
    ) -> Result<Response<api::GetMessageResponse>, Status> {
        let message = history::message_of(&self.repo, &self.persisted, request.into_inner()).await?;
        Ok(Response::new(api::GetMessageResponse { message: Some(message) }))
    }

    async fn send_signal(
        &self,
        request: Request<api::SendSignalRequest>,
    ) -> Result<Response<api::SendSignalResponse>, Status> {
        let request = request.into_inner();
        let is_typing = match request.signal_type.as_str() {
            "typing.start" => true,
            "typing.stop" => false,
            _ => return Err(ErrorCode::InvalidParams.into()),
        };
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.user_id).await?;
        let now = self.signals.clock.unix_ms() / 1_000;
        let audience = self.audience(&seat, &request.user_id, now).await?;
        if audience.is_empty() {
            return Ok(Response::new(api::SendSignalResponse { accepted: false }));
        }
        let data = Typing {
            conversation_id: &request.conversation_id,
            user_id: &request.user_id,
            username: &self.repo.user(&request.user_id).await?.username,
            is_typing,
            expires_at: now + TYPING_SHOWN_S,
        };
        let frame = Frame::new("typing-indicator", &data).ephemeral();
        if let Err(error) = self.signals.try_users(&audience, &request.conversation_id, &frame).await {
            tracing::debug!(%error, "a typing signal was not sent");
        }
        Ok(Response::new(api::SendSignalResponse { accepted: true }))
    }
}
