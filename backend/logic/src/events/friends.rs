//! Events between two users: requests, their handling, friendships made and ended.
//!
//! Owns who of the two hears of what. A block makes no event.

use gochat_proto::codes::ErrorCode;
use gochat_proto::events::{Event, EventBody};
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1 as repo;
use serde_json::json;

use super::teller::Teller;
use super::{frames, notices};
use crate::repo::ask;
use crate::signals::{Frame, SendError};

/// Tells an event of this kind: always to the user it is about.
pub(super) async fn tell(teller: &Teller, event: &Event) -> Result<(), SendError> {
    let frame = match &event.body {
        EventBody::FriendRequestReceived { request_id, message } => {
            received(teller, event, request_id, message).await?
        }
        EventBody::FriendRequestAccepted { request_id } => {
            Some(frames::request_handled(request_id, "accept", &event.friend_id))
        }
        EventBody::FriendRequestRejected { request_id } => {
            Some(frames::request_handled(request_id, "reject", &event.friend_id))
        }
        EventBody::FriendAdded { conversation_id } => {
            let friend = teller.views.friend(&event.user_id, &event.friend_id).await?;
            friend.map(|friend| frames::friend_added(friend, conversation_id))
        }
        EventBody::FriendRemoved {} => Some(frames::friend_removed(&event.friend_id)),
        _ => None,
    };
    match frame {
        Some(frame) => {
            let user = std::slice::from_ref(&event.user_id);
            teller.signals.try_users(user, &event.user_id, &frame).await
        }
        None => Ok(()),
    }
}

async fn received(teller: &Teller, event: &Event, request_id: &str, message: &str) -> Result<Option<Frame>, SendError> {
    let read = ask(repo::GetFriendRequestRequest { request_id: request_id.to_owned() });
    let record = match teller.repo.friendships.clone().get_friend_request(read).await {
        Ok(answer) => answer.into_inner().request,
        Err(status) if Failure::from_status(&status).code == ErrorCode::FriendRequestNotFound => None,
        Err(status) => return Err(status.into()),
    };
    let Some(record) = record else { return Ok(None) };
    let payload = json!({ "request_id": request_id, "requester_id": event.friend_id, "message": message });
    let target = std::slice::from_ref(&event.user_id);
    notices::publish(&teller.signals, target, "friend.request.new", &payload).await;
    let request = teller.views.requests(vec![record]).await?.pop();
    Ok(request.map(frames::request_received))
}
