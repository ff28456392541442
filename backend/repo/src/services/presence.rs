//! OnlineStatusService: who is connected where, and which sessions must go (pipeline.md F3, H2).

use super::sessions::Sessions;
use super::{convert, fail};
use crate::directory::Directory;
use crate::services::revoked::RevokedUsers;
use crate::store::Store;
use crate::store::user::{Status as Standing, User};
use gochat_infra::clock::Clock;
use gochat_proto::im::repo::v1::online_status_service_server::OnlineStatusService;
use gochat_proto::im::repo::v1::{
    BatchUpdateRequest, BatchUpdateResponse, GetUserOnlineStatusRequest, GetUserOnlineStatusResponse,
    GetUsersOnlineStatusRequest, GetUsersOnlineStatusResponse, OnlineStatus, PresenceEntry, RemoveGatewayRequest,
    RemoveGatewayResponse, ReplacedSession, RevokedSession, Session, SessionPolicy, SetUserOfflineRequest,
    SetUserOfflineResponse, SetUserOnlineRequest, SetUserOnlineResponse, UpdateHeartbeatRequest,
    UpdateHeartbeatResponse,
};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

const USERS_MAX: usize = 1000;
const DEVICES_DEFAULT: usize = 5;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    pub(super) sessions: Sessions,
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
        cache: Arc<dyn gochat_infra::cache::Cache>,
        store: Arc<dyn Store>,
        directory: Arc<Directory>,
        revoked: Arc<RevokedUsers>,
        clock: Arc<dyn Clock>,
    ) -> Presence {
        Presence { sessions: Sessions { cache }, store, directory, revoked, clock, registering: Arc::default() }
    }

    fn now(&self) -> i64 {
        convert::seconds(self.clock.unix_ms())
    }

    /// Registers connections that came; those that must go at once are answered and not registered.
    async fn register(
        &self,
        gateway: &Gateway<'_>,
        entries: &[PresenceEntry],
        policy: Policy,
        answer: &mut BatchUpdateResponse,
    ) -> Result<(), Status> {
        let users = entries.iter().map(|e| convert::id(&e.user_id, "user_id")).collect::<Result<Vec<_>, _>>()?;
        let revoked = self.revoked_now(&users, entries).await?;
        let now = self.now();
        let known = self.sessions.of(&users).await.map_err(fail::cache)?;
        // Sessions of users who stand in this call twice are followed here.
        let mut standing: std::collections::HashMap<i64, Vec<Session>> = users.iter().copied().zip(known).collect();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for ((user, entry), ban) in users.iter().zip(entries).zip(revoked) {
            if let Some(ban) = ban {
                answer.revoked.push(revoked_session(*user, entry.address, ban));
                continue;
            }
            let session = gateway.session(entry, now);
            let sessions = standing.entry(*user).or_default();
            if sessions.is_empty() {
                answer.became_online.push(user.to_string());
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
        Ok(())
    }

    /// For each connection: why it must not be.
    async fn revoked_now(&self, users: &[i64], entries: &[PresenceEntry]) -> Result<Vec<Option<Ban>>, Status> {
        let accounts = self.directory.users(users.iter().copied()).await.map_err(fail::store)?;
        let hashes: Vec<String> = entries.iter().map(|e| e.token_hash.clone()).collect();
        let listed = match hashes.iter().all(String::is_empty) {
            true => vec![false; hashes.len()],
            false => self.store.blacklisted(&hashes, self.now()).await.map_err(fail::store)?,
        };
        let judge = |((user, entry), listed): ((&i64, &PresenceEntry), bool)| {
            let account = accounts.get(user).map(Arc::as_ref);
            Ban::of(account, entry.token_version).or(listed.then_some(Ban::Token))
        };
        Ok(users.iter().zip(entries).zip(listed).map(judge).collect())
    }

    /// Removes connections that went; answers with the users who have none left.
    async fn unregister(&self, gateway: &Gateway<'_>, entries: &[PresenceEntry]) -> Result<Vec<(i64, bool)>, Status> {
        let gone = entries.iter().map(|e| Ok((convert::id(&e.user_id, "user_id")?, gateway.session(e, 0))));
        let gone = gone.collect::<Result<Vec<_>, Status>>()?;
        let left = self.sessions.remove(&gone).await.map_err(fail::cache)?;
        let offline = gone.iter().zip(entries).zip(left).filter(|(_, left)| !left);
        let offline: Vec<(i64, bool)> = offline.map(|(((user, _), entry), _)| (*user, entry.handover)).collect();
        let users: Vec<i64> = offline.iter().map(|(user, _)| *user).collect();
        self.sessions.set_last_seen(&users, self.now()).await.map_err(fail::cache)?;
        Ok(offline)
    }

    /// Renews sessions; answers with those of this gateway whose user was revoked meanwhile.
    async fn renew(&self, gateway: &Gateway<'_>, users: &[String]) -> Result<Vec<RevokedSession>, Status> {
        let users = convert::ids(users, "alive")?;
        self.sessions.renew(gateway.id, gateway.incarnation, &users).await.map_err(fail::cache)?;
        let suspects = self.revoked.among(users.iter().copied());
        let accounts = self.directory.users(suspects.iter().copied()).await.map_err(fail::store)?;
        let sessions = self.sessions.of(&suspects).await.map_err(fail::cache)?;
        let mut revoked = Vec::new();
        for (user, sessions) in suspects.iter().zip(sessions) {
            let account = accounts.get(user).map(Arc::as_ref);
            let is_here = |s: &&Session| s.gateway_id == gateway.id && s.gateway_incarnation == gateway.incarnation;
            for session in sessions.iter().filter(is_here) {
                let ban = Ban::of(account, session.token_version);
                revoked.extend(ban.map(|ban| revoked_session(*user, session.address, ban)));
            }
        }
        Ok(revoked)
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
        let mut answer = BatchUpdateResponse::default();
        let _one = self.registering.lock().await;
        let offline = self.unregister(&gateway, &request.offline).await?;
        self.register(&gateway, &request.online, policy, &mut answer).await?;
        let back: HashSet<&String> = answer.became_online.iter().collect();
        let gone = offline.into_iter().filter(|(_, handover)| !handover).map(|(user, _)| user.to_string());
        answer.pending_offline = gone.filter(|user| !back.contains(user)).collect();
        answer.revoked.extend(self.renew(&gateway, &request.alive).await?);
        Ok(Response::new(answer))
    }

    async fn set_user_online(
        &self,
        request: Request<SetUserOnlineRequest>,
    ) -> Result<Response<SetUserOnlineResponse>, Status> {
        let request = request.into_inner();
        let policy = Policy { kind: request.policy(), max_devices: 0 };
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let user = convert::id(&request.user_id, "user_id")?;
        let entry = PresenceEntry {
            user_id: request.user_id.clone(),
            device_id: request.device_id.clone(),
            client_info: request.client_info.clone(),
            address: request.address,
            token_version: request.token_version,
            token_hash: request.token_hash.clone(),
            ..PresenceEntry::default()
        };
        let mut answer = BatchUpdateResponse::default();
        let _one = self.registering.lock().await;
        self.register(&gateway, &[entry], policy, &mut answer).await?;
        Ok(Response::new(SetUserOnlineResponse {
            success: answer.revoked.is_empty(),
            status: self.statuses(&[user]).await?.pop(),
            replaced: answer.replaced,
            was_offline: !answer.became_online.is_empty(),
            revoked: answer.revoked.pop(),
        }))
    }

    async fn set_user_offline(
        &self,
        request: Request<SetUserOfflineRequest>,
    ) -> Result<Response<SetUserOfflineResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let entry = PresenceEntry {
            user_id: request.user_id.clone(),
            address: request.address,
            handover: request.handover,
            ..PresenceEntry::default()
        };
        let _one = self.registering.lock().await;
        let offline = self.unregister(&gateway, &[entry]).await?;
        Ok(Response::new(SetUserOfflineResponse { success: true, still_online: offline.is_empty() }))
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

    async fn update_heartbeat(
        &self,
        request: Request<UpdateHeartbeatRequest>,
    ) -> Result<Response<UpdateHeartbeatResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        self.renew(&gateway, &[request.user_id]).await?;
        Ok(Response::new(UpdateHeartbeatResponse { success: true, last_seen: self.now() }))
    }

    async fn remove_gateway(
        &self,
        request: Request<RemoveGatewayRequest>,
    ) -> Result<Response<RemoveGatewayResponse>, Status> {
        let request = request.into_inner();
        let gateway = gateway(&request.gateway_id, request.gateway_incarnation)?;
        let _one = self.registering.lock().await;
        let gone = self.sessions.of_gateway(gateway.id, gateway.incarnation).await.map_err(fail::cache)?;
        self.sessions.remove(&gone).await.map_err(fail::cache)?;
        let users: BTreeSet<i64> = gone.into_iter().map(|(user, _)| user).collect();
        let users: Vec<i64> = users.into_iter().collect();
        self.sessions.set_last_seen(&users, self.now()).await.map_err(fail::cache)?;
        let removed_user_ids = users.iter().map(i64::to_string).collect();
        Ok(Response::new(RemoveGatewayResponse { removed_user_ids }))
    }
}

/// Why a session must not be.
#[derive(Clone, Copy)]
enum Ban {
    /// No such account.
    Unknown,
    /// The account may not act.
    Disabled,
    /// The token was revoked.
    Token,
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
