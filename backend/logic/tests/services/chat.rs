//! A whole backend for one test, and the calls that tests make again and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gochat_infra::bus::log::{LogBus, LogConfig};
use gochat_infra::bus::{Bus, Durability, TopicSpec};
use gochat_infra::cache::memory::{MemoryCache, MemoryCacheConfig};
use gochat_infra::clock::SystemClock;
use gochat_infra::coord::local::LocalCoord;
use gochat_infra::rpc::{Channel, RpcOptions, request};
use gochat_infra::uid::Snowflake;
use gochat_logic::{Logic, LogicConfig, LogicDeps};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::ConversationType;
use gochat_proto::failure::Failure;
use gochat_proto::ids::GatewayId;
use gochat_proto::im::logic::v1::auth_service_client::AuthServiceClient;
use gochat_proto::im::logic::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::logic::v1::friend_service_client::FriendServiceClient;
use gochat_proto::im::logic::v1::message_service_client::MessageServiceClient;
use gochat_proto::im::logic::v1::user_service_client::UserServiceClient;
use gochat_proto::im::logic::v1::*;
use gochat_proto::im::repo::v1 as repo;
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient as RepoUsers;
use gochat_proto::topics;
use gochat_repo::{Repo, RepoConfig, SqliteConfig, open_sqlite};
use gochat_task::{Task, TaskConfig, TaskDeps};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::wire::Wire;

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const INCARNATION: u64 = 7;
const PARTITIONS: u32 = 2;

/// A backend; everything ends with it.
pub(crate) struct Chat {
    pub(crate) auth: AuthServiceClient<Channel>,
    pub(crate) users: UserServiceClient<Channel>,
    pub(crate) conversations: ConversationServiceClient<Channel>,
    pub(crate) friends: FriendServiceClient<Channel>,
    pub(crate) messages: MessageServiceClient<Channel>,
    pub(crate) presence: OnlineStatusServiceClient<Channel>,
    pub(crate) repo_users: RepoUsers<Channel>,
    pub(crate) bus: Arc<LogBus>,
    pub(crate) wire: Wire,
    _shutdown: watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl Chat {
    pub(crate) async fn start() -> Chat {
        Chat::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut LogicConfig)) -> Chat {
        let directory = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let log = LogConfig {
            segment_bytes: 4 << 20,
            batch_bytes_max: 1 << 20,
            ..LogConfig::new(directory.path().join("log"))
        };
        let bus = LogBus::open(log).unwrap();
        let gateway = GatewayId::new(1).unwrap();
        for topic in [
            topics::MESSAGES_UPSTREAM,
            topics::MESSAGES_PERSIST,
            topics::TASKS_FANOUT,
            topics::USER_EVENTS,
            topics::CONVERSATION_EVENTS,
            topics::MESSAGE_EVENTS,
            topics::FRIEND_EVENTS,
            topics::NOTIFICATIONS,
            &topics::dead_letter(topics::TASKS_FANOUT),
            &topics::downstream(gateway),
        ] {
            let spec = TopicSpec { name: topic.to_owned(), partitions: PARTITIONS, durability: Durability::Written };
            bus.create_topic(spec).await.unwrap();
        }
        let wire = Wire::listen(&*bus, gateway).await;
        let store = open_sqlite(SqliteConfig::new(directory.path().join("db"))).await.unwrap();
        let cache = MemoryCacheConfig { clock: clock.clone(), ..MemoryCacheConfig::default() };
        let uid = Arc::new(Snowflake::new(1, clock.clone()).unwrap());
        let repo = Repo::new(store, Arc::new(MemoryCache::new(cache)), uid.clone(), RepoConfig::default());
        let repo = repo.add_to(Channel::in_process()).build(RpcOptions::default());
        let gateways = watch::Sender::new(vec![gateway]).subscribe();
        let (shutdown, stopping) = watch::channel(false);
        let deps = TaskDeps {
            repo: repo.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            coord: Arc::new(LocalCoord::new(clock.clone())),
            gateways: gateways.clone(),
        };
        tokio::spawn(Task::new(deps, TaskConfig::default()).run(stopping.clone()));
        let mut config = LogicConfig::new(Bytes::from_static(&[7; 32]));
        config.auth.bcrypt_cost = 4;
        change(&mut config);
        let deps = LogicDeps { repo: repo.clone(), bus: bus.clone(), gateways, uid, clock };
        let logic = Logic::new(deps, config).unwrap();
        logic.prepare().await.unwrap();
        tokio::spawn(logic.pipeline().run(stopping.clone()));
        tokio::spawn(logic.events().run(stopping));
        let channel = Channel::in_process()
            .add(logic.auth_service())
            .add(logic.user_service())
            .add(logic.conversation_service())
            .add(logic.message_service())
            .add(logic.friend_service())
            .build(RpcOptions::default());
        Chat {
            auth: AuthServiceClient::new(channel.clone()),
            users: UserServiceClient::new(channel.clone()),
            conversations: ConversationServiceClient::new(channel.clone()),
            friends: FriendServiceClient::new(channel.clone()),
            messages: MessageServiceClient::new(channel),
            presence: OnlineStatusServiceClient::new(repo.clone()),
            repo_users: RepoUsers::new(repo),
            bus,
            wire,
            _shutdown: shutdown,
            _directory: directory,
        }
    }

    /// A registered user's id.
    pub(crate) async fn register(&self, username: &str) -> String {
        let register =
            RegisterRequest { username: username.into(), password: PASSWORD.into(), avatar_url: String::new() };
        self.auth.clone().register(ask(register)).await.unwrap().into_inner().user.unwrap().id
    }

    pub(crate) async fn login(&self, username: &str) -> LoginResponse {
        let login = LoginRequest { username: username.into(), password: PASSWORD.into(), client_info: username.into() };
        self.auth.clone().login(ask(login)).await.unwrap().into_inner()
    }

    /// A guest's id.
    pub(crate) async fn guest(&self) -> String {
        let guest = self.auth.clone().guest_login(ask(GuestLoginRequest::default())).await.unwrap();
        guest.into_inner().user.unwrap().id
    }

    /// A group's id.
    pub(crate) async fn group(&self, owner: &str, members: &[&String]) -> String {
        let create = self.create_group(owner, "group", members);
        create.await.unwrap().into_inner().conversation.unwrap().id
    }

    pub(crate) async fn create_group(
        &self,
        owner: &str,
        name: &str,
        members: &[&String],
    ) -> Result<Response<CreateConversationResponse>, Status> {
        let create = CreateConversationRequest {
            creator_id: owner.into(),
            r#type: ConversationType::Group as i32,
            name: name.into(),
            member_ids: members.iter().map(|id| (*id).clone()).collect(),
            ..CreateConversationRequest::default()
        };
        self.conversations.clone().create_conversation(ask(create)).await
    }

    pub(crate) async fn open_single(
        &self,
        creator: &str,
        peer: &str,
    ) -> Result<Response<CreateConversationResponse>, Status> {
        let create = CreateConversationRequest {
            creator_id: creator.into(),
            r#type: ConversationType::Single as i32,
            member_ids: vec![peer.into()],
            ..CreateConversationRequest::default()
        };
        self.conversations.clone().create_conversation(ask(create)).await
    }

    pub(crate) async fn set_role(
        &self,
        operator: &str,
        conversation: &str,
        target: &str,
        role: i32,
    ) -> Result<Response<UpdateMemberRoleResponse>, Status> {
        let update = UpdateMemberRoleRequest {
            operator_id: operator.into(),
            conversation_id: conversation.into(),
            target_user_id: target.into(),
            new_role: role,
            update_mask: vec!["role".into()],
            ..UpdateMemberRoleRequest::default()
        };
        self.conversations.clone().update_member_role(ask(update)).await
    }

    pub(crate) async fn set_muted(
        &self,
        operator: &str,
        conversation: &str,
        target: &str,
        muted: bool,
    ) -> Result<Response<UpdateMemberRoleResponse>, Status> {
        let update = UpdateMemberRoleRequest {
            operator_id: operator.into(),
            conversation_id: conversation.into(),
            target_user_id: target.into(),
            muted,
            update_mask: vec!["muted".into()],
            ..UpdateMemberRoleRequest::default()
        };
        self.conversations.clone().update_member_role(ask(update)).await
    }

    pub(crate) async fn add_members(
        &self,
        operator: &str,
        conversation: &str,
        members: &[&String],
    ) -> Result<Response<AddMembersResponse>, Status> {
        let add = AddMembersRequest {
            operator_id: operator.into(),
            conversation_id: conversation.into(),
            user_ids: members.iter().map(|id| (*id).clone()).collect(),
            role: 0,
        };
        self.conversations.clone().add_members(ask(add)).await
    }

    pub(crate) async fn remove_member(
        &self,
        operator: &str,
        conversation: &str,
        target: &str,
    ) -> Result<Response<RemoveMembersResponse>, Status> {
        let remove = RemoveMembersRequest {
            operator_id: operator.into(),
            conversation_id: conversation.into(),
            user_ids: vec![target.into()],
            reason: String::new(),
        };
        self.conversations.clone().remove_members(ask(remove)).await
    }

    pub(crate) async fn leave(
        &self,
        user: &str,
        conversation: &str,
    ) -> Result<Response<LeaveConversationResponse>, Status> {
        let leave = LeaveConversationRequest { user_id: user.into(), conversation_id: conversation.into() };
        self.conversations.clone().leave_conversation(ask(leave)).await
    }

    pub(crate) async fn detail(&self, user: &str, conversation: &str) -> Result<GetConversationResponse, Status> {
        let get = GetConversationRequest {
            user_id: user.into(),
            conversation_id: conversation.into(),
            include_members: true,
        };
        self.conversations.clone().get_conversation(ask(get)).await.map(Response::into_inner)
    }

    pub(crate) async fn befriend(&self, a: &str, b: &str) {
        for (requester, target) in [(a, b), (b, a)] {
            let send = SendFriendRequestRequest {
                requester_id: requester.into(),
                target_id: target.into(),
                message: String::new(),
            };
            self.friends.clone().send_friend_request(ask(send)).await.unwrap();
        }
    }

    pub(crate) async fn block(&self, user: &str, target: &str, blocked: bool) {
        let update = UpdateFriendRequest {
            user_id: user.into(),
            friend_id: target.into(),
            blocked,
            update_mask: vec!["blocked".into()],
            ..UpdateFriendRequest::default()
        };
        self.friends.clone().update_friend(ask(update)).await.unwrap();
    }

    /// Registers a connection of a user at this address of the one gateway.
    pub(crate) async fn connect(&self, user: &str, address: u64) {
        self.connect_with(repo::PresenceEntry { user_id: user.into(), address, ..repo::PresenceEntry::default() })
            .await;
    }

    pub(crate) async fn connect_with(&self, entry: repo::PresenceEntry) {
        let update = repo::BatchUpdateRequest {
            gateway_id: "gateway-1".into(),
            gateway_incarnation: INCARNATION,
            online: vec![entry],
            policy: repo::SessionPolicy::Multi.into(),
            max_devices: 5,
            ..repo::BatchUpdateRequest::default()
        };
        self.presence.clone().batch_update(ask(update)).await.unwrap();
    }
}

pub(crate) fn ask<T>(message: T) -> Request<T> {
    request(message, Duration::from_secs(20))
}

/// What a call was refused with.
pub(crate) fn code<T>(result: Result<T, Status>) -> ErrorCode {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(status) => Failure::from_status(&status).code,
    }
}
