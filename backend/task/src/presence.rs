//! Users who went and did not come back: found in repo, told on the topic of user events (spec 06 §6).
//!
//! Owns what was taken from repo and is not told yet. Never decides who is offline.

use std::time::Duration;

use gochat_infra::bus::{BusError, Headers, Record, partition_of};
use gochat_infra::rpc::{self, Channel};
use gochat_infra::uid::uuid_v7;
use gochat_proto::events::{Event, EventBody};
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::{CleanupExpiredStatusRequest, OnlineStatus, TakeDueOfflineRequest};
use gochat_proto::topics;

use crate::config::TaskDeps;
use crate::error::JobError;

/// Deadline of one call to repo.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Users of one call.
const USERS_MAX: i32 = 500;

/// The sweeper's view of presence.
pub(crate) struct Sweeper {
    deps: TaskDeps,
    presence: OnlineStatusServiceClient<Channel>,
    /// Taken and not told yet: nothing more is taken before it is.
    untold: Vec<Event>,
}

impl Sweeper {
    pub(crate) fn new(deps: TaskDeps) -> Sweeper {
        Sweeper { presence: OnlineStatusServiceClient::new(deps.repo.clone()), deps, untold: Vec::new() }
    }

    /// Those whose time to come back is over.
    pub(crate) async fn sweep_due(&mut self) -> Result<(), JobError> {
        loop {
            self.tell().await?;
            let request = TakeDueOfflineRequest { now: self.now(), limit: USERS_MAX };
            let users = self.presence.take_due_offline(rpc::request(request, CALL_DEADLINE)).await?.into_inner().users;
            if users.is_empty() {
                return Ok(());
            }
            self.remember(users, "disconnect");
        }
    }

    /// Those whose sessions nobody has renewed since `age_max` ago: their gateway is gone.
    pub(crate) async fn sweep_expired(&mut self, age_max: Duration) -> Result<(), JobError> {
        let expired_before = self.now() - i64::try_from(age_max.as_secs()).unwrap_or(i64::MAX);
        loop {
            self.tell().await?;
            let request = CleanupExpiredStatusRequest { expired_before, batch_size: USERS_MAX };
            let answer = self.presence.cleanup_expired_status(rpc::request(request, CALL_DEADLINE)).await?.into_inner();
            let is_last = answer.cleaned_count < i64::from(USERS_MAX);
            self.remember(answer.expired, "timeout");
            if is_last {
                return self.tell().await;
            }
        }
    }

    fn now(&self) -> i64 {
        self.deps.clock.unix_ms().div_euclid(1000)
    }

    fn remember(&mut self, users: Vec<OnlineStatus>, reason: &str) {
        let timestamp = self.now();
        self.untold.extend(users.into_iter().map(|user| Event {
            event_id: uuid_v7(),
            timestamp,
            conversation_id: String::new(),
            user_id: user.user_id,
            friend_id: String::new(),
            operator_id: String::new(),
            body: EventBody::UserOffline { last_seen: user.last_seen, reason: reason.to_owned() },
        }));
    }

    async fn tell(&mut self) -> Result<(), JobError> {
        if self.untold.is_empty() {
            return Ok(());
        }
        let partitions = self.deps.bus.partitions(topics::USER_EVENTS).await?;
        for partition in 0..partitions {
            let is_here = |event: &Event| partition_of(event.user_id.as_bytes(), partitions) == partition;
            let records: Vec<Record> =
                self.untold.iter().filter(|event| is_here(event)).map(|e| self.record(e)).collect();
            if !records.is_empty() {
                self.produce(partition, records).await?;
                self.untold.retain(|event| !is_here(event));
            }
        }
        Ok(())
    }

    async fn produce(&self, partition: u32, records: Vec<Record>) -> Result<(), BusError> {
        self.deps.bus.produce(topics::USER_EVENTS, partition, records).await.map(|_| ())
    }

    fn record(&self, event: &Event) -> Record {
        let produced_at_ms = self.deps.clock.unix_ms();
        Record {
            key: event.user_id.clone().into(),
            value: event.to_json().into(),
            headers: Headers { payload_type: "Event", produced_at_ms, ..Headers::default() },
        }
    }
}
