//! Rooms: which conversations a gateway keeps members of by itself, who is in them, and which gateways a conversation concerns
//! (pipeline.md F1, F2).
//!
//! Owns the interest of gateways in conversations, in the cache. It may name too many gateways, never too few: while the cache may
//! have lost some, the answer is that it does not know.

use super::sessions::Sessions;
use super::{convert, fail};
use crate::store::Store;
use bytes::Bytes;
use gochat_infra::cache::Entry;
use gochat_infra::clock::Clock;
use gochat_proto::im::repo::v1::{GetRoomResponse, Room, UserRooms};
use gochat_proto::rooms::MEMBERS_WITHOUT_ROOM;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// A gateway names its rooms every minute; what it does not name so long ends.
const INTEREST_TTL: Duration = Duration::from_secs(10 * 60);
/// After the cache lost what it had, every gateway has named its rooms again within this time.
const COMPLETE_AFTER_SECONDS: i64 = 150;
/// Since when interest is kept without loss, Unix seconds.
const KEPT_SINCE: &str = "conversation:gateways";
/// Users whose sessions are looked up at once.
const SLICE: usize = 1000;

/// The rooms. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub(crate) sessions: Sessions,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

fn interest_key(conversation: &str) -> String {
    format!("conversation:gateways:{conversation}")
}

impl Rooms {
    /// The rooms of users who came to a gateway, which is interested in them from now on.
    pub(super) async fn of_users(&self, gateway: &str, users: &[i64]) -> Result<Vec<UserRooms>, Status> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.store.rooms(users, MEMBERS_WITHOUT_ROOM).await.map_err(fail::store)?;
        let conversations: BTreeSet<&str> = found.iter().map(|(_, room)| room.conversation.as_str()).collect();
        self.add_interest(conversations.into_iter().map(|conversation| (conversation, gateway))).await?;
        let mut rooms: Vec<UserRooms> = Vec::new();
        for (user, room) in found {
            let user_id = user.to_string();
            if rooms.last().is_none_or(|last| last.user_id != user_id) {
                rooms.push(UserRooms { user_id, rooms: Vec::new() });
            }
            if let Some(last) = rooms.last_mut() {
                last.rooms.push(Room { conversation_id: room.conversation, version: room.version });
            }
        }
        Ok(rooms)
    }

    /// To be called after members were added: the gateways of those online are interested from now on. A conversation that
    /// becomes a room by it concerns the gateways of all its members.
    pub(crate) async fn members_added(&self, conversation: &str, added: &[i64]) -> Result<(), Status> {
        let Some(size) = self.store.room_size(conversation).await.map_err(fail::store)? else { return Ok(()) };
        if !size.is_world && size.member_count <= MEMBERS_WITHOUT_ROOM {
            return Ok(());
        }
        let before = i64::from(size.member_count) - added.len() as i64;
        let all = match !size.is_world && before <= i64::from(MEMBERS_WITHOUT_ROOM) {
            true => self.store.room_members(conversation).await.map_err(fail::store)?.map(|room| room.members),
            false => None,
        };
        let concerned = all.as_deref().unwrap_or(added);
        let mut gateways = BTreeSet::new();
        for users in concerned.chunks(SLICE) {
            let sessions = self.sessions.of(users).await.map_err(fail::cache)?;
            gateways.extend(sessions.into_iter().flatten().map(|session| session.gateway_id));
        }
        self.add_interest(gateways.iter().map(|gateway| (conversation, gateway.as_str()))).await
    }

    /// Connections of a gateway process whose users are members, with the version of that membership.
    pub(super) async fn room(
        &self,
        conversation: &str,
        gateway: &str,
        incarnation: u64,
    ) -> Result<GetRoomResponse, Status> {
        // Before the read of the members: who is added after it is told to this gateway.
        self.add_interest(std::iter::once((conversation, gateway))).await?;
        let Some(room) = self.store.room_members(conversation).await.map_err(fail::store)? else {
            return Ok(GetRoomResponse::default());
        };
        let mut addresses = Vec::new();
        for users in room.members.chunks(SLICE) {
            let sessions = self.sessions.of(users).await.map_err(fail::cache)?;
            let here = sessions.into_iter().flatten();
            let here = here.filter(|s| s.gateway_id == gateway && s.gateway_incarnation == incarnation);
            addresses.extend(here.map(|session| session.address));
        }
        Ok(GetRoomResponse {
            version: room.version,
            member_count: i32::try_from(room.members.len()).unwrap_or(i32::MAX),
            addresses,
            exists: true,
        })
    }

    /// Which of a gateway's rooms have another version or are gone; the gateway stays interested in all it named.
    pub(super) async fn outdated(&self, gateway: &str, rooms: Vec<Room>) -> Result<Vec<String>, Status> {
        self.add_interest(rooms.iter().map(|room| (room.conversation_id.as_str(), gateway))).await?;
        let ids: Vec<String> = rooms.iter().map(|room| room.conversation_id.clone()).collect();
        let versions = self.store.room_versions(&ids).await.map_err(fail::store)?;
        let is_outdated = |room: &Room| versions.get(&room.conversation_id) != Some(&room.version);
        Ok(rooms.into_iter().filter(is_outdated).map(|room| room.conversation_id).collect())
    }

    /// Gateways with members of a conversation; `None`: not known.
    pub(super) async fn gateways(&self, conversation: &str) -> Result<Option<Vec<String>>, Status> {
        let now = self.now();
        let cache = &self.sessions.cache;
        let since = Entry { key: KEPT_SINCE.to_owned(), value: Bytes::from(now.to_string()), ttl: None };
        if cache.set_if_absent(since).await.map_err(fail::cache)? {
            return Ok(None);
        }
        let since = cache.get(&[KEPT_SINCE.to_owned()]).await.map_err(fail::cache)?.pop().flatten();
        if number(since.as_ref()).is_none_or(|since| now - since < COMPLETE_AFTER_SECONDS) {
            return Ok(None);
        }
        let interest = cache.hash_get(&[interest_key(conversation)]).await.map_err(fail::cache)?;
        let oldest = now - INTEREST_TTL.as_secs() as i64;
        let stands = |(_, at): &(String, Bytes)| number(Some(at)).is_some_and(|at| at > oldest);
        Ok(Some(interest.into_iter().flatten().filter(stands).map(|(gateway, _)| gateway).collect()))
    }

    async fn add_interest<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Status> {
        let now = Bytes::from(self.now().to_string());
        let field =
            |(conversation, gateway): (&str, &str)| (interest_key(conversation), gateway.to_owned(), now.clone());
        let fields: Vec<_> = pairs.map(field).collect();
        match fields.is_empty() {
            true => Ok(()),
            false => self.sessions.cache.hash_set(fields, INTEREST_TTL).await.map_err(fail::cache),
        }
    }

    fn now(&self) -> i64 {
        convert::seconds(self.clock.unix_ms())
    }
}

fn number(text: Option<&Bytes>) -> Option<i64> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}
