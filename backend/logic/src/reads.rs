//! Read pointers: moving one, and who is told (spec 06 §5).
//!
//! Owns the read marks that others see. Never counts: repo does.

use std::collections::BTreeSet;

use gochat_infra::uid::uuid_v7;
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, ConversationType, MessageType};
use gochat_proto::events::{Event, EventBody};
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::repo::v1 as repo;
use serde::Serialize;
use serde_json::json;
use tonic::Status;

use crate::repo::{Repo, ask, peer_of};
use crate::seat::Seat;
use crate::signals::{Frame, Signals};

/// Larger groups show no read marks.
const MEMBERS_MAX: i32 = 100;
/// Newly read messages whose authors are told, the newest ones.
const MESSAGES_MAX: i32 = 200;

/// Read state.
#[derive(Clone)]
pub(crate) struct Reads {
    pub(crate) repo: Repo,
    pub(crate) signals: Signals,
}

/// Data of `message-read`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageRead<'a> {
    conversation_id: &'a str,
    user_id: &'a str,
    seq_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

impl Reads {
    /// Moves the pointer up and tells those whom it concerns; gives the unread count.
    pub(crate) async fn mark(&self, request: &api::MarkAsReadRequest) -> Result<i64, Status> {
        if request.seq_id < -1 {
            return Err(ErrorCode::InvalidParams.into());
        }
        let seat = Seat::of(&self.repo, &request.conversation_id, &request.user_id).await?;
        let update = ask(repo::UpdateReadPointerRequest {
            user_id: request.user_id.clone(),
            conversation_id: request.conversation_id.clone(),
            seq_id: request.seq_id,
        });
        let answer = self.repo.conversations.clone().update_read_pointer(update).await?.into_inner();
        let frame = Frame::new(
            "conversation-updated",
            &json!({
                "conversationId": request.conversation_id,
                "updates": { "unreadCount": answer.unread_count },
                "operatorId": request.user_id,
                "updatedAt": self.signals.clock.unix_ms() / 1_000,
            }),
        );
        self.signals.to_users(std::slice::from_ref(&request.user_id), &frame).await;
        if (request.seq_id == -1 || request.seq_id > answer.previous_seq_id)
            && let Err(status) = self.tell(request, &seat.conversation, answer.previous_seq_id).await
        {
            tracing::warn!(%status, conversation = request.conversation_id, "read mark not shown to others");
        }
        Ok(answer.unread_count)
    }

    async fn tell(
        &self,
        request: &api::MarkAsReadRequest,
        conversation: &Conversation,
        previous: i64,
    ) -> Result<(), Status> {
        let (conversation_id, user_id) = (request.conversation_id.clone(), request.user_id.clone());
        let pointer = ask(repo::GetReadPointerRequest { user_id, conversation_id });
        let pointer = self.repo.conversations.clone().get_read_pointer(pointer).await?.into_inner().read_pointer;
        let seq = pointer.map_or(0, |pointer| pointer.last_read_seq_id);
        if seq <= previous || conversation.r#type() == ConversationType::World {
            return Ok(());
        }
        self.publish(request, seq).await;
        let (receivers, message_id) = self.receivers(request, conversation, previous, seq).await?;
        if !receivers.is_empty() {
            let data = MessageRead {
                conversation_id: &request.conversation_id,
                user_id: &request.user_id,
                seq_id: seq,
                message_id: message_id.as_deref(),
            };
            self.signals.to_users(&receivers, &Frame::new("message-read", &data)).await;
        }
        Ok(())
    }

    /// Who sees the mark, and the newest message it covers when that is stored.
    async fn receivers(
        &self,
        request: &api::MarkAsReadRequest,
        conversation: &Conversation,
        previous: i64,
        seq: i64,
    ) -> Result<(Vec<String>, Option<String>), Status> {
        match conversation.r#type() {
            ConversationType::Single => {
                let single = conversation.settings.as_ref().and_then(|settings| settings.single_settings);
                let is_shown = single.is_none_or(|single| single.show_read_status);
                let Some(peer) = peer_of(&conversation.id, &request.user_id).filter(|_| is_shown) else {
                    return Ok((Vec::new(), None));
                };
                if !self.repo.blocked_either_way(&request.user_id, std::slice::from_ref(&peer)).await?.is_empty() {
                    return Ok((Vec::new(), None));
                }
                let newest = self.messages(&conversation.id, previous, seq, 1).await?;
                Ok((vec![peer], newest.into_iter().next().map(|message| message.id)))
            }
            ConversationType::Group if conversation.member_count <= MEMBERS_MAX => {
                let messages = self.messages(&conversation.id, previous, seq, MESSAGES_MAX).await?;
                let authors: BTreeSet<&String> = messages
                    .iter()
                    .filter(|message| message.message_type != MessageType::System as i32)
                    .map(|message| &message.sender_id)
                    .filter(|author| **author != request.user_id)
                    .collect();
                if authors.is_empty() {
                    return Ok((Vec::new(), None));
                }
                // Who wrote and left since does not hear of it any more.
                let members = self.repo.memberships(&conversation.id, authors.into_iter().cloned().collect()).await?;
                let members = members.into_iter().filter_map(|member| member.user).map(|user| user.id).collect();
                Ok((members, messages.into_iter().next().map(|message| message.id)))
            }
            ConversationType::Group | ConversationType::World | ConversationType::Unspecified => Ok((Vec::new(), None)),
        }
    }

    /// Newest first, above `previous` up to `seq`.
    async fn messages(
        &self,
        conversation_id: &str,
        previous: i64,
        seq: i64,
        limit: i32,
    ) -> Result<Vec<repo::RepoMessage>, Status> {
        let read = repo::GetConversationMessagesRequest {
            conversation_id: conversation_id.to_owned(),
            start_seq_id: seq,
            end_seq_id: previous + 1,
            limit,
            ..repo::GetConversationMessagesRequest::default()
        };
        Ok(self.repo.messages.clone().get_conversation_messages(ask(read)).await?.into_inner().messages)
    }

    async fn publish(&self, request: &api::MarkAsReadRequest, seq_id: i64) {
        let event = Event {
            event_id: uuid_v7(),
            timestamp: self.signals.clock.unix_ms() / 1_000,
            conversation_id: request.conversation_id.clone(),
            user_id: String::new(),
            friend_id: String::new(),
            operator_id: request.user_id.clone(),
            body: EventBody::MessageRead { seq_id },
        };
        if let Err(error) = self.signals.publish(event.topic(), event.key(), event.to_json()).await {
            tracing::warn!(%error, "a read event was not published");
        }
    }
}
