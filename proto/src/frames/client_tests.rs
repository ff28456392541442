//! Tables of good and bad client frames.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use super::*;
use crate::frames::{DEPTH_MAX, ErrorFrame};

const SEND: &str = r#""conversationId":"single_1_2","content":"hi","messageType":1,"client_msg_id":"c1""#;

fn frame(kind: &str, data: &str) -> String {
    format!(r#"{{"type":"{kind}","data":{{{data}}},"timestamp":1}}"#)
}

/// The send frame's data with one field replaced, or left out.
fn send_with(field: &str, value: Option<&str>) -> String {
    let mut fields = vec![
        ("conversationId", r#""single_1_2""#),
        ("content", r#""hi""#),
        ("messageType", "1"),
        ("client_msg_id", r#""c1""#),
    ];
    fields.retain(|(name, _)| *name != field);
    fields.extend(value.map(|v| (field, v)));
    let data: Vec<String> = fields.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    frame("send-message", &data.join(","))
}

fn refusal(input: &str) -> (ErrorCode, &'static str) {
    let error = parse(input.as_bytes()).expect_err(input);
    (error.code, error.field)
}

fn send(input: &str) -> SendMessage<'_> {
    match parse(input.as_bytes()) {
        Ok(ClientFrame::SendMessage(message)) => message,
        other => panic!("{input}: {other:?}"),
    }
}

#[test]
fn good_frames() {
    let conversation_id = || Cow::Borrowed("world");
    let table: &[(String, ClientFrame<'_>)] = &[
        (
            frame("send-message", SEND),
            ClientFrame::SendMessage(SendMessage {
                conversation_id: "single_1_2".into(),
                content: "hi".into(),
                message_type: MessageType::Text,
                client_msg_id: "c1".into(),
                temp_message_id: None,
                extra: None,
            }),
        ),
        (
            frame("mark-read", r#""conversationId":"world","seqId":0"#),
            ClientFrame::MarkRead(MarkRead { conversation_id: conversation_id(), seq_id: 0 }),
        ),
        (r#"{"type":"ping"}"#.into(), ClientFrame::Ping),
        (r#" { "data" : null , "type" : "ping" , "x":[{}] } "#.into(), ClientFrame::Ping),
        (frame("typing", r#""conversationId":"world""#), ClientFrame::Typing { conversation_id: conversation_id() }),
        (
            r#"{"data":{"conversationId":"world"},"type":"stop-typing"}"#.into(),
            ClientFrame::StopTyping { conversation_id: conversation_id() },
        ),
        (
            frame("recall-message", r#""conversationId":"world","messageId":"77","reason":"typo""#),
            ClientFrame::RecallMessage(RecallMessage {
                conversation_id: conversation_id(),
                message_id: MessageId(77),
                reason: Some("typo".into()),
            }),
        ),
        (frame("auth-refresh", r#""token":"a.b.c""#), ClientFrame::AuthRefresh { token: "a.b.c".into() }),
    ];
    for (input, expected) in table {
        assert_eq!(parse(input.as_bytes()).as_ref(), Ok(expected), "{input}");
    }
}

#[test]
fn plain_texts_are_borrowed_and_escaped_ones_decoded() {
    let input = frame("send-message", SEND);
    let message = send(&input);
    for text in [&message.conversation_id, &message.content, &message.client_msg_id] {
        assert!(matches!(text, Cow::Borrowed(_)), "{text}");
    }
    let input = send_with("content", Some(r#""a\"\n\u00e9\ud83d\ude00""#));
    assert_eq!(send(&input).content, "a\"\né😀");
    let input = send_with("content", None).replace(r#""messageType""#, r#""cont\u0065nt":"x","messageType""#);
    assert_eq!(send(&input).content, "x", "an escaped name is the same name");
}

#[test]
fn older_clients_are_understood() {
    for (name, message_type) in [
        ("text", MessageType::Text),
        ("image", MessageType::Image),
        ("file", MessageType::File),
        ("voice", MessageType::Voice),
        ("video", MessageType::Video),
    ] {
        assert_eq!(send(&send_with("messageType", Some(&format!("{name:?}")))).message_type, message_type);
    }
    for (number, message_type) in [
        (1, MessageType::Text),
        (2, MessageType::Image),
        (3, MessageType::File),
        (5, MessageType::Voice),
        (6, MessageType::Video),
    ] {
        assert_eq!(send(&send_with("messageType", Some(&number.to_string()))).message_type, message_type);
    }

    let input = send_with("client_msg_id", None).replace(r#""content""#, r#""tempMessageId":"temp_1","content""#);
    let message = send(&input);
    assert_eq!((&*message.client_msg_id, message.temp_message_id.as_deref()), ("temp_1", Some("temp_1")));

    let input = send_with("tempMessageId", Some(r#""temp_1""#));
    let message = send(&input);
    assert_eq!((&*message.client_msg_id, message.temp_message_id.as_deref()), ("c1", Some("temp_1")));

    let input = send_with("client_msg_id", None).replace(r#""content""#, r#""clientMsgId":"c2","content""#);
    assert_eq!(send(&input).client_msg_id, "c2");
}

#[test]
fn limits_are_inclusive_and_count_characters() {
    let quoted = |s: String| format!("{s:?}");
    for (field, fits, too_long, code) in [
        ("content", "é".repeat(5_000), "é".repeat(5_001), ErrorCode::MessageTooLarge),
        ("extra", "x".repeat(4_096), "x".repeat(4_097), ErrorCode::MessageTooLarge),
        ("extra", "é".repeat(2_048), "é".repeat(2_049), ErrorCode::MessageTooLarge),
        ("client_msg_id", "é".repeat(64), "é".repeat(65), ErrorCode::InvalidMessage),
        ("tempMessageId", "é".repeat(64), "é".repeat(65), ErrorCode::InvalidMessage),
        ("conversationId", "c".repeat(64), "c".repeat(65), ErrorCode::InvalidMessage),
    ] {
        assert!(parse(send_with(field, Some(&quoted(fits))).as_bytes()).is_ok(), "{field}");
        assert_eq!(refusal(&send_with(field, Some(&quoted(too_long)))), (code, field));
    }
}

#[test]
fn bad_send_message() {
    use ErrorCode::{InvalidMessage, MessageEmpty, UnsupportedMessageType};
    for (field, value, code) in [
        ("conversationId", None, InvalidMessage),
        ("conversationId", Some("null"), InvalidMessage),
        ("conversationId", Some("1"), InvalidMessage),
        ("conversationId", Some(r#""""#), InvalidMessage),
        ("content", None, InvalidMessage),
        ("content", Some("5"), InvalidMessage),
        ("content", Some("{}"), InvalidMessage),
        ("content", Some(r#""""#), MessageEmpty),
        ("messageType", None, InvalidMessage),
        ("messageType", Some("true"), InvalidMessage),
        ("messageType", Some("1.5"), InvalidMessage),
        ("messageType", Some("[1]"), InvalidMessage),
        ("messageType", Some("0"), UnsupportedMessageType),
        ("messageType", Some("4"), UnsupportedMessageType),
        ("messageType", Some("7"), UnsupportedMessageType),
        ("messageType", Some("-1"), UnsupportedMessageType),
        ("messageType", Some(r#""system""#), UnsupportedMessageType),
        ("messageType", Some(r#""1""#), UnsupportedMessageType),
        ("client_msg_id", None, InvalidMessage),
        ("client_msg_id", Some(r#""""#), InvalidMessage),
        ("client_msg_id", Some("1"), InvalidMessage),
        ("client_msg_id", Some(r#""\u0001e7""#), InvalidMessage),
        ("tempMessageId", Some(r#""\u0001r7""#), InvalidMessage),
        ("tempMessageId", Some("1"), InvalidMessage),
        ("extra", Some("{}"), InvalidMessage),
        ("extra", Some("1"), InvalidMessage),
    ] {
        assert_eq!(refusal(&send_with(field, value)), (code, field), "{field} = {value:?}");
    }
}

#[test]
fn bad_other_frames() {
    let world = r#""conversationId":"world""#;
    for (kind, data, field) in [
        ("mark-read", r#""seqId":1"#.to_owned(), "conversationId"),
        ("mark-read", world.to_owned(), "seqId"),
        ("mark-read", format!(r#"{world},"seqId":-1"#), "seqId"),
        ("mark-read", format!(r#"{world},"seqId":1.0"#), "seqId"),
        ("mark-read", format!(r#"{world},"seqId":"1""#), "seqId"),
        ("mark-read", format!(r#"{world},"seqId":9223372036854775808"#), "seqId"),
        ("typing", String::new(), "conversationId"),
        ("stop-typing", r#""conversationId":7"#.to_owned(), "conversationId"),
        ("recall-message", r#""messageId":"7""#.to_owned(), "conversationId"),
        ("recall-message", world.to_owned(), "messageId"),
        ("recall-message", format!(r#"{world},"messageId":7"#), "messageId"),
        ("recall-message", format!(r#"{world},"messageId":"x""#), "messageId"),
        ("recall-message", format!(r#"{world},"messageId":"7","reason":1"#), "reason"),
        ("recall-message", format!(r#"{world},"messageId":"7","reason":"{}""#, "x".repeat(201)), "reason"),
        ("auth-refresh", String::new(), "token"),
        ("auth-refresh", r#""token":"""#.to_owned(), "token"),
        ("auth-refresh", r#""token":1"#.to_owned(), "token"),
        ("no-such-type", String::new(), "type"),
        ("Ping", String::new(), "type"),
        ("connected", String::new(), "type"),
    ] {
        assert_eq!(refusal(&frame(kind, &data)), (ErrorCode::InvalidMessage, field), "{kind} {data}");
    }
}

#[test]
fn bad_envelopes() {
    for (input, field) in [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("null", ""),
        ("\"ping\"", ""),
        ("{\"type\":\"ping\"}x", ""),
        ("{\"type\":\"ping\"}{}", ""),
        ("{\"type\":\"ping\",}", ""),
        ("{\"type\":\"pi\nng\"}", ""),
        ("{'type':'ping'}", ""),
        ("\u{feff}{\"type\":\"ping\"}", ""),
        (r#"{"type":"\ud800"}"#, ""),
        (r#"{}"#, "type"),
        (r#"{"type":null}"#, "type"),
        (r#"{"type":1}"#, "type"),
        (r#"{"type":["ping"]}"#, "type"),
        (r#"{"type":"send-message"}"#, "data"),
        (r#"{"type":"send-message","data":null}"#, "data"),
        (r#"{"type":"mark-read","data":[]}"#, "data"),
        (r#"{"type":"mark-read","data":"x"}"#, "data"),
        (r#"{"type":"typing","data":1.5}"#, "data"),
        (r#"{"type":"auth-refresh","data":true}"#, "data"),
        (r#"{"type":"recall-message","data":-3}"#, "data"),
    ] {
        assert_eq!(refusal(input), (ErrorCode::InvalidMessage, field), "{input}");
    }
    assert_eq!(parse(b"{\"type\":\"\xff\"}").unwrap_err().field, "", "not UTF-8");
}

#[test]
fn nesting_is_limited() {
    // The envelope is level 1, data level 2; the arrays stand below them.
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let most = usize::from(DEPTH_MAX);
    let in_envelope = |levels| format!(r#"{{"type":"ping","x":{}}}"#, nested(levels));
    let in_data = |levels| frame("typing", &format!(r#""conversationId":"world","x":{}"#, nested(levels)));
    let as_data = |levels| format!(r#"{{"type":"ping","data":{}}}"#, nested(levels));
    let objects =
        |levels: usize| format!(r#"{{"type":"ping","x":{}1{}}}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels));
    for (make, below) in [
        (&in_envelope as &dyn Fn(usize) -> String, most - 1),
        (&in_data, most - 2),
        (&as_data, most - 1),
        (&objects, most - 1),
    ] {
        assert!(parse(make(below).as_bytes()).is_ok(), "{}", make(below));
        assert!(parse(make(below + 1).as_bytes()).is_err(), "{}", make(below + 1));
        assert!(parse(make(100_000).as_bytes()).is_err(), "deep nesting must not exhaust the stack");
    }
}

#[test]
fn a_refused_send_tells_back_what_was_readable() {
    let input = send_with("content", Some(r#""""#)).replace("c1", "c\\u0031");
    let error = parse(input.as_bytes()).unwrap_err();
    assert_eq!(error.client_msg_id.as_deref(), Some("c1"));
    assert_eq!(error.conversation_id.as_deref(), Some("single_1_2"));
    assert_eq!(error.temp_message_id, None);
    assert_eq!(error.to_string(), "content: must not be empty");

    let mut out = Vec::new();
    ErrorFrame::from(&error).write(&mut out, 9);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"type":"error","data":{"code":"MESSAGE_EMPTY","message":"the message is empty","details":{"client_msg_id":"c1","conversationId":"single_1_2","field":"content","reason":"must not be empty"}},"timestamp":9}"#
    );

    // A field that is itself too long is not told back.
    let input = send_with("client_msg_id", Some(&format!("{:?}", "x".repeat(65))));
    let error = parse(input.as_bytes()).unwrap_err();
    assert_eq!((error.client_msg_id, error.conversation_id.as_deref()), (None, Some("single_1_2")));

    let input = frame("recall-message", r#""conversationId":"world","messageId":"7","reason":1"#);
    let error = parse(input.as_bytes()).unwrap_err();
    assert_eq!((error.conversation_id.as_deref(), error.message_id()), (Some("world"), Some(MessageId(7))));

    let input = frame("mark-read", r#""conversationId":"world","seqId":-1"#);
    assert_eq!(parse(input.as_bytes()).unwrap_err().conversation_id.as_deref(), Some("world"));
}

#[test]
fn an_http_body_takes_its_conversation_from_the_path() {
    let body = r#"{"conversationId":"group_9","content":"hi","messageType":1,"client_msg_id":"c1"}"#;
    let message = parse_send_body("single_1_2", body.as_bytes()).unwrap();
    assert_eq!((&*message.conversation_id, &*message.content), ("single_1_2", "hi"));

    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(16), "]".repeat(16));
    for (body, field) in [("", ""), ("[]", ""), ("null", ""), ("{}x", ""), (&*deep, ""), ("{}", "client_msg_id")] {
        let error = parse_send_body("world", body.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.field), (ErrorCode::InvalidMessage, field), "{body}");
    }
}
