//! The HTTP API over real sockets and shards, with logic played by the test: what each endpoint asks and answers, and what
//! is refused before logic hears of it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod control_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use control_support::{PARTITIONS, Setting, config, gateway, token, tokens};
use gochat_gateway::config::{ChatConfig, DataPlaneConfig};
use gochat_gateway::control::{Control, ControlConfig};
use gochat_gateway::data_plane::DataPlane;
use gochat_gateway::engine::EngineConfig;
use gochat_infra::bus::{BatchLimits, Bus as _, StartAt};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, Refusal, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use gochat_proto::topics;
use gochat_ring::ReactorChoice;
use prost::Message as _;
use serde_json::{Value, json};

/// A gateway, and logic played by the test.
struct Gateway {
    setting: std::sync::Arc<Setting>,
    control: Control,
    plane: DataPlane,
    http: SocketAddr,
}

impl Gateway {
    async fn start(config: ControlConfig) -> Gateway {
        let setting = std::sync::Arc::new(Setting::new().await);
        let engine = EngineConfig {
            pin: false,
            ..EngineConfig::for_gateway(([127, 0, 0, 1], 0).into(), 1, ReactorChoice::Epoll, 256, 20_000)
        };
        let chat = ChatConfig {
            gateway: gateway(),
            incarnation: control_support::INCARNATION,
            upstream_partitions: PARTITIONS,
            token_key: tokens(),
            allow_query_token: true,
            allowed_origins: None,
            rate_limits: false,
            world_messages_per_minute: 10,
            session_policy: gochat_gateway::config::SessionPolicy::Single,
            heartbeat_interval_s: 30,
        };
        let (plane, end) = DataPlane::start(&DataPlaneConfig { engine, chat }).unwrap();
        let control = setting.control(end, config).await;
        for partition in 0..PARTITIONS {
            tokio::spawn(play_logic(setting.clone(), partition));
        }
        let http = plane.addr();
        Gateway { setting, control, plane, http }
    }

    fn as_user(&self, user_id: &str) -> Client {
        Client { http: self.http, token: Some(token(user_id, 60)) }
    }

    fn nobody(&self) -> Client {
        Client { http: self.http, token: None }
    }

    async fn stop(self) {
        assert!(self.control.stop(Duration::from_secs(30)).await);
        tokio::task::spawn_blocking(|| self.plane.join()).await.unwrap().unwrap();
    }
}

/// Answers messages by their content.
async fn play_logic(setting: std::sync::Arc<Setting>, partition: u32) {
    let mut stream = setting.bus.assign(topics::MESSAGES_UPSTREAM, partition, StartAt::Offset(0)).await.unwrap();
    while let Ok(records) = stream.next_batch(BatchLimits { records_max: 100, bytes_max: 1 << 20 }).await {
        for record in records {
            let message = UpstreamMessage::decode(record.value).unwrap();
            let (origin, client_msg_id, conversation_id) =
                (message.origin, message.client_msg_id, message.conversation_id);
            let item = match message.content.as_str() {
                "silence" => continue,
                "refuse" => Item::Refusal(Refusal {
                    origin,
                    client_msg_id,
                    conversation_id,
                    code: ErrorCode::ClientMsgIdReused.number(),
                    ..Refusal::default()
                }),
                _ => Item::Ack(Ack {
                    origin,
                    client_msg_id,
                    conversation_id,
                    message_id: 901,
                    seq_id: 31,
                    created_at_ms: 5_500,
                    ..Ack::default()
                }),
            };
            setting.downstream(0, control_support::INCARNATION, vec![item]).await;
        }
    }
}

#[derive(Clone)]
struct Client {
    http: SocketAddr,
    token: Option<String>,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.body["success"], false, "{}", self.body);
        assert!(self.body["traceId"].is_string() && self.body["message"].is_string());
        (self.status, self.body["code"].as_str().unwrap())
    }

    fn data(&self) -> &Value {
        assert_eq!(self.body["success"], true, "{}", self.body);
        &self.body["data"]
    }
}

impl Client {
    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body.to_string()).await
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let auth = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        answer(&raw(self.http, format!("{head}{body}").into_bytes()).await)
    }
}

/// Sends bytes and reads until the server closes.
async fn raw(http: SocketAddr, request: Vec<u8>) -> String {
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

fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_users() {
    let gateway = Gateway::start(config()).await;
    let nobody = gateway.nobody();
    let made = nobody.post("/api/auth/register", json!({"username": "ann", "password": "correct horse"})).await;
    assert_eq!((made.status, &made.data()["user"]["status"]), (201, &json!(0)));
    let good = json!({"username": "ann", "password": "correct horse", "clientInfo": null, "unknown": [1]});
    let pair = nobody.post("/api/v1/auth/login", good).await;
    assert_eq!((pair.status, &pair.data()["expiresIn"], &pair.data()["user"]["id"]), (200, &json!(60), &json!("7")));
    let fresh = nobody.post("/api/auth/refresh", json!({"refreshToken": "refresh"})).await;
    assert_eq!(fresh.data(), &json!({"accessToken": "a", "refreshToken": "b", "expiresIn": 60}));

    let bad = [
        ("/api/auth/register", json!({"username": "taken", "password": "x"}), (400, "USER_ALREADY_EXISTS")),
        ("/api/auth/register", json!({"username": "ann"}), (400, "INVALID_PARAMS")),
        ("/api/auth/register", json!({"username": 5, "password": "x"}), (400, "INVALID_PARAMS")),
        ("/api/auth/login", json!({"username": "ann", "password": "wrong"}), (401, "AUTH_INVALID_CREDENTIALS")),
        ("/api/auth/login", json!({"username": "ann", "password": null}), (400, "INVALID_PARAMS")),
        (
            "/api/auth/login",
            json!({"username": "a", "password": "b", "clientInfo": "x".repeat(256)}),
            (400, "INVALID_PARAMS"),
        ),
        ("/api/auth/login", json!(["ann", "correct horse"]), (400, "INVALID_PARAMS")),
        ("/api/auth/refresh", json!({"refreshToken": "used"}), (401, "TOKEN_REUSED")),
        ("/api/auth/refresh", json!({}), (400, "INVALID_PARAMS")),
    ];
    for (path, body, expected) in bad {
        assert_eq!(nobody.post(path, body.clone()).await.refusal(), expected, "{body}");
    }
    let broken = nobody.call("POST", "/api/auth/login", "{\"username\": nope").await;
    assert!(broken.body["message"].as_str().unwrap().contains("line 1 column"), "{}", broken.body);

    let me = gateway.as_user("7");
    assert_eq!(me.get("/api/users/profile").await.data()["username"], "user7");
    assert_eq!(me.get("/api/users/8").await.data(), &json!({"id": "8", "username": "user8", "isGuest": false}));
    for path in ["/api/users/9", "/api/users/xyz", "/api/users/08", "/api/users/%ff"] {
        assert_eq!(me.get(path).await.status, 404, "{path}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_checked_before_anything_else() {
    let gateway = Gateway::start(config()).await;
    let profile = "/api/users/profile";
    let with = |token: &str| Client { http: gateway.http, token: Some(token.to_owned()) };
    assert_eq!(gateway.nobody().get(profile).await.refusal(), (401, "UNAUTHORIZED"));
    assert_eq!(with("nonsense").get(profile).await.refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(with("two words").get(profile).await.refusal(), (401, "INVALID_TOKEN_FORMAT"));
    assert_eq!(with(&token("7", -1)).get(profile).await.refusal(), (401, "TOKEN_EXPIRED"));
    {
        let mut logic = gateway.setting.logic.0.lock().unwrap();
        logic.void.insert("66".into(), ErrorCode::UserDisabled);
        logic.void.insert("67".into(), ErrorCode::InvalidToken);
        assert_eq!(logic.validated, 0, "logic is not asked about what is void by itself");
    }
    assert_eq!(gateway.as_user("66").get(profile).await.refusal(), (423, "USER_DISABLED"));
    assert_eq!(gateway.as_user("67").get(profile).await.refusal(), (401, "INVALID_TOKEN"));

    let me = gateway.as_user("7");
    let asked = || gateway.setting.logic.0.lock().unwrap().validated;
    let before = asked();
    for _ in 0..3 {
        assert_eq!(me.get(profile).await.status, 200);
    }
    assert_eq!(asked(), before + 1, "the answer is kept");
    gateway.setting.logic.0.lock().unwrap().is_down = true;
    assert_eq!(me.get(profile).await.status, 200);
    assert_eq!(gateway.as_user("8").get(profile).await.refusal(), (503, "SERVICE_UNAVAILABLE"), "never seen before");
    gateway.setting.logic.0.lock().unwrap().is_down = false;

    // Logging out voids the token here at once, also for a WebSocket.
    assert_eq!(me.call("POST", "/api/auth/logout", "").await.body, json!({"success": true, "message": "ok"}));
    assert_eq!(me.get(profile).await.refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(me.call("POST", "/api/auth/logout", "").await.refusal(), (401, "INVALID_TOKEN"));
    let logged_out = gateway.setting.logic.0.lock().unwrap().logged_out.clone();
    assert_eq!((logged_out.len(), logged_out[0].user_id.as_str()), (1, "7"));
    let upgrade = format!(
        "GET /ws?token={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        me.token.as_ref().unwrap()
    );
    assert!(raw(gateway.http, upgrade.into_bytes()).await.starts_with("HTTP/1.1 401"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations() {
    let gateway = Gateway::start(config()).await;
    let me = gateway.as_user("7");
    let made = me.post("/api/conversations", json!({"type": 1, "members": ["8", "7"]})).await;
    assert_eq!((made.status, &made.data()["peer"]["id"]), (201, &json!("8")));
    let there = gateway.as_user("8").post("/api/conversations", json!({"type": 1, "members": ["7"]})).await;
    assert_eq!(there.status, 200);
    let bad = [
        json!({}),
        json!({"type": 1}),
        json!({"type": "1", "members": ["8"]}),
        json!({"type": 3, "members": ["8"]}),
        json!({"type": 1, "members": []}),
        json!({"type": 1, "members": ["7"]}),
        json!({"type": 1, "members": ["8", "9"]}),
        json!({"type": 1, "members": [8]}),
        json!({"type": 1, "members": "8"}),
    ];
    for body in bad {
        assert_eq!(me.post("/api/conversations", body.clone()).await.refusal(), (400, "INVALID_PARAMS"), "{body}");
    }
    assert_eq!(
        me.post("/api/conversations", json!({"type": 1, "members": ["1"]})).await.refusal(),
        (404, "USER_NOT_FOUND")
    );

    let detail = me.get("/api/conversations/single_7_8").await;
    assert_eq!((&detail.data()["assignedSeq"], detail.data().get("members")), (&json!(9), None));
    for (id, expected) in [
        ("single_8_9", (403, "NOT_CONVERSATION_MEMBER")),
        ("single_1_2", (404, "CONVERSATION_NOT_FOUND")),
        ("nonsense", (404, "CONVERSATION_NOT_FOUND")),
        ("single_8_7", (404, "CONVERSATION_NOT_FOUND")),
        ("world", (500, "INTERNAL_ERROR")),
    ] {
        let answer = me.get(&format!("/api/conversations/{id}")).await;
        assert_eq!(answer.refusal(), expected);
        assert!(!answer.body.to_string().contains("table"));
    }

    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let list = me.get("/api/conversations?page=3&pageSize=7&type=1").await;
    assert_eq!(
        (&list.data()["total"], &list.data()["hasMore"], list.data().get("removedIds")),
        (&json!(1), &json!(false), None)
    );
    let delta = me.get(&format!("/api/conversations?last_sync={now}&limit=1000")).await;
    assert_eq!((&delta.data()["removedIds"], &delta.data()["serverTime"]), (&json!([]), &json!(100)));
    me.get("/api/conversations?size=0").await.data();
    let asked = gateway.setting.logic.0.lock().unwrap().lists.clone();
    assert_eq!((asked[0].page, asked[0].page_size, asked[0].type_filter, asked[0].last_sync_time), (3, 7, 1, 0));
    assert_eq!((asked[1].last_sync_time, asked[1].limit), (now as i64, 200));
    assert_eq!((asked[2].page, asked[2].page_size), (1, 1));
    for query in ["page=x", "size=-1", "type=9", "type=x", "last_sync=x"] {
        assert_eq!(me.get(&format!("/api/conversations?{query}")).await.refusal(), (400, "INVALID_PARAMS"), "{query}");
    }
    let old = me.get("/api/conversations?last_sync=1000").await;
    assert_eq!((old.refusal().1, &old.body["details"]["fullSync"]), ("INVALID_PARAMS", &json!(true)));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages() {
    let gateway = Gateway::start(ControlConfig { send_timeout: Duration::from_millis(300), ..config() }).await;
    let me = gateway.as_user("7");
    let path = "/api/conversations/single_7_8/messages";
    let message =
        |content: &str| json!({"messageType": 1, "content": content, "clientMsgId": "m1", "extra": "{\"a\":1}"});
    let sent = me.post(path, message("hello")).await;
    assert_eq!(sent.status, 201);
    let expected = json!({
        "id": "901", "conversationId": "single_7_8", "senderId": "7", "messageType": 1, "content": "hello", "seqId": 31,
        "sender": {"id": "7", "username": "user7", "isGuest": false}, "clientMsgId": "m1", "extra": "{\"a\":1}",
        "createdAt": 5,
    });
    assert_eq!(sent.data(), &expected);
    assert_eq!(me.post(path, message("refuse")).await.refusal(), (409, "CLIENT_MSG_ID_REUSED"));
    assert_eq!(me.post(path, message("silence")).await.refusal(), (504, "TIMEOUT"));
    let bad = [
        (json!({}), (400, "INVALID_MESSAGE")),
        (json!([]), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "content": "x"}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "content": "", "client_msg_id": "b"}), (400, "MESSAGE_EMPTY")),
        (json!({"messageType": 4, "content": "x", "client_msg_id": "b"}), (400, "UNSUPPORTED_MESSAGE_TYPE")),
        (json!({"messageType": 1, "content": "x".repeat(5001), "client_msg_id": "b"}), (413, "MESSAGE_TOO_LARGE")),
        (json!({"messageType": 1, "content": "x", "client_msg_id": "b".repeat(65)}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "content": "x", "client_msg_id": "b", "extra": "{"}), (400, "INVALID_MESSAGE")),
    ];
    for (body, expected) in bad {
        assert_eq!(me.post(path, body.clone()).await.refusal(), expected, "{body}");
    }
    let nowhere = "/api/conversations/nonsense/messages";
    assert_eq!(me.post(nowhere, message("x")).await.refusal(), (404, "CONVERSATION_NOT_FOUND"));

    for (query, start, end, ascending, limit) in [
        ("", 0, 0, false, 50),
        ("?limit=1000", 0, 0, false, 100),
        ("?cursor=9&limit=2", 8, 0, false, 2),
        ("?cursor=1", 1, 2, false, 50),
        ("?after_seq=0", 1, 0, true, 50),
        ("?after_seq=41", 42, 0, true, 50),
    ] {
        let page = me.get(&format!("{path}{query}")).await;
        let data = page.data();
        assert_eq!((&data["nextCursor"], &data["hasMore"], &data["complete"]), (&json!(6), &json!(true), &json!(true)));
        assert_eq!((&data["assignedSeq"], &data["storedThroughSeq"]), (&json!(9), &json!(8)));
        assert_eq!(data["messages"][0]["senderId"], "8");
        let asked = gateway.setting.logic.0.lock().unwrap().histories.pop().unwrap();
        assert_eq!(
            (asked.start_seq_id, asked.end_seq_id, asked.ascending, asked.limit),
            (start, end, ascending, limit),
            "{query}"
        );
    }
    assert_eq!(
        me.get(&format!("{path}?type=1,2")).await.data()["complete"],
        false,
        "a filtered page is never complete"
    );
    for query in ["cursor=5&after_seq=5", "limit=x", "after_seq=-1", "cursor=x", "cursor=", "type=a"] {
        assert_eq!(me.get(&format!("{path}?{query}")).await.refusal(), (400, "INVALID_PARAMS"), "{query}");
    }

    let read = "/api/conversations/single_7_8/read";
    assert_eq!(me.call("PUT", read, "{\"seqId\":12}").await.data(), &json!({"unreadCount": 4}));
    assert_eq!(me.call("PUT", read, "").await.data(), &json!({"unreadCount": 4}));
    let asked: Vec<i64> = gateway.setting.logic.0.lock().unwrap().reads.iter().map(|read| read.seq_id).collect();
    assert_eq!(asked, [12, -1]);
    for body in ["{}", "{\"seqId\":-1}", "{\"seqId\":\"5\"}", "{\"seqId\":1.5}", "5"] {
        assert_eq!(me.call("PUT", read, body).await.refusal(), (400, "INVALID_PARAMS"), "{body}");
    }
    gateway.setting.bus_healthy.send_replace(false);
    while gateway.nobody().get("/health").await.status == 200 {}
    assert_eq!(me.post(path, message("hello")).await.refusal(), (503, "SERVICE_UNAVAILABLE"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edges_of_http() {
    let gateway = Gateway::start(config()).await;
    let me = gateway.as_user("7");
    assert_eq!(me.get("/api/nothing/here").await.refusal(), (404, "NOT_FOUND"));
    let wrong = me.call("DELETE", "/api/friends", "").await;
    assert_eq!(wrong.status, 405);
    assert!(wrong.head.contains("allow: get"), "{}", wrong.head);
    assert_eq!(wrong.body["success"], false);
    assert_eq!(gateway.nobody().get("/health").await.body["status"], "ok");
    assert!(gateway.nobody().get("/").await.head.contains("text/html"));
    let huge = gateway.nobody().call("POST", "/api/auth/login", &"x".repeat((1 << 20) + 1)).await;
    assert_eq!(huge.refusal().0, 413);
    let chunked = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = format!("{chunked}{}", format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(17));
    assert_eq!(answer(&raw(gateway.http, endless.into_bytes()).await).status, 413);

    // Three requests in one piece on one connection; the last one wants to upgrade, which comes too late.
    let first = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answers = raw(gateway.http, format!("{first}{first}{upgrade}").into_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    let last = &answers[answers.find("HTTP/1.1 400").unwrap()..];
    assert!(last.to_lowercase().contains("connection: close"), "{last}");
    let preflight = "OPTIONS /api/auth/login HTTP/1.1\r\nHost: x\r\nOrigin: http://page\r\nConnection: close\r\n\r\n";
    let preflight = answer(&raw(gateway.http, preflight.into()).await);
    assert!(preflight.status == 204 && preflight.head.contains("access-control-allow-origin: *"), "{}", preflight.head);
    let late = format!("{first}GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    assert!(
        raw(gateway.http, late.into_bytes()).await.contains("HTTP/1.1 431"),
        "a long head on a kept-alive connection"
    );

    let admin = Client { http: gateway.control.admin_addr(), token: None };
    for path in ["/live", "/ready", "/health"] {
        assert_eq!(admin.get(path).await.status, 200, "{path}");
    }
    assert_eq!(admin.get("/health").await.body["components"]["bus"], "ok");
    let metrics = raw(admin.http, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()).await;
    for name in ["http_requests_total{method=\"GET\",path=\"/health\",status=\"200\"}", "shards_are_here 1"] {
        assert!(metrics.contains(name), "{name}");
    }
    gateway.setting.bus_healthy.send_replace(false);
    while admin.get("/ready").await.status == 200 {}
    assert_eq!(admin.get("/health").await.body["status"], "failing");
    assert_eq!(admin.get("/live").await.status, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_say_when_to_come_back() {
    let gateway = Gateway::start(ControlConfig { limits: true, ..config() }).await;
    let mut limited = None;
    for _ in 0..40 {
        let answer = gateway.nobody().post("/api/auth/login", json!({"username": "ann", "password": "wrong"})).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("guessing is slowed");
    assert_eq!(limited.refusal(), (429, "RATE_LIMITED"));
    assert!(limited.head.contains("retry-after: "), "{}", limited.head);
    assert!(limited.body["details"]["retryAfter"].as_u64().unwrap() > 0);
    gateway.stop().await;
}
