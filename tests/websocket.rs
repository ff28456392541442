//! The WebSocket protocol of this release against a running server: handshakes, every frame, every bad frame.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use support::chat::{Ended, Session, send_message};
use support::{Api, STUCK, Server, User, make_group, open_chat, register};
use tungstenite::Message;

struct Pair {
    dir: tempfile::TempDir,
    server: Server,
    api: Api,
    ann: User,
    bob: User,
    chat: String,
}

fn pair_with(flags: &[&str]) -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), flags);
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    Pair { dir, server, api, ann, bob, chat }
}

fn pair() -> Pair {
    pair_with(&["--limits", "off"])
}

#[test]
fn two_people_talk() {
    for reactor in ["uring", "epoll"] {
        let Pair { server, ann, bob, chat, dir: _dir, .. } = &pair_with(&["--limits", "off", "--reactor", reactor]);
        let mut a = Session::open(server.http, &ann.token).unwrap();
        let connected = a.expect("connected")["data"].clone();
        assert_eq!(connected["userId"], ann.id.as_str());
        assert_eq!(connected["heartbeatInterval"], 30);
        assert!(
            connected["connectionId"].is_string()
                && connected["serverTime"].is_i64()
                && connected["expiresAt"].is_i64()
        );
        assert!(connected.get("degraded").is_none_or(|degraded| degraded == false));
        let mut b = Session::connect(server.http, &bob.token).unwrap();
        for n in 1..=50 {
            let id = format!("c{n}");
            a.send(&send_message(chat, &id, "hello \u{1F44B} \"quoted\" \\ \n")).unwrap();
            let ack = a.expect("message-ack");
            let got = b.expect("new-message");
            assert!(ack["timestamp"].is_i64());
            let (ack, got) = (&ack["data"], &got["data"]);
            assert_eq!(
                (&ack["client_msg_id"], &ack["status"], &ack["conversationId"]),
                (&json!(id), &json!("success"), &json!(chat))
            );
            assert_eq!(
                (&got["id"], &got["seqId"], &got["createdAt"]),
                (&ack["messageId"], &ack["seqId"], &ack["createdAt"])
            );
            assert_eq!((&got["content"], &got["messageType"]), (&json!("hello \u{1F44B} \"quoted\" \\ \n"), &json!(1)));
            assert_eq!(
                (&got["senderId"], &got["sender"]["username"], &got["clientMsgId"]),
                (&json!(ann.id), &json!("ann"), &json!(id))
            );
            assert_eq!(got["conversationId"], chat.as_str());
        }
        // A resend is acknowledged as a duplicate with the first ids, and not delivered again.
        a.send(&send_message(chat, "c50", "hello \u{1F44B} \"quoted\" \\ \n")).unwrap();
        assert_eq!(a.expect("message-ack")["data"]["duplicate"], true);
        a.send(&send_message(chat, "last", "the end")).unwrap();
        assert_eq!(b.expect("new-message")["data"]["clientMsgId"], "last");
        b.send(&json!({"type": "mark-read", "data": {"conversationId": chat, "seqId": 1_i64 << 40}})).unwrap();
        let updated = b.expect("conversation-updated")["data"].clone();
        assert_eq!((&updated["conversationId"], &updated["updates"]["unreadCount"]), (&json!(chat), &json!(0)));
        b.send(&json!({"type": "ping"})).unwrap();
        assert!(b.expect("pong")["timestamp"].is_i64());
    }
}

#[test]
fn an_http_send_reaches_the_socket() {
    let Pair { server, api, ann, bob, chat, dir: _dir } = &pair();
    let mut b = Session::connect(server.http, &bob.token).unwrap();
    let body = json!({"messageType": 1, "content": "by post", "client_msg_id": "p1"});
    let sent = api.as_user(&ann.token).post(&format!("/api/conversations/{chat}/messages"), &body).data();
    assert_eq!(b.expect("new-message")["data"]["id"], sent["id"]);
}

#[test]
fn bad_frames_are_answered_and_change_nothing() {
    let Pair { server, api, ann, chat, dir: _dir, .. } = &pair();
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let send = |data: Value| json!({"type": "send-message", "data": data}).to_string();
    let long = |n: usize| "x".repeat(n);
    let cases = [
        ("not json".to_owned(), "INVALID_MESSAGE"),
        ("[]".to_owned(), "INVALID_MESSAGE"),
        ("{}".to_owned(), "INVALID_MESSAGE"),
        (json!({"type": 5}).to_string(), "INVALID_MESSAGE"),
        (json!({"type": "dance"}).to_string(), "INVALID_MESSAGE"),
        (send(json!({"content": "x", "messageType": 1, "client_msg_id": "b"})), "INVALID_MESSAGE"),
        (send(json!({"conversationId": chat, "messageType": 1, "client_msg_id": "b"})), "INVALID_MESSAGE"),
        (send(json!({"conversationId": chat, "content": "x", "client_msg_id": "b"})), "INVALID_MESSAGE"),
    ];
    check(&mut a, &cases);
    // More than ten frames that are not understood within a minute end a connection: the rest on further ones.
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let cases = [
        (send(json!({"conversationId": chat, "content": "x", "messageType": 1})), "INVALID_MESSAGE"),
        (
            send(json!({"conversationId": chat, "content": 7, "messageType": 1, "client_msg_id": "b"})),
            "INVALID_MESSAGE",
        ),
        (
            send(json!({"conversationId": chat, "content": "x", "messageType": 1, "client_msg_id": long(65)})),
            "INVALID_MESSAGE",
        ),
        (json!({"type": "mark-read", "data": {"conversationId": chat}}).to_string(), "INVALID_MESSAGE"),
        (json!({"type": "mark-read", "data": {"conversationId": chat, "seqId": "1"}}).to_string(), "INVALID_MESSAGE"),
        (format!("{}1{}", "[".repeat(40), "]".repeat(40)), "INVALID_MESSAGE"),
    ];
    check(&mut a, &cases);
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let cases = [
        (send(json!({"conversationId": chat, "content": "", "messageType": 1, "client_msg_id": "b"})), "MESSAGE_EMPTY"),
        (
            send(json!({"conversationId": chat, "content": long(5001), "messageType": 1, "client_msg_id": "b"})),
            "MESSAGE_TOO_LARGE",
        ),
        (
            send(json!({"conversationId": chat, "content": "x", "messageType": 4, "client_msg_id": "b"})),
            "UNSUPPORTED_MESSAGE_TYPE",
        ),
        (
            send(json!({"conversationId": "single_1_2", "content": "x", "messageType": 1, "client_msg_id": "b"})),
            "CONVERSATION_NOT_FOUND",
        ),
        (
            send(json!({"conversationId": "nonsense", "content": "x", "messageType": 1, "client_msg_id": "b"})),
            "CONVERSATION_NOT_FOUND",
        ),
    ];
    check(&mut a, &cases);
    let history = api.as_user(&ann.token).get(&format!("/api/conversations/{chat}/messages")).data();
    assert_eq!(history["messages"], json!([]), "a refused frame changed something");
    a.send(&send_message(chat, "fine", "still open")).unwrap();
    a.expect("message-ack");
}

fn check(session: &mut Session, cases: &[(String, &str)]) {
    for (text, code) in cases {
        session.raw(Message::text(text.clone())).unwrap();
        let error = session.expect("error")["data"].clone();
        assert_eq!(error["code"], *code, "{text}");
        if text.contains("\"b\"") {
            assert_eq!(error["details"]["client_msg_id"], "b", "{text}");
        }
    }
}

/// A frame with its data.
fn frame(kind: &str, data: Value) -> Value {
    json!({"type": kind, "data": data})
}

fn refused(session: &mut Session, what: &Value, code: &str) -> Value {
    session.send(what).unwrap();
    let error = session.expect("error")["data"].clone();
    assert_eq!(error["code"], code, "{what}");
    error["details"].clone()
}

#[test]
fn bad_frames_of_every_other_kind_are_refused_too() {
    let Pair { server, api, ann, bob, chat, dir: _dir } = &pair();
    let eve = register(api, "eve");
    let group = make_group(api, ann, "team", &[bob, &eve]);
    let (owner, member) = (api.as_user(&ann.token), api.as_user(&bob.token));
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let mut b = Session::connect(server.http, &bob.token).unwrap();
    let recall = |conversation: &str, id: &Value| {
        frame("recall-message", json!({"conversationId": conversation, "messageId": id}))
    };
    let mut text_of_ann = |conversation: &str, id: &str| {
        a.send(&send_message(conversation, id, "by ann")).unwrap();
        a.expect("message-ack")["data"]["messageId"].clone()
    };
    let of_chat = text_of_ann(chat, "c");
    let of_group = text_of_ann(&group, "g");
    // Recalls.
    let details = refused(&mut b, &recall(&group, &of_group), "INSUFFICIENT_PERMISSION");
    assert_eq!(details, json!({"conversationId": group, "messageId": of_group}));
    refused(&mut b, &recall(chat, &json!("77")), "MESSAGE_NOT_FOUND");
    refused(&mut b, &recall(&group, &of_chat), "MESSAGE_NOT_FOUND");
    refused(&mut b, &recall("nonsense", &of_chat), "CONVERSATION_NOT_FOUND");
    a.send(&recall(chat, &of_chat)).unwrap();
    a.expect("recall-ack");
    let details = refused(&mut b, &frame("recall-message", json!({"conversationId": chat})), "INVALID_MESSAGE");
    assert_eq!((&details["field"], &details["conversationId"]), (&json!("messageId"), &json!(chat)));
    refused(&mut b, &frame("typing", json!({})), "INVALID_MESSAGE");
    refused(&mut b, &frame("stop-typing", json!({"conversationId": 5})), "INVALID_MESSAGE");
    let of_the_server = send_message(chat, "\u{1}e1", "not mine to give");
    assert_eq!(refused(&mut b, &of_the_server, "INVALID_MESSAGE")["field"], "client_msg_id");
    // Rights in a group.
    let muted = json!({"muted": true});
    assert_eq!(owner.put(&format!("/api/conversations/{group}/members/{}", bob.id), &muted).status, 200);
    assert_eq!(refused(&mut b, &send_message(&group, "m", "x"), "MUTED")["client_msg_id"], "m");
    assert_eq!(owner.delete(&format!("/api/conversations/{group}")).status, 200);
    refused(&mut b, &send_message(&group, "d", "x"), "CONVERSATION_DISSOLVED");
    // Blocked, and a guest where none may be.
    assert_eq!(member.put(&format!("/api/friends/{}", ann.id), &json!({"blocked": true})).status, 200);
    refused(&mut a, &send_message(chat, "bl", "x"), "BLOCKED");
    assert_eq!(
        refused(&mut b, &frame("auth-refresh", json!({"token": "x.y.z"})), "AUTH_FAILED")["reason"],
        "INVALID_TOKEN"
    );
    assert_eq!(b.expect("closing")["data"]["code"], 4001);
}

#[test]
fn a_recall_reaches_everybody_and_is_acknowledged() {
    let Pair { server, api, ann, bob, chat, dir: _dir } = &pair();
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let mut b = Session::connect(server.http, &bob.token).unwrap();
    a.send(&send_message(chat, "c1", "a slip")).unwrap();
    let sent = a.expect("message-ack")["data"].clone();
    b.expect("new-message");
    let data = json!({"conversationId": chat, "messageId": sent["messageId"], "reason": "slip"});
    a.send(&frame("recall-message", data.clone())).unwrap();
    let ack = a.expect("recall-ack")["data"].clone();
    assert_eq!((&ack["messageId"], &ack["duplicate"]), (&sent["messageId"], &json!(false)));
    let recalled = b.expect("message-recalled")["data"].clone();
    assert_eq!((&recalled["messageId"], &recalled["seqId"]), (&sent["messageId"], &sent["seqId"]));
    assert_eq!((&recalled["operatorId"], &recalled["reason"]), (&json!(ann.id), &json!("slip")));
    assert_eq!(recalled["position"], ack["position"]);
    assert!(recalled["position"].as_i64() > sent["seqId"].as_i64());
    a.send(&frame("recall-message", data)).unwrap();
    assert_eq!(a.expect("recall-ack")["data"]["duplicate"], true);
    let history = support::history(api, bob, chat, 0);
    let row = history.iter().find(|row| row["id"] == sent["messageId"]).unwrap();
    assert_eq!(row["deleted"], true);
    assert!(!row.to_string().contains("a slip"), "{row}");
}

#[test]
fn typing_reaches_the_others_and_not_who_types() {
    let Pair { server, ann, bob, chat, dir: _dir, .. } = &pair();
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let mut b = Session::connect(server.http, &bob.token).unwrap();
    let here = json!({"conversationId": chat});
    for kind in ["typing", "typing", "stop-typing"] {
        a.send(&frame(kind, here.clone())).unwrap();
        if kind == "typing" {
            a.send(&json!({"type": "ping"})).unwrap();
            a.expect("pong");
        }
    }
    let mut told = [b.expect("typing-indicator"), b.expect("typing-indicator")].map(|frame| frame["data"].clone());
    // At most once and in no order: two calls on their own ways.
    told.sort_by_key(|data| data["isTyping"] == false);
    assert_eq!([&told[0]["isTyping"], &told[1]["isTyping"]], [&json!(true), &json!(false)]);
    assert_eq!((&told[0]["userId"], &told[0]["username"]), (&json!(ann.id), &json!("ann")));
    a.send(&send_message(chat, "c1", "done")).unwrap();
    let next = b.frame(STUCK).unwrap().unwrap();
    assert_eq!(next["type"], "new-message", "the second `typing` within 3 s was passed on: {next}");
}

#[test]
fn a_large_group_is_reached_as_a_room_and_who_leaves_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gochat.toml");
    std::fs::write(&file, "[auth]\nbcrypt_cost = 4\n").unwrap();
    let flags = ["--limits", "off", "--config", file.to_str().unwrap()];
    let server = Server::start_with(&dir.path().join("data"), &flags);
    let api = Api::new(server.http);
    let users: Vec<User> = (0..25).map(|n| register(&api, &format!("user{n}"))).collect();
    let group = make_group(&api, &users[0], "many", &users[1..24].iter().collect::<Vec<_>>());
    let connect = |user: &User| Session::connect(server.http, &user.token).unwrap();
    let mut sessions: Vec<Session> = users.iter().map(connect).collect();
    let next = |session: &mut Session, what: &str| loop {
        let message = session.expect("new-message")["data"].clone();
        if message["messageType"] != 4 {
            assert_eq!((&message["content"], &message["conversationId"]), (&json!(what), &json!(group)));
            return;
        }
    };
    sessions[0].send(&send_message(&group, "1", "one")).unwrap();
    sessions[0].expect("message-ack");
    (1..24).for_each(|n| next(&mut sessions[n], "one"));
    // One comes, one goes: the next message reaches exactly those who belong to it.
    let owner = api.as_user(&users[0].token);
    let added = owner.post(&format!("/api/conversations/{group}/members"), &json!({"members": [users[24].id]}));
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(owner.delete(&format!("/api/conversations/{group}/members/{}", users[5].id)).status, 200);
    sessions[0].send(&send_message(&group, "2", "two")).unwrap();
    sessions[0].expect("message-ack");
    (1..25).filter(|n| *n != 5).for_each(|n| next(&mut sessions[n], "two"));
    sessions[5].send(&send_message(&group, "3", "let me in")).unwrap();
    loop {
        let frame = sessions[5].frame(STUCK).unwrap().unwrap();
        assert!(!frame.to_string().contains("two"), "{frame}");
        if frame["type"] == "error" {
            assert_eq!(frame["data"]["code"], "NOT_CONVERSATION_MEMBER");
            break;
        }
    }
}

#[test]
fn sessions_follow_the_policy() {
    for (policy, same_device, other_device) in
        [("single", true, true), ("per_device", true, false), ("multi", false, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gochat.toml");
        std::fs::write(&file, format!("[ws]\nsession_policy = \"{policy}\"\n")).unwrap();
        let flags = ["--limits", "off", "--config", file.to_str().unwrap()];
        let server = Server::start_with(&dir.path().join("data"), &flags);
        let api = Api::new(server.http);
        let ann = register(&api, "ann");
        for (device, is_replaced) in [("phone", same_device), ("desk", other_device)] {
            let mut older = Session::connect(server.http, &format!("{}&device=phone", ann.token)).unwrap();
            let mut newer = Session::connect(server.http, &format!("{}&device={device}", ann.token)).unwrap();
            if is_replaced {
                assert_eq!(older.expect("closing")["data"]["code"], 4002, "{policy} {device}");
            } else {
                older.send(&json!({"type": "ping"})).unwrap();
                older.expect("pong");
            }
            newer.send(&json!({"type": "ping"})).unwrap();
            newer.expect("pong");
        }
    }
}

#[test]
fn a_ticket_opens_one_session() {
    let Pair { server, api, ann, dir: _dir, .. } = &pair();
    let ticket = api.as_user(&ann.token).post("/api/auth/ticket", &json!({})).data();
    // The helper writes `token=`: an empty one, and then the ticket.
    let with_ticket = format!("&ticket={}", ticket["ticket"].as_str().unwrap());
    let mut first = Session::open(server.http, &with_ticket).unwrap();
    let connected = first.expect("connected")["data"].clone();
    assert_eq!(connected["userId"], ann.id.as_str());
    assert!(connected["expiresAt"].as_i64() > ticket["expiresAt"].as_i64(), "{connected} {ticket}");
    let mut second = Session::open(server.http, &with_ticket).unwrap();
    assert!(matches!(second.frame(STUCK), Err(Ended::Closed(Some(4001)))));
    first.send(&json!({"type": "ping"})).unwrap();
    first.expect("pong");
}

#[test]
fn strangers_cannot_send_or_read() {
    let Pair { server, api, bob, chat, dir: _dir, .. } = &pair();
    let eve = register(api, "eve");
    let mut b = Session::connect(server.http, &bob.token).unwrap();
    let mut e = Session::connect(server.http, &eve.token).unwrap();
    e.send(&send_message(chat, "e1", "let me in")).unwrap();
    assert_eq!(e.expect("error")["data"]["code"], "NOT_CONVERSATION_MEMBER");
    e.send(&json!({"type": "mark-read", "data": {"conversationId": chat, "seqId": 1}})).unwrap();
    assert_eq!(e.expect("error")["data"]["code"], "NOT_CONVERSATION_MEMBER");
    b.send(&json!({"type": "ping"})).unwrap();
    let next = b.frame(STUCK).unwrap().unwrap();
    assert_eq!(next["type"], "pong", "a stranger's frame reached a member: {next}");
}

#[test]
fn closes_say_why() {
    let Pair { server, api, ann, dir: _dir, .. } = &pair();
    let closed = |messages: Vec<Message>| {
        let mut session = Session::connect(server.http, &ann.token).unwrap();
        for message in messages {
            if session.raw(message).is_err() {
                break;
            }
        }
        loop {
            match session.frame(STUCK) {
                Err(Ended::Closed(code)) => return code,
                Ok(Some(_)) => {}
                other => panic!("expected a close, got {other:?}"),
            }
        }
    };
    assert_eq!(closed(vec![Message::binary(vec![1, 2, 3])]), Some(1003));
    assert_eq!(closed(vec![Message::text("nonsense"); 12]), Some(1008));
    assert_eq!(closed(vec![Message::text("x".repeat(1 << 21))]), Some(1009));

    // A newer connection takes over; logging out ends the session.
    let mut old = Session::connect(server.http, &ann.token).unwrap();
    let mut new = Session::connect(server.http, &ann.token).unwrap();
    assert_eq!(old.expect("closing")["data"]["code"], 4002);
    assert!(matches!(old.frame(STUCK), Err(Ended::Closed(Some(4002)))));
    api.as_user(&ann.token).post("/api/auth/logout", &json!({}));
    assert_eq!(new.expect("closing")["data"]["code"], 4004);
    assert!(matches!(new.frame(STUCK), Err(Ended::Closed(Some(4004)))));
    assert!(handshake(server.http, &format!("/ws?token={}", ann.token), "").starts_with("HTTP/1.1 401"));
}

#[test]
fn handshakes_are_refused_with_a_reason() {
    let Pair { server, ann, dir: _dir, .. } = &pair();
    let token = &ann.token;
    let cases = [
        ("/ws".to_owned(), String::new(), "401", "UNAUTHORIZED"),
        ("/ws?token=nonsense".to_owned(), String::new(), "401", "INVALID_TOKEN"),
        (format!("/ws?token={}", ann.refresh_token), String::new(), "401", "INVALID_TOKEN"),
        ("/ws".to_owned(), "Authorization: Basic abc\r\n".to_owned(), "401", "INVALID_TOKEN"),
    ];
    for (path, headers, status, code) in cases {
        let answer = handshake(server.http, &path, &headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {headers}: {answer}");
        assert!(answer.contains(code) && answer.contains("\"success\":false"), "{path} {headers}: {answer}");
    }
    let header = handshake(server.http, "/ws", &format!("Authorization: Bearer {token}\r\n"));
    assert!(header.starts_with("HTTP/1.1 101"), "{header}");
    let protocol = format!("Sec-WebSocket-Protocol: gochat.v1, bearer.{token}\r\n");
    let answer = handshake(server.http, "/ws", &protocol);
    assert!(
        answer.starts_with("HTTP/1.1 101") && answer.to_lowercase().contains("sec-websocket-protocol: gochat.v1\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("bearer"), "{answer}");
    let old = handshake_raw(
        server.http,
        "/ws",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    assert!(old.starts_with("HTTP/1.1 426") && old.to_lowercase().contains("sec-websocket-version: 13"), "{old}");
    let plain = handshake_raw(server.http, "/ws", "");
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("INVALID_PARAMS"), "{plain}");
    let compressed = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let answer = handshake(server.http, &format!("/ws?token={token}"), compressed);
    assert!(answer.starts_with("HTTP/1.1 101") && !answer.to_lowercase().contains("extensions"), "{answer}");
}

fn handshake(http: SocketAddr, path: &str, headers: &str) -> String {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    handshake_raw(http, path, &format!("{upgrade}{headers}"))
}

fn handshake_raw(http: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(STUCK)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {http}\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0; 1];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length =
        head.to_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

#[test]
fn sending_too_fast_is_refused_with_a_time_to_wait() {
    let Pair { server, ann, chat, dir: _dir, .. } = &pair_with(&["--limits", "on"]);
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    for n in 0..90 {
        a.send(&send_message(chat, &format!("m{n}"), "fast")).unwrap();
    }
    let error = a.expect("error")["data"].clone();
    assert_eq!(error["code"], "RATE_LIMITED");
    assert!(error["details"]["retryAfter"].as_i64().unwrap() >= 1);
    assert!(error["details"]["client_msg_id"].is_string() && error["details"]["conversationId"] == chat.as_str());
}

#[test]
fn sigterm_sends_everybody_away_and_ends_with_zero() {
    let Pair { server, ann, dir: _dir, .. } = pair();
    let mut a = Session::connect(server.http, &ann.token).unwrap();
    let watcher = std::thread::spawn(move || {
        let closing = a.expect("closing")["data"].clone();
        (closing["code"].clone(), closing["reconnectAfterMs"].is_i64(), a.frame(STUCK).is_err())
    });
    assert_eq!(server.stop(), Some(0));
    assert_eq!(watcher.join().unwrap(), (json!(1001), true, true));
}
