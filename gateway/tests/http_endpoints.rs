//! What single endpoints of the HTTP API ask logic for and make of its answers, idempotency keys, tickets, and the page.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod control_support;
mod http_support;

use std::sync::Arc;

use control_support::{config, tokens};
use gochat_gateway::control::ControlConfig;
use gochat_infra::token::{TokenError, TokenKind, token_hash};
use gochat_proto::bus::v1::StreamKind;
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1 as logic;
use http_support::{Gateway, LOGIN, raw};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_logic_is_asked() {
    let gateway = Gateway::start().await;
    let me = gateway.as_user("7");
    let cases = [
        ("PUT", "/users/profile", r#"{"avatarUrl":""}"#, "update_profile", r#"update_mask: ["avatar_url"]"#),
        ("GET", "/users/search?q=%20An%20", "", "search_users", r#"query: "An", limit: 10"#),
        ("GET", "/users/search?q=a&limit=99", "", "search_users", "limit: 20"),
        ("GET", "/users/status?ids=8,9", "", "get_online_statuses", r#"user_ids: ["8", "9"]"#),
        ("GET", "/conversations/search?q=x", "", "search_conversations", "limit: 20"),
        ("GET", "/conversations/search?q=x&type=1&limit=99", "", "search_conversations", "limit: 50"),
        ("GET", "/conversations/unread", "", "get_unread_count", r#"conversation_id: """#),
        ("GET", "/conversations/world", "", "get_conversation", r#"conversation_id: "world""#),
        ("POST", "/conversations/world/join", "", "join_world_chat", r#"user_id: "7""#),
        (
            "POST",
            "/conversations",
            r#"{"type":2,"name":"us","members":["9","7","8","8"]}"#,
            "create_conversation",
            r#"member_ids: ["8", "9"]"#,
        ),
        ("POST", "/conversations", r#"{"type":2,"name":"us"}"#, "create_conversation", "member_ids: []"),
        (
            "POST",
            "/conversations",
            r#"{"type":1,"members":["8"],"name":"x"}"#,
            "create_conversation",
            r#"r#type: Single, name: """#,
        ),
        ("PUT", "/conversations/group_5", r#"{"name":"a"}"#, "update_conversation", r#"update_mask: ["name"]"#),
        (
            "PUT",
            "/conversations/group_5",
            r#"{"settings":{"group_settings":{"mute_all":true,"max_members":9}},"infoVersion":3}"#,
            "update_conversation",
            r#"update_mask: ["settings.mute_all", "settings.max_members"], expected_info_version: 3"#,
        ),
        (
            "PUT",
            "/conversations/group_5",
            r#"{"settings":{"announcement":"hi"}}"#,
            "update_conversation",
            r#"announcement: "hi""#,
        ),
        ("DELETE", "/conversations/group_5?reason=over", "", "delete_conversation", r#"reason: "over""#),
        ("GET", "/conversations/group_5/members?role=2", "", "get_members", "role_filter: Admin"),
        (
            "POST",
            "/conversations/group_5/members",
            r#"{"members":["9","8","9"],"role":2}"#,
            "add_members",
            r#"user_ids: ["8", "9"], role: Admin"#,
        ),
        ("DELETE", "/conversations/group_5/members/8", "", "remove_members", r#"user_ids: ["8"]"#),
        ("DELETE", "/conversations/group_5/members/7", "", "leave_conversation", r#"user_id: "7""#),
        ("PUT", "/conversations/group_5/members/8", r#"{"muted":true}"#, "update_member_role", r#"["muted"]"#),
        ("PUT", "/conversations/group_5/members/8", r#"{"role":3}"#, "update_member_role", r#"["role"]"#),
        ("GET", "/friends", "", "get_friends_with_sync", "last_sync_time: 0, include_online_status: true"),
        ("GET", "/friends?status=3", "", "get_friends", "status: 3"),
        ("GET", "/friends/blocked?page=2&size=500", "", "list_blocked", "page: 2, page_size: 100"),
        ("GET", "/friends/requests", "", "get_friend_requests", "status: -1, r#type: 1"),
        ("GET", "/friends/requests?type=sent&status=2", "", "get_friend_requests", "status: 2, r#type: 2"),
        ("PUT", "/friends/requests/55", r#"{"action":2}"#, "handle_friend_request", "action: 2"),
        ("PUT", "/friends/8", r#"{"blocked":false}"#, "update_friend", r#"blocked: false, update_mask: ["blocked"]"#),
        ("DELETE", "/auth/sessions/login-9", "", "revoke_login", r#"login_id: "login-9""#),
    ];
    for (method, path, body, call, with) in cases {
        gateway.logic.calls();
        let answer = me.call(method, &format!("/api{path}"), body).await;
        assert!(answer.status < 300, "{method} {path}: {}", answer.text);
        let calls = gateway.logic.calls();
        let [(name, request)] = calls.as_slice() else { panic!("{method} {path}: {calls:?}") };
        assert_eq!(*name, call, "{method} {path}");
        let request = request.replace("r#type: 1, name", "r#type: Single, name");
        assert!(request.contains(with), "{method} {path}: {request}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_without_asking() {
    let gateway = Gateway::start().await;
    let me = gateway.as_user("7");
    let long = |n: usize| "x".repeat(n);
    let ids = |n: usize| (1..=n).map(|id| id.to_string()).collect::<Vec<_>>();
    let cases: Vec<(&str, String, Value, u16, &str)> = vec![
        ("GET", "/users/search".into(), Value::Null, 400, "MISSING_QUERY"),
        ("GET", "/users/search?q=%20".into(), Value::Null, 400, "MISSING_QUERY"),
        ("GET", format!("/users/search?q={}", long(51)), Value::Null, 400, "INVALID_PARAMS"),
        ("GET", "/conversations/search".into(), Value::Null, 400, "MISSING_QUERY"),
        ("GET", "/users/status".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("GET", "/users/status?ids=8,x".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("GET", format!("/users/status?ids={}", ids(101).join(",")), Value::Null, 400, "INVALID_PARAMS"),
        ("GET", "/conversations/unread?conversationId=x".into(), Value::Null, 404, "CONVERSATION_NOT_FOUND"),
        ("GET", "/conversations?cursor=c2".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("POST", "/conversations".into(), json!({"type": 2}), 400, "INVALID_CONVERSATION_NAME"),
        ("POST", "/conversations".into(), json!({"type": 2, "name": " "}), 400, "INVALID_CONVERSATION_NAME"),
        ("POST", "/conversations".into(), json!({"type": 2, "name": long(101)}), 400, "INVALID_CONVERSATION_NAME"),
        ("POST", "/conversations".into(), json!({"type": 3, "name": "x"}), 400, "INVALID_PARAMS"),
        ("POST", "/conversations".into(), json!({"type": 2, "name": "x", "members": [8]}), 400, "INVALID_PARAMS"),
        (
            "POST",
            "/conversations".into(),
            json!({"type": 2, "name": "x", "description": long(501)}),
            400,
            "INVALID_PARAMS",
        ),
        ("PUT", "/conversations/group_5".into(), json!({}), 400, "INVALID_PARAMS"),
        ("PUT", "/conversations/group_5".into(), json!({"infoVersion": 3}), 400, "INVALID_PARAMS"),
        ("PUT", "/conversations/group_5".into(), json!({"name": ""}), 400, "INVALID_CONVERSATION_NAME"),
        (
            "PUT",
            "/conversations/group_5".into(),
            json!({"settings": {"group_settings": {"mute_all": 1}}}),
            400,
            "INVALID_PARAMS",
        ),
        ("DELETE", format!("/conversations/group_5?reason={}", long(201)), Value::Null, 400, "INVALID_PARAMS"),
        ("DELETE", "/conversations/group_05".into(), Value::Null, 404, "CONVERSATION_NOT_FOUND"),
        ("DELETE", "/conversations/group_5/messages/x".into(), Value::Null, 404, "MESSAGE_NOT_FOUND"),
        ("GET", "/conversations/group_5/members?role=4".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("POST", "/conversations/group_5/members".into(), json!({"members": []}), 400, "INVALID_PARAMS"),
        ("POST", "/conversations/group_5/members".into(), json!({"members": ids(201)}), 400, "INVALID_PARAMS"),
        ("POST", "/conversations/group_5/members".into(), json!({"members": ["8"], "role": 3}), 400, "INVALID_PARAMS"),
        ("DELETE", "/conversations/group_5/members/x".into(), Value::Null, 404, "USER_NOT_FOUND"),
        ("PUT", "/conversations/group_5/members/8".into(), json!({}), 400, "INVALID_PARAMS"),
        ("PUT", "/conversations/group_5/members/8".into(), json!({"role": 4}), 400, "INVALID_PARAMS"),
        ("GET", "/friends?status=2".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("GET", "/friends/requests?type=x".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("GET", "/friends/requests?status=3".into(), Value::Null, 400, "INVALID_PARAMS"),
        ("POST", "/friends/requests".into(), json!({"targetUserId": 8}), 400, "INVALID_PARAMS"),
        ("POST", "/friends/requests".into(), json!({"targetUserId": "8", "message": long(201)}), 400, "INVALID_PARAMS"),
        ("PUT", "/friends/requests/x".into(), json!({"action": "accept"}), 404, "FRIEND_REQUEST_NOT_FOUND"),
        ("PUT", "/friends/requests/55".into(), json!({"action": "perhaps"}), 400, "INVALID_PARAMS"),
        ("PUT", "/friends/requests/55".into(), json!({"action": 3}), 400, "INVALID_PARAMS"),
        ("PUT", "/friends/8".into(), json!({}), 400, "INVALID_PARAMS"),
        ("PUT", "/friends/8".into(), json!({"remark": long(101)}), 400, "INVALID_PARAMS"),
        ("DELETE", "/friends/x".into(), Value::Null, 404, "USER_NOT_FOUND"),
        ("DELETE", "/users/profile".into(), json!({}), 400, "INVALID_PARAMS"),
        ("PUT", "/users/password".into(), json!({"oldPassword": "x"}), 400, "INVALID_PARAMS"),
        ("POST", "/auth/guest".into(), json!({"guestName": long(15)}), 400, "INVALID_PARAMS"),
        (
            "POST",
            "/conversations/group_5/messages".into(),
            json!({"messageType": 1, "content": "x", "client_msg_id": "\u{1}r5"}),
            400,
            "INVALID_MESSAGE",
        ),
    ];
    for (method, path, body, status, code) in cases {
        gateway.logic.calls();
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = me.call(method, &format!("/api{path}"), &text).await;
        assert_eq!(answer.refusal(), (status, code), "{method} {path} {body}");
        assert_eq!(gateway.logic.calls(), [], "{method} {path} {body}");
    }
    assert!(gateway.logic.entries().is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_carry_what_clients_need() {
    let gateway = Gateway::start().await;
    let me = gateway.as_user("7");
    let found = me.get("/api/users/search?q=user").await;
    assert_eq!(
        found.data()["users"],
        json!([{"id": "8", "username": "user8", "isGuest": false, "createdAt": 5}]),
        "neither status nor times of change"
    );
    let unread = me.get("/api/conversations/unread").await;
    let counts = json!({"unreadCount": 3, "counts": [{"conversationId": "group_5", "unreadCount": 3}]});
    assert_eq!(unread.data(), &counts);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let first = me.get(&format!("/api/conversations?last_sync={now}")).await;
    assert_eq!((&first.data()["hasMore"], &first.data()["nextCursor"]), (&json!(true), &json!("c2")));
    let second = me.get(&format!("/api/conversations?last_sync={now}&cursor=c2")).await;
    assert_eq!((&second.data()["hasMore"], second.data().get("nextCursor")), (&json!(false), None));
    assert!(gateway.logic.calls().last().unwrap().1.contains("cursor: \"c2\""));

    let friends = me.get("/api/friends").await;
    assert_eq!((&friends.data()["serverTime"], friends.data().get("removedIds")), (&json!(100), None));
    assert_eq!(me.get("/api/friends?last_sync=50").await.data()["removedIds"], json!(["9"]));
    assert!(me.get("/api/friends?include_online=false").await.data()["friends"][0].get("online").is_none());
    let sessions = me.get("/api/auth/sessions").await;
    let current: Vec<bool> =
        sessions.data()["sessions"].as_array().unwrap().iter().map(|s| s["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [true, false]);

    let accepted = me.put("/api/friends/requests/55", json!({"action": "accept"})).await;
    assert_eq!(accepted.data()["conversation"]["id"], "single_7_8");
    assert_eq!(me.put("/api/friends/requests/55", json!({"action": "reject"})).await.data(), &json!({}));
    let created = gateway.as_user("9").post("/api/conversations", json!({"type": 1, "members": ["8"]})).await;
    assert_eq!(created.status, 200, "it was there");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_who_failed_are_listed() {
    let gateway = Gateway::start().await;
    let me = gateway.as_user("7");
    let failed = |id: &str, code: ErrorCode| logic::FailedUser {
        user_id: id.into(),
        error_code: code.number(),
        code_name: code.as_str().into(),
        ..Default::default()
    };
    gateway
        .logic
        .fail_users(vec![failed("8", ErrorCode::UserAlreadyInConversation), failed("9", ErrorCode::GuestForbidden)]);
    let added = me.post("/api/conversations/group_5/members", json!({"members": ["8", "9", "10"]})).await;
    assert_eq!((added.status, &added.data()["addedUserIds"]), (201, &json!(["10"])));
    let listed = &added.data()["failedUsers"];
    assert_eq!((&listed[0]["userId"], &listed[0]["code"]), (&json!("8"), &json!("USER_ALREADY_IN_CONVERSATION")));
    assert_eq!(listed[1]["code"], "GUEST_FORBIDDEN");
    assert!(!listed[1]["reason"].as_str().unwrap().is_empty());

    gateway.logic.fail_users(vec![failed("8", ErrorCode::NotConversationMember)]);
    let removed = me.delete("/api/conversations/group_5/members/8").await;
    assert_eq!(removed.refusal(), (403, "NOT_CONVERSATION_MEMBER"));

    let users = r#"[{"userId":"8","code":"USER_NOT_FOUND","reason":"no such user"}]"#;
    let failure = Failure::new(ErrorCode::InvalidParams, "some cannot be members").with("failedUsers", users);
    gateway.logic.refuse(Some(failure));
    let refused = me.post("/api/conversations", json!({"type": 2, "name": "us", "members": ["8"]})).await;
    assert_eq!(refused.refusal(), (400, "INVALID_PARAMS"));
    assert_eq!(refused.body["details"]["failedUsers"][0]["code"], "USER_NOT_FOUND");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_takes_the_way_of_messages() {
    let gateway = Gateway::start().await;
    let me = gateway.as_user("7");
    let recalled = me.delete("/api/conversations/group_5/messages/901?reason=typo").await;
    assert_eq!(recalled.status, 200, "{}", recalled.text);
    let data = recalled.data();
    assert_eq!((&data["id"], &data["deleted"], &data["content"]), (&json!("901"), &json!(true), &json!("")));
    assert!(data.get("extra").is_none(), "nothing of it is left");
    let entries = gateway.logic.entries();
    let entry = &entries[0];
    assert_eq!((entry.kind, entry.message_type, entry.recalled_message_id), (StreamKind::Recall as i32, 4, 901));
    assert_eq!((entry.client_msg_id.as_str(), entry.reason.as_str()), ("\u{1}r901", "typo"));
    assert_eq!((entry.sender_id, entry.content.as_str()), (7, ""));
    let calls = gateway.logic.calls();
    assert!(calls[0].0 == "get_message" && calls[0].1.contains("wait_ms: 1000"), "{calls:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_short_and_name_their_session() {
    let gateway = Gateway::start().await;
    let me = gateway.as_user("7");
    let (first, second) = (me.post("/api/auth/ticket", json!({})).await, me.post("/api/auth/ticket", json!({})).await);
    let text = first.data()["ticket"].as_str().unwrap();
    assert_ne!(first.data()["ticket"], second.data()["ticket"]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let claims = tokens().verify(text, TokenKind::Ticket, now).unwrap();
    let access = tokens().verify(me.token.as_ref().unwrap(), TokenKind::Access, now).unwrap();
    assert_eq!((claims.user_id.as_str(), claims.fam.as_str(), claims.ver), ("7", LOGIN, access.ver));
    assert_eq!((claims.sxp, claims.ath.as_str()), (access.exp, token_hash(me.token.as_ref().unwrap()).as_str()));
    assert_eq!(first.data()["expiresAt"], claims.exp);
    assert!(claims.exp <= now + 30 && claims.jti != access.jti);
    assert_eq!(tokens().verify(text, TokenKind::Access, now), Err(TokenError::Invalid));
    let as_bearer = http_support::Client { token: Some(text.to_owned()), ..me };
    assert_eq!(as_bearer.get("/api/users/profile").await.refusal(), (401, "INVALID_TOKEN"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_a_login_ends_it_here_at_once() {
    let gateway = Gateway::start().await;
    let change = json!({"oldPassword": "a", "newPassword": "b"});
    let endings = [
        ("PUT", "/api/users/password".to_owned(), change.to_string()),
        ("DELETE", "/api/users/profile".to_owned(), json!({"password": "a"}).to_string()),
        ("DELETE", format!("/api/auth/sessions/{LOGIN}"), String::new()),
        ("POST", "/api/auth/logout".to_owned(), String::new()),
    ];
    for (n, (method, path, body)) in endings.into_iter().enumerate() {
        let user = gateway.as_user(&format!("{}", 50 + n));
        assert_eq!(user.get("/api/users/profile").await.status, 200);
        assert_eq!(user.call(method, &path, &body).await.status, 200, "{method} {path}");
        assert_eq!(user.get("/api/users/profile").await.refusal(), (401, "INVALID_TOKEN"), "{method} {path}");
    }
    let other = gateway.as_user("60");
    assert_eq!(other.delete("/api/auth/sessions/login-2").await.status, 200);
    assert_eq!(other.get("/api/users/profile").await.status, 200, "another session ended");
    let guest = gateway.as_guest("61");
    assert_eq!(guest.delete("/api/users/profile").await.status, 200, "guests have no password");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_under_one_key_happens_once() {
    let gateway = Gateway::start().await;
    let body = json!({"type": 2, "name": "us"});
    let me = gateway.as_user("7").with_header("X-Idempotency-Key", "k1");
    let first = me.post("/api/conversations", body.clone()).await;
    let again = me.post("/api/v1/conversations", body.clone()).await;
    assert_eq!((first.status, again.status, &first.text), (201, 201, &again.text));
    assert!(again.head.contains("x-idempotency-replayed: true") && !first.head.contains("replayed: true"));
    assert_eq!(gateway.logic.calls().len(), 1);
    // Another body, path or user, or none of it, is another request.
    me.post("/api/conversations", json!({"type": 2, "name": "them"})).await.data();
    gateway.as_user("8").with_header("X-Idempotency-Key", "k1").post("/api/conversations", body.clone()).await.data();
    gateway.as_user("7").post("/api/conversations", body.clone()).await.data();
    gateway.as_user("7").with_header("X-Idempotency-Key", "k2").post("/api/conversations", body.clone()).await.data();
    assert_eq!(gateway.logic.calls().len(), 4);

    // What failed changed nothing, and may be tried again.
    gateway.logic.refuse(Some(Failure::new(ErrorCode::UserNotFound, "")));
    let key = gateway.as_user("7").with_header("X-Idempotency-Key", "k3");
    let request = json!({"targetUserId": "8"});
    assert_eq!(key.post("/api/friends/requests", request.clone()).await.refusal(), (404, "USER_NOT_FOUND"));
    gateway.logic.refuse(None);
    assert_eq!(key.post("/api/friends/requests", request).await.status, 201);

    // The second waits for the first.
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    gateway.logic.calls();
    gateway.logic.gate(Some(Arc::clone(&gate)));
    let key = gateway.as_user("7").with_header("X-Idempotency-Key", "k4");
    let body = json!({"members": ["8"]});
    let both = async {
        let path = "/api/conversations/group_5/members";
        tokio::join!(key.post(path, body.clone()), key.post(path, body.clone()))
    };
    let open = async {
        while gateway.logic.calls().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        gate.add_permits(1);
    };
    let ((first, second), ()) = tokio::join!(both, open);
    assert_eq!((first.status, &first.text), (201, &second.text));
    assert_eq!(gateway.logic.calls(), [], "it was done once");
    gateway.logic.gate(None);

    for bad in ["with space", &"x".repeat(65)] {
        let answer =
            gateway.as_user("7").with_header("X-Idempotency-Key", bad).post("/api/conversations", json!({})).await;
        assert_eq!(answer.refusal(), (400, "INVALID_PARAMS"), "{bad}");
    }
    let nobody = gateway.nobody().with_header("X-Idempotency-Key", "k");
    assert_eq!(nobody.post("/api/conversations", json!({})).await.refusal(), (401, "UNAUTHORIZED"));
    gateway.logic.calls();
    for _ in 0..2 {
        let body = json!({"username": "a", "password": "b"});
        assert_eq!(nobody.post("/api/auth/login", body).await.status, 200);
    }
    assert_eq!(gateway.logic.calls().len(), 2, "keys mean nothing for accounts");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_comes_with_a_strict_policy() {
    let gateway = Gateway::start().await;
    let nobody = gateway.nobody();
    for (path, kind) in [("/", "text/html"), ("/docs", "text/html"), ("/page/docs.js", "text/javascript")] {
        let answer = nobody.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        for header in [
            kind,
            "content-security-policy: default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; \
             connect-src 'self' ws://chat.example wss://chat.example; object-src 'none'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-cache",
        ] {
            assert!(answer.head.contains(header), "{path} lacks {header}: {}", answer.head);
        }
        let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let known = nobody.with_header("If-None-Match", &tag).get(path).await;
        assert_eq!((known.status, known.text.as_str()), (304, ""));
    }
    for path in ["/page/", "/page/nothing.js", "/page/../Cargo.toml", "/page/%2e%2e/Cargo.toml", "/page/views"] {
        assert_eq!(nobody.get(path).await.refusal(), (404, "NOT_FOUND"), "{path}");
    }
    let head = raw(gateway.http, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_refuses_with_a_time_to_wait() {
    let gateway = Gateway::with(ControlConfig { limits: true, ..config() }).await;
    let me = gateway.as_user("7");
    let guest = gateway.as_guest("8");
    let sent = json!({"messageType": 1, "content": "x", "client_msg_id": "c"});
    let cases = [
        (&me, "GET", "/api/users/search?q=a", String::new()),
        (&me, "GET", "/api/conversations/search?q=a", String::new()),
        (&me, "POST", "/api/auth/ticket", String::new()),
        (&me, "POST", "/api/conversations/world/messages", sent.to_string()),
        (&guest, "POST", "/api/conversations/world/messages", sent.to_string()),
        (&guest, "POST", "/api/auth/guest", String::new()),
    ];
    for (who, method, path, body) in cases {
        let mut limited = None;
        for _ in 0..200 {
            let answer = who.call(method, path, &body).await;
            if answer.status == 429 {
                limited = Some(answer);
                break;
            }
        }
        let limited = limited.unwrap_or_else(|| panic!("{path} is not limited"));
        assert_eq!(limited.refusal(), (429, "RATE_LIMITED"));
        assert!(limited.head.contains("retry-after: ") && limited.body["details"]["retryAfter"].is_u64(), "{path}");
    }
    gateway.stop().await;
}
