//! Opening the single chat of two users.
//!
//! Owns who may open one with whom (spec 01 C2, type 1). Never sends.

use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, ConversationType, User, UserStatus};
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::settings::Settings;
use tonic::Status;

use crate::repo::{Repo, ask};

/// Opens the single chat of `creator` and the one other member, or finds it.
pub(crate) async fn open(
    repo: &Repo,
    creator: &User,
    member_ids: &[String],
    requires_friend: bool,
) -> Result<(Conversation, bool), Status> {
    let mut others = member_ids.iter().filter(|id| **id != creator.id);
    let (Some(peer_id), None) = (others.next(), others.next()) else {
        return Err(ErrorCode::InvalidParams.into());
    };
    let (low, high): (UserId, UserId) = match (creator.id.parse(), peer_id.parse()) {
        (Ok(creator), Ok(peer)) => (creator, peer),
        _ => return Err(ErrorCode::InvalidParams.into()),
    };
    let id = ConversationId::single(low, high).ok_or(ErrorCode::InvalidParams)?.to_string();
    let peer = repo.user(peer_id).await?;
    if peer.status() == UserStatus::Deleted {
        return Err(ErrorCode::UserNotFound.into());
    }
    repo.unblocked(&creator.id, peer_id).await?;
    if requires_friend && !repo.friend_ids(&creator.id).await?.contains(peer_id) {
        return Err(ErrorCode::NotFriends.into());
    }
    let kind = ConversationType::Single as i32;
    let make = repo::CreateConversationRequest {
        r#type: kind,
        owner_id: creator.id.clone(),
        member_ids: vec![creator.id.clone(), peer_id.clone()],
        id: id.clone(),
        settings_json: Settings::defaults(kind).map_or_else(String::new, |settings| settings.to_json()),
        ..repo::CreateConversationRequest::default()
    };
    let made = repo.conversations.clone().create_conversation(ask(make)).await?.into_inner();
    Ok((repo.viewed(&id, &creator.id).await?, made.already_existed))
}
