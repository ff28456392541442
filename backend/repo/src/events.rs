//! Domain events as repo makes them: stamped, and wrapped for the outbox.
//!
//! Owns what every event has: an id, a time, who did it. What happened is the caller's to say, inside the transaction in
//! which it happens (pipeline.md F2).

use gochat_infra::uid::uuid_v7;
use gochat_proto::bus::v1::OutboxEvent;
use gochat_proto::events::{Event, EventBody};

/// Something about a conversation. An operator of 0 is nobody.
pub(crate) fn of_conversation(now_ms: i64, conversation: &str, operator: i64, body: EventBody) -> OutboxEvent {
    outbox(Event { conversation_id: conversation.to_owned(), operator_id: id(operator), ..blank(now_ms, body) })
}

/// Something about an account. An operator of 0 is nobody.
pub(crate) fn of_user(now_ms: i64, user: i64, operator: i64, body: EventBody) -> OutboxEvent {
    outbox(Event { user_id: id(user), operator_id: id(operator), ..blank(now_ms, body) })
}

/// Something between a user and another one.
pub(crate) fn of_friend(now_ms: i64, user: i64, friend: i64, body: EventBody) -> OutboxEvent {
    outbox(Event { user_id: id(user), friend_id: id(friend), ..blank(now_ms, body) })
}

/// Ids as events carry them.
pub(crate) fn ids(ids: &[i64]) -> Vec<String> {
    ids.iter().map(i64::to_string).collect()
}

/// 0 is written as nothing.
pub(crate) fn id(id: i64) -> String {
    if id == 0 { String::new() } else { id.to_string() }
}

fn blank(now_ms: i64, body: EventBody) -> Event {
    Event {
        event_id: uuid_v7(),
        timestamp: now_ms.div_euclid(1000),
        conversation_id: String::new(),
        user_id: String::new(),
        friend_id: String::new(),
        operator_id: String::new(),
        body,
    }
}

fn outbox(event: Event) -> OutboxEvent {
    OutboxEvent { topic: event.topic().to_owned(), key: event.key().to_owned(), value: event.to_json().into() }
}
