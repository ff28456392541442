//! Users, friends, blocks, sessions, passwords and idempotency keys over HTTP, against a running server.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Answer, Api, PASSWORD, Server, User, guest, login, make_group, open_chat, register, say};

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

fn ask(api: &Api, who: &User, whom: &User) -> Answer {
    api.as_user(&who.token).post("/api/friends/requests", &json!({"targetUserId": whom.id, "message": "hello"}))
}

fn decide(api: &Api, who: &User, request: &Value, action: &str) -> Answer {
    let path = format!("/api/friends/requests/{}", request["id"].as_str().unwrap());
    api.as_user(&who.token).put(&path, &json!({"action": action}))
}

fn befriend(api: &Api, who: &User, whom: &User) -> Value {
    let request = ask(api, who, whom).data()["request"].clone();
    decide(api, whom, &request, "accept").data()
}

#[test]
fn profiles_and_searches() {
    let Setup { api, .. } = &setup();
    let (ann, annika, visitor) = (register(api, "ann"), register(api, "Annika"), guest(api));
    let joann = register(api, "joann");
    let a = api.as_user(&ann.token);
    let changed = a.put("/api/users/profile", &json!({"avatarUrl": "https://example.org/a.png"})).data();
    assert_eq!(changed["avatarUrl"], "https://example.org/a.png");
    for bad in ["javascript:alert(1)", "nonsense", &format!("https://x/{}", "y".repeat(255))] {
        let refused = a.put("/api/users/profile", &json!({"avatarUrl": bad}));
        assert_eq!(refused.refusal(), (400, "INVALID_PARAMS"), "{bad}");
    }
    assert!(a.put("/api/users/profile", &json!({"avatarUrl": ""})).data().get("avatarUrl").is_none());
    let found = a.get("/api/users/search?q=ANN").data();
    let names: Vec<&str> = found["users"].as_array().unwrap().iter().map(|u| u["username"].as_str().unwrap()).collect();
    assert_eq!(names, ["Annika", "joann"], "prefixes first, and not the caller");
    assert_eq!(a.get("/api/users/search?q=guest").data()["users"], json!([]), "guests are not found");
    assert_eq!(a.get("/api/users/search?q=n&limit=1").data()["users"].as_array().unwrap().len(), 1);
    assert_eq!(a.get("/api/users/search?q=%25").data()["users"], json!([]), "no wildcard");
    assert_eq!(api.as_user(&visitor.token).get("/api/users/search?q=a").refusal(), (403, "GUEST_FORBIDDEN"));
    // Presence: only of those one knows.
    open_chat(api, &ann, &annika);
    let ids = format!("/api/users/status?ids={},{}", annika.id, joann.id);
    let statuses = a.get(&ids).data()["statuses"].clone();
    assert_eq!((statuses.as_array().unwrap().len(), &statuses[0]["userId"]), (1, &json!(annika.id)));
    assert_eq!(statuses[0]["online"], false);
}

#[test]
fn friendship_from_asking_to_parting() {
    let Setup { api, .. } = &setup();
    let (ann, bob, eve, visitor) = (register(api, "ann"), register(api, "bob"), register(api, "eve"), guest(api));
    let (a, b) = (api.as_user(&ann.token), api.as_user(&bob.token));
    assert_eq!(ask(api, &ann, &ann).refusal(), (400, "CANNOT_ADD_SELF_AS_FRIEND"));
    assert_eq!(ask(api, &ann, &visitor).refusal(), (403, "GUEST_FORBIDDEN"));
    let nobody = User { id: "1".into(), ..visitor.clone() };
    assert_eq!(ask(api, &ann, &nobody).refusal(), (404, "USER_NOT_FOUND"));
    let made = ask(api, &ann, &bob);
    assert_eq!(made.status, 201);
    let request = made.data()["request"].clone();
    assert_eq!((&request["requesterId"], &request["targetId"]), (&json!(ann.id), &json!(bob.id)));
    assert_eq!((&request["status"], &request["message"]), (&json!(0), &json!("hello")));
    assert_eq!(ask(api, &ann, &bob).refusal(), (409, "FRIEND_REQUEST_ALREADY_EXISTS"));
    assert_eq!(b.get("/api/friends/requests").data()["requests"][0]["requester"]["username"], "ann");
    assert_eq!(a.get("/api/friends/requests?type=sent&status=0").data()["requests"][0]["id"], request["id"]);
    assert_eq!(a.get("/api/friends/requests").data()["requests"], json!([]));
    for who in [&ann, &eve] {
        assert!([403, 404].contains(&decide(api, who, &request, "accept").status), "only who was asked decides");
    }
    assert_eq!(decide(api, &bob, &json!({"id": "1"}), "accept").refusal(), (404, "FRIEND_REQUEST_NOT_FOUND"));
    let accepted = decide(api, &bob, &request, "accept").data();
    assert_eq!(accepted["conversation"]["type"], 1);
    assert_eq!(decide(api, &bob, &request, "reject").refusal(), (409, "FRIEND_REQUEST_ALREADY_HANDLED"));
    assert_eq!(ask(api, &bob, &ann).refusal(), (409, "ALREADY_FRIENDS"));
    let friends = a.get("/api/friends").data();
    let friend = &friends["friends"][0];
    assert_eq!(
        (&friend["friend"]["username"], &friend["status"], &friend["online"]),
        (&json!("bob"), &json!(1), &json!(false))
    );

    let path = format!("/api/friends/{}", bob.id);
    assert_eq!(a.put(&path, &json!({"remark": "Bobby"})).data()["remark"], "Bobby");
    assert!(b.get("/api/friends").data()["friends"][0].get("remark").is_none(), "for the caller's eyes only");
    let stranger = format!("/api/friends/{}", eve.id);
    assert_eq!(a.put(&stranger, &json!({"remark": "x"})).refusal(), (404, "NOT_FRIENDS"));
    assert_eq!(a.delete(&stranger).refusal(), (404, "NOT_FRIENDS"));
    assert_eq!(a.delete(&path).status, 200);
    assert_eq!(a.delete(&path).refusal(), (404, "NOT_FRIENDS"));
    for api in [&a, &b] {
        assert_eq!(api.get("/api/friends").data()["friends"], json!([]));
    }
    let chat = accepted["conversation"]["id"].as_str().unwrap();
    say(api, &ann, chat, "after", "the chat stays");

    // Rejected: not again at once. Both asking: friends at once.
    let rejected = ask(api, &eve, &bob).data()["request"].clone();
    assert!(decide(api, &bob, &rejected, "reject").data().get("conversation").is_none());
    assert_eq!(ask(api, &eve, &bob).refusal().0, 409);
    ask(api, &ann, &eve).data();
    assert_eq!(ask(api, &eve, &ann).data()["request"]["status"], 1);
    assert_eq!(a.get("/api/friends").data()["friends"][0]["friendId"], eve.id.as_str());
}

#[test]
fn blocking_is_silent_and_works_on_strangers() {
    let Setup { api, .. } = &setup();
    let (ann, bob, eve) = (register(api, "ann"), register(api, "bob"), register(api, "eve"));
    let (a, b) = (api.as_user(&ann.token), api.as_user(&bob.token));
    befriend(api, &ann, &bob);
    let chat = open_chat(api, &ann, &bob);
    let block = |whom: &User, blocked: bool| a.put(&format!("/api/friends/{}", whom.id), &json!({"blocked": blocked}));
    assert_eq!(block(&bob, true).data()["status"], 3);
    let message = |id: &str| json!({"messageType": 1, "content": "x", "client_msg_id": id});
    let path = format!("/api/conversations/{chat}/messages");
    for who in [&a, &b] {
        assert_eq!(who.post(&path, &message("blocked")).refusal(), (403, "BLOCKED"));
    }
    assert_eq!(b.get("/api/friends").data()["friends"].as_array().unwrap().len(), 1, "the other is not told");
    let status = format!("/api/users/status?ids={}", ann.id);
    assert_eq!(b.get(&status).data()["statuses"], json!([]), "nor sees presence");
    assert_eq!(block(&eve, true).data()["status"], 3);
    assert_eq!(ask(api, &eve, &ann).refusal(), (403, "BLOCKED"));
    let open = api.as_user(&eve.token).post("/api/conversations", &json!({"type": 1, "members": [ann.id]}));
    assert_eq!(open.refusal(), (403, "BLOCKED"));
    let listed = a.get("/api/friends/blocked").data();
    assert_eq!((listed["blocked"].as_array().unwrap().len(), &listed["hasMore"]), (2, &json!(false)));
    let page = a.get("/api/friends/blocked?size=1").data();
    assert_eq!((page["blocked"].as_array().unwrap().len(), &page["hasMore"]), (1, &json!(true)));
    assert_eq!(block(&bob, false).data()["status"], 1, "friends as before");
    assert_eq!(b.post(&path, &message("again")).status, 201);
    assert_eq!(a.put("/api/friends/1", &json!({"blocked": true})).refusal(), (404, "USER_NOT_FOUND"));
}

#[test]
fn sessions_passwords_and_the_end_of_an_account() {
    let Setup { api, .. } = &setup();
    let first = register(api, "ann");
    let second = login(api, "ann");
    let one = api.as_user(&first.token);
    let listed = one.get("/api/auth/sessions").data()["sessions"].clone();
    let sessions = listed.as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let mine: Vec<bool> = sessions.iter().map(|session| session["current"].as_bool().unwrap()).collect();
    assert_eq!(mine.iter().filter(|current| **current).count(), 1);
    let other = sessions.iter().find(|session| session["current"] == false).unwrap();
    let end = |id: &str| one.delete(&format!("/api/auth/sessions/{id}"));
    assert_eq!(end(other["id"].as_str().unwrap()).status, 200);
    assert_eq!(api.as_user(&second.token).get("/api/users/profile").status, 401);
    let refresh = api.post("/api/auth/refresh", &json!({"refreshToken": second.refresh_token}));
    assert_eq!(refresh.status, 401);
    assert_eq!(end("nonsense").status, 404);
    assert_eq!(one.get("/api/users/profile").status, 200);
    let eve = register(api, "eve");
    let mine = one.get("/api/auth/sessions").data()["sessions"][0]["id"].clone();
    let steal = api.as_user(&eve.token).delete(&format!("/api/auth/sessions/{}", mine.as_str().unwrap()));
    assert_eq!((steal.status, one.get("/api/users/profile").status), (404, 200), "only one's own");

    let third = login(api, "ann");
    let change =
        |old: &str, new: &str| one.put("/api/users/password", &json!({"oldPassword": old, "newPassword": new}));
    assert_eq!(change("wrong", "a new password").refusal(), (401, "AUTH_INVALID_CREDENTIALS"));
    assert_eq!(change(PASSWORD, "short").refusal(), (400, "WEAK_PASSWORD"));
    let pair = change(PASSWORD, "a new password").data();
    for token in [&first.token, &third.token] {
        assert_eq!(api.as_user(token).get("/api/users/profile").status, 401, "every login has ended");
    }
    let now = api.as_user(pair["accessToken"].as_str().unwrap());
    assert_eq!(now.get("/api/users/profile").status, 200);
    let old = api.post("/api/auth/login", &json!({"username": "ann", "password": PASSWORD}));
    assert_eq!(old.refusal(), (401, "AUTH_INVALID_CREDENTIALS"));

    assert_eq!(now.send("DELETE", "/api/users/profile", r#"{"password":"wrong"}"#).unwrap().status, 401);
    assert_eq!(now.delete("/api/users/profile").refusal(), (400, "INVALID_PARAMS"));
    let gone = now.send("DELETE", "/api/users/profile", r#"{"password":"a new password"}"#).unwrap();
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(now.get("/api/users/profile").status, 401);
    let again = api.post("/api/auth/login", &json!({"username": "ann", "password": "a new password"}));
    assert!([401, 423].contains(&again.status), "{again:?}");
    assert_eq!(api.as_user(&eve.token).get("/api/users/search?q=ann").data()["users"], json!([]));
}

#[test]
fn a_ticket_is_given_and_is_no_access_token() {
    let Setup { api, .. } = &setup();
    let ann = register(api, "ann");
    let ticket = api.as_user(&ann.token).post("/api/auth/ticket", &json!({})).data();
    let text = ticket["ticket"].as_str().unwrap();
    assert!(ticket["expiresAt"].is_i64());
    assert_eq!(api.as_user(text).get("/api/users/profile").refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(api.post("/api/auth/refresh", &json!({"refreshToken": text})).refusal(), (401, "INVALID_TOKEN"));
    assert_eq!(api.post("/api/auth/ticket", &json!({})).refusal(), (401, "UNAUTHORIZED"));
}

#[test]
fn a_creation_is_replayed_under_its_key() {
    use std::io::{Read, Write};
    let Setup { api, server, _dir } = &setup();
    let ann = register(api, "ann");
    let create = |key: &str, name: &str| {
        let body = json!({"type": 2, "name": name}).to_string();
        let mut stream = std::net::TcpStream::connect(server.http).unwrap();
        let head = format!(
            "POST /api/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-Idempotency-Key: {key}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            ann.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        (
            head.contains("201"),
            head.to_lowercase().contains("\r\nx-idempotency-replayed: true"),
            body["data"]["id"].clone(),
        )
    };
    let first = create("k", "us");
    assert!(first.0 && !first.1);
    assert_eq!(create("k", "us"), (true, true, first.2.clone()));
    assert_ne!(create("k", "them").2, first.2, "another body is another key");
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| create("race", "us").2)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && id.is_string()), "{ids:?}");
    assert_eq!(api.as_user(&ann.token).get("/api/conversations?type=2").data()["total"], 3);
}

#[test]
fn deltas_bring_what_changed_and_what_was_left() {
    let Setup { api, .. } = &setup();
    let (ann, bob) = (register(api, "ann"), register(api, "bob"));
    let a = api.as_user(&ann.token);
    let groups: Vec<String> = (0..5).map(|n| make_group(api, &bob, &format!("g{n}"), &[&ann])).collect();
    let full = a.get("/api/conversations?type=2").data();
    assert_eq!(full["total"], 5);
    let since = full["serverTime"].as_i64().unwrap();
    assert_eq!(a.post(&format!("/api/conversations/{}/leave", groups[0]), &json!({})).status, 200);
    say(api, &bob, &groups[1], "m", "hello");
    let (mut seen, mut removed, mut cursor) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..20 {
        let page = a.get(&format!("/api/conversations?last_sync={since}&limit=2{cursor}")).data();
        seen.extend(page["conversations"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()));
        removed.extend(page["removedIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
        if page["hasMore"] == false {
            break;
        }
        cursor = format!("&cursor={}", page["nextCursor"].as_str().unwrap());
    }
    assert!(removed.contains(&groups[0]) && !seen.contains(&groups[0]), "{removed:?}");
    assert!(groups[1..].iter().all(|id| seen.contains(id)), "{seen:?}");
    let old = a.get("/api/conversations?last_sync=1000");
    assert_eq!((old.refusal().1, &old.body["details"]["fullSync"]), ("INVALID_PARAMS", &json!(true)));
    let broken = a.get(&format!("/api/conversations?last_sync={since}&cursor=nonsense"));
    assert_eq!(broken.refusal(), (400, "INVALID_PARAMS"));
}
