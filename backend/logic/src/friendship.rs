//! Friendships as repo keeps them, made into what a user sees: friends with their profiles, requests with both sides.
//!
//! Owns those views; constant numbers of calls however many there are. Never changes a friendship.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gochat_proto::common::v1::UserInfo;
use gochat_proto::im::logic::v1 as api;
use gochat_proto::im::repo::v1 as repo;
use tonic::Status;

use crate::repo::{Repo, ask, light};
use crate::statuses::Statuses;

/// Friends read in one call, and at most.
const FRIENDS_PAGE: i32 = 1_000;
const FRIENDS_MAX: usize = 10_000;

/// Of a request: waiting for an answer.
pub(crate) const PENDING: i32 = 0;
/// Of a friendship.
pub(crate) const FRIENDS: i32 = 1;
/// Of a request.
pub(crate) const REJECTED: i32 = 2;
/// Shown for somebody blocked.
pub(crate) const BLOCKED: i32 = 3;

/// Makes views.
#[derive(Clone)]
pub(crate) struct Views {
    pub(crate) repo: Repo,
    pub(crate) statuses: Statuses,
}

impl Views {
    /// Friends of a user by their records.
    pub(crate) async fn friends(
        &self,
        user_id: &str,
        records: Vec<repo::FriendshipRecord>,
        with_presence: bool,
    ) -> Result<Vec<api::Friend>, Status> {
        let ids: Vec<String> = records.iter().map(|record| other_of(record, user_id).to_owned()).collect();
        let profiles = self.profiles(ids.iter().cloned().collect()).await?;
        let presence = if with_presence { self.presence(user_id, &ids).await? } else { HashMap::new() };
        let friend = |(record, id): (repo::FriendshipRecord, String)| {
            let (is_online, last_seen) = presence.get(&id).copied().unwrap_or_default();
            api::Friend {
                user_id: user_id.to_owned(),
                friend: Some(profile(&profiles, &id)),
                status: record.status,
                remark: record.requester_remarks,
                is_online,
                last_seen,
                created_at: record.created_at,
                updated_at: record.updated_at,
            }
        };
        Ok(records.into_iter().zip(ids).map(friend).collect())
    }

    /// Records of all friends of a user.
    pub(crate) async fn records(&self, user_id: &str) -> Result<Vec<repo::FriendshipRecord>, Status> {
        let mut records = Vec::new();
        while records.len() < FRIENDS_MAX {
            let request = ask(repo::GetUserFriendsRequest {
                user_id: user_id.to_owned(),
                offset: i32::try_from(records.len()).unwrap_or(i32::MAX),
                limit: FRIENDS_PAGE,
            });
            let page = self.repo.friendships.clone().get_user_friends(request).await?.into_inner();
            let is_last = !page.has_more || page.friends.is_empty();
            records.extend(page.friends);
            if is_last {
                break;
            }
        }
        Ok(records)
    }

    /// One friend of a user, with presence.
    pub(crate) async fn friend(&self, user_id: &str, friend_id: &str) -> Result<Option<api::Friend>, Status> {
        let records = self.records(user_id).await?;
        let record = records.into_iter().find(|record| other_of(record, user_id) == friend_id);
        Ok(self.friends(user_id, record.into_iter().collect(), true).await?.pop())
    }

    /// People a user blocks.
    pub(crate) async fn blocked(&self, user_id: &str, blocked: Vec<repo::Blocked>) -> Result<Vec<api::Friend>, Status> {
        let profiles = self.profiles(blocked.iter().map(|blocked| blocked.user_id.clone()).collect()).await?;
        let friend = |blocked: repo::Blocked| api::Friend {
            user_id: user_id.to_owned(),
            friend: Some(profile(&profiles, &blocked.user_id)),
            status: BLOCKED,
            created_at: blocked.blocked_at,
            updated_at: blocked.blocked_at,
            ..api::Friend::default()
        };
        Ok(blocked.into_iter().map(friend).collect())
    }

    /// Requests with both sides.
    pub(crate) async fn requests(
        &self,
        records: Vec<repo::FriendshipRecord>,
    ) -> Result<Vec<api::FriendRequest>, Status> {
        let sides = records.iter().flat_map(|record| [record.requester_id.clone(), record.target_id.clone()]);
        let profiles = self.profiles(sides.collect()).await?;
        let request = |record: repo::FriendshipRecord| api::FriendRequest {
            id: record.id,
            requester: Some(profile(&profiles, &record.requester_id)),
            target: Some(profile(&profiles, &record.target_id)),
            status: record.status,
            message: record.message,
            created_at: record.created_at,
            updated_at: record.updated_at,
        };
        Ok(records.into_iter().map(request).collect())
    }

    async fn profiles(&self, ids: BTreeSet<String>) -> Result<BTreeMap<String, UserInfo>, Status> {
        let users = self.repo.users(ids.into_iter().collect()).await?;
        Ok(users.iter().map(|user| (user.id.clone(), light(user))).collect())
    }

    async fn presence(&self, user_id: &str, ids: &[String]) -> Result<HashMap<String, (bool, i64)>, Status> {
        let blocked = self.repo.blocked_either_way(user_id, ids).await?;
        let visible: Vec<String> = ids.iter().filter(|id| !blocked.contains(*id)).cloned().collect();
        self.statuses.visible(&visible).await
    }
}

/// The other side of a record.
pub(crate) fn other_of<'r>(record: &'r repo::FriendshipRecord, user_id: &str) -> &'r str {
    if record.requester_id == user_id { &record.target_id } else { &record.requester_id }
}

fn profile(profiles: &BTreeMap<String, UserInfo>, id: &str) -> UserInfo {
    let unknown = || UserInfo { id: id.to_owned(), ..UserInfo::default() };
    profiles.get(id).cloned().unwrap_or_else(unknown)
}
