//! The AsyncAPI 3.0 document. Owns its form only; what it says stands in the table and in the lists it uses.

use serde_json::{Map, Value, json};

use super::schema::objects;
use super::table::{CLIENT_FRAMES, Field, Frame, Kind, SERVER_FRAMES};
use crate::close_codes::{CloseCode, Reconnect};

const ABOUT: &str = "\
Sessions of the chat. One text frame holds one JSON object `{type, data, timestamp}`; fields and types that are not known \
are ignored on both sides. Ids are decimal strings, times Unix seconds.\n\n\
Credentials, the first that is there counts: `Authorization: Bearer`, the subprotocols `gochat.v1, bearer.<token>`, a \
ticket (`POST /api/auth/ticket`) as `?ticket=`, an access token as `?token=` where the operator allows it.\n\n\
After `connected` the client pulls what it missed: see docs/clients.md of the source.";

/// The document.
pub fn asyncapi() -> Value {
    let (mut messages, mut operations, mut channel) = (Map::new(), Map::new(), Map::new());
    for (frames, action, of) in [(CLIENT_FRAMES, "receive", "client"), (SERVER_FRAMES, "send", "server")] {
        for frame in frames {
            messages.insert(frame.name.to_owned(), message(frame, of));
            channel.insert(frame.name.to_owned(), json!({"$ref": format!("#/components/messages/{}", frame.name)}));
            let operation = json!({
                "action": action,
                "channel": {"$ref": "#/channels/session"},
                "title": frame.name,
                "summary": frame.about,
                "messages": [{"$ref": format!("#/channels/session/messages/{}", frame.name)}],
            });
            operations.insert(format!("{of}.{}", frame.name), operation);
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "GoChat WebSocket", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": "application/json",
        "servers": {
            "this": {
                "host": "{host}",
                "protocol": "ws",
                "description": "The address of the HTTP API; `wss` behind TLS.",
                "variables": {"host": {"default": "localhost:8080"}},
            },
        },
        "channels": {
            "session": {
                "address": "/ws",
                "title": "A session of one user",
                "messages": channel,
                "bindings": {"ws": {"method": "GET", "query": query()}},
            },
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": objects()},
        "x-close-codes": CloseCode::ALL.map(close_code),
    })
}

fn query() -> Value {
    let text = |chars: usize, about: &str| json!({"type": "string", "maxLength": chars, "description": about});
    json!({
        "type": "object",
        "properties": {
            "ticket": text(2048, "From POST /api/auth/ticket; good once."),
            "token": text(2048, "An access token; for development."),
            "device": text(64, "Stable for one device."),
            "client": text(255, "Free text; longer ones are cut."),
        },
    })
}

fn message(frame: &Frame, of: &str) -> Value {
    let mut properties = Map::new();
    let mut required = vec![json!("type")];
    properties.insert("type".to_owned(), json!({"const": frame.name}));
    if !frame.fields.is_empty() {
        properties.insert("data".to_owned(), object(frame.fields));
        required.push(json!("data"));
    }
    properties.insert("timestamp".to_owned(), json!({"type": "integer", "description": "Unix second."}));
    if of == "server" {
        required.push(json!("timestamp"));
    }
    json!({
        "name": frame.name,
        "title": frame.name,
        "summary": frame.about,
        "description": if of == "client" { format!("Answer: {}.", frame.reply) } else { format!("To: {}.", frame.reply) },
        "tags": [{"name": of}],
        "payload": {"type": "object", "required": required, "properties": properties},
    })
}

fn object(fields: &[Field]) -> Value {
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let properties: Map<String, Value> = fields.iter().map(|field| (field.name.to_owned(), described(field))).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn described(field: &Field) -> Value {
    let mut schema = schema(&field.kind);
    if !field.about.is_empty() {
        schema["description"] = json!(field.about);
    }
    schema
}

fn schema(kind: &Kind) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    match kind {
        Kind::Id => json!({"type": "string", "pattern": "^[1-9][0-9]*$"}),
        Kind::Text(0) => json!({"type": "string"}),
        Kind::Text(chars_max) => json!({"type": "string", "maxLength": chars_max}),
        Kind::Int => json!({"type": "integer", "minimum": 0}),
        Kind::OneOf(numbers) => json!({"type": "integer", "enum": numbers}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Object(name) => reference(name),
        Kind::Objects(name) => json!({"type": "array", "items": reference(name)}),
        Kind::Fields(fields) => object(fields),
        Kind::Any => json!({"type": "object"}),
    }
}

/// A row of the table in docs/clients.md.
fn close_code(code: CloseCode) -> Value {
    let (reconnect, resume, back_off) = match code.reconnect() {
        Reconnect::Never => ("no", false, ""),
        Reconnect::Yes => ("yes", true, "1, 2, 4, 8, 15, 30 s, each a random part of it; reconnectAfterMs comes first"),
        Reconnect::Once => ("once", true, "1 s"),
        Reconnect::AfterSeconds(_) => ("yes", true, "30 s"),
        Reconnect::AfterRefresh => ("after a refresh", true, "none after a good refresh"),
        Reconnect::ThenResync => ("yes", true, "none"),
    };
    json!({
        "code": code.number(),
        "reason": code.reason(),
        "reconnect": reconnect,
        "resume": resume,
        "backOff": back_off,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use std::collections::BTreeSet;

    use super::super::schema::dangling;
    use super::*;
    use crate::codes::ErrorCode;
    use crate::frames::{
        Closing, Connected, ConversationUpdated, ErrorDetails, ErrorFrame, MessageAck, MessageRecalled, NewMessage,
        RecallAck, Resync, Sender, Updates, parse, write_pong,
    };
    use crate::ids::{Address, MessageId, UserId};

    /// The first columns of spec 02 §3 and §4, and what pipeline.md D3 adds: the answer to a recall.
    const SPEC_CLIENT: &str = "send-message mark-read ping typing stop-typing recall-message auth-refresh";
    const SPEC_SERVER: &str = "connected new-message message-ack message-read message-recalled online-status \
        typing-indicator conversation-updated member-added member-removed member-role-updated friend-request-received \
        friend-request-handled friend-added friend-removed notification pong error closing recall-ack";

    #[test]
    fn every_frame_of_the_spec_is_there_and_nothing_else() {
        let document = asyncapi();
        for (action, spec) in [("receive", SPEC_CLIENT), ("send", SPEC_SERVER)] {
            let operations = document["operations"].as_object().unwrap().values();
            let ours: BTreeSet<String> = operations
                .filter(|operation| operation["action"] == action)
                .map(|operation| operation["title"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(ours, spec.split_whitespace().map(str::to_owned).collect(), "{action}");
        }
        let count = SPEC_CLIENT.split_whitespace().count() + SPEC_SERVER.split_whitespace().count();
        for list in ["/components/messages", "/channels/session/messages", "/operations"] {
            assert_eq!(document.pointer(list).unwrap().as_object().unwrap().len(), count, "{list}");
        }
    }

    #[test]
    fn the_document_holds_together() {
        let document = asyncapi();
        assert_eq!(document["asyncapi"], "3.0.0");
        assert_eq!(dangling(&document), Vec::<String>::new());
        for operation in document["operations"].as_object().unwrap().values() {
            let reference = operation["messages"][0]["$ref"].as_str().unwrap();
            assert!(reference.starts_with("#/channels/session/messages/"), "AsyncAPI wants the channel's message");
        }
        let closes = document["x-close-codes"].as_array().unwrap();
        assert_eq!(closes.len(), CloseCode::ALL.len());
        for close in closes {
            assert_eq!(close["resume"], close["reconnect"] != "no");
        }
    }

    /// Whether `value` is what a schema of the table says, with nothing beside it.
    fn matches(schema: &Value, value: &Value, path: &str) {
        match schema["type"].as_str() {
            Some("object") if schema.get("properties").is_some() => {
                for name in schema["required"].as_array().into_iter().flatten() {
                    assert!(value.get(name.as_str().unwrap()).is_some(), "{path} lacks {name}");
                }
                for (name, value) in value.as_object().unwrap_or_else(|| panic!("{path} is no object")) {
                    let schema = schema["properties"].get(name);
                    let schema = schema.unwrap_or_else(|| panic!("{path}.{name} is not described"));
                    matches(schema, value, &format!("{path}.{name}"));
                }
            }
            Some("object") => assert!(value.is_object(), "{path}"),
            Some("string") => assert!(value.is_string(), "{path}"),
            Some("integer") => assert!(value.is_i64(), "{path}"),
            Some("boolean") => assert!(value.is_boolean(), "{path}"),
            _ => {}
        }
        if let Some(only) = schema.get("const") {
            assert_eq!(only, value, "{path}");
        }
        if let Some(Value::Array(choices)) = schema.get("enum") {
            assert!(choices.contains(value), "{path} is {value}");
        }
    }

    fn check(write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        let frame: Value = serde_json::from_slice(&out).unwrap();
        let name = frame["type"].as_str().unwrap();
        matches(&asyncapi()["components"]["messages"][name]["payload"], &frame, name);
    }

    #[test]
    fn what_the_server_writes_is_what_is_described() {
        let (id, user) = (MessageId(5), UserId(7));
        check(|out| write_pong(out, 9));
        check(|out| {
            let (connection, heartbeat_interval) = (Address(3), 30);
            let expires_at = 10;
            Connected { connection, user_id: user, server_time: 9, heartbeat_interval, expires_at, degraded: false }
                .write(out, 9);
        });
        check(|out| {
            NewMessage {
                id,
                conversation_id: "world",
                conversation_type: 3,
                sender: Sender { id: user, username: "ann", avatar_url: "https://x", is_guest: true },
                content: "hi",
                message_type: 1,
                seq_id: 1,
                created_at: 9,
                client_msg_id: "c",
                extra: "{}",
                redelivered: true,
            }
            .write(out, 9);
        });
        check(|out| {
            MessageAck {
                client_msg_id: "c",
                temp_message_id: "t",
                message_id: id,
                conversation_id: "world",
                seq_id: 1,
                created_at: 9,
                duplicate: true,
                corrected: false,
            }
            .write(out, 9);
        });
        check(|out| {
            RecallAck { conversation_id: "world", message_id: id, position: 2, recalled_at: 9, duplicate: false }
                .write(out, 9);
        });
        check(|out| {
            MessageRecalled {
                conversation_id: "world",
                message_id: id,
                seq_id: 1,
                position: 2,
                operator_id: user,
                reason: "typo",
                recalled_at: 9,
                redelivered: true,
            }
            .write(out, 9);
        });
        check(|out| Resync { conversation_id: "world" }.write(out, 9));
        check(|out| Closing { code: CloseCode::GoingAway, reason: "", reconnect_after_ms: Some(5) }.write(out, 9));
        for updates in [Updates::UnreadCount(3), Updates::Json(br#"{"name":"x","dissolved":true}"#)] {
            let updated =
                ConversationUpdated { conversation_id: "world", updates, operator_id: Some(user), updated_at: 9 };
            check(|out| updated.write(out, 9));
        }
    }

    #[test]
    fn errors_are_as_described() {
        let details = ErrorDetails {
            client_msg_id: "c",
            temp_message_id: "t",
            conversation_id: "world",
            message_id: Some(MessageId(5)),
            field: "content",
            reason: "r",
            retry_after_s: Some(1),
            shed: Some(2),
        };
        check(|out| ErrorFrame { code: ErrorCode::RateLimited, message: "", details }.write(out, 9));
    }

    /// A value as a field of the table wants it.
    fn sample(kind: &Kind) -> Value {
        match kind {
            Kind::Id => json!("5"),
            Kind::Text(_) => json!("world"),
            Kind::Int => json!(5),
            Kind::OneOf(numbers) => json!(numbers[0]),
            Kind::Word(words) => json!(words[0]),
            Kind::Bool => json!(true),
            Kind::Objects(_) => json!([]),
            Kind::Object(_) | Kind::Fields(_) | Kind::Any => json!({}),
        }
    }

    #[test]
    fn what_is_described_is_what_clients_may_send() {
        for frame in CLIENT_FRAMES {
            let with = |fields: &mut dyn Iterator<Item = &Field>| {
                let data: Map<String, Value> =
                    fields.map(|field| (field.name.to_owned(), sample(&field.kind))).collect();
                json!({"type": frame.name, "data": data}).to_string()
            };
            let all = with(&mut frame.fields.iter());
            assert!(parse(all.as_bytes()).is_ok(), "{all}");
            let least = with(&mut frame.fields.iter().filter(|field| field.required));
            assert!(parse(least.as_bytes()).is_ok(), "{least}");
            for absent in frame.fields.iter().filter(|field| field.required) {
                let text = with(&mut frame.fields.iter().filter(|f| f.required && f.name != absent.name));
                assert!(parse(text.as_bytes()).is_err(), "{text}");
            }
            for wrong in frame.fields {
                let mut text: Value = serde_json::from_str(&all).unwrap();
                text["data"][wrong.name] = json!([1]);
                assert!(parse(text.to_string().as_bytes()).is_err(), "{text}: the field is not looked at");
            }
        }
    }
}
