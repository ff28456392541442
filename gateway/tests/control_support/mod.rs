//! What control is tested between: a log, logic and repo that say what a test tells them, and shards or a stand-in.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gochat_gateway::bridge::{ControlEnd, Downlink, Opened, OutFrame, ShardEnd, bridge};
use gochat_gateway::control::{Control, ControlConfig, ControlDeps};
use gochat_infra::bus::log::{LogBus, LogConfig};
use gochat_infra::bus::{BatchLimits, Bus, Consumed, Durability, Headers, Record, StartAt, TopicSpec};
use gochat_infra::clock::SystemClock;
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_infra::token::{Claims, ISSUER, TokenKey, TokenKind};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamItem, DownstreamRecord};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::{Conversation, Message, User, UserInfo, UserStatus};
use gochat_proto::ids::{Address, GatewayId};
use gochat_proto::im::logic::v1 as logic;
use gochat_proto::im::logic::v1::auth_service_server::{AuthService, AuthServiceServer};
use gochat_proto::im::logic::v1::conversation_service_server::{ConversationService, ConversationServiceServer};
use gochat_proto::im::logic::v1::message_service_server::{MessageService, MessageServiceServer};
use gochat_proto::im::logic::v1::user_service_server::{UserService, UserServiceServer};
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::online_status_service_server::{OnlineStatusService, OnlineStatusServiceServer};
use gochat_proto::im::repo::v1::pipeline_service_server::{PipelineService, PipelineServiceServer};
use gochat_proto::topics;
use gochat_ring::{Epoll, Reactor as _, RingConfig};
use prost::Message as _;
use serde_json::Value;
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};

pub const INCARNATION: u64 = 77;
pub const PARTITIONS: u32 = 4;
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The gateway under test.
pub fn gateway() -> GatewayId {
    GatewayId::new(3).unwrap()
}

/// The key of all tokens.
pub fn tokens() -> TokenKey {
    TokenKey::hs256(&[9; 32]).unwrap()
}

/// An access token of this user, good for so many seconds.
pub fn token(user_id: &str, seconds: i64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let claims = Claims {
        iss: ISSUER.into(),
        sub: user_id.into(),
        user_id: user_id.into(),
        kind: TokenKind::Access,
        jti: format!("jti-{user_id}"),
        iat: now,
        exp: now + seconds,
        guest: false,
        ver: 0,
        fam: "f".into(),
        sxp: 0,
        ath: String::new(),
    };
    tokens().sign(&claims).unwrap()
}

/// A log in a directory of its own, with the topics a gateway needs.
pub async fn log() -> (tempfile::TempDir, Arc<LogBus>) {
    let dir = tempfile::tempdir().unwrap();
    let bus = LogBus::open(LogConfig { segment_bytes: 1 << 22, ..LogConfig::new(dir.path()) }).unwrap();
    for name in [topics::MESSAGES_UPSTREAM, topics::MESSAGES_PERSIST, topics::USER_EVENTS] {
        let spec = TopicSpec { name: name.into(), partitions: PARTITIONS, durability: Durability::Written };
        bus.create_topic(spec).await.unwrap();
    }
    (dir, bus)
}

/// Repo: remembers what presence was told and answers as it is set.
#[derive(Clone, Default)]
pub struct FakeRepo(pub Arc<Mutex<RepoState>>);

#[derive(Default)]
pub struct RepoState {
    pub updates: Vec<repo::BatchUpdateRequest>,
    /// Answered to the next updates, in order; then empty answers.
    pub answers: Vec<Result<repo::BatchUpdateResponse, Status>>,
    pub positions: Vec<repo::Position>,
    /// Answered to questions about a conversation's room; without one the call fails.
    pub rooms: HashMap<String, repo::GetRoomResponse>,
    pub rooms_asked: usize,
}

#[async_trait]
impl OnlineStatusService for FakeRepo {
    async fn batch_update(
        &self,
        request: Request<repo::BatchUpdateRequest>,
    ) -> Result<Response<repo::BatchUpdateResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.updates.push(request.into_inner());
        let answer = if state.answers.is_empty() { Ok(Default::default()) } else { state.answers.remove(0) };
        answer.map(Response::new)
    }

    async fn get_room(
        &self,
        request: Request<repo::GetRoomRequest>,
    ) -> Result<Response<repo::GetRoomResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((request.gateway_id, request.gateway_incarnation), (gateway().to_string(), INCARNATION));
        let mut state = self.0.lock().unwrap();
        state.rooms_asked += 1;
        let room = state.rooms.get(&request.conversation_id).cloned();
        room.map(Response::new).ok_or_else(|| Status::unavailable("away"))
    }
}

#[async_trait]
impl PipelineService for FakeRepo {
    async fn get_positions(
        &self,
        _: Request<repo::GetPositionsRequest>,
    ) -> Result<Response<repo::GetPositionsResponse>, Status> {
        let positions = self.0.lock().unwrap().positions.clone();
        Ok(Response::new(repo::GetPositionsResponse { positions }))
    }
}

/// Logic: knows users 7 and 8 and their single chat, and remembers what it was asked.
#[derive(Clone, Default)]
pub struct FakeLogic(pub Arc<Mutex<LogicState>>);

#[derive(Default)]
pub struct LogicState {
    pub validated: usize,
    pub logged_out: Vec<logic::LogoutRequest>,
    /// Answered for this user's tokens instead of a success.
    pub void: HashMap<String, ErrorCode>,
    pub is_down: bool,
    pub lists: Vec<logic::GetConversationsOptimizedRequest>,
    pub histories: Vec<logic::GetMessagesRequest>,
    pub reads: Vec<logic::MarkAsReadRequest>,
    pub signals: Vec<logic::SendSignalRequest>,
}

impl FakeLogic {
    fn user(id: &str) -> User {
        User {
            id: id.into(),
            username: format!("user{id}"),
            status: UserStatus::Normal as i32,
            created_at: 5,
            ..User::default()
        }
    }

    fn info(id: &str) -> UserInfo {
        UserInfo { id: id.into(), username: format!("user{id}"), ..UserInfo::default() }
    }

    fn check_member(conversation_id: &str) -> Result<(), Status> {
        match conversation_id {
            "single_7_8" => Ok(()),
            "single_8_9" => Err(ErrorCode::NotConversationMember.into()),
            "single_1_2" => Err(ErrorCode::ConversationNotFound.into()),
            _ => Err(Status::internal("a table is missing")),
        }
    }
}

#[async_trait]
impl AuthService for FakeLogic {
    async fn login(&self, request: Request<logic::LoginRequest>) -> Result<Response<logic::LoginResponse>, Status> {
        let request = request.into_inner();
        if request.password != "correct horse" {
            return Err(ErrorCode::AuthInvalidCredentials.into());
        }
        Ok(Response::new(logic::LoginResponse {
            access_token: token("7", 60),
            refresh_token: "refresh".into(),
            expires_in: 60,
            user: Some(Self::user("7")),
        }))
    }

    async fn register(
        &self,
        request: Request<logic::RegisterRequest>,
    ) -> Result<Response<logic::RegisterResponse>, Status> {
        match request.into_inner().username.as_str() {
            "taken" => Err(ErrorCode::UserAlreadyExists.into()),
            _ => Ok(Response::new(logic::RegisterResponse { user: Some(Self::user("7")) })),
        }
    }

    async fn refresh_token(
        &self,
        request: Request<logic::RefreshTokenRequest>,
    ) -> Result<Response<logic::RefreshTokenResponse>, Status> {
        match request.into_inner().refresh_token.as_str() {
            "refresh" => Ok(Response::new(logic::RefreshTokenResponse {
                access_token: "a".into(),
                refresh_token: "b".into(),
                expires_in: 60,
            })),
            _ => Err(ErrorCode::TokenReused.into()),
        }
    }

    async fn logout(&self, request: Request<logic::LogoutRequest>) -> Result<Response<logic::LogoutResponse>, Status> {
        self.0.lock().unwrap().logged_out.push(request.into_inner());
        Ok(Response::new(logic::LogoutResponse { success: true }))
    }

    async fn validate_token(
        &self,
        request: Request<logic::ValidateTokenRequest>,
    ) -> Result<Response<logic::ValidateTokenResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.validated += 1;
        if state.is_down {
            return Err(Status::unavailable("down"));
        }
        let claims = tokens().verify(&request.into_inner().access_token, TokenKind::Access, 0).unwrap();
        Ok(Response::new(match state.void.get(&claims.user_id) {
            Some(code) => logic::ValidateTokenResponse { error_code: code.number(), ..Default::default() },
            None => logic::ValidateTokenResponse {
                valid: true,
                user: Some(Self::user(&claims.user_id)),
                expires_at: claims.exp,
                error_code: 0,
            },
        }))
    }
}

#[async_trait]
impl UserService for FakeLogic {
    async fn get_profile(
        &self,
        request: Request<logic::GetProfileRequest>,
    ) -> Result<Response<logic::GetProfileResponse>, Status> {
        let user = Self::user(&request.into_inner().user_id);
        Ok(Response::new(logic::GetProfileResponse { user: Some(user) }))
    }

    async fn get_users_info(
        &self,
        request: Request<logic::GetUsersInfoRequest>,
    ) -> Result<Response<logic::GetUsersInfoResponse>, Status> {
        let known = request.into_inner().user_ids.into_iter().filter(|id| id == "7" || id == "8");
        let users = known.map(|id| Self::info(&id)).collect();
        Ok(Response::new(logic::GetUsersInfoResponse { users }))
    }
}

#[async_trait]
impl ConversationService for FakeLogic {
    async fn create_conversation(
        &self,
        request: Request<logic::CreateConversationRequest>,
    ) -> Result<Response<logic::CreateConversationResponse>, Status> {
        let request = request.into_inner();
        let (creator, peer) = (request.creator_id, request.member_ids[0].clone());
        if peer == "1" {
            return Err(ErrorCode::UserNotFound.into());
        }
        let conversation = Conversation {
            id: "single_7_8".into(),
            r#type: 1,
            member_count: 2,
            peer: Some(Self::info(&peer)),
            ..Conversation::default()
        };
        let already_existed = creator == "8";
        Ok(Response::new(logic::CreateConversationResponse { conversation: Some(conversation), already_existed }))
    }

    async fn get_conversation(
        &self,
        request: Request<logic::GetConversationRequest>,
    ) -> Result<Response<logic::GetConversationResponse>, Status> {
        let id = request.into_inner().conversation_id;
        Self::check_member(&id)?;
        let conversation = Conversation { id, r#type: 1, assigned_seq: 9, ..Conversation::default() };
        Ok(Response::new(logic::GetConversationResponse { conversation: Some(conversation), members: vec![] }))
    }

    async fn get_conversations_optimized(
        &self,
        request: Request<logic::GetConversationsOptimizedRequest>,
    ) -> Result<Response<logic::GetConversationsOptimizedResponse>, Status> {
        self.0.lock().unwrap().lists.push(request.into_inner());
        Ok(Response::new(logic::GetConversationsOptimizedResponse {
            conversations: vec![logic::ConversationOptimized { id: "single_7_8".into(), ..Default::default() }],
            total: 1,
            server_time: 100,
            complete: true,
            ..Default::default()
        }))
    }

    async fn get_messages(
        &self,
        request: Request<logic::GetMessagesRequest>,
    ) -> Result<Response<logic::GetMessagesResponse>, Status> {
        let request = request.into_inner();
        Self::check_member(&request.conversation_id)?;
        self.0.lock().unwrap().histories.push(request);
        let message =
            |seq_id| Message { id: format!("1{seq_id}"), sender: Some(Self::info("8")), seq_id, ..Default::default() };
        Ok(Response::new(logic::GetMessagesResponse {
            messages: vec![message(5), message(6)],
            has_more: true,
            next_seq_id: 7,
            prev_seq_id: 4,
            assigned_seq: 9,
            stored_through_seq: 8,
            complete: true,
        }))
    }

    async fn mark_as_read(
        &self,
        request: Request<logic::MarkAsReadRequest>,
    ) -> Result<Response<logic::MarkAsReadResponse>, Status> {
        let request = request.into_inner();
        Self::check_member(&request.conversation_id)?;
        self.0.lock().unwrap().reads.push(request);
        Ok(Response::new(logic::MarkAsReadResponse { success: true, unread_count: 4 }))
    }
}

#[async_trait]
impl MessageService for FakeLogic {
    async fn send_signal(
        &self,
        request: Request<logic::SendSignalRequest>,
    ) -> Result<Response<logic::SendSignalResponse>, Status> {
        self.0.lock().unwrap().signals.push(request.into_inner());
        Ok(Response::new(logic::SendSignalResponse { accepted: true }))
    }
}

/// What is around a control side.
pub struct Setting {
    pub dir: tempfile::TempDir,
    pub bus: Arc<LogBus>,
    pub repo: FakeRepo,
    pub logic: FakeLogic,
    pub bus_healthy: watch::Sender<bool>,
}

impl Setting {
    pub async fn new() -> Setting {
        let (dir, bus) = log().await;
        let bus_healthy = watch::Sender::new(true);
        Setting { dir, bus, repo: FakeRepo::default(), logic: FakeLogic::default(), bus_healthy }
    }

    /// A control side for these shards.
    pub async fn control(&self, bridge: ControlEnd, config: ControlConfig) -> Control {
        let logic = Channel::in_process()
            .add(AuthServiceServer::new(self.logic.clone()))
            .add(UserServiceServer::new(self.logic.clone()))
            .add(ConversationServiceServer::new(self.logic.clone()))
            .add(MessageServiceServer::new(self.logic.clone()))
            .build(RpcOptions::default());
        let repo = Channel::in_process()
            .add(OnlineStatusServiceServer::new(self.repo.clone()))
            .add(PipelineServiceServer::new(self.repo.clone()))
            .build(RpcOptions::default());
        self.control_with(bridge, config, logic, repo).await
    }

    /// A control side that asks these services.
    pub async fn control_with(
        &self,
        bridge: ControlEnd,
        config: ControlConfig,
        logic: Channel,
        repo: Channel,
    ) -> Control {
        let deps = ControlDeps {
            logic,
            repo,
            bus: self.bus.clone(),
            bridge,
            gateway: gateway(),
            incarnation: INCARNATION,
            tokens: tokens(),
            bus_healthy: self.bus_healthy.subscribe(),
            clock: SystemClock::shared(),
            shard_metrics: Arc::new(|out: &mut String| out.push_str("shards_are_here 1\n")),
        };
        Control::start(deps, config).await.unwrap()
    }

    /// Appends items for this gateway, as logic does.
    pub async fn downstream(&self, partition: u32, incarnation: u64, items: Vec<Item>) {
        let items = items.into_iter().map(|item| DownstreamItem { item: Some(item) }).collect();
        let value = DownstreamRecord { incarnation, items }.encode_to_vec().into();
        self.produce(&topics::downstream(gateway()), partition, vec![value]).await;
    }

    pub async fn produce(&self, topic: &str, partition: u32, values: Vec<Bytes>) {
        let record = |value| Record { key: Bytes::new(), value, headers: Headers::default() };
        self.bus.produce(topic, partition, values.into_iter().map(record).collect()).await.unwrap();
    }

    /// Waits for so many records from the beginning of a partition.
    pub async fn records(&self, topic: &str, partition: u32, count: usize) -> Vec<Consumed> {
        let mut stream = self.bus.assign(topic, partition, StartAt::Offset(0)).await.unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            let limits = BatchLimits { records_max: count - records.len(), bytes_max: 1 << 24 };
            records.extend(within(stream.next_batch(limits)).await.unwrap());
        }
        records
    }

    /// Waits until presence was told of something, and answers with everything it was told.
    pub async fn updates(&self, until: impl Fn(&[repo::BatchUpdateRequest]) -> bool) -> Vec<repo::BatchUpdateRequest> {
        within(async {
            loop {
                let updates = self.repo.0.lock().unwrap().updates.clone();
                if until(&updates) {
                    return updates;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

/// A configuration on free ports, without limits.
pub fn config() -> ControlConfig {
    ControlConfig { admin: ([127, 0, 0, 1], 0).into(), limits: false, ..ControlConfig::default() }
}

/// Fails the test when something that must come does not.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("did not come")
}

/// The bridge to shards that the test plays itself. The reactors only lend their wakers.
pub fn shards(count: usize) -> (ControlEnd, Vec<FakeShard>) {
    let reactors: Vec<Epoll> = (0..count).map(|_| Epoll::new(&RingConfig::default()).unwrap()).collect();
    let (control, ends) = bridge(reactors.iter().map(|reactor| reactor.waker()).collect());
    (control, ends.into_iter().map(|end| FakeShard { end, heard: Vec::new() }).collect())
}

/// A shard's place at the bridge.
pub struct FakeShard {
    pub end: ShardEnd,
    heard: Vec<Heard>,
}

/// What a shard was told; a frame as its JSON and its targets.
#[derive(Debug)]
pub enum Heard {
    Frame(Value, Vec<Address>),
    Other(Downlink),
}

impl FakeShard {
    /// Waits for the next thing that `pick` takes; what it does not take is kept for later.
    pub async fn hear<T>(&mut self, mut pick: impl FnMut(&Heard) -> Option<T>) -> T {
        within(async {
            loop {
                self.collect();
                if let Some((at, picked)) = self.heard.iter().enumerate().find_map(|(at, h)| Some((at, pick(h)?))) {
                    self.heard.remove(at);
                    return picked;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    }

    /// The next frame of this type: its data and targets.
    pub async fn frame(&mut self, kind: &str) -> (Value, Vec<Address>) {
        self.hear(|heard| match heard {
            Heard::Frame(frame, targets) if frame["type"] == kind => Some((frame["data"].clone(), targets.clone())),
            Heard::Frame(..) | Heard::Other(_) => None,
        })
        .await
    }

    /// The next thing that is no frame and of which `pick` makes something.
    pub async fn told<T>(&mut self, mut pick: impl FnMut(&Downlink) -> Option<T>) -> T {
        self.hear(|heard| if let Heard::Other(item) = heard { pick(item) } else { None }).await
    }

    /// Waits until handshakes are accepted, or not.
    pub async fn accepting(&mut self, expected: bool) {
        self.told(|item| matches!(item, Downlink::Accepting(now) if *now == expected).then_some(())).await;
    }

    /// Everything heard so far and not picked.
    pub fn rest(&mut self) -> Vec<Heard> {
        self.collect();
        std::mem::take(&mut self.heard)
    }

    fn collect(&mut self) {
        while let Some(mut batch) = self.end.downlink.try_recv() {
            let (items, targets) = batch.parts();
            for item in items {
                self.heard.push(match item {
                    Downlink::Frame { from, to, frame } => {
                        Heard::Frame(json(&frame), targets[from as usize..to as usize].to_vec())
                    }
                    other => Heard::Other(other),
                });
            }
            self.end.downlink.recycle(batch);
        }
    }
}

/// The payload of a frame, behind the header of an unmasked frame.
pub fn json(frame: &OutFrame) -> Value {
    let header = match frame.wire[1] {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    serde_json::from_slice(&frame.wire[header..]).unwrap()
}

/// A session that began.
pub fn opened(address: Address, user_id: i64) -> Box<Opened> {
    Box::new(Opened {
        address,
        user_id,
        token_id: "jti".into(),
        token_hash: format!("hash{user_id}").into(),
        token_version: 2,
        family_id: "family".into(),
        ticket_id: "".into(),
        expires_at_s: 0,
        device: "phone".into(),
        client_info: "test".into(),
        peer: ([127, 0, 0, 1], 9).into(),
    })
}

/// Counts by key.
pub fn counts<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}
