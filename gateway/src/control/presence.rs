//! The presence loop: one update to repo in flight, the next collects meanwhile. A session is told that it is registered
//! once repo has answered for it, or that it is not (pipeline.md D5). Never decides who is replaced or revoked: repo does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use gochat_infra::bus::{Bus, BusError, Headers, Record, partition_of};
use gochat_infra::clock::Clock;
use gochat_infra::rpc::{self, Channel};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamItem, DownstreamRecord, Kick};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::{Address, GatewayId};
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::{
    BatchUpdateRequest, BatchUpdateResponse, PresenceEntry, ReplacedSession, RevokedSession, SessionPolicy as Policy,
};
use gochat_proto::topics;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::online_events::{Changed, OnlineOutlet};
use super::room_loop::{RoomInput, Told};
use super::roster::{Batch, Offline, Roster, Session};
use super::shards::Shards;
use super::stats::PresenceStats;
use crate::bridge::{Downlink, Revocation};
use crate::config::SessionPolicy;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long an account that was found disabled is refused at the handshake before it is asked about again, seconds.
const DISABLED_S: i64 = 30;

/// What shards tell about sessions.
#[derive(Debug)]
pub(crate) enum PresenceEvent {
    Opened(Session),
    Reauthorized(Session),
    Closed(Offline),
    Alive(i64),
}

/// What the loop works with.
#[derive(Clone)]
pub(crate) struct PresenceDeps {
    pub(crate) repo: Channel,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) shards: Shards,
    pub(crate) outlets: PresenceOutlets,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gateway: GatewayId,
    pub(crate) incarnation: u64,
    pub(crate) settings: PresenceSettings,
}

/// Who is told of registrations.
#[derive(Clone)]
pub(crate) struct PresenceOutlets {
    pub(crate) rooms: mpsc::Sender<RoomInput>,
    pub(crate) online: OnlineOutlet,
}

/// What can be set.
#[derive(Clone, Copy)]
pub(crate) struct PresenceSettings {
    /// Of one call.
    pub(crate) timeout: Duration,
    pub(crate) policy: SessionPolicy,
    /// Sessions of one user, unless the policy is one.
    pub(crate) max_devices: u32,
}

struct PresenceLoop {
    deps: PresenceDeps,
    roster: Roster,
    in_flight: Option<BoxFuture<'static, (Batch, Result<BatchUpdateResponse, Status>)>>,
    kicks: FuturesUnordered<BoxFuture<'static, ()>>,
    backoff: Duration,
    not_before: Option<std::pin::Pin<Box<Sleep>>>,
    stats: PresenceStats,
}

enum Action {
    Events(Vec<PresenceEvent>),
    ShardsEnded,
    Answered(Batch, Result<BatchUpdateResponse, Status>),
    MayTryAgain,
    Kicked,
}

/// Runs until the sender of events is gone and everything is told, or could not be told once more.
pub(crate) async fn run(mut events: mpsc::Receiver<Vec<PresenceEvent>>, deps: PresenceDeps) {
    let mut this = PresenceLoop {
        deps,
        roster: Roster::default(),
        in_flight: None,
        kicks: FuturesUnordered::new(),
        backoff: BACKOFF_FIRST,
        not_before: None,
        stats: PresenceStats::new(),
    };
    let mut shards_live = true;
    while shards_live || this.in_flight.is_some() || (!this.roster.is_empty() && this.not_before.is_none()) {
        this.call();
        let action = tokio::select! {
            batch = events.recv(), if shards_live => batch.map_or(Action::ShardsEnded, Action::Events),
            Some((batch, answer)) = OptionFuture::from(this.in_flight.as_mut()) => Action::Answered(batch, answer),
            Some(()) = OptionFuture::from(this.not_before.as_mut()) => Action::MayTryAgain,
            Some(()) = this.kicks.next() => Action::Kicked,
        };
        match action {
            Action::Events(events) => events.into_iter().for_each(|event| this.note(event)),
            Action::ShardsEnded => shards_live = false,
            Action::Answered(batch, answer) => {
                this.in_flight = None;
                this.answered(batch, answer).await;
            }
            Action::MayTryAgain => this.not_before = None,
            Action::Kicked => {}
        }
        this.stats.waiting.set(this.roster.len() as i64);
    }
}

impl PresenceLoop {
    fn note(&mut self, event: PresenceEvent) {
        match event {
            PresenceEvent::Opened(session) => self.roster.opened(session),
            PresenceEvent::Reauthorized(renewed) => self.roster.reauthorized(renewed),
            PresenceEvent::Closed(gone) => self.roster.closed(gone),
            PresenceEvent::Alive(user_id) => self.roster.alive(user_id),
        }
    }

    /// Starts the next call when none is in flight and none has just failed.
    fn call(&mut self) {
        if self.in_flight.is_some() || self.not_before.is_some() {
            return;
        }
        let batch = self.roster.take();
        if batch.is_empty() {
            return;
        }
        let request = rpc::request(self.request(&batch), self.deps.settings.timeout);
        let mut presence = OnlineStatusServiceClient::new(self.deps.repo.clone());
        let took = self.stats.call.clone();
        self.in_flight = Some(Box::pin(async move {
            let started = Instant::now();
            let answer = presence.batch_update(request).await.map(tonic::Response::into_inner);
            took.observe(started.elapsed());
            (batch, answer)
        }));
    }

    fn request(&self, batch: &Batch) -> BatchUpdateRequest {
        let at = self.deps.clock.unix_ms() / 1000;
        let online = batch.online.iter().map(|online| PresenceEntry {
            user_id: online.session.user_id.to_string(),
            device_id: online.session.device.to_string(),
            client_info: online.session.client_info.to_string(),
            at,
            address: online.session.address.0,
            token_version: online.session.token_version,
            token_hash: online.session.token_hash.to_string(),
            family_id: online.session.family_id.to_string(),
            ticket_id: online.session.ticket_id.to_string(),
            ..PresenceEntry::default()
        });
        let offline = batch.offline.iter().map(|gone| PresenceEntry {
            user_id: gone.user_id.to_string(),
            at,
            address: gone.address.0,
            handover: gone.handover,
            logout: gone.logout,
            ..PresenceEntry::default()
        });
        let (policy, max_devices) = match self.deps.settings {
            PresenceSettings { policy: SessionPolicy::Single, .. } => (Policy::Single, 1),
            PresenceSettings { policy: SessionPolicy::PerDevice, max_devices, .. } => (Policy::PerDevice, max_devices),
            PresenceSettings { policy: SessionPolicy::Multi, max_devices, .. } => (Policy::Multi, max_devices),
        };
        let max_devices = i32::try_from(max_devices).unwrap_or(i32::MAX);
        BatchUpdateRequest {
            gateway_id: self.deps.gateway.to_string(),
            gateway_incarnation: self.deps.incarnation,
            online: online.collect(),
            offline: offline.collect(),
            alive: batch.alive.iter().map(i64::to_string).collect(),
            policy: policy as i32,
            max_devices,
        }
    }

    async fn answered(&mut self, batch: Batch, answer: Result<BatchUpdateResponse, Status>) {
        match answer {
            Ok(answer) => {
                self.backoff = BACKOFF_FIRST;
                self.registered(batch, answer).await;
            }
            Err(status) => self.failed(batch, &status).await,
        }
    }

    async fn registered(&mut self, batch: Batch, answer: BatchUpdateResponse) {
        let mut batches = self.deps.shards.batches();
        let is_revoked = |address: Address| answer.revoked.iter().any(|revoked| revoked.address == address.0);
        let kept = batch.online.iter().filter(|online| !is_revoked(online.session.address));
        let registered: Vec<_> = kept
            .map(|online| {
                let told = match (online.is_announced, online.is_degraded) {
                    (false, _) => Told::Registered,
                    (true, true) => Told::Resync,
                    (true, false) => Told::Nothing,
                };
                (online.session.address, online.session.user_id, told)
            })
            .collect();
        for revoked in &answer.revoked {
            batches.push(Address(revoked.address), close_revoked(revoked));
            if revoked.close_code == i32::from(CloseCode::AccountDisabled.number())
                && let Ok(user_id) = revoked.user_id.parse()
            {
                let until_s = self.deps.clock.unix_ms() / 1000 + DISABLED_S;
                batches.push_to_all(|| Downlink::Revoked(Revocation::Disabled { user_id, until_s }));
            }
        }
        for replaced in answer.replaced {
            if self.is_here(&replaced) {
                let address = Address(replaced.address);
                batches.push(address, close(address, CloseCode::Replaced));
            } else {
                self.kicks.push(Box::pin(kick(self.deps.clone(), replaced)));
            }
        }
        batches.send().await;
        if !registered.is_empty() {
            // The rooms are gone only when the process ends.
            let _ = self.deps.outlets.rooms.send(RoomInput::Registered(registered, answer.rooms)).await;
        }
        self.deps.outlets.online.offer(Changed { logged_out: answer.logged_out, online: answer.became_online });
    }

    /// The sessions begin without registration; it is tried again.
    async fn failed(&mut self, mut batch: Batch, status: &Status) {
        tracing::warn!(%status, sessions = batch.online.len(), "presence was not updated");
        self.stats.failed.inc();
        let mut batches = self.deps.shards.batches();
        for online in batch.online.iter_mut().filter(|online| !online.is_announced) {
            let address = online.session.address;
            if online.session.ticket_id.is_empty() {
                (online.is_announced, online.is_degraded) = (true, true);
                self.stats.degraded.inc();
                batches.push(address, Downlink::Registered { address, degraded: true });
            } else {
                batches.push(address, close(address, CloseCode::TryAgainLater));
            }
        }
        // Only registration tells whether a ticket is good: such a session has ended.
        batch.online.retain(|online| online.is_announced);
        self.roster.put_back(batch);
        self.not_before = Some(Box::pin(tokio::time::sleep(self.backoff)));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        batches.send().await;
    }

    /// A session of a previous life of this gateway is gone with it.
    fn is_here(&self, replaced: &ReplacedSession) -> bool {
        replaced.gateway_id == self.deps.gateway.to_string() && replaced.gateway_incarnation == self.deps.incarnation
    }
}

fn close(address: Address, code: CloseCode) -> Downlink {
    Downlink::Close { address, code, reconnect_after_ms: None }
}

fn close_revoked(revoked: &RevokedSession) -> Downlink {
    let code = u16::try_from(revoked.close_code).ok().and_then(CloseCode::from_number);
    close(Address(revoked.address), code.unwrap_or(CloseCode::TokenInvalid))
}

/// Tells another gateway that one of its sessions was replaced.
async fn kick(deps: PresenceDeps, replaced: ReplacedSession) {
    if let Err(error) = try_kick(&deps, &replaced).await {
        tracing::warn!(gateway = replaced.gateway_id, %error, "a replaced session was not told");
    }
}

async fn try_kick(deps: &PresenceDeps, replaced: &ReplacedSession) -> Result<(), BusError> {
    let Ok(gateway) = replaced.gateway_id.parse::<GatewayId>() else { return Ok(()) };
    let topic = topics::downstream(gateway);
    let partition = partition_of(replaced.user_id.as_bytes(), deps.bus.partitions(&topic).await?);
    let code = CloseCode::Replaced;
    let kick =
        Kick { address: replaced.address, close_code: u32::from(code.number()), reason: code.reason().to_owned() };
    let items = vec![DownstreamItem { item: Some(Item::Kick(kick)) }];
    let record = DownstreamRecord { incarnation: replaced.gateway_incarnation, items };
    let headers =
        Headers { trace_id: Bytes::new(), payload_type: "DownstreamRecord", produced_at_ms: deps.clock.unix_ms() };
    let record = Record { key: replaced.user_id.clone().into(), value: record.encode_to_vec().into(), headers };
    deps.bus.produce(&topic, partition, vec![record]).await.map(|_| ())
}
