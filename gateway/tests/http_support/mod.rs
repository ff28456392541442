//! What the HTTP API is tested with: a client on plain sockets, and a gateway whose logic and repo are played.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

pub mod logic;
pub mod schema;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gochat_gateway::config::{ChatConfig, DataPlaneConfig, SessionPolicy};
use gochat_gateway::control::{Control, ControlConfig};
use gochat_gateway::data_plane::DataPlane;
use gochat_gateway::engine::EngineConfig;
use gochat_infra::bus::{BatchLimits, Bus as _, StartAt};
use gochat_infra::rpc::{Channel, RpcOptions};
use gochat_infra::token::{Claims, ISSUER, TokenKind};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, Refusal, UpstreamMessage};
use gochat_proto::im::logic::v1::auth_service_server::AuthServiceServer;
use gochat_proto::im::logic::v1::conversation_service_server::ConversationServiceServer;
use gochat_proto::im::logic::v1::friend_service_server::FriendServiceServer;
use gochat_proto::im::logic::v1::message_service_server::MessageServiceServer;
use gochat_proto::im::logic::v1::user_service_server::UserServiceServer;
use gochat_proto::im::repo::v1::idempotency_service_server::IdempotencyServiceServer;
use gochat_proto::im::repo::v1::online_status_service_server::OnlineStatusServiceServer;
use gochat_proto::im::repo::v1::pipeline_service_server::PipelineServiceServer;
use gochat_proto::topics;
use gochat_ring::ReactorChoice;
use prost::Message as _;
use serde_json::Value;

use self::logic::{Keys, PlayedLogic};
use crate::control_support::{INCARNATION, PARTITIONS, Setting, config, gateway, tokens};

/// The login that tokens of [`Gateway::as_user`] belong to.
pub const LOGIN: &str = "login-1";

/// A gateway between a played logic and a played repo.
pub struct Gateway {
    pub setting: std::sync::Arc<Setting>,
    pub control: Control,
    pub plane: DataPlane,
    pub http: SocketAddr,
    pub logic: PlayedLogic,
}

impl Gateway {
    pub async fn start() -> Gateway {
        Gateway::with(config()).await
    }

    pub async fn with(config: ControlConfig) -> Gateway {
        let setting = std::sync::Arc::new(Setting::new().await);
        let engine = EngineConfig {
            pin: false,
            ..EngineConfig::for_gateway(([127, 0, 0, 1], 0).into(), 1, ReactorChoice::Epoll, 256, 20_000)
        };
        let chat = ChatConfig {
            gateway: gateway(),
            incarnation: INCARNATION,
            upstream_partitions: PARTITIONS,
            token_key: tokens(),
            allow_query_token: true,
            allowed_origins: None,
            rate_limits: false,
            world_messages_per_minute: 10,
            session_policy: SessionPolicy::Single,
            heartbeat_interval_s: 30,
        };
        let (plane, end) = DataPlane::start(&DataPlaneConfig { engine, chat }).unwrap();
        let logic = PlayedLogic::default();
        let to_logic = Channel::in_process()
            .add(AuthServiceServer::new(logic.clone()))
            .add(UserServiceServer::new(logic.clone()))
            .add(ConversationServiceServer::new(logic.clone()))
            .add(MessageServiceServer::new(logic.clone()))
            .add(FriendServiceServer::new(logic.clone()))
            .build(RpcOptions::default());
        let to_repo = Channel::in_process()
            .add(OnlineStatusServiceServer::new(setting.repo.clone()))
            .add(PipelineServiceServer::new(setting.repo.clone()))
            .add(IdempotencyServiceServer::new(Keys::default()))
            .build(RpcOptions::default());
        let control = setting.control_with(end, config, to_logic, to_repo).await;
        for partition in 0..PARTITIONS {
            tokio::spawn(play_pipeline(setting.clone(), logic.clone(), partition));
        }
        let http = plane.addr();
        Gateway { setting, control, plane, http, logic }
    }

    pub fn as_user(&self, user_id: &str) -> Client {
        Client { http: self.http, token: Some(token(user_id, false)), headers: String::new() }
    }

    pub fn as_guest(&self, user_id: &str) -> Client {
        Client { http: self.http, token: Some(token(user_id, true)), headers: String::new() }
    }

    pub fn nobody(&self) -> Client {
        Client { http: self.http, token: None, headers: String::new() }
    }

    pub async fn stop(self) {
        assert!(self.control.stop(Duration::from_secs(30)).await);
        tokio::task::spawn_blocking(|| self.plane.join()).await.unwrap().unwrap();
    }
}

/// An access token, good for ten minutes.
pub fn token(user_id: &str, guest: bool) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let claims = Claims {
        iss: ISSUER.into(),
        sub: user_id.into(),
        user_id: user_id.into(),
        kind: TokenKind::Access,
        jti: format!("jti-{user_id}-{guest}"),
        iat: now,
        exp: now + 600,
        guest,
        ver: 3,
        fam: LOGIN.into(),
        sxp: 0,
        ath: String::new(),
    };
    tokens().sign(&claims).unwrap()
}

/// Takes entries of the stream, or refuses them as the test wants it.
async fn play_pipeline(setting: std::sync::Arc<Setting>, logic: PlayedLogic, partition: u32) {
    let mut stream = setting.bus.assign(topics::MESSAGES_UPSTREAM, partition, StartAt::Offset(0)).await.unwrap();
    while let Ok(records) = stream.next_batch(BatchLimits { records_max: 100, bytes_max: 1 << 20 }).await {
        for record in records {
            let entry = UpstreamMessage::decode(record.value).unwrap();
            let (origin, client_msg_id) = (entry.origin, entry.client_msg_id.clone());
            let conversation_id = entry.conversation_id.clone();
            let refusal = logic.entry(entry);
            let item = match refusal {
                Some(code) => Item::Refusal(Refusal {
                    origin,
                    client_msg_id,
                    conversation_id,
                    code: code.number(),
                    code_name: code.as_str().into(),
                    ..Refusal::default()
                }),
                None => Item::Ack(Ack {
                    origin,
                    client_msg_id,
                    conversation_id,
                    message_id: 901,
                    seq_id: 31,
                    created_at_ms: 5_500,
                    ..Ack::default()
                }),
            };
            setting.downstream(0, INCARNATION, vec![item]).await;
        }
    }
}

#[derive(Clone)]
pub struct Client {
    pub http: SocketAddr,
    pub token: Option<String>,
    /// Further header lines, each with its end.
    pub headers: String,
}

pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub text: String,
    /// Null when it is not JSON.
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.body["success"], false, "{}", self.text);
        assert!(self.body["traceId"].is_string() && self.body["message"].is_string());
        (self.status, self.body["code"].as_str().unwrap())
    }

    #[track_caller]
    pub fn data(&self) -> &Value {
        assert_eq!(self.body["success"], true, "{}", self.text);
        &self.body["data"]
    }
}

impl Client {
    pub fn with_header(&self, name: &str, value: &str) -> Client {
        Client { headers: format!("{}{name}: {value}\r\n", self.headers), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, &body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "").await
    }

    pub async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let auth = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: chat.example\r\n{auth}{}Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.headers,
            body.len()
        );
        answer(&raw(self.http, format!("{head}{body}").into_bytes()).await)
    }
}

/// Sends bytes and reads until the server closes.
pub async fn raw(http: SocketAddr, request: Vec<u8>) -> String {
    let exchange = move || {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(&request);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

pub fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let json = serde_json::from_str(body).unwrap_or(Value::Null);
    Answer { status, head: head.to_lowercase(), text: body.to_owned(), body: json }
}
