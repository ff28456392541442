//! Recalls in the stream (pipeline.md D3): judged when prepared, done when stored.

use crate::bench::{Bench, CHAT, NOW, PARTITION, ask, candidate, hash, message, record};
use gochat_proto::bus::v1::{PersistMessage, StreamKind};
use gochat_proto::codes::ErrorCode;
use gochat_proto::events::EventBody;
use gochat_proto::im::repo::v1::prepared_item::Outcome;
use gochat_proto::im::repo::v1::*;
use std::time::Duration;

/// An item of a batch: a message, or a recall of one.
fn item(offset: i64, sender_id: i64, recalled: Option<i64>, age_ms: i64) -> PrepareItem {
    let (kind, client_msg_id) = match recalled {
        Some(id) => (StreamKind::Recall, format!("\u{1}r{id}")),
        None => (StreamKind::Chat, format!("m{offset}")),
    };
    PrepareItem {
        offset,
        sender_id,
        client_msg_id,
        content_hash: hash("").into(),
        message_id: candidate(offset, 1),
        created_at_ms: NOW + age_ms,
        kind: kind.into(),
        recalled_message_id: recalled.unwrap_or(0),
    }
}

async fn prepare(bench: &Bench, writer: DrawEpochResponse, items: Vec<PrepareItem>, last: bool) -> Vec<PreparedItem> {
    let request = PrepareMessagesRequest {
        partition: PARTITION,
        epoch: writer.epoch,
        incarnation: writer.incarnation,
        conversations: vec![PrepareConversation { conversation_id: CHAT.into(), top_seq: 0, items }],
        targets_final: last,
    };
    let answer = bench.pipeline().prepare_messages(ask(request)).await.unwrap().into_inner();
    answer.conversations.into_iter().next().unwrap().items
}

/// The outcome and code of one recall.
async fn recall(bench: &Bench, offset: i64, operator: i64, message: i64, age_ms: i64) -> (Outcome, i32) {
    let writer = bench.draw().await;
    let items = prepare(bench, writer, vec![item(offset, operator, Some(message), age_ms)], true).await;
    (items[0].outcome(), items[0].code)
}

fn recall_row(id: i64, seq: i64, recalled: i64) -> PersistMessage {
    let mut row = message(id, seq, &format!("\u{1}r{recalled}"), "");
    row.extra = format!(r#"{{"type":"recall","messageId":"{recalled}","seqId":1,"operatorId":"1","reason":"typo"}}"#);
    (row.kind, row.message_type, row.recalled_message_id) = (StreamKind::Recall.into(), 4, recalled);
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_a_recall_takes_a_number_and_empties_the_row() {
    let bench = Bench::new().await;
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "typo"), message(11, 2, "b", "fine")]))]).await;
    bench.take_events().await;
    let writer = bench.draw().await;
    let prepared = prepare(&bench, writer, vec![item(5, 1, Some(10), 100)], false).await;
    assert_eq!((prepared[0].outcome(), prepared[0].seq_id, prepared[0].recalled_seq), (Outcome::Fresh, 3, 1));
    let id = prepared[0].message_id;
    let saved = bench.save(vec![(1, record(1, vec![recall_row(id, 3, 10)]))]).await;
    assert_eq!((saved.saved, saved.parked, saved.outbox_pending), (1, 0, true));
    let page = bench.history(0, 0, 10, true).await;
    let rows: Vec<_> =
        page.messages.iter().map(|m| (m.seq_id, m.message_type, m.deleted, m.content.as_str())).collect();
    assert_eq!(rows, [(1, 1, true, ""), (2, 1, false, "fine"), (3, 4, false, "")], "it stays in history, marked");
    assert!(page.messages[2].extra.contains("\"messageId\":\"10\"") && page.complete && page.stored_through_seq == 3);
    let told = bench.take_events().await;
    let EventBody::MessageRecalled { message_id, seq_id, reason } = &told[0].body else { panic!("{told:?}") };
    assert_eq!((told.len(), message_id.as_str(), *seq_id, reason.as_str()), (1, "10", 1, "typo"));
    let view = GetConversationRequest { conversation_id: CHAT.into(), viewer_id: "2".into() };
    let seen = bench.conversations().get_conversation(ask(view)).await.unwrap().into_inner().conversation.unwrap();
    assert_eq!((seen.unread_count, seen.last_message.unwrap().id.as_str()), (1, "11"));
    // The same again: answered as stored, with the number of what it recalled.
    bench.cache.lose_everything();
    let writer = bench.draw().await;
    let again = prepare(&bench, writer, vec![item(9, 1, Some(10), 999_999)], false).await;
    assert_eq!((again[0].outcome(), again[0].message_id, again[0].recalled_seq), (Outcome::Stored, id, 1));
    // And saved again, as after a failover: nothing changes.
    assert_eq!(recall(&bench, 12, 2, 10, 0).await, (Outcome::Refused, ErrorCode::MessageRecalled.number()));
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_the_rules_one_by_one() {
    let bench = Bench::new().await;
    let mut system = message(12, 3, "\u{1}e1", "joined");
    (system.kind, system.message_type) = (StreamKind::System.into(), 4);
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "x"), message(11, 2, "b", "y"), system]))]).await;
    for (offset, operator, target, age_ms, expected) in [
        (0, 1, 10, 120_001, Ok(())),
        (1, 1, 11, 120_003, Err(ErrorCode::RecallTimeExceeded)),
        (2, 2, 11, 0, Err(ErrorCode::InsufficientPermission)),
        (3, 3, 11, 0, Err(ErrorCode::NotConversationMember)),
        (4, 1, 12, 0, Err(ErrorCode::InsufficientPermission)),
        (5, 1, 4711, 0, Err(ErrorCode::MessageNotFound)),
    ] {
        let (outcome, code) = recall(&bench, offset, operator, target, age_ms).await;
        match expected {
            Ok(()) => assert_eq!(outcome, Outcome::Fresh, "of {target} by {operator}"),
            Err(expected) => {
                assert_eq!((outcome, code), (Outcome::Refused, expected.number()), "{target} by {operator}")
            }
        }
    }
    bench.chat(1, 3).await;
    let elsewhere = PersistMessage { conversation_id: "single_1_3".into(), ..message(20, 1, "c", "z") };
    bench.save(vec![(1, record(1, vec![elsewhere]))]).await;
    assert_eq!(recall(&bench, 9, 1, 20, 0).await, (Outcome::Refused, ErrorCode::MessageNotFound.number()));
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_a_recall_waits_for_its_target_and_what_is_behind_it_waits_too() {
    let bench = Bench::new().await;
    let writer = bench.draw().await;
    let batch = || vec![item(0, 2, None, 0), item(1, 1, Some(10), 0), item(2, 2, None, 0)];
    let first = prepare(&bench, writer, batch(), false).await;
    let outcomes: Vec<_> = first.iter().map(PreparedItem::outcome).collect();
    assert_eq!(outcomes, [Outcome::Fresh, Outcome::TargetUnstored, Outcome::TargetUnstored]);
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "late")]))]).await;
    let again = prepare(&bench, writer, batch(), true).await;
    let found: Vec<_> = again.iter().map(|i| (i.outcome(), i.claim_offset)).collect();
    assert_eq!(found, [(Outcome::Known, 0), (Outcome::Fresh, 1), (Outcome::Fresh, 2)]);
    assert!(again.is_sorted_by_key(|i| i.seq_id), "in the order of the batch");
    let absent = prepare(&bench, writer, vec![item(5, 1, Some(99), 0)], true).await;
    assert_eq!(absent[0].code, ErrorCode::MessageNotFound.number());
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_a_recall_reaches_the_delta_of_everybody() {
    let bench = Bench::new().await;
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "x"), message(11, 2, "b", "y")]))]).await;
    bench.clock.advance(Duration::from_secs(60));
    let list = async |last_sync_time| {
        let request = GetUserConversationsWithDetailsRequest {
            user_id: "2".into(),
            last_sync_time,
            ..GetUserConversationsWithDetailsRequest::default()
        };
        bench.conversations().get_user_conversations_with_details(ask(request)).await.unwrap().into_inner()
    };
    let before = list(0).await;
    assert!(list(before.server_time).await.conversations.is_empty());
    bench.save(vec![(1, record(1, vec![recall_row(12, 3, 11)]))]).await;
    let delta = list(before.server_time).await;
    let last = delta.conversations[0].last_message.as_ref().unwrap();
    assert_eq!((last.id.as_str(), last.deleted, delta.conversations[0].unread_count), ("11", true, 1));
    assert_eq!(delta.conversations[0].updated_at, before.conversations[0].updated_at, "no activity");
}
