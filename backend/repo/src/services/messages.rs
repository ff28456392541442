//! MessageService: reading stored messages.
//!
//! Whether persistence has passed the end that a request saw at its arrival (D2) is the caller's to wait for, with
//! `AwaitPositions`: only it knows the log. `complete` here says the rest of the rule.

use super::{convert, fail};
use crate::store::Store;
use crate::store::message::MessageQuery;
use gochat_infra::cache::Cache;
use gochat_proto::codes::ErrorCode;
use gochat_proto::im::repo::v1::message_service_server::MessageService;
use gochat_proto::im::repo::v1::{
    GetConversationMessagesRequest, GetConversationMessagesResponse, GetMessageRequest, GetMessageResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: i64 = 50;
const PAGE_MAX: i64 = 200;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Messages {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<dyn Cache>,
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        let request = request.into_inner();
        let id = convert::id(&request.message_id, "message_id")?;
        let found = self.store.message(id).await.map_err(fail::store)?;
        let after = self.history_after(&request.viewer_id, &request.conversation_id).await?;
        let message = found
            .filter(|m| request.conversation_id.is_empty() || m.conversation == request.conversation_id)
            .filter(|m| m.seq > after)
            .ok_or_else(|| Status::from(ErrorCode::MessageNotFound))?;
        Ok(Response::new(GetMessageResponse { message: Some(convert::repo_message(message, None)) }))
    }

    async fn get_conversation_messages(
        &self,
        request: Request<GetConversationMessagesRequest>,
    ) -> Result<Response<GetConversationMessagesResponse>, Status> {
        let request = request.into_inner();
        let limit = if request.limit <= 0 { PAGE_DEFAULT } else { i64::from(request.limit).min(PAGE_MAX) };
        // Bounds as the contract has them: start is the lower one ascending, the upper one descending; 0 is open.
        let (low, high) = match request.ascending {
            true => (request.start_seq_id, request.end_seq_id),
            false => (request.end_seq_id, request.start_seq_id),
        };
        let after = self.history_after(&request.viewer_id, &request.conversation_id).await?;
        let query = MessageQuery {
            conversation: request.conversation_id.clone(),
            low: low.max(after + 1),
            high: if high <= 0 { i64::MAX } else { high },
            ascending: request.ascending,
            kinds: request.type_filter.clone(),
            limit: limit + 1,
        };
        let assigned = self.cache.assigned(std::slice::from_ref(&request.conversation_id)).await;
        let assigned = assigned.map_err(fail::cache)?.first().copied().flatten();
        let page = self.store.messages(query).await.map_err(fail::store)?;
        let page = page.ok_or_else(|| Status::from(ErrorCode::ConversationNotFound))?;
        let mut messages = page.messages;
        let has_more = messages.len() as i64 > limit;
        messages.truncate(limit as usize);
        let step = if request.ascending { 1 } else { -1 };
        let next_seq_id = messages.last().filter(|_| has_more).map_or(0, |(m, _)| m.seq + step);
        let stored = page.head.stored_through_seq;
        Ok(Response::new(GetConversationMessagesResponse {
            messages: messages.into_iter().map(|(m, from)| convert::repo_message(m, from)).collect(),
            has_more,
            next_seq_id,
            assigned_seq: assigned.unwrap_or(0).max(stored).max(page.head.last_seq),
            stored_through_seq: stored,
            complete: !has_more && high <= 0 && request.type_filter.is_empty() && !page.head.parked,
        }))
    }
}

impl Messages {
    /// Where a viewer's history begins; a service that names none sees everything.
    async fn history_after(&self, viewer: &str, conversation: &str) -> Result<i64, Status> {
        if viewer.is_empty() {
            return Ok(0);
        }
        let access = self.store.access(convert::id(viewer, "viewer_id")?, conversation).await.map_err(fail::store)?;
        fail::access(access)
    }
}
