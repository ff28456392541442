//! Task against the log of the embedded form and a repo of its own making: what is relayed, sent on and cleaned, also
//! when a topic does not answer for a while.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use gochat_infra::bus::Bus;
use gochat_infra::clock::SystemClock;
use gochat_infra::coord::local::LocalCoord;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, DownstreamItem, DownstreamRecord, FanoutTask, Origin, Push};
use gochat_proto::events::{Event, EventBody};
use gochat_proto::topics;
use prost::Message as _;
use std::sync::Arc;
use support::{PARTITIONS, Setting, event};

fn room(conversation: &str, seq: i64) -> Bytes {
    let push = Push { target_conversation_id: conversation.to_owned(), membership_version: seq, ..Push::default() };
    let items = vec![DownstreamItem { item: Some(Item::Push(push)) }];
    FanoutTask { conversation_id: conversation.to_owned(), items }.encode_to_vec().into()
}

/// Versions of the pushes to rooms on a gateway's topic, in order.
fn versions(records: &[Bytes], conversation: &str) -> Vec<i64> {
    let items = records.iter().flat_map(|record| DownstreamRecord::decode(record.clone()).unwrap().items);
    let pushes = items.filter_map(|item| match item.item {
        Some(Item::Push(push)) if push.target_conversation_id == conversation => Some(push.membership_version),
        _ => None,
    });
    pushes.collect()
}

#[tokio::test]
async fn events_are_relayed_in_order_and_then_leave_the_outbox() {
    let setting = Setting::new().await;
    for n in 0..600 {
        setting.repo.add_event(event(topics::FRIEND_EVENTS, &format!("{}", n % 3), n));
    }
    let _task = setting.start(setting.coord());
    setting.until("the outbox is empty", || setting.repo.outbox_len() == 0).await;
    let relayed = setting.records(topics::FRIEND_EVENTS).await;
    for key in ["0", "1", "2"] {
        let numbers: Vec<i64> = relayed.iter().filter(|(k, _)| k == key).map(|(_, v)| support::number(v)).collect();
        let expected: Vec<i64> = (0..600).filter(|n| (n % 3).to_string() == key).collect();
        assert_eq!(numbers, expected, "key {key}");
    }
}

#[tokio::test]
async fn a_topic_that_does_not_answer_holds_its_own_events_only() {
    let setting = Setting::new().await;
    setting.bus.fail(topics::FRIEND_EVENTS, true);
    let _task = setting.start(setting.coord());
    for n in 0..5 {
        setting.repo.add_event(event(topics::FRIEND_EVENTS, "7", n));
        setting.repo.add_event(event(topics::USER_EVENTS, "7", n));
    }
    setting.until("the other topic's events are gone", || setting.repo.outbox_len() == 5).await;
    assert!(setting.records(topics::FRIEND_EVENTS).await.is_empty());
    setting.bus.fail(topics::FRIEND_EVENTS, false);
    setting.until("all are gone", || setting.repo.outbox_len() == 0).await;
    for topic in [topics::USER_EVENTS, topics::FRIEND_EVENTS] {
        let relayed: Vec<i64> = setting.records(topic).await.iter().map(|(_, v)| support::number(v)).collect();
        assert_eq!(relayed, [0, 1, 2, 3, 4], "{topic}");
    }
}

#[tokio::test]
async fn events_whose_deletion_fails_are_relayed_again_in_order() {
    let setting = Setting::new().await;
    setting.repo.lose_deletions(1);
    for n in 0..3 {
        setting.repo.add_event(event(topics::MESSAGE_EVENTS, "g", n));
    }
    let _task = setting.start(setting.coord());
    setting.until("all are gone", || setting.repo.outbox_len() == 0).await;
    let relayed: Vec<i64> =
        setting.records(topics::MESSAGE_EVENTS).await.iter().map(|(_, v)| support::number(v)).collect();
    assert_eq!(relayed, [0, 1, 2, 0, 1, 2]);
}

#[tokio::test]
async fn corrected_acknowledgements_go_to_their_gateway_and_nowhere_when_it_is_gone() {
    let setting = Setting::new().await;
    let ack = |gateway, seq_id| Ack {
        origin: Some(Origin { gateway, incarnation: 4, address: 5, request: 0 }),
        conversation_id: "c".into(),
        seq_id,
        ..Ack::default()
    };
    for (gateway, seq) in [(1, 1), (9, 2), (1, 3)] {
        setting.repo.add_ack(ack(gateway, seq));
    }
    let _task = setting.start(setting.coord());
    setting.until("the outbox is empty", || setting.repo.outbox_len() == 0).await;
    let records = setting.values(&setting.downstream(1)).await;
    let decoded = records.iter().map(|record| DownstreamRecord::decode(record.clone()).unwrap());
    let acks = decoded.flat_map(|record| {
        assert_eq!(record.incarnation, 4);
        record.items.into_iter().map(|item| match item.item {
            Some(Item::Ack(ack)) => (ack.seq_id, ack.corrected),
            other => panic!("{other:?}"),
        })
    });
    assert_eq!(acks.collect::<Vec<_>>(), [(1, true), (3, true)]);
}

#[tokio::test]
async fn of_two_processes_one_relays() {
    let setting = Setting::new().await;
    let coord = setting.coord();
    let _first = setting.start(coord.clone());
    let _second = setting.start(coord);
    for n in 0..200 {
        setting.repo.add_event(event(topics::USER_EVENTS, "7", n));
        tokio::task::yield_now().await;
    }
    setting.until("the outbox is empty", || setting.repo.outbox_len() == 0).await;
    let relayed: Vec<i64> =
        setting.records(topics::USER_EVENTS).await.iter().map(|(_, v)| support::number(v)).collect();
    assert_eq!(relayed, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_leads_no_more_is_followed_by_another() {
    let setting = Setting::new().await;
    let coord = setting.coord();
    let first = setting.start(coord.clone());
    setting.repo.add_event(event(topics::USER_EVENTS, "7", 1));
    setting.until("the first relays", || setting.repo.outbox_len() == 0).await;
    let _second = setting.start(coord);
    first.abort();
    setting.repo.add_event(event(topics::USER_EVENTS, "7", 2));
    setting.until("the second relays", || setting.repo.outbox_len() == 0).await;
}

#[tokio::test]
async fn a_large_fan_out_reaches_each_gateway_once_in_order() {
    let setting = Setting::new().await;
    setting.repo.set_gateways("w", &[1, 2]);
    setting.repo.set_gateways("g", &[2]);
    for seq in 1..=50 {
        setting.fan_out("w", room("w", seq)).await;
        setting.fan_out("g", room("g", seq)).await;
        setting.fan_out("x", room("x", seq)).await;
    }
    let _task = setting.start(setting.coord());
    let all: Vec<i64> = (1..=50).collect();
    setting
        .until_async("the last one is out", async || {
            versions(&setting.values(&setting.downstream(2)).await, "x").len() == 50
        })
        .await;
    let (first, second) = (setting.values(&setting.downstream(1)).await, setting.values(&setting.downstream(2)).await);
    assert_eq!((versions(&first, "w"), versions(&second, "w")), (all.clone(), all.clone()));
    assert_eq!((versions(&first, "g"), versions(&second, "g")), (vec![], all.clone()));
    // Nobody can say where the members of this one are: everywhere.
    assert_eq!((versions(&first, "x"), versions(&second, "x")), (all.clone(), all));
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_gets_everything_later_and_holds_up_no_other() {
    let setting = Setting::new().await;
    let (first, second) = (setting.downstream(1), setting.downstream(2));
    setting.bus.fail(&second, true);
    let _task = setting.start(setting.coord());
    for seq in 1..=20 {
        setting.fan_out("w", room("w", seq)).await;
    }
    setting.until_async("one has all", async || versions(&setting.values(&first).await, "w").len() == 20).await;
    assert!(setting.values(&second).await.is_empty());
    setting.bus.fail(&second, false);
    setting.fan_out("w", room("w", 21)).await;
    setting.until_async("the other has all", async || versions(&setting.values(&second).await, "w").len() == 21).await;
    assert_eq!(versions(&setting.values(&second).await, "w"), (1..=21).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_sent_on_is_not_sent_again_by_the_next_process() {
    let setting = Setting::new().await;
    let first = setting.start(setting.coord());
    setting.fan_out("w", room("w", 1)).await;
    let topic = setting.downstream(1);
    setting.until_async("it is out", async || versions(&setting.values(&topic).await, "w").len() == 1).await;
    first.stop().await;
    let _second = setting.start(setting.coord());
    setting.fan_out("w", room("w", 2)).await;
    setting.until_async("the next is out", async || versions(&setting.values(&topic).await, "w").contains(&2)).await;
    assert_eq!(versions(&setting.values(&topic).await, "w"), [1, 2]);
}

#[tokio::test]
async fn a_fan_out_that_cannot_be_read_is_set_aside_and_the_next_goes_on() {
    let setting = Setting::new().await;
    let _task = setting.start(setting.coord());
    setting.fan_out("w", Bytes::from_static(b"\xff\xff\xff")).await;
    setting.fan_out("w", FanoutTask::default().encode_to_vec().into()).await;
    setting.fan_out("w", room("w", 3)).await;
    let topic = setting.downstream(1);
    setting.until_async("the good one is out", async || versions(&setting.values(&topic).await, "w") == [3]).await;
    let dead = topics::dead_letter(topics::TASKS_FANOUT);
    setting.until_async("both are set aside", async || setting.values(&dead).await.len() == 2).await;
    assert_eq!(setting.values(&dead).await[0], Bytes::from_static(b"\xff\xff\xff"));
}

#[tokio::test]
async fn users_who_did_not_come_back_are_told_once_though_the_topic_did_not_answer() {
    let setting = Setting::new().await;
    setting.bus.fail(topics::USER_EVENTS, true);
    setting.repo.set_due(&[7, 8]);
    setting.repo.set_expired(&[9]);
    let _task = setting.start(setting.coord());
    setting.until("they were taken", || setting.repo.due_len() == 0).await;
    setting.bus.fail(topics::USER_EVENTS, false);
    setting.until_async("all are told", async || setting.records(topics::USER_EVENTS).await.len() >= 3).await;
    let mut told: Vec<(String, String)> = Vec::new();
    for (key, value) in setting.records(topics::USER_EVENTS).await {
        let event = Event::from_json(&value).unwrap();
        assert_eq!(event.user_id, key);
        match event.body {
            EventBody::UserOffline { reason, .. } => told.push((key, reason)),
            other => panic!("{other:?}"),
        }
    }
    told.sort();
    let pair = |user: &str, reason: &str| (user.to_owned(), reason.to_owned());
    assert_eq!(told, [pair("7", "disconnect"), pair("8", "disconnect"), pair("9", "timeout")]);
}

#[tokio::test]
async fn idle_guests_are_cleaned_to_the_last() {
    let setting = Setting::new().await;
    setting.repo.set_guests(1_203);
    let _task = setting.start(setting.coord());
    setting.until("no idle guest is left", || setting.repo.guests() == 0).await;
}

#[tokio::test]
async fn a_process_that_is_asked_to_stop_ends() {
    let setting = Setting::new().await;
    let task = setting.start(Arc::new(LocalCoord::new(SystemClock::shared())));
    tokio::time::timeout(Duration::from_secs(20), task.stop()).await.expect("it does not end");
    assert_eq!(setting.bus.partitions(topics::TASKS_FANOUT).await.unwrap(), PARTITIONS);
}
