//! Events of accounts: presence, and the end of sessions.
//!
//! Owns who hears of somebody's presence: friends and single-chat peers who are connected, never across a block.

use std::collections::BTreeSet;

use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::events::{Event, EventBody};
use gochat_proto::failure::Failure;

use super::teller::Teller;
use super::{frames, rooms};
use crate::signals::SendError;

/// Users looked up together.
const SLICE: usize = 1_000;

/// Tells an event of this kind.
pub(super) async fn tell(teller: &Teller, event: &Event) -> Result<(), SendError> {
    match &event.body {
        EventBody::UserOnline { .. } => presence(teller, &event.user_id, None).await,
        EventBody::UserOffline { last_seen, .. } => {
            // Back meanwhile: whoever was told so before must not be told otherwise now.
            let statuses = teller.repo.statuses(std::slice::from_ref(&event.user_id)).await?;
            if statuses.iter().any(|status| status.is_online) {
                return Ok(());
            }
            presence(teller, &event.user_id, Some(*last_seen)).await
        }
        EventBody::UserRevoked { close_code, reason } => revoked(teller, &event.user_id, *close_code, reason).await,
        _ => Ok(()),
    }
}

async fn presence(teller: &Teller, user_id: &str, last_seen: Option<i64>) -> Result<(), SendError> {
    let (friends, peers) = futures::try_join!(teller.repo.friend_ids(user_id), teller.repo.single_peers(user_id))?;
    let receivers: BTreeSet<String> = friends.into_iter().chain(peers).collect();
    let receivers: Vec<String> = receivers.into_iter().collect();
    let frame = frames::online_status(user_id, last_seen);
    for slice in receivers.chunks(SLICE) {
        let mut connected = rooms::connected(teller, slice).await?;
        let ids: Vec<String> = connected.keys().cloned().collect();
        for blocked in teller.repo.blocked_either_way(user_id, &ids).await? {
            connected.remove(&blocked);
        }
        teller.signals.to_targets(&rooms::together(&connected), user_id, &frame).await?;
    }
    Ok(())
}

/// Ends the sessions whose tokens were voided; one that was opened with a newer token stays.
async fn revoked(teller: &Teller, user_id: &str, close_code: u16, reason: &str) -> Result<(), SendError> {
    let code = CloseCode::from_number(close_code).unwrap_or(CloseCode::TokenInvalid);
    let version = match teller.repo.token_version(user_id).await {
        Ok(version) => version,
        Err(status) if Failure::from_status(&status).code == ErrorCode::UserNotFound => i64::MAX,
        Err(status) => return Err(status.into()),
    };
    teller.signals.try_kick(user_id, code, reason, |session| session.token_version < version).await?;
    Ok(())
}
