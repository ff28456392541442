//! Accounts, single chats, messages and the edges of HTTP against a running server. Groups are in http_groups.rs, friends
//! and sessions in http_people.rs.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Api, PASSWORD, Server, login, open_chat, register};

struct Setup {
    _dir: tempfile::TempDir,
    server: Server,
    api: Api,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    Setup { _dir: dir, server, api }
}

#[test]
fn accounts() {
    let Setup { api, .. } = &setup();
    let made = api.post("/api/auth/register", &json!({"username": "Ann", "password": PASSWORD}));
    assert_eq!(made.status, 201);
    let user = made.data()["user"].clone();
    assert_eq!((&user["username"], &user["isGuest"], &user["status"]), (&json!("Ann"), &json!(false), &json!(0)));
    assert!(user["id"].is_string() && user["createdAt"].is_i64());
    assert!(!user.to_string().to_lowercase().contains("password"));

    let bad = [
        (json!({}), (400, "INVALID_PARAMS")),
        (json!({"username": "ann2"}), (400, "INVALID_PARAMS")),
        (json!({"username": 5, "password": PASSWORD}), (400, "INVALID_PARAMS")),
        (json!({"username": "ab", "password": PASSWORD}), (400, "INVALID_USERNAME")),
        (json!({"username": "a".repeat(21), "password": PASSWORD}), (400, "INVALID_USERNAME")),
        (json!({"username": "with space", "password": PASSWORD}), (400, "INVALID_USERNAME")),
        (json!({"username": "guest_1", "password": PASSWORD}), (400, "INVALID_USERNAME")),
        (json!({"username": "System", "password": PASSWORD}), (400, "INVALID_USERNAME")),
        (json!({"username": "ann2", "password": "short"}), (400, "WEAK_PASSWORD")),
        (json!({"username": "ann2", "password": "x".repeat(51)}), (400, "WEAK_PASSWORD")),
        (json!({"username": "ann2", "password": "ü".repeat(40)}), (400, "WEAK_PASSWORD")),
        (json!({"username": "aNN", "password": PASSWORD}), (400, "USER_ALREADY_EXISTS")),
        (
            json!({"username": "ann2", "password": PASSWORD, "avatarUrl": "javascript:alert(1)"}),
            (400, "INVALID_PARAMS"),
        ),
    ];
    for (body, expected) in bad {
        assert_eq!(api.post("/api/auth/register", &body).refusal(), expected, "{body}");
    }

    let ann = login(api, "Ann");
    let wrong =
        [json!({"username": "Ann", "password": "wrong password"}), json!({"username": "nobody", "password": PASSWORD})];
    let answers: Vec<_> = wrong.iter().map(|body| api.post("/api/auth/login", body)).collect();
    assert_eq!(answers[0].refusal(), (401, "AUTH_INVALID_CREDENTIALS"));
    assert_eq!(answers[0].body["message"], answers[1].body["message"], "unknown user and wrong password look the same");
    assert_eq!(api.post("/api/auth/login", &json!({"username": "Ann"})).refusal(), (400, "INVALID_PARAMS"));

    let me = api.as_user(&ann.token);
    assert_eq!(me.get("/api/users/profile").data()["id"], ann.id.as_str());
    assert_eq!(me.get(&format!("/api/users/{}", ann.id)).data()["username"], "Ann");
    assert_eq!(me.get("/api/users/1").refusal(), (404, "USER_NOT_FOUND"));
    assert_eq!(me.get("/api/users/xyz").refusal(), (404, "USER_NOT_FOUND"));
}

#[test]
fn tokens() {
    let Setup { server, api, _dir } = setup();
    let ann = register(&api, "ann");
    assert_eq!(api.get("/api/users/profile").refusal(), (401, "UNAUTHORIZED"));
    assert_eq!(api.as_user("nonsense").get("/api/users/profile").refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(api.as_user(&ann.refresh_token).get("/api/users/profile").refusal(), (401, "INVALID_TOKEN"));
    let mut forged = ann.token.clone();
    forged.pop();
    assert_eq!(api.as_user(&forged).get("/api/users/profile").refusal(), (401, "INVALID_TOKEN"));

    // Single use with rotation; a lost answer is repeated within the grace; a later reuse revokes the family.
    let refresh = |api: &Api, token: &str| api.post("/api/auth/refresh", &json!({"refreshToken": token}));
    let first = refresh(&api, &ann.refresh_token).data();
    let again = refresh(&api, &ann.refresh_token).data();
    assert_eq!(first["refreshToken"], again["refreshToken"], "the lost answer is given again");
    assert!(first.get("user").is_none());
    let new = first["accessToken"].as_str().unwrap();
    assert_eq!(api.as_user(new).get("/api/users/profile").data()["id"], ann.id.as_str());
    assert_eq!(refresh(&api, "nonsense").refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(refresh(&api, &ann.token).refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(api.post("/api/auth/refresh", &json!({})).refusal(), (400, "INVALID_PARAMS"));

    // The grace and the single use survive a restart.
    server.kill();
    let server = Server::start(_dir.path());
    let api = Api::new(server.http);
    assert_eq!(refresh(&api, &ann.refresh_token).data()["refreshToken"], first["refreshToken"]);

    // Logout: every access token of the login is void at once, and stays void after a restart; so does its refresh token.
    assert_eq!(api.as_user(&ann.token).get("/api/users/profile").status, 200, "refreshed since, and still good");
    let bye = api.as_user(new).post("/api/auth/logout", &json!({"refreshToken": first["refreshToken"]}));
    assert_eq!((bye.status, &bye.body["success"]), (200, &json!(true)));
    for token in [new, ann.token.as_str()] {
        assert_eq!(api.as_user(token).get("/api/users/profile").refusal(), (401, "INVALID_TOKEN"));
    }
    server.kill();
    let server = Server::start(_dir.path());
    let api = Api::new(server.http);
    assert_eq!(api.as_user(new).get("/api/users/profile").refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(refresh(&api, first["refreshToken"].as_str().unwrap()).refusal().0, 401);
}

#[test]
fn conversations() {
    let Setup { api, server: _server, _dir } = &setup();
    let (ann, bob, eve) = (register(api, "ann"), register(api, "bob"), register(api, "eve"));
    let (a, b, e) = (api.as_user(&ann.token), api.as_user(&bob.token), api.as_user(&eve.token));
    let made = a.post("/api/conversations", &json!({"type": 1, "members": [bob.id]}));
    assert_eq!(made.status, 201);
    let chat = made.data();
    assert_eq!((&chat["type"], &chat["memberCount"], &chat["name"]), (&json!(1), &json!(2), &json!("bob")));
    assert_eq!(chat["peer"]["id"], bob.id.as_str());
    let id = chat["id"].as_str().unwrap();
    let back = b.post("/api/conversations", &json!({"type": 1, "members": [ann.id]}));
    assert_eq!(back.status, 200, "the chat is there already");
    let back = back.data();
    assert_eq!((&back["id"], &back["name"]), (&json!(id), &json!("ann")));

    let bad = [
        (json!({}), (400, "INVALID_PARAMS")),
        (json!({"type": 1}), (400, "INVALID_PARAMS")),
        (json!({"type": 1, "members": []}), (400, "INVALID_PARAMS")),
        (json!({"type": 1, "members": [bob.id, eve.id]}), (400, "INVALID_PARAMS")),
        (json!({"type": 1, "members": [bob.id.parse::<i64>().unwrap()]}), (400, "INVALID_PARAMS")),
        (json!({"type": 1, "members": [ann.id]}), (400, "INVALID_PARAMS")),
        (json!({"type": 3, "members": [bob.id]}), (400, "INVALID_PARAMS")),
        (json!({"type": "1", "members": [bob.id]}), (400, "INVALID_PARAMS")),
        (json!({"type": 1, "members": ["1"]}), (404, "USER_NOT_FOUND")),
    ];
    for (body, expected) in bad {
        assert_eq!(a.post("/api/conversations", &body).refusal(), expected, "{body}");
    }

    assert_eq!(a.get(&format!("/api/conversations/{id}")).data()["peer"]["username"], "bob");
    assert_eq!(e.get(&format!("/api/conversations/{id}")).refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    assert_eq!(a.get("/api/conversations/single_1_2").refusal(), (404, "CONVERSATION_NOT_FOUND"));
    assert_eq!(a.get("/api/conversations/nonsense").refusal(), (404, "CONVERSATION_NOT_FOUND"));

    let list = a.get("/api/conversations?type=1").data();
    assert_eq!((list["conversations"].as_array().unwrap().len(), &list["hasMore"]), (1, &json!(false)));
    assert_eq!(e.get("/api/conversations?type=1").data()["conversations"], json!([]));
    open_chat(api, &ann, &eve);
    let page = a.get("/api/conversations?type=1&page=1&size=1").data();
    assert_eq!((page["conversations"].as_array().unwrap().len(), &page["hasMore"]), (1, &json!(true)));
    let page = a.get("/api/conversations?type=1&page=2&pageSize=1").data();
    assert_eq!((page["conversations"].as_array().unwrap().len(), &page["hasMore"]), (1, &json!(false)));
    assert_eq!(a.get("/api/conversations?size=100000").status, 200, "sizes are clamped");
    assert_eq!(a.get("/api/conversations?page=x").refusal(), (400, "INVALID_PARAMS"));
}

#[test]
fn messages() {
    let Setup { api, server: _server, _dir } = &setup();
    let (ann, bob, eve) = (register(api, "ann"), register(api, "bob"), register(api, "eve"));
    let (a, b, e) = (api.as_user(&ann.token), api.as_user(&bob.token), api.as_user(&eve.token));
    let chat = open_chat(api, &ann, &bob);
    let path = format!("/api/conversations/{chat}/messages");
    let message = |id: &str, content: &str| json!({"messageType": 1, "content": content, "client_msg_id": id});

    let sent = a.post(&path, &message("m1", "hello"));
    assert_eq!(sent.status, 201);
    let first = sent.data();
    assert_eq!(
        (&first["content"], &first["senderId"], &first["clientMsgId"]),
        (&json!("hello"), &json!(ann.id), &json!("m1"))
    );
    let again = a.post(&path, &message("m1", "hello")).data();
    assert_eq!((&again["id"], &again["seqId"]), (&first["id"], &first["seqId"]), "the same id is the same message");
    assert_eq!(a.post(&path, &message("m1", "other")).refusal(), (409, "CLIENT_MSG_ID_REUSED"));
    // Keys are compared as bytes, and belong to one sender.
    for (who, id) in [(&a, "m1 "), (&a, "M1"), (&b, "m1")] {
        assert_ne!(who.post(&path, &message(id, "hello")).data()["id"], first["id"], "{id:?}");
    }

    let bad = [
        (json!({}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "content": "x"}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "client_msg_id": "b"}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "content": "", "client_msg_id": "b"}), (400, "MESSAGE_EMPTY")),
        (json!({"messageType": 1, "content": 5, "client_msg_id": "b"}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 4, "content": "x", "client_msg_id": "b"}), (400, "UNSUPPORTED_MESSAGE_TYPE")),
        (json!({"messageType": 99, "content": "x", "client_msg_id": "b"}), (400, "UNSUPPORTED_MESSAGE_TYPE")),
        (json!({"messageType": 1, "content": "x".repeat(5001), "client_msg_id": "b"}), (413, "MESSAGE_TOO_LARGE")),
        (json!({"messageType": 1, "content": "x", "client_msg_id": "b".repeat(65)}), (400, "INVALID_MESSAGE")),
        (json!({"messageType": 1, "content": "x", "client_msg_id": ""}), (400, "INVALID_MESSAGE")),
        (
            json!({"messageType": 1, "content": "x", "client_msg_id": "b", "extra": "{}".repeat(3000)}),
            (413, "MESSAGE_TOO_LARGE"),
        ),
        (
            json!({"messageType": 1, "content": "x", "client_msg_id": "b", "extra": "not json"}),
            (400, "INVALID_MESSAGE"),
        ),
    ];
    for (body, expected) in bad {
        let answer = a.post(&path, &body);
        assert_eq!(answer.refusal(), expected, "{body}");
    }
    assert_eq!(a.post(&path, &message("long", &"ü".repeat(5000))).status, 201, "the limit counts characters");
    assert_eq!(e.post(&path, &message("x", "let me in")).refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    let nowhere = "/api/conversations/single_1_2/messages";
    assert_eq!(a.post(nowhere, &message("x", "hi")).refusal(), (404, "CONVERSATION_NOT_FOUND"));

    for n in 0..25 {
        assert_eq!(b.post(&path, &message(&format!("b{n}"), &format!("text {n}"))).status, 201);
    }
    let all = history(&a, &path, "?after_seq=0&limit=100");
    assert_eq!(
        (all["messages"].as_array().unwrap().len(), &all["hasMore"], &all["complete"]),
        (30, &json!(false), &json!(true))
    );
    let seqs: Vec<_> = all["messages"].as_array().unwrap().iter().map(|m| m["seqId"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "oldest first: {seqs:?}");
    assert!(all["storedThroughSeq"].as_i64().unwrap() >= *seqs.last().unwrap());
    assert!(all["assignedSeq"].as_i64().unwrap() >= *seqs.last().unwrap());
    let newest = history(&a, &path, "?limit=10");
    let backwards: Vec<_> =
        newest["messages"].as_array().unwrap().iter().map(|m| m["seqId"].as_i64().unwrap()).collect();
    assert!(backwards.iter().eq(seqs.iter().rev().take(10)), "newest first: {backwards:?}");
    let older = history(&a, &path, &format!("?limit=100&cursor={}", newest["nextCursor"]));
    assert_eq!(older["messages"].as_array().unwrap().len(), 20);
    let part = history(&a, &path, "?after_seq=0&limit=10");
    assert_eq!((&part["hasMore"], &part["complete"]), (&json!(true), &json!(false)));
    assert_eq!(part["messages"][0]["sender"]["username"], "ann");
    for query in ["?cursor=5&after_seq=5", "?limit=x", "?after_seq=-1", "?cursor=x"] {
        assert_eq!(a.get(&format!("{path}{query}")).refusal(), (400, "INVALID_PARAMS"), "{query}");
    }
    assert_eq!(e.get(&path).refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    assert_eq!(a.get(nowhere).refusal(), (404, "CONVERSATION_NOT_FOUND"));

    // Unread counts the others' messages above the pointer; the pointer moves forward only, and not beyond the newest.
    let unread = |who: &Api| who.get("/api/conversations?type=1").data()["conversations"][0]["unreadCount"].clone();
    assert_eq!(unread(&a), 26);
    let read = format!("/api/conversations/{chat}/read");
    assert_eq!(a.put(&read, &json!({"seqId": seqs[seqs.len() - 6]})).data()["unreadCount"], 5);
    assert_eq!(a.put(&read, &json!({"seqId": 0})).data()["unreadCount"], 5);
    assert_eq!(a.put(&read, &json!({"seqId": 1_000_000})).data()["unreadCount"], 0);
    assert_eq!(b.post(&path, &message("later", "still counted")).status, 201);
    history(&a, &path, "?after_seq=0");
    assert_eq!(unread(&a), 1);
    assert_eq!(a.send("PUT", &read, "").unwrap().data()["unreadCount"], 0, "no body is everything so far");
    for body in [json!({"seqId": -1}), json!({"seqId": "5"}), json!({"seqId": 1.5})] {
        assert_eq!(a.put(&read, &body).refusal(), (400, "INVALID_PARAMS"), "{body}");
    }
    assert_eq!(e.put(&read, &json!({"seqId": 1})).refusal(), (403, "NOT_CONVERSATION_MEMBER"));
    let list = a.get("/api/conversations?type=1").data();
    assert_eq!(list["conversations"][0]["lastMessage"]["content"], "still counted");
}

#[test]
fn edges_of_the_api() {
    let Setup { api, server, _dir } = &setup();
    let ann = register(api, "ann");
    let me = api.as_user(&ann.token);
    assert_eq!(api.get("/health").body["status"], "ok");
    assert_eq!(me.get("/api/nothing/here").refusal(), (404, "NOT_FOUND"));
    assert_eq!(me.send("POST", "/api/users/profile", "{}").unwrap().status, 405);
    assert_eq!(api.send("POST", "/api/auth/login", "{not json").unwrap().refusal(), (400, "INVALID_PARAMS"));
    assert_eq!(api.send("POST", "/api/auth/login", "[]").unwrap().refusal(), (400, "INVALID_PARAMS"));
    assert_eq!(api.send("POST", "/api/auth/login", &"x".repeat(2 << 20)).map_or(413, |a| a.status), 413);
    assert_eq!(me.get("/api/v1/users/profile").data()["username"], "ann");

    let raw = |request: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(server.http).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let close = "Connection: close\r\n\r\n";
    let trace = "0190a7b0-0000-7000-8000-000000000001";
    let answer = raw(&format!("GET /api/users/profile HTTP/1.1\r\nHost: x\r\nX-Trace-ID: {trace}\r\n{close}"));
    assert!(answer.to_lowercase().contains(&format!("x-trace-id: {trace}")), "{answer}");
    let answer = raw(&format!("GET /api/users/profile HTTP/1.1\r\nHost: x\r\nAuthorization: Basic abc\r\n{close}"));
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("INVALID_TOKEN_FORMAT"), "{answer}");
    let preflight =
        "OPTIONS /api/auth/login HTTP/1.1\r\nHost: x\r\nOrigin: http://page\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = raw(&format!("{preflight}{close}"));
    assert!(
        answer.starts_with("HTTP/1.1 204") && answer.to_lowercase().contains("access-control-allow-origin"),
        "{answer}"
    );
    let answer = raw("GARBAGE\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer = raw(&format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n{close}", "y".repeat(9000)));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // Two requests in one segment, on one connection.
    let two = format!("GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n{close}");
    assert_eq!(raw(&two).matches("HTTP/1.1 200").count(), 2);
    let admin = Api::new(server.admin);
    for path in ["/live", "/ready", "/health"] {
        assert_eq!(admin.get(path).status, 200, "{path}");
    }
    let metrics = admin.get("/metrics").body;
    for name in ["gochat_ws_connections", "http_requests_total", "gochat_message_send_total"] {
        assert!(metrics.as_str().unwrap().contains(name), "/metrics lacks {name}");
    }
}

#[test]
fn limits_refuse_with_a_time_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--limits", "on"]);
    let api = Api::new(server.http);
    let body = json!({"username": "nobody", "password": PASSWORD});
    let answers: Vec<_> = (0..40).map(|_| api.post("/api/auth/login", &body)).collect();
    let limited = answers.iter().find(|answer| answer.status == 429).expect("40 logins at once from one address pass");
    assert_eq!(limited.refusal(), (429, "RATE_LIMITED"));
}

/// A page of history; asked again while the server says that it is behind what it has acknowledged.
fn history(api: &Api, path: &str, query: &str) -> Value {
    for _ in 0..50 {
        let page = api.get(&format!("{path}{query}")).data();
        if page["complete"] == true || page["hasMore"] == true || query.contains("cursor") {
            return page;
        }
    }
    panic!("history never becomes complete");
}
