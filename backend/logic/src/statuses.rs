//! Presence as users may see each other's (spec 01 U4, 06 §6).
//!
//! Owns who may ask about whom: friends, and people who share a single or group chat; never across a block.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{ConversationType, OnlineStatus};
use gochat_proto::ids::{ConversationId, UserId};
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::repo::{Repo, ask};

/// Users asked about in one call.
pub(crate) const USERS_MAX: usize = 100;
/// Groups of the asking user that are looked through for others: those last active.
const GROUPS_MAX: i32 = 50;
/// Groups looked through at the same time.
const CONCURRENT: usize = 8;

/// Presence for users.
#[derive(Clone)]
pub(crate) struct Statuses {
    pub(crate) repo: Repo,
}

impl Statuses {
    /// Presence of those of `user_ids` whom the requester may ask about; the others are left out.
    pub(crate) async fn of(&self, requester_id: &str, user_ids: Vec<String>) -> Result<Vec<OnlineStatus>, Status> {
        if user_ids.len() > USERS_MAX || user_ids.iter().any(|id| id.parse::<UserId>().is_err()) {
            return Err(ErrorCode::InvalidParams.into());
        }
        let asked: BTreeSet<String> = user_ids.into_iter().filter(|id| *id != requester_id).collect();
        let known = self.known(requester_id, &asked).await?;
        let blocked = self.repo.blocked_either_way(requester_id, &known).await?;
        let visible: Vec<String> = known.into_iter().filter(|id| !blocked.contains(id)).collect();
        let presence = self.visible(&visible).await?;
        let status = |user_id: String| {
            let (is_online, last_seen) = presence.get(&user_id).copied().unwrap_or_default();
            OnlineStatus { user_id, is_online, last_seen, ..OnlineStatus::default() }
        };
        Ok(visible.into_iter().map(status).collect())
    }

    /// Whether users are online and when they last were; the caller has checked that this may be seen.
    pub(crate) async fn visible(&self, user_ids: &[String]) -> Result<HashMap<String, (bool, i64)>, Status> {
        let statuses = self.repo.statuses(user_ids).await?;
        Ok(statuses.into_iter().map(|status| (status.user_id, (status.is_online, status.last_seen))).collect())
    }

    async fn known(&self, requester_id: &str, asked: &BTreeSet<String>) -> Result<Vec<String>, Status> {
        let mut known: BTreeSet<String> = self.repo.friend_ids(requester_id).await?.into_iter().collect();
        known.retain(|id| asked.contains(id));
        known.extend(self.single_peers(requester_id, asked).await?);
        let rest: Vec<String> = asked.difference(&known).cloned().collect();
        if !rest.is_empty() {
            let groups = self.repo.conversation_ids(requester_id, ConversationType::Group, GROUPS_MAX).await?;
            let rest = &rest;
            let found: Vec<Vec<_>> = stream::iter(groups)
                .map(|group| async move { self.repo.memberships(&group, rest.clone()).await })
                .buffer_unordered(CONCURRENT)
                .try_collect()
                .await?;
            known.extend(found.into_iter().flatten().filter_map(|member| member.user).map(|user| user.id));
        }
        Ok(known.into_iter().collect())
    }

    /// Those of the asked with whom there is a single chat: its id names both.
    async fn single_peers(&self, requester_id: &str, asked: &BTreeSet<String>) -> Result<Vec<String>, Status> {
        let requester: UserId = requester_id.parse().map_err(|_| ErrorCode::InvalidParams)?;
        let mut peers = HashMap::new();
        for id in asked {
            if let Some(single) = id.parse().ok().and_then(|peer| ConversationId::single(requester, peer)) {
                peers.insert(single.to_string(), id.clone());
            }
        }
        if peers.is_empty() {
            return Ok(Vec::new());
        }
        let request = ask(repo::BatchGetConversationsRequest { conversation_ids: peers.keys().cloned().collect() });
        let found = self.repo.conversations.clone().batch_get_conversations(request).await?.into_inner();
        Ok(found.conversations.into_iter().filter_map(|single| peers.remove(&single.id)).collect())
    }
}
