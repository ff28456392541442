//! A log that can be told to fail, a repo that keeps what task asks of it in memory, and waiting with an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gochat_infra::bus::log::{LogBus, LogConfig};
use gochat_infra::bus::{
    BatchLimits, Bus, BusError, Consumer, Durability, Headers, Offset, PartitionStream, Record, StartAt, TopicSpec,
    partition_of,
};
use gochat_infra::clock::SystemClock;
use gochat_infra::coord::Coord;
use gochat_infra::coord::local::LocalCoord;
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_proto::bus::v1::{Ack, OutboxEvent};
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::online_status_service_server::{OnlineStatusService, OnlineStatusServiceServer};
use gochat_proto::im::repo::v1::pipeline_service_server::{PipelineService, PipelineServiceServer};
use gochat_proto::im::repo::v1::user_service_server::{UserService, UserServiceServer};
use gochat_proto::im::repo::v1::{
    CleanupExpiredStatusRequest, CleanupExpiredStatusResponse, CleanupGuestsRequest, CleanupGuestsResponse,
    DeleteOutboxRequest, DeleteOutboxResponse, GetConversationGatewaysRequest, GetConversationGatewaysResponse,
    GetPositionsRequest, GetPositionsResponse, ListOutboxRequest, ListOutboxResponse, OnlineStatus, OutboxEntry,
    TakeDueOfflineRequest, TakeDueOfflineResponse,
};
use gochat_proto::topics;
use gochat_task::{JobsConfig, Task, TaskConfig, TaskDeps};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

pub(crate) const PARTITIONS: u32 = 2;
/// Longer than anything takes.
const STUCK: Duration = Duration::from_secs(60);

/// An event of a topic whose value is a number.
pub(crate) fn event(topic: &str, key: &str, number: i64) -> OutboxEvent {
    OutboxEvent { topic: topic.to_owned(), key: key.to_owned(), value: number.to_string().into() }
}

pub(crate) fn number(value: &Bytes) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// Everything one test works with.
pub(crate) struct Setting {
    pub(crate) bus: Arc<Flaky>,
    pub(crate) repo: FakeRepo,
    _dir: tempfile::TempDir,
}

/// A running task.
pub(crate) struct Running {
    job: JoinHandle<()>,
    shutdown: watch::Sender<bool>,
}

impl Running {
    /// As a crash would.
    pub(crate) fn abort(&self) {
        self.job.abort();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.send_replace(true);
        self.job.await.unwrap();
    }
}

impl Setting {
    pub(crate) async fn new() -> Setting {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = tokio::task::spawn_blocking(|| LogBus::open(LogConfig::new(path))).await.unwrap().unwrap();
        let mut names: Vec<String> = [
            topics::MESSAGES_PERSIST,
            topics::TASKS_FANOUT,
            topics::USER_EVENTS,
            topics::FRIEND_EVENTS,
            topics::MESSAGE_EVENTS,
        ]
        .map(str::to_owned)
        .to_vec();
        names.push(topics::dead_letter(topics::TASKS_FANOUT));
        names.extend([1, 2].map(|n| topics::downstream(GatewayId::new(n).unwrap())));
        for name in names {
            let spec = TopicSpec { name, partitions: PARTITIONS, durability: Durability::Written };
            log.create_topic(spec).await.unwrap();
        }
        let bus = Arc::new(Flaky { log, failing: Mutex::default() });
        Setting { bus, repo: FakeRepo::default(), _dir: dir }
    }

    pub(crate) fn coord(&self) -> Arc<LocalCoord> {
        Arc::new(LocalCoord::new(SystemClock::shared()))
    }

    pub(crate) fn start(&self, coord: Arc<dyn Coord>) -> Running {
        let repo = Channel::in_process()
            .add(PipelineServiceServer::new(self.repo.clone()))
            .add(OnlineStatusServiceServer::new(self.repo.clone()))
            .add(UserServiceServer::new(self.repo.clone()))
            .build(RpcOptions::default());
        let gateways = [1, 2].map(|n| GatewayId::new(n).unwrap()).to_vec();
        let deps = TaskDeps {
            repo,
            bus: self.bus.clone(),
            clock: SystemClock::shared(),
            coord,
            gateways: watch::Sender::new(gateways).subscribe(),
        };
        let soon = Duration::from_millis(10);
        let jobs = JobsConfig { sweep_period: soon, expire_period: soon, daily_period: soon, ..JobsConfig::default() };
        let config = TaskConfig { outbox_wait: Duration::from_millis(500), jobs, ..TaskConfig::default() };
        let (shutdown, stopping) = watch::channel(false);
        Running { job: tokio::spawn(Task::new(deps, config).run(stopping)), shutdown }
    }

    pub(crate) fn downstream(&self, gateway: u32) -> String {
        topics::downstream(GatewayId::new(gateway).unwrap())
    }

    pub(crate) async fn fan_out(&self, conversation: &str, value: Bytes) {
        let partition = partition_of(conversation.as_bytes(), PARTITIONS);
        let headers = Headers { payload_type: "FanoutTask", ..Headers::default() };
        let record = Record { key: conversation.to_owned().into(), value, headers };
        self.bus.produce(topics::TASKS_FANOUT, partition, vec![record]).await.unwrap();
    }

    /// Keys and values of a topic, in order within a partition.
    pub(crate) async fn records(&self, topic: &str) -> Vec<(String, Bytes)> {
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let end = self.bus.log.end_offset(topic, partition).await.unwrap();
            let mut stream = self.bus.log.assign(topic, partition, StartAt::Offset(0)).await.unwrap();
            let mut next = 0;
            while next < end {
                for record in stream.next_batch(BatchLimits { records_max: 100, bytes_max: 1 << 20 }).await.unwrap() {
                    next = record.offset + 1;
                    all.push((String::from_utf8(record.key.to_vec()).unwrap(), record.value));
                }
            }
        }
        all
    }

    pub(crate) async fn values(&self, topic: &str) -> Vec<Bytes> {
        self.records(topic).await.into_iter().map(|(_, value)| value).collect()
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        self.until_async(what, async || is_so()).await;
    }

    pub(crate) async fn until_async(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let wait = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(STUCK, wait).await.is_ok(), "never: {what}");
    }
}

/// A log of which topics can be told not to answer.
pub(crate) struct Flaky {
    log: Arc<LogBus>,
    failing: Mutex<BTreeSet<String>>,
}

impl Flaky {
    pub(crate) fn fail(&self, topic: &str, fails: bool) {
        let mut failing = self.failing.lock().unwrap();
        if fails {
            failing.insert(topic.to_owned());
        } else {
            failing.remove(topic);
        }
    }
}

#[async_trait]
impl Bus for Flaky {
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), BusError> {
        self.log.create_topic(spec).await
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        self.log.partitions(topic).await
    }

    async fn produce(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Offset, BusError> {
        if self.failing.lock().unwrap().contains(topic) {
            return Err(BusError::Unavailable("told to fail".to_owned()));
        }
        self.log.produce(topic, partition, records).await
    }

    async fn end_offset(&self, topic: &str, partition: u32) -> Result<Offset, BusError> {
        self.log.end_offset(topic, partition).await
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, BusError> {
        self.log.subscribe(topic, group).await
    }

    async fn assign(&self, topic: &str, partition: u32, at: StartAt) -> Result<Box<dyn PartitionStream>, BusError> {
        self.log.assign(topic, partition, at).await
    }

    async fn trim(&self) -> Result<(), BusError> {
        self.log.trim().await
    }

    async fn close(&self) -> Result<(), BusError> {
        self.log.close().await
    }
}

/// What task asks of repo, in memory.
#[derive(Clone, Default)]
pub(crate) struct FakeRepo {
    state: Arc<Mutex<State>>,
    added: Arc<Notify>,
}

#[derive(Default)]
struct State {
    outbox: BTreeMap<i64, OutboxEntry>,
    last_id: i64,
    deletions_to_lose: u32,
    gateways: BTreeMap<String, Vec<String>>,
    due: Vec<i64>,
    expired: Vec<i64>,
    guests: i64,
}

impl FakeRepo {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn add(&self, entry: OutboxEntry) {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.outbox.insert(id, OutboxEntry { id, ..entry });
        self.added.notify_one();
    }

    pub(crate) fn add_event(&self, event: OutboxEvent) {
        self.add(OutboxEntry { event: Some(event), ..OutboxEntry::default() });
    }

    pub(crate) fn add_ack(&self, ack: Ack) {
        self.add(OutboxEntry { ack: Some(ack), ..OutboxEntry::default() });
    }

    pub(crate) fn outbox_len(&self) -> usize {
        self.state().outbox.len()
    }

    pub(crate) fn lose_deletions(&self, count: u32) {
        self.state().deletions_to_lose = count;
    }

    pub(crate) fn set_gateways(&self, conversation: &str, gateways: &[u32]) {
        let names = gateways.iter().map(|n| format!("gateway-{n}")).collect();
        self.state().gateways.insert(conversation.to_owned(), names);
    }

    pub(crate) fn set_due(&self, users: &[i64]) {
        self.state().due = users.to_vec();
    }

    pub(crate) fn set_expired(&self, users: &[i64]) {
        self.state().expired = users.to_vec();
    }

    pub(crate) fn due_len(&self) -> usize {
        self.state().due.len()
    }

    pub(crate) fn set_guests(&self, count: i64) {
        self.state().guests = count;
    }

    pub(crate) fn guests(&self) -> i64 {
        self.state().guests
    }
}

fn offline(users: Vec<i64>) -> Vec<OnlineStatus> {
    users.iter().map(|user| OnlineStatus { user_id: user.to_string(), ..OnlineStatus::default() }).collect()
}

#[async_trait]
impl PipelineService for FakeRepo {
    async fn get_positions(
        &self,
        _request: Request<GetPositionsRequest>,
    ) -> Result<Response<GetPositionsResponse>, Status> {
        Ok(Response::new(GetPositionsResponse::default()))
    }

    async fn list_outbox(&self, request: Request<ListOutboxRequest>) -> Result<Response<ListOutboxResponse>, Status> {
        let ListOutboxRequest { limit, wait_ms } = request.into_inner();
        let list = || self.state().outbox.values().take(limit as usize).cloned().collect::<Vec<_>>();
        let mut entries = list();
        if entries.is_empty() {
            let wait = Duration::from_millis(wait_ms.into());
            let _ = tokio::time::timeout(wait, self.added.notified()).await;
            entries = list();
        }
        Ok(Response::new(ListOutboxResponse { entries }))
    }

    async fn delete_outbox(
        &self,
        request: Request<DeleteOutboxRequest>,
    ) -> Result<Response<DeleteOutboxResponse>, Status> {
        let mut state = self.state();
        if state.deletions_to_lose > 0 {
            state.deletions_to_lose -= 1;
            return Err(Status::unavailable("told to fail"));
        }
        for id in request.into_inner().ids {
            state.outbox.remove(&id);
        }
        Ok(Response::new(DeleteOutboxResponse {}))
    }
}

#[async_trait]
impl OnlineStatusService for FakeRepo {
    async fn get_conversation_gateways(
        &self,
        request: Request<GetConversationGatewaysRequest>,
    ) -> Result<Response<GetConversationGatewaysResponse>, Status> {
        let known = self.state().gateways.get(&request.into_inner().conversation_id).cloned();
        let (known, gateway_ids) = (known.is_some(), known.unwrap_or_default());
        Ok(Response::new(GetConversationGatewaysResponse { gateway_ids, known }))
    }

    async fn take_due_offline(
        &self,
        _request: Request<TakeDueOfflineRequest>,
    ) -> Result<Response<TakeDueOfflineResponse>, Status> {
        let users = std::mem::take(&mut self.state().due);
        Ok(Response::new(TakeDueOfflineResponse { users: offline(users) }))
    }

    async fn cleanup_expired_status(
        &self,
        _request: Request<CleanupExpiredStatusRequest>,
    ) -> Result<Response<CleanupExpiredStatusResponse>, Status> {
        let users = std::mem::take(&mut self.state().expired);
        let cleaned_count = users.len() as i64;
        Ok(Response::new(CleanupExpiredStatusResponse { cleaned_count, expired: offline(users) }))
    }
}

#[async_trait]
impl UserService for FakeRepo {
    async fn cleanup_guests(
        &self,
        request: Request<CleanupGuestsRequest>,
    ) -> Result<Response<CleanupGuestsResponse>, Status> {
        let mut state = self.state();
        let cleaned_count = state.guests.min(request.into_inner().batch_size.into());
        state.guests -= cleaned_count;
        Ok(Response::new(CleanupGuestsResponse { cleaned_count }))
    }
}
