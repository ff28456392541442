//! Rooms, recalls, typing, the world room's rate, tickets and session policies on one chat shard over real sockets, with
//! the test in the place of control.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod engine_support;

use engine_support::gateway::{Gateway, assert_closes, bearer, claims, code_of, json_of, key, now_s, send_message};
use engine_support::{Wire, text};
use gochat_gateway::bridge::{Downlink, FrameClass, OutFrame, Revocation, RoomKey, UplinkEvent};
use gochat_gateway::config::SessionPolicy;
use gochat_infra::token::{Claims, TokenKind};
use gochat_proto::bus::v1::UpstreamMessage;
use gochat_proto::ids::Address;
use gochat_ring::ReactorChoice;
use prost::Message;
use serde_json::{Value, json};

/// A connection of a room, and the frames it has had.
fn texts(wire: &mut Wire, count: usize) -> Vec<Value> {
    (0..count).map(|_| json_of(wire.read())["n"].clone()).collect()
}

fn room_frame(room: u32, exclude: Address, n: i64) -> Downlink {
    let frame = OutFrame::text(json!({ "n": n }).to_string().as_bytes(), FrameClass::Chat);
    Downlink::RoomFrame { room: RoomKey(room), exclude, frame }
}

#[test]
fn a_room_gets_its_frames_in_order_between_its_changes() {
    Gateway::on_each(
        |_| {},
        |mut gateway| {
            let mut sessions: Vec<(Wire, Address)> = (1..=3).map(|user_id| gateway.session(user_id)).collect();
            let address = |n: usize| sessions[n].1;
            let room = RoomKey(5);
            let mut batch = gateway.control.shards[0].batch();
            batch.push(room_frame(5, Address::NONE, -1));
            batch.push(Downlink::RoomReset { room, addresses: [address(0), address(1)].into() });
            batch.push(room_frame(5, address(0), 1));
            batch.push(Downlink::RoomJoin { room, address: address(2) });
            batch.push(Downlink::RoomJoin { room, address: Address::new(0, 400, 9) });
            batch.push(room_frame(5, Address::NONE, 2));
            batch.push(Downlink::RoomLeave { room, user_id: 2 });
            batch.push(Downlink::RoomLeave { room, user_id: 99 });
            batch.push(room_frame(5, Address::NONE, 3));
            batch.push(Downlink::RoomDrop { room });
            batch.frame([address(0), address(1), address(2)], OutFrame::text(b"{\"n\":4}", FrameClass::Chat));
            batch.push(room_frame(5, Address::NONE, 5));
            gateway.push(batch);
            assert_eq!(texts(&mut sessions[0].0, 3), [2, 3, 4]);
            assert_eq!(texts(&mut sessions[1].0, 3), [1, 2, 4]);
            assert_eq!(texts(&mut sessions[2].0, 3), [2, 3, 4]);
            let mut batch = gateway.control.shards[0].batch();
            batch.push(Downlink::RoomReset { room, addresses: [sessions[0].1].into() });
            batch.push(room_frame(5, Address::NONE, 6));
            gateway.push(batch);
            assert_eq!(texts(&mut sessions[0].0, 1), [6], "what came for no room is gone");
        },
    );
}

#[test]
fn a_connection_that_ended_is_in_no_room_and_its_successor_is_nobodys_heir() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (wire, first) = gateway.session(1);
    let (mut witness, other) = gateway.session(9);
    gateway.tell(Downlink::RoomReset { room: RoomKey(1), addresses: [first, other].into() });
    drop(wire);
    gateway.closed(first);
    // In all likelihood in the slot of the first.
    let (mut heir, _) = gateway.session(2);
    gateway.tell(room_frame(1, Address::NONE, 1));
    assert_eq!(texts(&mut witness, 1), [1]);
    heir.send(&text(r#"{"type":"ping"}"#));
    assert_eq!(json_of(heir.read())["type"], "pong");
}

#[test]
fn a_room_larger_than_one_tick_gets_every_frame_once_and_in_order() {
    const MEMBERS: usize = gochat_gateway::limits::ROOM_TARGETS_PER_TICK + 300;
    let mut gateway = Gateway::start(ReactorChoice::Auto, |config| {
        config.engine.ring.connections_max = 2 * MEMBERS as u32;
        config.engine.limits.connections_max = 2 * MEMBERS - 200;
    });
    let mut sessions: Vec<(Wire, Address)> = (1..=MEMBERS as i64).map(|user_id| gateway.session(user_id)).collect();
    let room = RoomKey(1);
    let mut batch = gateway.control.shards[0].batch();
    for (_, address) in &sessions {
        batch.push(Downlink::RoomJoin { room, address: *address });
    }
    for n in 0..100 {
        batch.push(room_frame(1, sessions[n as usize].1, n));
    }
    batch.push(Downlink::RoomLeave { room, user_id: 1 });
    batch.push(room_frame(1, Address::NONE, 100));
    gateway.push(batch);
    for (at, (wire, _)) in sessions.iter_mut().enumerate() {
        let expected: Vec<i64> = (0..=100).filter(|n| *n != at as i64 && (at > 0 || *n < 100)).collect();
        let got = texts(wire, expected.len());
        assert_eq!(got, expected.iter().map(|n| json!(n)).collect::<Vec<_>>(), "member {at}");
    }
}

#[test]
fn what_comes_for_a_room_before_connected_is_held() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, _) = gateway.connect(&[("Authorization", &bearer(5))]);
    let address = gateway.opened().address;
    let mut batch = gateway.control.shards[0].batch();
    batch.push(Downlink::RoomJoin { room: RoomKey(1), address });
    batch.push(room_frame(1, Address::NONE, 1));
    gateway.push(batch);
    gateway.tell(Downlink::Registered { address, degraded: false });
    assert_eq!(json_of(wire.read())["type"], "connected");
    assert_eq!(json_of(wire.read())["n"], 1);
}

#[test]
fn a_recall_goes_up_as_a_message_does_and_is_limited_with_it() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, address) = gateway.session(5);
    let recall = |id: &str| {
        let data = json!({ "conversationId": "group_9", "messageId": id, "reason": "typo" });
        text(&json!({ "type": "recall-message", "data": data }).to_string())
    };
    wire.send(&recall("900"));
    let record = gateway.record();
    assert_eq!((&record.key[..], record.partition), (&b"group_9"[..], gochat_infra::bus::partition_of(b"group_9", 16)));
    let message = UpstreamMessage::decode(record.value).unwrap();
    assert_eq!((message.kind, message.recalled_message_id, message.reason.as_str()), (2, 900, "typo"));
    assert_eq!((message.client_msg_id.as_str(), message.sender_id), ("\u{1}r900", 5));
    assert_eq!(message.origin.unwrap().address, address.0);
    gateway.tell(Downlink::SlowDown { retry_after_s: 4 });
    wire.send(&recall("901"));
    let error = json_of(wire.read())["data"].clone();
    assert_eq!(error["code"], "RATE_LIMITED");
    assert_eq!(error["details"], json!({ "conversationId": "group_9", "messageId": "901", "retryAfter": 4 }));
}

#[test]
fn typing_goes_up_at_most_every_three_seconds_and_never_from_the_world_room() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    let (mut wire, address) = gateway.session(5);
    let mut say = |kind: &str, conversation: &str| {
        wire.send(&text(&json!({ "type": kind, "data": { "conversationId": conversation } }).to_string()));
    };
    for (kind, conversation) in [
        ("stop-typing", "a"),
        ("typing", "world"),
        ("typing", "a"),
        ("typing", "a"),
        ("stop-typing", "a"),
        ("stop-typing", "a"),
        ("typing", "a"),
        ("typing", "b"),
    ] {
        say(kind, conversation);
    }
    let mut next = || {
        gateway.event(|event| match event {
            UplinkEvent::Typing { address: of, user_id: 5, conversation, is_typing } if *of == address => {
                Some((conversation.to_string(), *is_typing))
            }
            _ => None,
        })
    };
    assert_eq!([next(), next(), next()], [("a".into(), true), ("a".into(), false), ("b".into(), true)]);
    wire.send(&text(r#"{"type":"ping"}"#));
    assert_eq!(json_of(wire.read())["type"], "pong", "no answer to typing");
    assert!(!gateway.events.iter().any(|event| matches!(event, UplinkEvent::Typing { .. })));
}

#[test]
fn the_world_room_has_a_rate_of_its_own_and_guests_one_per_address_too() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |config| {
        config.chat.rate_limits = true;
        config.chat.world_messages_per_minute = 3;
    });
    let guest = |user_id| format!("Bearer {}", key().sign(&Claims { guest: true, ..claims(user_id) }).unwrap());
    let mut open = |token: String| {
        let (mut wire, head) = gateway.connect(&[("Authorization", &token)]);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let address = gateway.opened().address;
        gateway.tell(Downlink::Registered { address, degraded: false });
        assert_eq!(json_of(wire.read())["type"], "connected");
        wire
    };
    let to_world = |n: i32| {
        let id = format!("w{n}");
        let data = json!({ "conversationId": "world", "content": "hi", "messageType": 1, "client_msg_id": id });
        text(&json!({ "type": "send-message", "data": data }).to_string())
    };
    let limited = |wire: &mut Wire, n: i32| {
        let error = json_of(wire.read())["data"].clone();
        assert_eq!((&error["code"], &error["details"]["conversationId"]), (&json!("RATE_LIMITED"), &json!("world")));
        assert_eq!(error["details"]["client_msg_id"], format!("w{n}"));
        assert!((1..=20).contains(&error["details"]["retryAfter"].as_i64().unwrap()), "{error}");
    };
    let mut user = open(bearer(5));
    (0..4).for_each(|n| user.send(&to_world(n)));
    limited(&mut user, 3);
    // Two guests of one address share what one alone would have.
    let (mut one, mut two) = (open(guest(6)), open(guest(7)));
    (0..2).for_each(|n| one.send(&to_world(n)));
    one.send(&text(r#"{"type":"ping"}"#));
    assert_eq!(json_of(one.read())["type"], "pong");
    (0..2).for_each(|n| two.send(&to_world(n)));
    limited(&mut two, 1);
    user.send(&send_message("elsewhere"));
    user.send(&text(r#"{"type":"ping"}"#));
    assert_eq!(json_of(user.read())["type"], "pong", "other conversations are not limited by it");
}

fn ticket(change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims {
        kind: TokenKind::Ticket,
        jti: "ticket-1".into(),
        exp: now_s() + 30,
        sxp: now_s() + 600,
        ath: "hash".into(),
        ..claims(5)
    };
    change(&mut claims);
    format!("/ws?ticket={}", key().sign(&claims).unwrap())
}

#[test]
fn a_ticket_opens_a_session_that_lives_by_registration() {
    let mut gateway = Gateway::start(ReactorChoice::Auto, |config| config.chat.allow_query_token = false);
    let addr = gateway.plane.addr();
    let (mut older, _) = gateway.session(5);
    let (mut wire, head) = Wire::request(addr, &ticket(|_| {}), &[]);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let opened = gateway.opened();
    assert_eq!((&*opened.ticket_id, &*opened.token_id, &*opened.token_hash), ("ticket-1", "", "hash"));
    assert_eq!((&*opened.family_id, opened.token_version), ("f", 3));
    assert!(opened.expires_at_s > now_s() + 500, "as long as the access token");
    // Whether it was used before is not known here: nobody is replaced for it yet.
    older.send(&text(r#"{"type":"ping"}"#));
    assert_eq!(json_of(older.read())["type"], "pong");
    // Nobody registers it in time.
    assert_eq!(code_of(&wire.read()), Some(1013));

    for (target, code) in [
        (ticket(|claims| claims.exp = now_s() - 1), "TOKEN_EXPIRED"),
        (ticket(|claims| claims.sxp = now_s() - 1), "INVALID_TOKEN"),
        (ticket(|claims| claims.ath.clear()), "INVALID_TOKEN"),
        (ticket(|claims| claims.kind = TokenKind::Access), "INVALID_TOKEN"),
        (ticket(|claims| claims.ver = 3), ""),
    ] {
        let (mut wire, head) = Wire::request(addr, &target, &[]);
        let status = if code.is_empty() { 101 } else { 401 };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {head}");
        if !code.is_empty() {
            let body: Value = serde_json::from_slice(&wire.read_to_end()).unwrap();
            assert_eq!(body["code"], code);
        }
    }
}

#[test]
fn a_disabled_account_is_refused_at_the_handshake_for_a_while() {
    let gateway = Gateway::start(ReactorChoice::Auto, |_| {});
    gateway.tell(Downlink::Revoked(Revocation::Disabled { user_id: 5, until_s: now_s() + 100 }));
    gateway.tell(Downlink::Revoked(Revocation::Disabled { user_id: 6, until_s: now_s() - 1 }));
    let (mut wire, head) = gateway.connect(&[("Authorization", &bearer(5))]);
    assert!(head.starts_with("HTTP/1.1 423 "), "{head}");
    let body: Value = serde_json::from_slice(&wire.read_to_end()).unwrap();
    assert_eq!(body["code"], "USER_DISABLED");
    let (_, head) = gateway.connect(&[("Authorization", &bearer(6))]);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[test]
fn with_several_sessions_allowed_a_newer_one_replaces_nobody_here() {
    for (policy, replaces) in
        [(SessionPolicy::Single, true), (SessionPolicy::PerDevice, false), (SessionPolicy::Multi, false)]
    {
        let mut gateway = Gateway::start(ReactorChoice::Auto, |config| config.chat.session_policy = policy);
        let (mut older, first) = gateway.session(5);
        let (mut newer, second) = gateway.session(5);
        if replaces {
            assert_closes(&mut older, 4002);
            continue;
        }
        let mut batch = gateway.control.shards[0].batch();
        batch.push(Downlink::RoomReset { room: RoomKey(1), addresses: [first, second].into() });
        batch.push(room_frame(1, Address::NONE, 1));
        batch.push(Downlink::RoomLeave { room: RoomKey(1), user_id: 5 });
        batch.push(room_frame(1, Address::NONE, 2));
        batch.frame([first, second], OutFrame::text(b"{\"n\":3}", FrameClass::Chat));
        gateway.push(batch);
        assert_eq!(texts(&mut older, 2), [1, 3], "{policy:?}");
        assert_eq!(texts(&mut newer, 2), [1, 3], "{policy:?}");
    }
}
