//! Sessions of users in the cache: one hash a user, one field a connection (pipeline.md F3).
//!
//! A field names gateway, incarnation and address, so removing one connection never touches a newer one, nor one of a
//! gateway's predecessor or successor. A second set of hashes lists each gateway incarnation's users; sorted sets hold when each
//! user was last renewed on a gateway, and whose end is to be confirmed.

use bytes::Bytes;
use gochat_infra::cache::{Cache, CacheError, Entry};
use gochat_proto::im::repo::v1::Session;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

/// The clean-up ends sessions that were not renewed for five minutes, and tells of it; without it they end by themselves.
const SESSION_TTL: Duration = Duration::from_secs(10 * 60);
/// A gateway's list outlives its sessions.
const GATEWAY_TTL: Duration = Duration::from_secs(20 * 60);
/// A ticket is void long before its use is forgotten.
const TICKET_TTL: Duration = Duration::from_secs(60);
/// Users without a session, by the Unix second when that counts.
const PENDING: &str = "presence:pending_offline";
/// User and gateway process, by the Unix second of the last renewal.
const RENEWED: &str = "presence:renewed";
const LAST_SEEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// A gateway's users are spread over so many hashes.
const GATEWAY_SHARDS: i64 = 64;

/// The sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) cache: Arc<dyn Cache>,
}

fn user_key(user: i64) -> String {
    format!("user:online:{user}")
}

fn gateway_key(gateway: &str, incarnation: u64, shard: i64) -> String {
    format!("gateway:users:{gateway}:{incarnation:x}:{shard}")
}

fn renewed_member(user: i64, gateway: &str, incarnation: u64) -> String {
    format!("{user}:{gateway}:{incarnation:x}")
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

    /// Renews users' sessions and the lists of their gateway; tells for each user whether there are any.
    pub(super) async fn renew(&self, gateway: &str, incarnation: u64, users: &[i64]) -> Result<Vec<bool>, CacheError> {
        let keys: Vec<String> = users.iter().map(|user| user_key(*user)).collect();
        let exist = self.cache.expire(&keys, SESSION_TTL).await?;
        let lists: Vec<String> = (0..GATEWAY_SHARDS).map(|shard| gateway_key(gateway, incarnation, shard)).collect();
        self.cache.expire(&lists, GATEWAY_TTL).await?;
        Ok(exist)
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

    /// One page of the users of a gateway incarnation: how far it got last time, and how far it got now.
    pub(super) async fn page_of_gateway(
        &self,
        gateway: &str,
        incarnation: u64,
        (from_shard, after): (i64, i64),
        limit: usize,
    ) -> Result<(Vec<i64>, Option<(i64, i64)>), CacheError> {
        let mut page = Vec::new();
        for shard in from_shard..GATEWAY_SHARDS {
            let listed = self.cache.hash_get(&[gateway_key(gateway, incarnation, shard)]).await?;
            let user = |(field, _): &(String, Bytes)| field.split_once(':')?.0.parse::<i64>().ok();
            let mut users: Vec<i64> = listed.iter().flatten().filter_map(user).collect();
            users.sort_unstable();
            users.dedup();
            for user in users.into_iter().filter(|user| shard > from_shard || *user > after) {
                if page.len() == limit {
                    let last = page.last().copied().unwrap_or(after);
                    return Ok((page, Some((last % GATEWAY_SHARDS, last))));
                }
                page.push(user);
            }
        }
        Ok((page, None))
    }

    /// Notes that users were renewed on a gateway.
    pub(super) async fn set_renewed(
        &self,
        gateway: &str,
        incarnation: u64,
        users: &[i64],
        now: i64,
    ) -> Result<(), CacheError> {
        let member = |user: &i64| (renewed_member(*user, gateway, incarnation), now);
        self.cache.sorted_add(RENEWED, users.iter().map(member).collect()).await
    }

    /// Users who left a gateway need no renewal there.
    pub(super) async fn forget_renewed(
        &self,
        gateway: &str,
        incarnation: u64,
        users: &[i64],
    ) -> Result<(), CacheError> {
        let members: Vec<String> = users.iter().map(|user| renewed_member(*user, gateway, incarnation)).collect();
        self.cache.sorted_remove(RENEWED, &members).await.map(drop)
    }

    /// Takes out users who were last renewed on a gateway at `before` or earlier: user, gateway, incarnation, when.
    pub(super) async fn take_unrenewed(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<(i64, String, u64, i64)>, CacheError> {
        let taken = self.cache.sorted_take(RENEWED, before, limit).await?;
        let parse = |(member, at): (String, i64)| {
            let mut parts = member.split(':');
            let user = parts.next()?.parse().ok()?;
            let gateway = parts.next()?.to_owned();
            Some((user, gateway, u64::from_str_radix(parts.next()?, 16).ok()?, at))
        };
        Ok(taken.into_iter().filter_map(parse).collect())
    }

    /// Users without a session are to be looked at when `due`, Unix seconds.
    pub(super) async fn schedule_offline(&self, users: &[i64], due: i64) -> Result<(), CacheError> {
        self.cache.sorted_add(PENDING, users.iter().map(|user| (user.to_string(), due)).collect()).await
    }

    /// Users are back, or need no look; tells for each whether one was to come.
    pub(super) async fn cancel_offline(&self, users: &[i64]) -> Result<Vec<bool>, CacheError> {
        let members: Vec<String> = users.iter().map(i64::to_string).collect();
        self.cache.sorted_remove(PENDING, &members).await
    }

    /// Takes out users whose look is due.
    pub(super) async fn take_due_offline(&self, now: i64, limit: usize) -> Result<Vec<i64>, CacheError> {
        let taken = self.cache.sorted_take(PENDING, now, limit).await?;
        Ok(taken.into_iter().filter_map(|(user, _)| user.parse().ok()).collect())
    }

    /// Uses up a ticket for a connection; true also when the same connection asks again.
    pub(super) async fn use_ticket(&self, ticket: &str, session: &Session) -> Result<bool, CacheError> {
        let key = format!("ticket:{ticket}");
        let connection = Bytes::from(field_of(session));
        let entry = Entry { key: key.clone(), value: connection.clone(), ttl: Some(TICKET_TTL) };
        if self.cache.set_if_absent(entry).await? {
            return Ok(true);
        }
        Ok(self.cache.get(&[key]).await?.pop().flatten() == Some(connection))
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
