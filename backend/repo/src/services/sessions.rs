//! Sessions of users in the cache: one hash a user, one field a connection (pipeline.md F3).
//!
//! A field names gateway, incarnation and address, so removing one connection never touches a newer one, nor one of a
//! gateway's predecessor or successor. A second set of hashes lists each gateway incarnation's users.

use bytes::Bytes;
use gochat_infra::cache::{Cache, CacheError, Entry};
use gochat_proto::im::repo::v1::Session;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

/// Sessions end by themselves when their gateway does not renew them.
const SESSION_TTL: Duration = Duration::from_secs(5 * 60);
/// A gateway's list outlives its sessions.
const GATEWAY_TTL: Duration = Duration::from_secs(10 * 60);
const LAST_SEEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// A gateway's users are spread over so many hashes.
const GATEWAY_SHARDS: i64 = 64;

/// The sessions.
#[derive(Clone)]
pub(super) struct Sessions {
    pub(super) cache: Arc<dyn Cache>,
}

fn user_key(user: i64) -> String {
    format!("user:online:{user}")
}

fn gateway_key(gateway: &str, incarnation: u64, shard: i64) -> String {
    format!("gateway:users:{gateway}:{incarnation:x}:{shard}")
}

fn field_of(session: &Session) -> String {
    format!("{}:{:x}:{:x}", session.gateway_id, session.gateway_incarnation, session.address)
}

impl Sessions {
    /// All sessions of each user, oldest first.
    pub(super) async fn of(&self, users: &[i64]) -> Result<Vec<Vec<Session>>, CacheError> {
        let keys: Vec<String> = users.iter().map(|user| user_key(*user)).collect();
        let decoded = |fields: Vec<(String, Bytes)>| {
            let mut sessions: Vec<Session> = fields.into_iter().filter_map(|(_, v)| Session::decode(v).ok()).collect();
            sessions.sort_unstable_by_key(|s| (s.connected_at, s.gateway_incarnation, s.address));
            sessions
        };
        Ok(self.cache.hash_get(&keys).await?.into_iter().map(decoded).collect())
    }

    /// Adds sessions.
    pub(super) async fn add(&self, sessions: &[(i64, Session)]) -> Result<(), CacheError> {
        if sessions.is_empty() {
            return Ok(());
        }
        let entry = |(user, s): &(i64, Session)| (user_key(*user), field_of(s), Bytes::from(s.encode_to_vec()));
        self.cache.hash_set(sessions.iter().map(entry).collect(), SESSION_TTL).await?;
        let listed = |(user, s): &(i64, Session)| {
            let key = gateway_key(&s.gateway_id, s.gateway_incarnation, user % GATEWAY_SHARDS);
            (key, format!("{user}:{:x}", s.address), Bytes::new())
        };
        self.cache.hash_set(sessions.iter().map(listed).collect(), GATEWAY_TTL).await
    }

    /// Removes sessions; tells for each whether the user has others.
    pub(super) async fn remove(&self, sessions: &[(i64, Session)]) -> Result<Vec<bool>, CacheError> {
        if sessions.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<_> = sessions.iter().map(|(user, s)| (user_key(*user), field_of(s))).collect();
        let left = self.cache.hash_delete(&fields).await?;
        let listed = |(user, s): &(i64, Session)| {
            (
                gateway_key(&s.gateway_id, s.gateway_incarnation, user % GATEWAY_SHARDS),
                format!("{user}:{:x}", s.address),
            )
        };
        self.cache.hash_delete(&sessions.iter().map(listed).collect::<Vec<_>>()).await?;
        Ok(left)
    }

    /// Renews users' sessions and the lists of their gateway.
    pub(super) async fn renew(&self, gateway: &str, incarnation: u64, users: &[i64]) -> Result<(), CacheError> {
        let keys: Vec<String> = users.iter().map(|user| user_key(*user)).collect();
        self.cache.expire(&keys, SESSION_TTL).await?;
        let lists: Vec<String> = (0..GATEWAY_SHARDS).map(|shard| gateway_key(gateway, incarnation, shard)).collect();
        self.cache.expire(&lists, GATEWAY_TTL).await?;
        Ok(())
    }

    /// Users and addresses of one gateway incarnation.
    pub(super) async fn of_gateway(&self, gateway: &str, incarnation: u64) -> Result<Vec<(i64, Session)>, CacheError> {
        let lists: Vec<String> = (0..GATEWAY_SHARDS).map(|shard| gateway_key(gateway, incarnation, shard)).collect();
        let parse = |(field, _): (String, Bytes)| {
            let (user, address) = field.split_once(':')?;
            let session = Session {
                gateway_id: gateway.to_owned(),
                gateway_incarnation: incarnation,
                address: u64::from_str_radix(address, 16).ok()?,
                ..Session::default()
            };
            Some((user.parse().ok()?, session))
        };
        Ok(self.cache.hash_get(&lists).await?.into_iter().flatten().filter_map(parse).collect())
    }

    /// Remembers when users were last seen, Unix seconds.
    pub(super) async fn set_last_seen(&self, users: &[i64], now: i64) -> Result<(), CacheError> {
        let entry = |user: &i64| Entry {
            key: format!("last_online:{user}"),
            value: Bytes::from(now.to_string()),
            ttl: Some(LAST_SEEN_TTL),
        };
        if users.is_empty() { Ok(()) } else { self.cache.set(users.iter().map(entry).collect()).await }
    }

    /// When users were last seen, Unix seconds; 0: unknown.
    pub(super) async fn last_seen(&self, users: &[i64]) -> Result<Vec<i64>, CacheError> {
        let keys: Vec<String> = users.iter().map(|user| format!("last_online:{user}")).collect();
        let parse = |value: Option<Bytes>| std::str::from_utf8(&value?).ok()?.parse().ok();
        Ok(self.cache.get(&keys).await?.into_iter().map(|value| parse(value).unwrap_or(0)).collect())
    }
}
