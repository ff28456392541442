//! The exact JSON of every server frame.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use bytes::BytesMut;
use serde_json::Value;

use super::*;
use crate::bus::v1 as bus;

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<Value>(&text).expect("valid JSON");
    text
}

#[test]
fn connected() {
    let mut frame = Connected {
        connection: Address::new(1, 2, 3),
        user_id: UserId(42),
        server_time: 1_700_000_000,
        heartbeat_interval: 30,
        expires_at: 1_700_086_400,
        degraded: false,
    };
    let expected = r#"{"type":"connected","data":{"connectionId":"72057602627862531","userId":"42","serverTime":1700000000,"heartbeatInterval":30,"expiresAt":1700086400,"degraded":false,"message":"connected"},"timestamp":1700000001}"#;
    assert_eq!(text(|out| frame.write(out, 1_700_000_001)), expected);

    frame.degraded = true;
    let expected = expected.replace(r#""degraded":false"#, r#""degraded":true"#);
    let mut out = BytesMut::from(&b"before"[..]);
    frame.write(&mut out, 1_700_000_001);
    assert_eq!(out, format!("before{expected}").as_bytes(), "appends");
}

#[test]
fn pong() {
    assert_eq!(text(|out| write_pong(out, 7)), r#"{"type":"pong","timestamp":7}"#);
}

fn chat_message() -> bus::ChatMessage {
    bus::ChatMessage {
        message_id: 900,
        conversation_id: "single_1_2".into(),
        conversation_type: 1,
        sender: Some(bus::Sender {
            id: 1,
            username: "ann \"a\"".into(),
            avatar_url: "https://x/a.png".into(),
            is_guest: false,
        }),
        message_type: 2,
        content: "line\nbreak \\ \u{1}é😀".into(),
        extra: r#"{"w":1}"#.into(),
        seq_id: 5,
        client_msg_id: "c1".into(),
        created_at_ms: 1_700_000_000_999,
    }
}

#[test]
fn new_message() {
    let record = chat_message();
    let frame = NewMessage::from_record(&record, false).unwrap();
    let expected = concat!(
        r#"{"type":"new-message","data":{"id":"900","conversationId":"single_1_2","conversationType":1,"senderId":"1","#,
        r#""sender":{"id":"1","username":"ann \"a\"","avatarUrl":"https://x/a.png","isGuest":false},"#,
        r#""content":"line\nbreak \\ \u0001é😀","messageType":2,"seqId":5,"createdAt":1700000000,"#,
        r#""clientMsgId":"c1","extra":"{\"w\":1}"},"timestamp":8}"#
    );
    let written = text(|out| frame.write(out, 8));
    assert_eq!(written, expected);
    let parsed: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(parsed["data"]["content"], record.content);
    assert_eq!(parsed["data"]["extra"], record.extra);
}

#[test]
fn new_message_redelivered_and_bare() {
    let mut record = chat_message();
    record.content = "hi".into();
    record.extra.clear();
    record.client_msg_id.clear();
    record.sender = Some(bus::Sender { id: 1, is_guest: true, ..Default::default() });
    let frame = NewMessage::from_record(&record, true).unwrap();
    assert_eq!(
        text(|out| frame.write(out, 8)),
        concat!(
            r#"{"type":"new-message","data":{"id":"900","conversationId":"single_1_2","conversationType":1,"senderId":"1","#,
            r#""sender":{"id":"1","isGuest":true},"content":"hi","messageType":2,"seqId":5,"createdAt":1700000000,"#,
            r#""redelivered":true},"timestamp":8}"#
        )
    );
    record.sender = None;
    assert!(NewMessage::from_record(&record, true).is_none());
}

#[test]
fn message_ack() {
    let mut record = bus::Ack {
        origin: None,
        client_msg_id: "c1".into(),
        temp_message_id: String::new(),
        conversation_id: "single_1_2".into(),
        message_id: 900,
        seq_id: 5,
        created_at_ms: 1_700_000_000_001,
        duplicate: false,
        corrected: false,
    };
    assert_eq!(
        text(|out| MessageAck::from(&record).write(out, 8)),
        r#"{"type":"message-ack","data":{"client_msg_id":"c1","messageId":"900","status":"success","conversationId":"single_1_2","seqId":5,"createdAt":1700000000,"duplicate":false,"corrected":false},"timestamp":8}"#
    );
    record.temp_message_id = "temp_1".into();
    record.duplicate = true;
    record.corrected = true;
    assert_eq!(
        text(|out| MessageAck::from(&record).write(out, 8)),
        r#"{"type":"message-ack","data":{"client_msg_id":"c1","tempMessageId":"temp_1","messageId":"900","status":"success","conversationId":"single_1_2","seqId":5,"createdAt":1700000000,"duplicate":true,"corrected":true},"timestamp":8}"#
    );
}

#[test]
fn error() {
    let bare = ErrorFrame { code: ErrorCode::InternalError, message: "", details: ErrorDetails::default() };
    assert_eq!(
        text(|out| bare.write(out, 8)),
        r#"{"type":"error","data":{"code":"INTERNAL_ERROR","message":"something went wrong here"},"timestamp":8}"#
    );
    let full = ErrorFrame {
        code: ErrorCode::AuthFailed,
        message: "why",
        details: ErrorDetails {
            client_msg_id: "c1",
            temp_message_id: "t1",
            conversation_id: "world",
            message_id: Some(MessageId(9)),
            field: "content",
            reason: "TOKEN_EXPIRED",
            retry_after_s: Some(0),
            shed: Some(3),
        },
    };
    assert_eq!(
        text(|out| full.write(out, 8)),
        r#"{"type":"error","data":{"code":"AUTH_FAILED","message":"why","details":{"client_msg_id":"c1","tempMessageId":"t1","conversationId":"world","messageId":"9","field":"content","reason":"TOKEN_EXPIRED","retryAfter":0,"shed":3}},"timestamp":8}"#
    );
}

#[test]
fn error_from_a_refusal() {
    let mut record = bus::Refusal {
        client_msg_id: "c1".into(),
        conversation_id: "world".into(),
        code: ErrorCode::RateLimited.number(),
        retry_after_s: 2,
        ..Default::default()
    };
    assert_eq!(
        text(|out| ErrorFrame::from(&record).write(out, 8)),
        r#"{"type":"error","data":{"code":"RATE_LIMITED","message":"too many requests","details":{"client_msg_id":"c1","conversationId":"world","retryAfter":2}},"timestamp":8}"#
    );
    record.code = 9_999;
    assert_eq!(ErrorFrame::from(&record).code, ErrorCode::InternalError, "a code of a later version");
    record.code = ErrorCode::GuestForbidden.number();
    record.code_name = "GUEST_FORBIDDEN".into();
    assert_eq!(ErrorFrame::from(&record).code, ErrorCode::GuestForbidden, "a code that comes by name");
    record.code_name = "OF_A_LATER_VERSION".into();
    assert_eq!(ErrorFrame::from(&record).code, ErrorCode::Forbidden);
}

#[test]
fn recalls() {
    let mut record = bus::Recalled {
        conversation_id: "group_9".into(),
        message_id: 900,
        recalled_seq_id: 5,
        seq_id: 8,
        operator_id: 1,
        reason: "typo".into(),
        recalled_at_ms: 1_700_000_000_999,
        recall_id: 901,
    };
    assert_eq!(
        text(|out| MessageRecalled::from_record(&record, false).write(out, 8)),
        r#"{"type":"message-recalled","data":{"conversationId":"group_9","messageId":"900","seqId":5,"position":8,"operatorId":"1","reason":"typo","recalledAt":1700000000},"timestamp":8}"#
    );
    record.reason.clear();
    let again = text(|out| MessageRecalled::from_record(&record, true).write(out, 8));
    assert!(!again.contains("reason") && again.contains(r#""redelivered":true"#), "{again}");

    let mut ack = bus::Ack {
        client_msg_id: "\u{1}r900".into(),
        conversation_id: "group_9".into(),
        message_id: 901,
        seq_id: 8,
        created_at_ms: 1_700_000_000_001,
        ..Default::default()
    };
    assert_eq!(
        text(|out| RecallAck::from_record(&ack).unwrap().write(out, 8)),
        r#"{"type":"recall-ack","data":{"conversationId":"group_9","messageId":"900","position":8,"recalledAt":1700000000,"duplicate":false},"timestamp":8}"#
    );
    for other in ["r900", "\u{1}e900", "\u{1}rx", "900"] {
        ack.client_msg_id = other.into();
        assert!(RecallAck::from_record(&ack).is_none(), "{other:?}");
    }
    let refusal = bus::Refusal {
        client_msg_id: "\u{1}r900".into(),
        conversation_id: "group_9".into(),
        code: ErrorCode::RecallTimeExceeded.number(),
        message: "too late".into(),
        ..Default::default()
    };
    assert_eq!(
        text(|out| ErrorFrame::from(&refusal).write(out, 8)),
        r#"{"type":"error","data":{"code":"RECALL_TIME_EXCEEDED","message":"too late","details":{"conversationId":"group_9","messageId":"900"}},"timestamp":8}"#
    );
}

#[test]
fn resync_hints() {
    assert_eq!(
        text(|out| Resync { conversation_id: "group_9" }.write(out, 8)),
        r#"{"type":"notification","data":{"eventType":"resync","payload":{"conversationId":"group_9"}},"timestamp":8}"#
    );
    assert_eq!(
        text(|out| Resync { conversation_id: "" }.write(out, 8)),
        r#"{"type":"notification","data":{"eventType":"resync","payload":{}},"timestamp":8}"#
    );
}

#[test]
fn closing() {
    let mut frame = Closing { code: CloseCode::GoingAway, reason: "", reconnect_after_ms: Some(1_500) };
    assert_eq!(
        text(|out| frame.write(out, 8)),
        r#"{"type":"closing","data":{"code":1001,"reason":"server going away","reconnectAfterMs":1500},"timestamp":8}"#
    );
    frame = Closing { code: CloseCode::Replaced, reason: "other device", reconnect_after_ms: None };
    assert_eq!(
        text(|out| frame.write(out, 8)),
        r#"{"type":"closing","data":{"code":4002,"reason":"other device"},"timestamp":8}"#
    );
}

#[test]
fn conversation_updated() {
    let mut frame = ConversationUpdated {
        conversation_id: "single_1_2",
        updates: Updates::UnreadCount(3),
        operator_id: None,
        updated_at: 1_700_000_000,
    };
    let data = r#"{"conversationId":"single_1_2","updates":{"unreadCount":3},"updatedAt":1700000000}"#;
    let expected = format!(r#"{{"type":"conversation-updated","data":{data},"timestamp":8}}"#);
    assert_eq!(text(|out| frame.write(out, 8)), expected);

    // A gateway makes the same frame from a record that carries the data alone.
    let carried = text(|out| frame.write_data(out));
    assert_eq!(carried, data);
    assert_eq!(text(|out| write_signal(out, ConversationUpdated::TYPE, carried.as_bytes(), 8)), expected);

    frame.updates = Updates::Conversation(br#"{"id":"single_1_2"}"#);
    frame.operator_id = Some(UserId(1));
    assert_eq!(
        text(|out| frame.write_data(out)),
        r#"{"conversationId":"single_1_2","updates":{"conversation":{"id":"single_1_2"}},"operatorId":"1","updatedAt":1700000000}"#
    );
    frame.updates = Updates::Json(br#"{"name":"n"}"#);
    assert_eq!(
        text(|out| frame.write_data(out)),
        r#"{"conversationId":"single_1_2","updates":{"name":"n"},"operatorId":"1","updatedAt":1700000000}"#
    );
}
