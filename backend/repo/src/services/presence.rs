//! OnlineStatusService: who is connected where, and which sessions must go (pipeline.md F3, H2).

use super::activity::Activity;
use super::rooms::Rooms;
use super::sessions::Sessions;
use super::{convert, fail};
use crate::directory::Directory;
use crate::services::revoked::RevokedUsers;
use crate::store::Store;
use crate::store::token::family_key;
use crate::store::user::{Status as Standing, User};
use gochat_infra::clock::Clock;
use gochat_proto::im::repo::v1::online_status_service_server::OnlineStatusService;
use gochat_proto::im::repo::v1::{
    BatchUpdateRequest, BatchUpdateResponse, CleanupExpiredStatusRequest, CleanupExpiredStatusResponse,
    GetConversationGatewaysRequest, GetConversationGatewaysResponse, GetGatewayUsersRequest, GetGatewayUsersResponse,
    GetRoomRequest, GetRoomResponse, GetUserOnlineStatusRequest, GetUserOnlineStatusResponse,
    GetUsersOnlineStatusRequest, GetUsersOnlineStatusResponse, OnlineStatus, PresenceEntry, ReconcileRoomsRequest,
    ReconcileRoomsResponse, RemoveGatewayRequest, RemoveGatewayResponse, ReplacedSession, RevokedSession, Session,
    SessionPolicy, TakeDueOfflineRequest, TakeDueOfflineResponse,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

const USERS_MAX: usize = 1000;
const DEVICES_DEFAULT: usize = 5;
const BATCH_DEFAULT: usize = 500;
const BATCH_MAX: usize = 1000;
const ROOMS_MAX: usize = 50_000;
/// A user without a session is offline when there is none in so long either.
const CONFIRM_SECONDS: i64 = 30;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    pub(super) sessions: Sessions,
    rooms: Rooms,
    activity: Arc<Activity>,
    store: Arc<dyn Store>,
    directory: Arc<Directory>,
    revoked: Arc<RevokedUsers>,
    clock: Arc<dyn Clock>,
    /// Registrations are read, judged and written by one at a time, so that a policy holds between two gateways.
    registering: Arc<Mutex<()>>,
}

/// One gateway process.
struct Gateway<'a> {
    id: &'a str,
    incarnation: u64,
}

impl Gateway<'_> {
    fn session(&self, entry: &PresenceEntry, now: i64) -> Session {
        Session {
            gateway_id: self.id.to_owned(),
            gateway_incarnation: self.incarnation,
            address: entry.address,
            device_id: entry.device_id.clone(),
            client_info: entry.client_info.clone(),
            connected_at: if entry.at > 0 { entry.at } else { now },
            last_seen: now,
            token_version: entry.token_version,
            token_hash: entry.token_hash.clone(),
            family_id: entry.family_id.clone(),
        }
    }
}

impl Presence {
    pub(crate) fn new(
        sessions: Sessions,
        rooms: Rooms,
        directory: Arc<Directory>,
        revoked: Arc<RevokedUsers>,
        clock: Arc<dyn Clock>,
    ) -> Presence {
        let store = rooms.store.clone();
        let (activity, registering) = (Arc::default(), Arc::default());
        Presence { sessions, rooms, activity, store, directory, revoked, clock, registering }
    }

    fn now(&self) -> i64 {
        convert::seconds(self.clock.unix_ms())
    }

    /// Registers connections that came; those that must go at once are answered and not registered. Answers with the users who
    /// have a session by it.
    async fn register(
        &self,
        gateway: &Gateway<'_>,
        entries: &[PresenceEntry],
        policy: Policy,
        answer: &mut BatchUpdateResponse,
    ) -> Result<Vec<i64>, Status> {
        let users = entries.iter().map(|e| convert::id(&e.user_id, "user_id")).collect::<Result<Vec<_>, _>>()?;
        let now = self.now();
        let came: Vec<Session> = entries.iter().map(|entry| gateway.session(entry, now)).collect();
        let bans = self.bans(&users, &came, entries).await?;
        let known = self.sessions.of(&users).await.map_err(fail::cache)?;
        // Sessions of users who stand in this call twice are followed here.
        let mut standing: HashMap<i64, Vec<Session>> = users.iter().copied().zip(known).collect();
        let (mut added, mut removed, mut were_away) = (Vec::new(), Vec::new(), BTreeSet::new());
        for ((user, session), ban) in users.iter().zip(came).zip(bans) {
            if let Some(ban) = ban {
                answer.revoked.push(revoked_session(*user, session.address, ban));
                continue;
            }
            let sessions = standing.entry(*user).or_default();
            if sessions.is_empty() {
                were_away.insert(*user);
            }
            for old in policy.replaced_by(&session, sessions) {
                added.retain(|(_, s)| !same_connection(s, &old));
                answer.replaced.push(replaced_session(*user, &old));
                removed.push((*user, old));
            }
            sessions.retain(|s| !same_connection(s, &session));
            sessions.push(session.clone());
            added.push((*user, session));
        }
        self.sessions.add(&added).await.map_err(fail::cache)?;
        self.sessions.remove(&removed).await.map_err(fail::cache)?;
        let users: BTreeSet<i64> = added.iter().map(|(user, _)| *user).collect();
        let users: Vec<i64> = users.into_iter().collect();
        self.sessions.set_renewed(gateway.id, gateway.incarnation, &users, now).await.map_err(fail::cache)?;
        // Who comes back before the end was confirmed was never away for anybody.
        let awaited = self.sessions.cancel_offline(&users).await.map_err(fail::cache)?;
        let new = users.iter().zip(awaited).filter(|(user, awaited)| were_away.contains(user) && !awaited);
        answer.became_online = new.map(|(user, _)| user.to_string()).collect();
        Ok(users)
    }

    /// For each connection: why it must not be.
    async fn bans(
        &self,
        users: &[i64],
        came: &[Session],
        entries: &[PresenceEntry],
    ) -> Result<Vec<Option<Ban>>, Status> {
        let mut bans = self.bans_of_tokens(users, came).await?;
        for ((ban, session), entry) in bans.iter_mut().zip(came).zip(entries) {
            let has_ticket = ban.is_none() && !entry.ticket_id.is_empty();
            if has_ticket && !self.sessions.use_ticket(&entry.ticket_id, session).await.map_err(fail::cache)? {
                *ban = Some(Ban::Ticket);
            }
        }
        Ok(bans)
    }

    /// For each session: whether its account, login or token has ended.
    async fn bans_of_tokens(&self, users: &[i64], sessions: &[Session]) -> Result<Vec<Option<Ban>>, Status> {
        let accounts = self.directory.users(users.iter().copied()).await.map_err(fail::store)?;
        let tokens = sessions.iter().map(|s| s.token_hash.clone());
        let logins =
            sessions.iter().map(|s| if s.family_id.is_empty() { String::new() } else { family_key(&s.family_id) });
        let keys: Vec<String> = tokens.chain(logins).collect();
        let listed = match keys.iter().all(String::is_empty) {
            true => vec![false; keys.len()],
            false => self.store.blacklisted(&keys, self.now()).await.map_err(fail::store)?,
        };
        let (tokens, logins) = listed.split_at(sessions.len());
        let judge = |(((user, session), token), login): (((&i64, &Session), &bool), &bool)| {
            let account = accounts.get(user).map(Arc::as_ref);
            Ban::of(account, session.token_version).or((*token || *login).then_some(Ban::Token))
        };
        Ok(users.iter().zip(sessions).zip(tokens).zip(logins).map(judge).collect())
    }

    /// Removes connections that went; answers with the users who have none left, and whether they logged out.
    async fn unregister(&self, gateway: &Gateway<'_>, entries: &[PresenceEntry]) -> Result<Vec<(i64, bool)>, Status> {
        let gone = entries.iter().map(|e| Ok((convert::id(&e.user_id, "user_id")?, gateway.session(e, 0))));
        let gone = gone.collect::<Result<Vec<_>, Status>>()?;
        let left = self.sessions.remove(&gone).await.map_err(fail::cache)?;
        let offline = gone.iter().zip(entries).zip(left).filter(|(_, left)| !left);
        let offline: Vec<(i64, bool)> = offline.map(|(((user, _), entry), _)| (*user, entry.logout)).collect();
        let users: Vec<i64> = offline.iter().map(|(user, _)| *user).collect();
        self.sessions.forget_renewed(gateway.id, gateway.incarnation, &users).await.map_err(fail::cache)?;
        self.went(&users).await?;
        let logged_out: Vec<i64> = offline.iter().filter(|(_, logout)| *logout).map(|(user, _)| *user).collect();
        self.sessions.cancel_offline(&logged_out).await.map_err(fail::cache)?;
        Ok(offline)
    }

    /// Users have no session any more: seen until now, offline when that stays so.
    async fn went(&self, users: &[i64]) -> Result<(), Status> {
        let now = self.now();
        self.sessions.set_last_seen(users, now).await.map_err(fail::cache)?;
        self.sessions.schedule_offline(users, now + CONFIRM_SECONDS).await.map_err(fail::cache)
    }

    /// Renews sessions; answers with those of this gateway whose user, login or token was revoked meanwhile.
    async fn renew(&self, gateway: &Gateway<'_>, users: &[i64]) -> Result<Vec<RevokedSession>, Status> {
        let now = self.now();
        let exists = self.sessions.renew(gateway.id, gateway.incarnation, users).await.map_err(fail::cache)?;
        let known: Vec<i64> = users.iter().zip(exists).filter(|(_, exists)| *exists).map(|(user, _)| *user).collect();
        self.sessions.set_renewed(gateway.id, gateway.incarnation, &known, now).await.map_err(fail::cache)?;
        let suspects = self.revoked.among(users.iter().copied());
        let sessions = self.sessions.of(&suspects).await.map_err(fail::cache)?;
        let is_here = |s: &Session| s.gateway_id == gateway.id && s.gateway_incarnation == gateway.incarnation;
        let here = suspects.iter().zip(sessions).flat_map(|(user, sessions)| {
            sessions.into_iter().filter(is_here).map(|session| (*user, session)).collect::<Vec<_>>()
        });
        let (owners, here): (Vec<i64>, Vec<Session>) = here.unzip();
        let bans = self.bans_of_tokens(&owners, &here).await?;
        let revoked = owners.iter().zip(&here).zip(bans);
        Ok(revoked.filter_map(|((user, s), ban)| Some(revoked_session(*user, s.address, ban?))).collect())
    }

    /// Nobody waits for this, and nothing but the clean-up of guests looks at it: a failure is only told.
    async fn note_activity(&self, users: &[i64]) {
        let now = self.now();
        let due = self.activity.note(users, now);
        if !due.is_empty()
            && let Err(error) = self.store.touch_users(&due, now.saturating_mul(1000)).await
        {
            tracing::warn!(%error, users = due.len(), "when users were last active was not written");
        }
    }

    async fn statuses(&self, users: &[i64]) -> Result<Vec<OnlineStatus>, Status> {
        let sessions = self.sessions.of(users).await.map_err(fail::cache)?;
        let last_seen = self.sessions.last_seen(users).await.map_err(fail::cache)?;
        let status = |((user, sessions), last_seen): ((&i64, Vec<Session>), i64)| {
            let newest = sessions.last().cloned().unwrap_or_default();
            let gateways: BTreeSet<String> = sessions.iter().map(|s| s.gateway_id.clone()).collect();
            OnlineStatus {
                user_id: user.to_string(),
                is_online: !sessions.is_empty(),
                gateway_id: newest.gateway_id,
                last_seen: sessions.iter().map(|s| s.last_seen).max().unwrap_or(0).max(last_seen),
                client_info: newest.client_info,
                gateway_ids: gateways.into_iter().collect(),
                sessions,
            }
        };
        Ok(users.iter().zip(sessions).zip(last_seen).map(status).collect())
    }
}

#[tonic::async_trait]
impl OnlineStatusService for Presence {
    async fn batch_update(
        &self,
        request: Request<BatchUpdateRequest>,
    ) -> Result<Response<BatchUpdateResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let policy = Policy { kind: request.policy(), max_devices: request.max_devices };
        let alive = convert::ids(&request.alive, "alive")?;
        let mut answer = BatchUpdateResponse::default();
        let one = self.registering.lock().await;
        let offline = self.unregister(&gateway, &request.offline).await?;
        let came = self.register(&gateway, &request.online, policy, &mut answer).await?;
        answer.revoked.extend(self.renew(&gateway, &alive).await?);
        drop(one);
        self.note_activity(&alive).await;
        // Who left and came in one call was not away.
        let left: HashSet<String> = offline.iter().map(|(user, _)| user.to_string()).collect();
        answer.became_online.retain(|user| !left.contains(user));
        let gone = offline.into_iter().filter(|(user, _)| came.binary_search(user).is_err());
        let (logged_out, pending): (Vec<_>, Vec<_>) = gone.partition(|(_, logout)| *logout);
        let ids = |users: Vec<(i64, bool)>| users.iter().map(|(user, _)| user.to_string()).collect();
        (answer.logged_out, answer.pending_offline) = (ids(logged_out), ids(pending));
        answer.rooms = self.rooms.of_users(gateway.id, &came).await?;
        Ok(Response::new(answer))
    }

    async fn get_user_online_status(
        &self,
        request: Request<GetUserOnlineStatusRequest>,
    ) -> Result<Response<GetUserOnlineStatusResponse>, Status> {
        let user = convert::id(&request.into_inner().user_id, "user_id")?;
        Ok(Response::new(GetUserOnlineStatusResponse { status: self.statuses(&[user]).await?.pop() }))
    }

    async fn get_users_online_status(
        &self,
        request: Request<GetUsersOnlineStatusRequest>,
    ) -> Result<Response<GetUsersOnlineStatusResponse>, Status> {
        let request = request.into_inner();
        if request.user_ids.len() > USERS_MAX {
            return Err(fail::invalid("at most 1000 user_ids"));
        }
        let users = convert::ids(&request.user_ids, "user_ids")?;
        Ok(Response::new(GetUsersOnlineStatusResponse { statuses: self.statuses(&users).await? }))
    }

    async fn remove_gateway(
        &self,
        request: Request<RemoveGatewayRequest>,
    ) -> Result<Response<RemoveGatewayResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let _one = self.registering.lock().await;
        let gone = self.sessions.of_gateway(gateway.id, gateway.incarnation).await.map_err(fail::cache)?;
        let left = self.sessions.remove(&gone).await.map_err(fail::cache)?;
        let users: BTreeSet<i64> = gone.iter().map(|(user, _)| *user).collect();
        let users: Vec<i64> = users.into_iter().collect();
        self.sessions.forget_renewed(gateway.id, gateway.incarnation, &users).await.map_err(fail::cache)?;
        let offline: BTreeSet<i64> =
            gone.iter().zip(left).filter(|(_, left)| !left).map(|((user, _), _)| *user).collect();
        self.went(&offline.into_iter().collect::<Vec<_>>()).await?;
        let removed_user_ids = users.iter().map(i64::to_string).collect();
        Ok(Response::new(RemoveGatewayResponse { removed_user_ids }))
    }

    async fn get_gateway_users(
        &self,
        request: Request<GetGatewayUsersRequest>,
    ) -> Result<Response<GetGatewayUsersResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let cursor = match request.cursor.split_once('.') {
            None if request.cursor.is_empty() => Some((0, 0)),
            None => None,
            Some((shard, user)) => shard.parse().ok().zip(user.parse().ok()),
        };
        let from = cursor.ok_or_else(|| fail::invalid("cursor is not one that was handed out"))?;
        let page = self.sessions.page_of_gateway(gateway.id, gateway.incarnation, from, batch(request.limit));
        let (users, next) = page.await.map_err(fail::cache)?;
        Ok(Response::new(GetGatewayUsersResponse {
            user_ids: users.iter().map(i64::to_string).collect(),
            next_cursor: next.map_or_else(String::new, |(shard, user)| format!("{shard}.{user}")),
        }))
    }

    async fn take_due_offline(
        &self,
        request: Request<TakeDueOfflineRequest>,
    ) -> Result<Response<TakeDueOfflineResponse>, Status> {
        let request = request.into_inner();
        let now = if request.now > 0 { request.now } else { self.now() };
        let _one = self.registering.lock().await;
        let due = self.sessions.take_due_offline(now, batch(request.limit)).await.map_err(fail::cache)?;
        let mut users = self.statuses(&due).await?;
        users.retain(|status| !status.is_online);
        Ok(Response::new(TakeDueOfflineResponse { users }))
    }

    async fn cleanup_expired_status(
        &self,
        request: Request<CleanupExpiredStatusRequest>,
    ) -> Result<Response<CleanupExpiredStatusResponse>, Status> {
        let request = request.into_inner();
        let limit = batch(request.batch_size);
        let _one = self.registering.lock().await;
        let taken = self.sessions.take_unrenewed(request.expired_before, limit).await.map_err(fail::cache)?;
        let users: BTreeSet<i64> = taken.iter().map(|(user, ..)| *user).collect();
        let users: Vec<i64> = users.into_iter().collect();
        let sessions = self.sessions.of(&users).await.map_err(fail::cache)?;
        let is_expired = |user: i64, session: &Session| {
            let here = |(u, gateway, incarnation, _): &(i64, String, u64, i64)| {
                (*u, gateway, *incarnation) == (user, &session.gateway_id, session.gateway_incarnation)
            };
            taken.iter().any(here)
        };
        let (mut expired, mut gone) = (Vec::new(), Vec::new());
        for (user, sessions) in users.iter().zip(sessions) {
            let (over, alive): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|s| is_expired(*user, s));
            // Without one it is what is left of a user who went from another gateway last.
            let is_last = !over.is_empty() && alive.is_empty();
            gone.extend(over.into_iter().map(|session| (*user, session)));
            if is_last {
                let seen = taken.iter().filter(|(u, ..)| u == user).map(|(.., at)| *at).max().unwrap_or(0);
                expired.push(OnlineStatus { user_id: user.to_string(), last_seen: seen, ..OnlineStatus::default() });
            }
        }
        self.sessions.remove(&gone).await.map_err(fail::cache)?;
        let cleaned_count = i64::try_from(gone.len()).unwrap_or(i64::MAX);
        Ok(Response::new(CleanupExpiredStatusResponse { cleaned_count, expired }))
    }

    async fn get_room(&self, request: Request<GetRoomRequest>) -> Result<Response<GetRoomResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let room = self.rooms.room(&request.conversation_id, gateway.id, gateway.incarnation).await?;
        Ok(Response::new(room))
    }

    async fn reconcile_rooms(
        &self,
        request: Request<ReconcileRoomsRequest>,
    ) -> Result<Response<ReconcileRoomsResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        if request.rooms.len() > ROOMS_MAX {
            return Err(fail::invalid("at most 50000 rooms"));
        }
        let outdated = self.rooms.outdated(gateway.id, request.rooms).await?;
        Ok(Response::new(ReconcileRoomsResponse { outdated }))
    }

    async fn get_conversation_gateways(
        &self,
        request: Request<GetConversationGatewaysRequest>,
    ) -> Result<Response<GetConversationGatewaysResponse>, Status> {
        let known = self.rooms.gateways(&request.into_inner().conversation_id).await?;
        let (known, gateway_ids) = (known.is_some(), known.unwrap_or_default());
        Ok(Response::new(GetConversationGatewaysResponse { gateway_ids, known }))
    }
}

/// Size of a batch; one out of bounds is bent into them.
fn batch(asked: i32) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => BATCH_DEFAULT,
        Ok(size) => size.min(BATCH_MAX),
    }
}

/// Why a session must not be.
#[derive(Clone, Copy)]
enum Ban {
    /// No such account.
    Unknown,
    /// The account may not act.
    Disabled,
    /// The token or its login was revoked.
    Token,
    /// Its ticket was used by another connection.
    Ticket,
}

impl Ban {
    /// Judges an account and the version its token carries.
    fn of(account: Option<&User>, token_version: i64) -> Option<Ban> {
        match account {
            None => Some(Ban::Unknown),
            Some(account) if account.status != Standing::Normal => Some(Ban::Disabled),
            Some(account) => (token_version < account.token_version).then_some(Ban::Token),
        }
    }

    /// Close code (spec 02 §6) and reason.
    fn close(self) -> (i32, &'static str) {
        match self {
            Ban::Unknown => (4001, "no such account"),
            Ban::Disabled => (4003, "account disabled"),
            Ban::Token => (4001, "token revoked"),
            Ban::Ticket => (4001, "ticket used before"),
        }
    }
}

/// How many sessions a user may have.
#[derive(Clone, Copy)]
struct Policy {
    kind: SessionPolicy,
    max_devices: i32,
}

impl Policy {
    /// Takes the sessions that a new one replaces out of the user's.
    fn replaced_by(self, new: &Session, sessions: &mut Vec<Session>) -> Vec<Session> {
        let others = |s: &mut Session| !same_connection(s, new);
        match self.kind {
            SessionPolicy::Unspecified | SessionPolicy::Single => sessions.extract_if(.., others).collect(),
            SessionPolicy::PerDevice => {
                sessions.extract_if(.., |s| others(s) && s.device_id == new.device_id).collect()
            }
            SessionPolicy::Multi => {
                let max = usize::try_from(self.max_devices).ok().filter(|m| *m > 0).unwrap_or(DEVICES_DEFAULT);
                let there = sessions.iter().filter(|s| !same_connection(s, new)).count();
                let surplus = (there + 1).saturating_sub(max);
                let mut taken = 0;
                let oldest = |s: &mut Session| {
                    let take = taken < surplus && others(s);
                    taken += usize::from(take);
                    take
                };
                sessions.extract_if(.., oldest).collect()
            }
        }
    }
}

fn same_connection(a: &Session, b: &Session) -> bool {
    (&a.gateway_id, a.gateway_incarnation, a.address) == (&b.gateway_id, b.gateway_incarnation, b.address)
}

fn gateway(id: &str, incarnation: u64) -> Result<Gateway<'_>, Status> {
    if id.is_empty() || id.contains(':') || incarnation == 0 {
        return Err(fail::invalid("gateway_id and gateway_incarnation are required"));
    }
    Ok(Gateway { id, incarnation })
}

fn revoked_session(user: i64, address: u64, ban: Ban) -> RevokedSession {
    let (close_code, reason) = ban.close();
    RevokedSession { user_id: user.to_string(), address, close_code, reason: reason.to_owned() }
}

fn replaced_session(user: i64, old: &Session) -> ReplacedSession {
    ReplacedSession {
        gateway_id: old.gateway_id.clone(),
        device_id: old.device_id.clone(),
        gateway_incarnation: old.gateway_incarnation,
        address: old.address,
        user_id: user.to_string(),
    }
}
