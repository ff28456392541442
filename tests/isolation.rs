//! Nobody reads, searches, infers, changes or receives anything of a conversation they are not in: every endpoint and every
//! frame, as a stranger, a guest and a removed member; and what a blocked user may still do, which is nothing new.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::chat::{Session, send_message};
use support::{Answer, Api, Server, User, guest, history, make_group, open_chat, register, say};

/// Stands in names and texts of what is private, and nowhere else.
const SECRET: &str = "sesame";
/// How long an outsider listens for what must not come.
const LISTEN: Duration = Duration::from_millis(700);

struct House {
    _dir: tempfile::TempDir,
    server: Server,
    api: Api,
    olga: User,
    max: User,
    /// Was in the group and was removed.
    rita: User,
    group: String,
    single: String,
    group_message: String,
    single_message: String,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let [olga, max, rita] = ["olga", "max", "rita"].map(|name| register(&api, name));
    let group = make_group(&api, &olga, &format!("{SECRET} club"), &[&max, &rita]);
    api.as_user(&olga.token).delete(&format!("/api/conversations/{group}/members/{}", rita.id)).data();
    let single = open_chat(&api, &olga, &max);
    let id = |message: Value| message["id"].as_str().unwrap().to_owned();
    let group_message = id(say(&api, &olga, &group, "g1", &format!("{SECRET} in the group")));
    let single_message = id(say(&api, &olga, &single, "s1", &format!("{SECRET} between two")));
    House { _dir: dir, server, api, olga, max, rita, group, single, group_message, single_message }
}

/// What a conversation looks like to those who are in it.
fn picture(house: &House) -> Value {
    let api = house.api.as_user(&house.max.token);
    let of = |id: &str| {
        let mut detail = api.get(&format!("/api/conversations/{id}")).data();
        // Presence of the asker and times of reading are nobody's secret and move by themselves.
        detail.as_object_mut().unwrap().remove("myMembership");
        json!({"detail": detail, "history": history(&house.api, &house.max, id, 0)})
    };
    json!([of(&house.group), of(&house.single)])
}

/// Every request that names a conversation, as (method, path, body).
fn requests(house: &House, conversation: &str, message: &str, who: &User) -> Vec<(&'static str, String, Value)> {
    let at = |rest: &str| format!("/api/conversations/{conversation}{rest}");
    let send = json!({"messageType": 1, "content": "let me in", "client_msg_id": "x1"});
    vec![
        ("GET", at(""), Value::Null),
        ("PUT", at(""), json!({"name": "taken over"})),
        ("DELETE", at(""), Value::Null),
        ("POST", at("/leave"), json!({})),
        ("GET", at("/messages"), Value::Null),
        ("GET", at("/messages?after_seq=0"), Value::Null),
        ("GET", at("/messages?cursor=99"), Value::Null),
        ("POST", at("/messages"), send),
        ("PUT", at("/read"), json!({"seqId": 1})),
        ("DELETE", at(&format!("/messages/{message}")), Value::Null),
        ("GET", at("/members"), Value::Null),
        ("POST", at("/members"), json!({"members": [who.id]})),
        ("DELETE", at(&format!("/members/{}", house.max.id)), Value::Null),
        ("DELETE", at(&format!("/members/{}", who.id)), Value::Null),
        ("PUT", at(&format!("/members/{}", house.max.id)), json!({"role": 3})),
        ("PUT", at(&format!("/members/{}", who.id)), json!({"role": 2})),
    ]
}

fn call(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    api.send(method, path, &body).unwrap()
}

fn assert_refused(who: &str, method: &str, path: &str, answer: &Answer) {
    let (status, code) = answer.refusal();
    assert!(matches!(status, 400 | 403 | 404), "{who}: {method} {path}: {answer:?}");
    let known = [
        "NOT_CONVERSATION_MEMBER",
        "CONVERSATION_NOT_FOUND",
        "GUEST_FORBIDDEN",
        "INSUFFICIENT_PERMISSION",
        "MESSAGE_NOT_FOUND",
        "CANNOT_LEAVE_CONVERSATION",
        "INVALID_PARAMS",
    ];
    assert!(known.contains(&code), "{who}: {method} {path}: {answer:?}");
    assert!(!answer.body.to_string().contains(SECRET), "{who}: {method} {path} tells: {answer:?}");
}

#[test]
fn outsiders_see_and_change_nothing() {
    let house = house();
    let before = picture(&house);
    let outsiders =
        [("stranger", register(&house.api, "sam")), ("guest", guest(&house.api)), ("removed", house.rita.clone())];
    let mut ears: Vec<Session> =
        outsiders.iter().map(|(_, who)| Session::connect(house.server.http, &who.token).unwrap()).collect();
    for (kind, who) in &outsiders {
        let api = house.api.as_user(&who.token);
        for (conversation, message) in [(&house.group, &house.group_message), (&house.single, &house.single_message)] {
            for (method, path, body) in requests(&house, conversation, message, who) {
                assert_refused(kind, method, &path, &call(&api, method, &path, &body));
            }
        }
        for path in [
            format!("/api/conversations/search?q={SECRET}"),
            "/api/conversations".to_owned(),
            format!("/api/conversations?last_sync={}", 1_700_000_000),
            "/api/conversations/unread".to_owned(),
            format!("/api/conversations/unread?conversationId={}", house.group),
            format!("/api/users/status?ids={},{}", house.olga.id, house.max.id),
        ] {
            let answer = api.get(&path);
            let text = answer.body.to_string();
            assert!(!text.contains(SECRET), "{kind}: {path}: {text}");
            // A removed member is told the id of what is to be forgotten; nobody else is told any.
            let names_it = text.contains(&house.group) || text.contains(&house.single);
            let tombstone = *kind == "removed" && path.contains("last_sync");
            assert!(!names_it || tombstone, "{kind}: {path}: {text}");
            assert!(!text.contains("\"online\":true"), "{kind} sees presence: {path}: {text}");
        }
    }
    for (at, (kind, _)) in outsiders.iter().enumerate() {
        for (conversation, message) in [(&house.group, &house.group_message), (&house.single, &house.single_message)] {
            let ear = &mut ears[at];
            ear.send(&send_message(conversation, "w1", "let me in")).unwrap();
            let error = ear.expect("error")["data"].clone();
            let code = error["code"].as_str().unwrap().to_owned();
            assert!(["NOT_CONVERSATION_MEMBER", "GUEST_FORBIDDEN"].contains(&code.as_str()), "{kind}: send: {error}");
            let about = json!({"conversationId": conversation, "messageId": message, "seqId": 1});
            for frame in ["mark-read", "recall-message"] {
                ear.send(&json!({"type": frame, "data": about})).unwrap();
                let error = ear.expect("error")["data"].clone();
                assert!(!error.to_string().contains(SECRET), "{kind}: {frame}: {error}");
            }
            for frame in ["typing", "stop-typing"] {
                ear.send(&json!({"type": frame, "data": {"conversationId": conversation}})).unwrap();
            }
        }
    }
    // What is said, typed, recalled and changed inside now reaches nobody outside.
    let mut inside = Session::connect(house.server.http, &house.max.token).unwrap();
    let olga = house.api.as_user(&house.olga.token);
    for conversation in [&house.group, &house.single] {
        inside.send(&json!({"type": "typing", "data": {"conversationId": conversation}})).unwrap();
        inside.send(&send_message(conversation, &format!("i-{conversation}"), &format!("{SECRET} again"))).unwrap();
        let ack = inside.expect("message-ack")["data"].clone();
        inside
            .send(&json!({"type": "mark-read", "data": {"conversationId": conversation, "seqId": ack["seqId"]}}))
            .unwrap();
        let recall = json!({"conversationId": conversation, "messageId": ack["messageId"]});
        inside.send(&json!({"type": "recall-message", "data": recall})).unwrap();
        inside.expect("message-recalled");
    }
    olga.put(&format!("/api/conversations/{}", house.group), &json!({"description": SECRET})).data();
    olga.put(&format!("/api/conversations/{}", house.group), &json!({"description": ""})).data();
    for (ear, (kind, _)) in ears.iter_mut().zip(&outsiders) {
        while let Some(frame) = ear.frame(LISTEN).unwrap() {
            let text = frame.to_string();
            let own_error = frame["type"] == "error";
            assert!(!text.contains(SECRET), "{kind} received {text}");
            assert!(
                own_error || !(text.contains(&house.group) || text.contains(&house.single)),
                "{kind} received {text}"
            );
        }
    }
    let after = picture(&house);
    for at in 0..2 {
        let (was, is) = (&before[at]["detail"], &after[at]["detail"]);
        for field in ["name", "ownerId", "memberCount", "members", "settings"] {
            assert_eq!(was[field], is[field], "{field}");
        }
        let first = |picture: &Value| picture[at]["history"][0].clone();
        assert_eq!(first(&before), first(&after));
    }
    let said = after.to_string();
    assert!(!said.contains("let me in") && !said.contains("taken over"), "{said}");
}

#[test]
fn a_removed_member_hears_nothing_from_the_answer_on() {
    let house = house();
    let nora = register(&house.api, "nora");
    let olga = house.api.as_user(&house.olga.token);
    let members = format!("/api/conversations/{}/members", house.group);
    olga.post(&members, &json!({"members": [nora.id]})).data();
    let mut ear = Session::connect(house.server.http, &nora.token).unwrap();
    say(&house.api, &house.olga, &house.group, "n1", "hello nora");
    while ear.expect("new-message")["data"]["content"] != "hello nora" {}
    olga.delete(&format!("{members}/{}", nora.id)).data();
    for n in 0..20 {
        say(&house.api, &house.olga, &house.group, &format!("n2-{n}"), &format!("{SECRET} without nora"));
    }
    let mut was_told = false;
    while let Some(frame) = ear.frame(LISTEN).unwrap() {
        was_told |= frame["type"] == "member-removed";
        assert!(!frame.to_string().contains(SECRET), "{frame}");
    }
    assert!(was_told, "the removed member is told");
}

#[test]
fn a_blocked_user_cannot_reach_who_blocked_them() {
    let house = house();
    let bert = register(&house.api, "bert");
    let chat = open_chat(&house.api, &bert, &house.olga);
    say(&house.api, &bert, &chat, "b1", "before");
    let (bert_api, olga_api) = (house.api.as_user(&bert.token), house.api.as_user(&house.olga.token));
    let mut bert_ear = Session::connect(house.server.http, &bert.token).unwrap();
    olga_api.put(&format!("/api/friends/{}", bert.id), &json!({"blocked": true})).data();
    let mut olga_ear = Session::connect(house.server.http, &house.olga.token).unwrap();
    let send = json!({"messageType": 1, "content": "hear me", "client_msg_id": "b2"});
    let path = format!("/api/conversations/{chat}/messages");
    assert_eq!(bert_api.post(&path, &send).refusal(), (403, "BLOCKED"));
    assert_eq!(olga_api.post(&path, &send).refusal(), (403, "BLOCKED"));
    let request = bert_api.post("/api/friends/requests", &json!({"targetUserId": house.olga.id}));
    assert_eq!(request.refusal(), (403, "BLOCKED"));
    let statuses = bert_api.get(&format!("/api/users/status?ids={}", house.olga.id)).data();
    assert_eq!(statuses["statuses"], json!([]), "presence across a block");
    bert_ear.send(&json!({"type": "typing", "data": {"conversationId": chat}})).unwrap();
    bert_ear.send(&send_message(&chat, "b3", "hear me")).unwrap();
    assert_eq!(bert_ear.expect("error")["data"]["code"], "BLOCKED");
    while let Some(frame) = olga_ear.frame(LISTEN).unwrap() {
        assert!(!frame.to_string().contains(&chat), "olga received {frame}");
    }
    while let Some(frame) = bert_ear.frame(LISTEN).unwrap() {
        assert!(frame["type"] != "online-status", "bert received {frame}");
    }
    // What was said before stays readable, and unblocking mends everything.
    assert_eq!(history(&house.api, &bert, &chat, 0)[0]["content"], "before");
    olga_api.put(&format!("/api/friends/{}", bert.id), &json!({"blocked": false})).data();
    bert_api.post(&path, &json!({"messageType": 1, "content": "hear me", "client_msg_id": "b4"})).data();
}

#[test]
fn newcomers_see_nothing_from_before_where_history_is_closed() {
    let house = house();
    let olga = house.api.as_user(&house.olga.token);
    let path = format!("/api/conversations/{}", house.group);
    let settings = json!({"settings": {"group_settings": {"allow_member_view_history": false}}});
    olga.put(&path, &settings).data();
    let nora = register(&house.api, "nora");
    olga.post(&format!("{path}/members"), &json!({"members": [nora.id]})).data();
    let seen = history(&house.api, &nora, &house.group, 0);
    assert!(!json!(seen).to_string().contains(SECRET), "{seen:?}");
    let api = house.api.as_user(&nora.token);
    for asked in ["/messages", "/messages?cursor=1000"] {
        let page = api.get(&format!("{path}{asked}")).data();
        assert!(!page["messages"].to_string().contains(&format!("{SECRET} in")), "{page}");
    }
    let list = api.get("/api/conversations").data();
    let listed = list["conversations"].as_array().unwrap().iter().find(|c| c["id"] == house.group.as_str()).unwrap();
    assert!(!listed["lastMessage"].to_string().contains(SECRET), "{listed}");
    assert_eq!(listed["unreadCount"].as_i64().unwrap_or(0), 0);
    say(&house.api, &house.olga, &house.group, "n1", "welcome");
    let seen = history(&house.api, &nora, &house.group, 0);
    assert!(seen.iter().any(|message| message["content"] == "welcome"));
}
