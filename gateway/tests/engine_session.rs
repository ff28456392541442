//! Chat sessions over real sockets, with the test in the place of control: handshakes and their refusals, frames in and
//! out, limits, slow consumers, ends and hand-overs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod engine_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engine_support::gateway::{
    Gateway, PATIENCE, assert_closes, bearer, claims, code_of, json_of, key, now_s, send_message,
};
use engine_support::{Got, Wire, client_frame, close, config, text};
use gochat_gateway::bridge::{Downlink, DownlinkBatch, FrameClass, HttpHandover, OutFrame, Revocation, UplinkEvent};
use gochat_infra::token::{Claims, TokenKey, TokenKind};
use gochat_proto::bus::v1::UpstreamMessage;
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::Address;
use gochat_ring::ReactorChoice;
use prost::Message;
use serde_json::{Value, json};

#[test]
fn every_credential_is_taken_and_the_subprotocol_answered() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let token = key().sign(&claims(5)).unwrap();
            let protocols = format!("gochat.v1, bearer.{token}");
            let (_wire, head) = gateway.connect(&[("Sec-WebSocket-Protocol", &protocols)]);
            assert!(
                head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nSec-WebSocket-Protocol: gochat.v1\r\n"),
                "{head}"
            );
            let opened = gateway.opened();
            assert_eq!((opened.user_id, &*opened.token_id, opened.token_version), (5, "jti-5", 3));

            let target = format!("/ws?device=my%20phone&token={token}&client=x");
            let (_wire, head) = Wire::request(gateway.plane.addr(), &target, &[]);
            assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("Sec-WebSocket-Protocol"), "{head}");
            let opened = gateway.opened();
            assert_eq!((&*opened.device, &*opened.client_info), ("my phone", "x"));

            let (_wire, head) = gateway.connect(&[("Authorization", &format!("bearer {token}"))]);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        },
    );
}

#[test]
fn refused_handshakes() {
    let gateway = Gateway::start(ReactorChoice::Auto, |config| {
        config.chat.allow_query_token = false;
        config.chat.allowed_origins = Some(vec!["https://chat.example".into()]);
    });
    gateway.tell(Downlink::Revoked(Revocation::Token { token_id: "jti-8".into(), expires_at_s: now_s() + 100 }));
    gateway.tell(Downlink::Revoked(Revocation::User { user_id: 9, version_min: 4 }));
    let sign = |claims: Claims| format!("Bearer {}", key().sign(&claims).unwrap());
    let good = bearer(5);
    let refresh = sign(Claims { kind: TokenKind::Refresh, ..claims(5) });
    let expired = sign(Claims { exp: now_s() - 1, ..claims(5) });
    let foreign = format!("Bearer {}", TokenKey::hs256(&[8; 32]).unwrap().sign(&claims(5)).unwrap());
    let query = format!("/ws?token={}", good.trim_start_matches("Bearer "));
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let table: &[(&str, Fields<'_>, u16, &str)] = &[
        ("/ws", &[], 401, "UNAUTHORIZED"),
        (&query, &[], 401, "UNAUTHORIZED"),
        ("/ws", &[("Authorization", "Basic x")], 401, "INVALID_TOKEN_FORMAT"),
        ("/ws", &[("Authorization", "Bearer ")], 401, "INVALID_TOKEN_FORMAT"),
        ("/ws", &[("Authorization", "Bearer x.y.z")], 401, "INVALID_TOKEN"),
        ("/ws", &[("Authorization", &foreign)], 401, "INVALID_TOKEN"),
        ("/ws", &[("Authorization", &refresh)], 401, "INVALID_TOKEN"),
        ("/ws", &[("Authorization", &expired)], 401, "TOKEN_EXPIRED"),
        ("/ws", &[("Authorization", &bearer(8))], 401, "INVALID_TOKEN"),
        ("/ws", &[("Authorization", &bearer(9))], 401, "INVALID_TOKEN"),
        ("/ws", &[("Authorization", &good), ("Origin", "https://evil.example")], 403, "FORBIDDEN"),
        ("/ws", &[("Authorization", &good), ("Origin", "https://chat.example")], 101, ""),
        ("/ws", &[("Authorization", &good), ("Content-Length", "5")], 400, "INVALID_PARAMS"),
        ("/ws", &[("Authorization", &good), ("Sec-WebSocket-Key", "eA==")], 400, "INVALID_PARAMS"),
        ("/ws", &[("Authorization", &good), ("Host", "twice")], 400, "INVALID_PARAMS"),
    ];
    for (target, fields, status, code) in table {
        let (mut wire, head) = Wire::request(gateway.plane.addr(), target, fields);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {fields:?}: {head}");
        if *status != 101 {
            assert!(head.contains("Connection: close") && head.contains("application/json"), "{head}");
            let body: Value = serde_json::from_slice(&wire.read_to_end()).unwrap();
            assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!(code)), "{target} {fields:?}");
        }
    }
    for (request, status) in [
        ("GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (
            "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
            426,
        ),
        ("GET /ws HTTP/1.1\nHost: x\n\n", 400),
        ("\0\0\0\0", 400),
        ("GET /ws HTTP/2.0\r\n", 505),
        (&format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), 414),
        (&format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n", "x".repeat(9000)), 431),
    ] {
        let mut wire = Wire::raw(gateway.plane.addr());
        wire.send(request.as_bytes());
        let head = wire.read_head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
        wire.read_to_end();
    }
}

#[test]
fn nothing_is_accepted_before_control_says_so() {
    let gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    gateway.tell(Downlink::Accepting(false));
    let (mut wire, head) = gateway.connect(&[("Authorization", &bearer(5))]);
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    let body: Value = serde_json::from_slice(&wire.read_to_end()).unwrap();
    assert_eq!(body["code"], "SERVICE_UNAVAILABLE");
}

#[test]
fn connects_are_limited_per_address_and_say_when_to_come_back() {
    let gateway = Gateway::start(ReactorChoice::Auto, |config| config.chat.rate_limits = true);
    let heads: Vec<_> = (0..40).map(|_| gateway.connect(&[]).1).collect();
    assert!(heads[0].starts_with("HTTP/1.1 401 "), "{}", heads[0]);
    let limited = heads.iter().filter(|head| head.starts_with("HTTP/1.1 429 ")).collect::<Vec<_>>();
    assert!(!limited.is_empty() && limited[0].contains("\r\nRetry-After: "), "{heads:?}");
}

#[test]
fn connected_comes_first_and_then_what_was_held_in_order() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let (mut wire, _) = gateway.connect(&[("Authorization", &bearer(5))]);
            let address = gateway.opened().address;
            wire.send(&text(r#"{"type":"ping"}"#));
            for n in 0..3 {
                gateway.frame(address, &format!("{{\"n\":{n}}}"), FrameClass::Chat);
            }
            gateway.tell(Downlink::Registered { address, degraded: false });
            gateway.tell(Downlink::Registered { address, degraded: true });
            let connected = json_of(wire.read());
            let data = &connected["data"];
            assert_eq!((&connected["type"], &data["degraded"]), (&json!("connected"), &json!(false)));
            assert_eq!(data["connectionId"], address.to_string());
            let mut rest: Vec<_> = (0..4).map(|_| json_of(wire.read())).collect();
            rest.retain(|frame| frame["type"] != "pong");
            assert_eq!(rest, [json!({ "n": 0 }), json!({ "n": 1 }), json!({ "n": 2 })]);
        },
    );
}

#[test]
fn a_session_that_nobody_registers_is_greeted_as_degraded() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, _) = gateway.connect(&[("Authorization", &bearer(5))]);
    let address = gateway.opened().address;
    for _ in 0..100 {
        gateway.frame_waiting(address, "{}", FrameClass::Chat);
    }
    let connected = json_of(wire.read());
    assert_eq!((&connected["type"], &connected["data"]["degraded"]), (&json!("connected"), &json!(true)));
    for _ in 0..100 {
        assert_eq!(json_of(wire.read()), json!({}));
    }
}

#[test]
fn a_message_becomes_one_record() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let (mut wire, address) = gateway.session(5);
            wire.send(&[send_message("a"), send_message("b")].concat());
            for expected in ["a", "b"] {
                let record = gateway.record();
                assert_eq!(&record.key[..], b"single_1_2");
                assert_eq!(record.partition, gochat_infra::bus::partition_of(b"single_1_2", 16));
                let message = UpstreamMessage::decode(record.value).unwrap();
                assert_eq!((message.sender_id, &*message.client_msg_id, &*message.content), (5, expected, "hi"));
                let origin = message.origin.unwrap();
                assert_eq!((origin.gateway, origin.incarnation, origin.address), (9, 77, address.0));
                assert!((message.received_at_ms / 1000 - now_s()).abs() < 60);
            }
        },
    );
}

#[test]
fn frames_that_are_not_understood() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let long = "x".repeat(5001);
    let send = |field: &str, value: Value| {
        let mut data =
            json!({ "conversationId": "single_1_2", "content": "hi", "messageType": 1, "client_msg_id": "c" });
        data[field] = value;
        json!({ "type": "send-message", "data": data }).to_string()
    };
    let table = [
        ("not json".to_owned(), "INVALID_MESSAGE"),
        ("[]".to_owned(), "INVALID_MESSAGE"),
        (r#"{"type":"no-such-frame"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"type":"mark-read","data":{"conversationId":"world"}}"#.to_owned(), "INVALID_MESSAGE"),
        (send("content", json!("")), "MESSAGE_EMPTY"),
        (send("content", json!(long)), "MESSAGE_TOO_LARGE"),
        (send("extra", json!(long)), "MESSAGE_TOO_LARGE"),
        (send("messageType", json!(4)), "UNSUPPORTED_MESSAGE_TYPE"),
        (send("client_msg_id", Value::Null), "INVALID_MESSAGE"),
    ];
    let (mut wire, _) = gateway.session(5);
    for (frame, code) in &table {
        wire.send(&text(frame));
        let error = json_of(wire.read());
        assert_eq!((&error["type"], &error["data"]["code"]), (&json!("error"), &json!(code)), "{frame}");
        if frame.contains("send-message") {
            assert_eq!(error["data"]["details"]["conversationId"], "single_1_2", "{frame}");
        }
    }
    wire.send(&text(r#"{"type":"ping"}"#));
    assert_eq!(json_of(wire.read())["type"], "pong", "the connection stays");
    assert!(gateway.records.is_empty());
    // With the five above that count, the eleventh ends it.
    for _ in 0..6 {
        wire.send(&text("garbage"));
        assert_eq!(json_of(wire.read())["type"], "error");
    }
    assert_closes(&mut wire, 1008);
}

#[test]
fn violations_end_the_session_with_their_code() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            for (frame, code, farewell) in [
                (client_frame(0x82, b"binary"), 1003, true),
                (client_frame(0x81, &vec![b'x'; (1 << 20) + 1]), 1009, true),
                (client_frame(0x81, b"\xff"), 1007, false),
                (client_frame(0xc1, b"x"), 1002, false),
            ] {
                let (mut wire, address) = gateway.session(5);
                // The server may close before it has taken all of it.
                let _ = wire.stream.write_all(&frame);
                if farewell {
                    assert_closes(&mut wire, code);
                } else {
                    assert_eq!(code_of(&wire.read()), Some(code));
                }
                assert_eq!(gateway.closed(address), (code, false));
            }
            let (mut wire, address) = gateway.session(5);
            wire.send(&close(1000, "bye"));
            assert_eq!(code_of(&wire.read()), Some(1000));
            assert_eq!(wire.read(), Got::Eof);
            assert_eq!(gateway.closed(address), (1000, false));
            let (wire, address) = gateway.session(5);
            drop(wire);
            assert_eq!(gateway.closed(address), (1006, false));
        },
    );
}

#[test]
fn a_newer_connection_of_the_user_replaces_the_older() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let (mut older, older_address) = gateway.session(5);
            let (mut newer, newer_address) = gateway.session(5);
            assert_closes(&mut older, 4002);
            assert_eq!(gateway.closed(older_address), (4002, false));
            // What is for the older one must not reach the newer, nor anybody who takes over its slot.
            drop(older);
            let (mut other, _) = gateway.session(6);
            gateway.frame(older_address, r#"{"to":"older"}"#, FrameClass::Chat);
            gateway.frame(newer_address, r#"{"to":"newer"}"#, FrameClass::Chat);
            assert_eq!(json_of(newer.read()), json!({ "to": "newer" }));
            other.send(&text(r#"{"type":"ping"}"#));
            assert_eq!(json_of(other.read())["type"], "pong");
        },
    );
}

#[test]
fn one_frame_reaches_many_and_close_reaches_one() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let mut sessions: Vec<_> = (1..=20).map(|user| gateway.session(user)).collect();
            let mut batch = DownlinkBatch::new();
            let frame = OutFrame::text(br#"{"all":1}"#, FrameClass::Chat);
            batch.frame(sessions.iter().map(|(_, address)| *address), frame);
            let address = sessions[7].1;
            batch.push(Downlink::Close { address, code: CloseCode::LoggedOut, reconnect_after_ms: Some(700) });
            gateway.push(batch);
            for (at, (wire, _)) in sessions.iter_mut().enumerate() {
                assert_eq!(json_of(wire.read()), json!({ "all": 1 }));
                if at == 7 {
                    let closing = json_of(wire.read());
                    assert_eq!(
                        (&closing["data"]["code"], &closing["data"]["reconnectAfterMs"]),
                        (&json!(4004), &json!(700))
                    );
                    assert_eq!(code_of(&wire.read()), Some(4004));
                }
            }
        },
    );
}

#[test]
fn read_marks_are_merged_and_the_highest_wins() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, _) = gateway.session(5);
    let frames: Vec<u8> = [3, 9, 4]
        .iter()
        .flat_map(|seq| {
            text(&json!({ "type": "mark-read", "data": { "conversationId": "world", "seqId": seq } }).to_string())
        })
        .collect();
    wire.send(&frames);
    let seen = gateway.event(|event| match event {
        UplinkEvent::MarkRead { user_id: 5, conversation, seq_id, .. } => Some((conversation.clone(), *seq_id)),
        _ => None,
    });
    assert_eq!(seen, ("world".into(), 9));
    assert!(!gateway.events.iter().any(|event| matches!(event, UplinkEvent::MarkRead { .. })));
}

#[test]
fn sends_over_the_rate_are_refused_with_what_to_resend() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |config| config.chat.rate_limits = true);
    let (mut wire, _) = gateway.session(5);
    for n in 0..150 {
        wire.send(&send_message(&format!("c{n}")));
    }
    wire.send(&text(r#"{"type":"ping"}"#));
    let mut refused = 0;
    loop {
        let frame = json_of(wire.read());
        if frame["type"] == "pong" {
            break;
        }
        assert_eq!(frame["data"]["code"], "RATE_LIMITED", "{frame}");
        let details = &frame["data"]["details"];
        assert!(
            details["client_msg_id"].as_str().unwrap().starts_with('c') && details["retryAfter"].as_i64() >= Some(1)
        );
        refused += 1;
    }
    while gateway.records.len() + refused < 150 {
        gateway.poll();
    }
    assert!(refused > 0 && gateway.records.len() >= 60, "{} sent, {refused} refused", gateway.records.len());
}

#[test]
fn admission_follows_control() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, address) = gateway.session(5);
    gateway.tell(Downlink::SlowDown { retry_after_s: 7 });
    gateway.frame(address, "{}", FrameClass::Chat);
    wire.read();
    wire.send(&send_message("a"));
    let error = json_of(wire.read());
    assert_eq!((&error["data"]["code"], &error["data"]["details"]["retryAfter"]), (&json!("RATE_LIMITED"), &json!(7)));
    gateway.tell(Downlink::SlowDown { retry_after_s: 0 });
    gateway.frame(address, "{}", FrameClass::Chat);
    wire.read();
    wire.send(&send_message("b"));
    assert_eq!(UpstreamMessage::decode(gateway.record().value).unwrap().client_msg_id, "b");
}

#[test]
fn when_control_does_not_keep_up_messages_are_refused_and_none_is_lost() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, _) = gateway.session(5);
    let mut sent = 0;
    let refused = loop {
        wire.send(&send_message(&format!("c{sent}")));
        sent += 1;
        if sent % 100 == 0 {
            wire.send(&text(r#"{"type":"ping"}"#));
            let frame = json_of(wire.read());
            if frame["type"] == "error" {
                break frame;
            }
        }
        assert!(sent < 200_000, "the uplink is not bounded");
    };
    assert_eq!(refused["data"]["code"], "SERVICE_UNAVAILABLE");
    let first_refused = refused["data"]["details"]["client_msg_id"].as_str().unwrap()[1..].parse::<usize>().unwrap();
    for n in 0..first_refused {
        let message = UpstreamMessage::decode(gateway.record().value).unwrap();
        assert_eq!(message.client_msg_id, format!("c{n}"));
    }
}

#[test]
fn a_token_is_refreshed_or_the_session_ends() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let refresh = |claims: Claims| {
        text(&json!({ "type": "auth-refresh", "data": { "token": key().sign(&claims).unwrap() } }).to_string())
    };
    let (mut wire, address) = gateway.session(5);
    let later = now_s() + 9999;
    wire.send(&refresh(Claims { exp: later, jti: "new".into(), ..claims(5) }));
    let connected = json_of(wire.read());
    assert_eq!((&connected["type"], &connected["data"]["expiresAt"]), (&json!("connected"), &json!(later)));
    gateway.event(|event| match event {
        UplinkEvent::Reauthorized { address: of, token_id, .. } if *of == address && &**token_id == "new" => Some(()),
        _ => None,
    });
    wire.send(&refresh(claims(6)));
    assert_eq!(json_of(wire.read())["data"]["code"], "AUTH_FAILED");
    assert_closes(&mut wire, 4001);
}

#[test]
fn an_expired_token_is_told() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let soon = key().sign(&Claims { exp: now_s() + 2, ..claims(5) }).unwrap();
    let (mut wire, _) = gateway.connect(&[("Authorization", &format!("Bearer {soon}"))]);
    let address = gateway.opened().address;
    gateway.tell(Downlink::Registered { address, degraded: false });
    assert_eq!(json_of(wire.read())["type"], "connected");
    let error = json_of(wire.read());
    assert_eq!(
        (&error["data"]["code"], &error["data"]["details"]["reason"]),
        (&json!("AUTH_FAILED"), &json!("TOKEN_EXPIRED"))
    );
}

#[test]
fn a_slow_consumer_is_closed_and_the_others_go_on() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let (slow, slow_address) = gateway.session(5);
            let (mut healthy, healthy_address) = gateway.session(6);
            let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(30_000));
            let give_up = Instant::now() + PATIENCE;
            let mut sent = 0u32;
            let code = loop {
                assert!(Instant::now() < give_up, "the slow consumer was not closed after {sent} frames");
                gateway.frame(slow_address, &payload, FrameClass::Chat);
                gateway.frame(healthy_address, &format!("{sent}"), FrameClass::Chat);
                assert_eq!(json_of(healthy.read()), json!(sent), "nothing is lost on the way to the healthy one");
                sent += 1;
                gateway.poll();
                let closed = gateway.events.iter().find_map(|event| match event {
                    UplinkEvent::Closed { address, code, .. } if *address == slow_address => Some(*code),
                    _ => None,
                });
                if let Some(code) = closed {
                    break code;
                }
            };
            assert_eq!(code, 4009);
            drop(slow);
        },
    );
}

#[test]
fn ephemeral_frames_are_shed_and_it_is_told_once_drained() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let (mut wire, address) = gateway.session(5);
            let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(10_000));
            let sent = 3000u64;
            for _ in 0..sent {
                gateway.frame_waiting(address, &payload, FrameClass::Ephemeral);
            }
            // A chat frame behind them is not shed.
            gateway.frame_waiting(address, r#"{"chat":1}"#, FrameClass::Chat);
            let (mut received, mut shed, mut chat) = (0, 0, false);
            while received + shed < sent || !chat {
                let frame = json_of(wire.read());
                if frame["type"] == "error" {
                    shed += frame["data"]["details"]["shed"].as_u64().unwrap();
                } else if frame["chat"] == 1 {
                    chat = true;
                } else {
                    received += 1;
                }
            }
            assert_eq!(received + shed, sent, "every frame was delivered or its loss told");
            assert!(shed > 0, "the sockets' buffers took all {sent} frames");
        },
    );
}

impl Gateway {
    /// As `frame`, but waits while the shard's queue is full.
    fn frame_waiting(&self, to: Address, payload: &str, class: FrameClass) {
        let mut batch = DownlinkBatch::new();
        batch.frame([to], OutFrame::text(payload.as_bytes(), class));
        while let Err(back) = self.control.shards[0].try_send(batch) {
            batch = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn http_is_handed_over_with_every_byte() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let mut client = TcpStream::connect(gateway.plane.addr()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234";
            let (first, second) = request.split_at(20);
            client.write_all(first.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            client.write_all(second.as_bytes()).unwrap();
            let mut found = None;
            let give_up = Instant::now() + PATIENCE;
            while found.is_none() {
                assert!(Instant::now() < give_up, "no hand-over came");
                gateway.poll();
                let at = gateway.events.iter().position(|event| matches!(event, UplinkEvent::Http(_)));
                found = at.map(|at| gateway.events.remove(at));
            }
            let Some(UplinkEvent::Http(HttpHandover { fd, received, peer })) = found else { unreachable!() };
            assert_eq!((&received[..], peer), (request.as_bytes(), client.local_addr().unwrap()));
            let mut server = TcpStream::from(fd);
            server.set_nonblocking(false).unwrap();
            client.write_all(b"56789").unwrap();
            let mut rest = [0; 5];
            server.read_exact(&mut rest).unwrap();
            server.write_all(b"answer").unwrap();
            drop(server);
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!((&rest, answer.as_str()), (b"56789", "answer"));
        },
    );
}

#[test]
fn draining_says_goodbye_to_all_and_ends_the_shards() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let mut sessions: Vec<_> = (1..=10).map(|user| gateway.session(user)).collect();
            gateway.tell(Downlink::Drain { percent_per_s: 100 });
            for (wire, address) in &mut sessions {
                let closing = json_of(wire.read());
                assert_eq!(closing["data"]["code"], 1001);
                assert!((500..15_000).contains(&closing["data"]["reconnectAfterMs"].as_i64().unwrap()));
                assert_eq!(code_of(&wire.read()), Some(1001));
                wire.send(&close(1001, ""));
                assert_eq!(wire.read(), Got::Eof);
                assert_eq!(gateway.closed(*address), (1001, true));
            }
            gateway.plane.join().unwrap();
        },
    );
}

#[test]
fn shards_end_when_control_is_gone() {
    let gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let Gateway { plane, control, .. } = gateway;
    drop(control);
    plane.join().unwrap();
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(ReactorChoice::Epoll);
    config.listen = taken.local_addr().unwrap();
    let outcome = gochat_gateway::engine::start::<Never>(&config, |_| Vec::new());
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("in use") && message.contains(&config.listen.to_string()), "{message}");
}

struct Never;

impl gochat_gateway::engine::App for Never {
    type Session = ();

    fn on_upgrade(
        &mut self,
        _: &mut gochat_gateway::engine::Io<()>,
        _: gochat_ring::ConnId,
        _: std::net::SocketAddr,
        _: &gochat_ws::handshake::Request<'_>,
        _: &gochat_ws::handshake::Upgrade<'_>,
    ) -> gochat_gateway::engine::Verdict<()> {
        unreachable!()
    }

    fn on_text(&mut self, _: &mut gochat_gateway::engine::Io<()>, _: gochat_ring::ConnId, _: &str) {}

    fn on_binary(&mut self, _: &mut gochat_gateway::engine::Io<()>, _: gochat_ring::ConnId, _: &[u8]) {}
}
