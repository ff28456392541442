//! Reading messages: pages of a conversation's history, and what makes an answer complete (pipeline.md D1, D2).
//!
//! Owns the membership check and the senders' profiles of a page. Never writes.

use std::collections::{BTreeSet, HashMap};

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Message, UserInfo};
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::persisted::Persisted;
use crate::repo::{Repo, ask, light};

const LIMIT_DEFAULT: i32 = 50;
const LIMIT_MAX: i32 = 100;

/// One page of history.
pub(crate) async fn page(
    repo: &Repo,
    persisted: &Persisted,
    request: api::GetMessagesRequest,
) -> Result<api::GetMessagesResponse, Status> {
    if request.start_seq_id < 0 || request.end_seq_id < 0 {
        return Err(ErrorCode::InvalidParams.into());
    }
    // Who may not read is refused before the wait, and by repo with the page.
    repo.member(&request.conversation_id, &request.user_id).await?;
    // Before the read: what was appended by now is then in the page, or the answer does not claim to be complete.
    let passed = persisted.conversation(&request.conversation_id, request.wait_ms).await;
    let limit = if request.limit <= 0 { LIMIT_DEFAULT } else { request.limit.min(LIMIT_MAX) };
    let read = repo::GetConversationMessagesRequest {
        conversation_id: request.conversation_id,
        start_seq_id: request.start_seq_id,
        end_seq_id: request.end_seq_id,
        limit,
        ascending: request.ascending,
        wait_ms: 0,
        type_filter: request.type_filter,
        viewer_id: request.user_id,
    };
    let page = repo.messages.clone().get_conversation_messages(ask(read)).await?.into_inner();
    let prev_seq_id = page.messages.first().map_or(0, |first| first.seq_id + if request.ascending { -1 } else { 1 });
    let senders = senders(repo, &page.messages).await?;
    Ok(api::GetMessagesResponse {
        messages: page.messages.into_iter().map(|m| message(m, &senders)).collect(),
        has_more: page.has_more,
        next_seq_id: page.next_seq_id,
        prev_seq_id,
        assigned_seq: page.assigned_seq,
        stored_through_seq: page.stored_through_seq,
        complete: page.complete && passed,
    })
}

/// One message, as a member may see it.
pub(crate) async fn message_of(
    repo: &Repo,
    persisted: &Persisted,
    request: api::GetMessageRequest,
) -> Result<Message, Status> {
    repo.member(&request.conversation_id, &request.user_id).await?;
    persisted.conversation(&request.conversation_id, request.wait_ms).await;
    let read = repo::GetMessageRequest {
        message_id: request.message_id,
        conversation_id: request.conversation_id,
        viewer_id: request.user_id,
    };
    let row = repo.messages.clone().get_message(ask(read)).await?.into_inner().message;
    let row = row.ok_or(ErrorCode::MessageNotFound)?;
    let senders = senders(repo, std::slice::from_ref(&row)).await?;
    Ok(message(row, &senders))
}

async fn senders(repo: &Repo, messages: &[repo::RepoMessage]) -> Result<HashMap<String, UserInfo>, Status> {
    let ids: BTreeSet<&String> = messages.iter().map(|m| &m.sender_id).collect();
    let users = repo.users(ids.into_iter().cloned().collect()).await?;
    Ok(users.iter().map(|user| (user.id.clone(), light(user))).collect())
}

fn message(row: repo::RepoMessage, senders: &HashMap<String, UserInfo>) -> Message {
    let sender = senders.get(&row.sender_id).cloned();
    let content = if row.deleted { String::new() } else { row.content };
    Message {
        id: row.id,
        conversation_id: row.conversation_id,
        sender: Some(sender.unwrap_or_else(|| UserInfo { id: row.sender_id, ..UserInfo::default() })),
        r#type: row.message_type,
        content,
        seq_id: row.seq_id,
        client_msg_id: row.client_msg_id,
        deleted: row.deleted,
        extra: row.extra,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}
