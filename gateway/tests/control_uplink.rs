//! What shards say and what becomes of it: messages appended in order or refused, sessions registered, marks read.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod control_support;

use control_support::{FakeShard, INCARNATION, PARTITIONS, Setting, config, gateway, opened, shards, within};
use gochat_gateway::bridge::{Alive, Downlink, UplinkEvent};
use gochat_infra::bus::{Bus as _, Durability, TopicSpec};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamRecord, Origin, UpstreamMessage};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::{Address, GatewayId};
use gochat_proto::im::repo::v1::{BatchUpdateResponse, ReplacedSession, RevokedSession};
use gochat_proto::topics;
use prost::Message as _;
use std::time::Duration;
use tonic::Status;

const ADDRESS: Address = Address::new(0, 5, 1);

fn say(shard: &mut FakeShard, partition: u32, number: usize) {
    let message = UpstreamMessage {
        sender_id: 7,
        conversation_id: "single_7_8".into(),
        client_msg_id: number.to_string(),
        origin: Some(Origin { gateway: gateway().number(), incarnation: INCARNATION, address: ADDRESS.0, request: 0 }),
        ..UpstreamMessage::default()
    };
    let encoded = message.encode_to_vec();
    let encode = |out: &mut bytes::BytesMut| {
        let start = out.len();
        out.extend_from_slice(&encoded);
        start..start
    };
    shard.end.uplink.record(partition, encoded.len(), encode).unwrap();
}

#[tokio::test]
async fn messages_of_a_partition_are_appended_in_order() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(1);
    let control = setting.control(end, config()).await;
    let shard = &mut shards[0];
    const COUNT: usize = 5_000;
    for number in 0..COUNT {
        say(shard, number as u32 % PARTITIONS, number);
        if number % 7 == 0 {
            shard.end.uplink.flush();
            tokio::task::yield_now().await;
        }
    }
    while !shard.end.uplink.is_flushed() {
        shard.end.uplink.flush();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for partition in 0..PARTITIONS {
        let records = setting.records(topics::MESSAGES_UPSTREAM, partition, COUNT / PARTITIONS as usize).await;
        let numbers = records.iter().map(|r| UpstreamMessage::decode(r.value.clone()).unwrap().client_msg_id);
        let expected = (0..COUNT).filter(|n| *n as u32 % PARTITIONS == partition).map(|n| n.to_string());
        assert!(numbers.eq(expected), "partition {partition}");
    }
    drop(shards);
    assert!(control.stop(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn what_the_bus_does_not_take_is_refused_by_name() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    shards[0].accepting(true).await;
    setting.bus.close().await.unwrap();
    say(&mut shards[0], 1, 42);
    say(&mut shards[0], PARTITIONS + 9, 43);
    shards[0].end.uplink.flush();
    let mut refused = Vec::new();
    for _ in 0..2 {
        let (data, targets) = shards[0].frame("error").await;
        assert_eq!((data["code"].as_str(), targets), (Some("SERVICE_UNAVAILABLE"), vec![ADDRESS]));
        assert_eq!(data["details"]["conversationId"], "single_7_8");
        refused.push(data["details"]["client_msg_id"].as_str().unwrap().to_owned());
    }
    refused.sort();
    assert_eq!(refused, ["42", "43"]);
    setting.bus_healthy.send_replace(false);
    shards[0].accepting(false).await;
    setting.bus_healthy.send_replace(true);
    shards[0].accepting(true).await;
}

#[tokio::test]
async fn a_session_is_told_once_repo_has_answered() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(2);
    let control = setting.control(end, config()).await;
    let there = Address::new(1, 6, 1);
    shards[1].end.uplink.event(UplinkEvent::Opened(opened(there, 8)));
    shards[1].end.uplink.alive(Alive { address: there, user_id: 8 });
    shards[1].end.uplink.flush();
    let (address, degraded) = shards[1].told(registered).await;
    assert_eq!((address, degraded), (there, false));

    let update = setting.updates(|updates| !updates.is_empty()).await.remove(0);
    assert_eq!((update.gateway_id.as_str(), update.gateway_incarnation), ("gateway-3", INCARNATION));
    let entry = &update.online[0];
    assert_eq!((entry.user_id.as_str(), entry.address, entry.token_version), ("8", there.0, 2));
    assert_eq!((entry.token_hash.as_str(), entry.device_id.as_str()), ("hash8", "phone"));
    assert_eq!(update.alive, ["8"]);

    shards[1].end.uplink.event(UplinkEvent::Closed { address: there, user_id: 8, code: 1001, handover: true });
    shards[1].end.uplink.flush();
    drop(shards);
    assert!(control.stop(Duration::from_secs(20)).await, "what shards said last is told before the end");
    let last = setting.updates(|updates| updates.len() > 1).await.pop().unwrap();
    assert_eq!((last.offline[0].address, last.offline[0].handover), (there.0, true));
}

#[tokio::test]
async fn a_session_begins_degraded_while_repo_fails_and_is_registered_later() {
    let setting = Setting::new().await;
    setting.repo.0.lock().unwrap().answers = vec![Err(Status::unavailable("away")), Err(Status::unavailable("away"))];
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    shards[0].end.uplink.event(UplinkEvent::Opened(opened(ADDRESS, 7)));
    shards[0].end.uplink.flush();
    assert_eq!(shards[0].told(registered).await, (ADDRESS, true));
    let updates = setting.updates(|updates| updates.len() >= 3).await;
    assert!(updates.iter().all(|update| update.online[0].address == ADDRESS.0));
    // One more call shows that the third was the last with it.
    shards[0].end.uplink.event(UplinkEvent::Closed { address: ADDRESS, user_id: 7, code: 1000, handover: false });
    shards[0].end.uplink.flush();
    let updates = setting.updates(|updates| updates.iter().any(|u| !u.offline.is_empty())).await;
    assert_eq!(updates.iter().filter(|u| !u.online.is_empty()).count(), 3);
    let rest = shards[0].rest();
    let again = rest.iter().filter(|h| format!("{h:?}").contains("Registered")).count();
    assert_eq!(again, 0, "told once");
}

#[tokio::test]
async fn replaced_and_revoked_sessions_are_closed_wherever_they_are() {
    let setting = Setting::new().await;
    let old = Address::new(0, 9, 4);
    let other = GatewayId::new(9).unwrap();
    let spec = TopicSpec { name: topics::downstream(other), partitions: 1, durability: Durability::Written };
    setting.bus.create_topic(spec).await.unwrap();
    let replaced = |gateway: GatewayId, incarnation, address: Address| ReplacedSession {
        gateway_id: gateway.to_string(),
        gateway_incarnation: incarnation,
        address: address.0,
        user_id: "7".into(),
        device_id: String::new(),
    };
    let gone = Address::new(0, 1, 1);
    setting.repo.0.lock().unwrap().answers = vec![Ok(BatchUpdateResponse {
        replaced: vec![replaced(gateway(), INCARNATION, old), replaced(other, 5, gone)],
        revoked: vec![RevokedSession { address: ADDRESS.0, close_code: 4003, ..RevokedSession::default() }],
        ..BatchUpdateResponse::default()
    })];
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    shards[0].end.uplink.event(UplinkEvent::Opened(opened(ADDRESS, 7)));
    shards[0].end.uplink.flush();
    let closed = |item: &Downlink| match item {
        Downlink::Close { address, code, .. } => Some((*address, *code)),
        _ => None,
    };
    let mut both = [shards[0].told(closed).await, shards[0].told(closed).await];
    both.sort_by_key(|(address, _)| address.0);
    assert_eq!(both, [(ADDRESS, CloseCode::AccountDisabled), (old, CloseCode::Replaced)]);
    let record = setting.records(&topics::downstream(other), 0, 1).await.remove(0);
    let record = DownstreamRecord::decode(record.value).unwrap();
    assert_eq!(record.incarnation, 5);
    let Some(Item::Kick(kick)) = &record.items[0].item else { panic!("{record:?}") };
    assert_eq!((kick.address, kick.close_code), (gone.0, 4002));
    assert!(!format!("{:?}", shards[0].rest()).contains("Registered"), "a revoked session is not greeted");
}

#[tokio::test]
async fn refused_read_marks_are_answered_to_who_asked() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    let mut mark = |conversation: &str| {
        let conversation = conversation.into();
        let event = UplinkEvent::MarkRead { address: ADDRESS, user_id: 7, conversation, seq_id: 12 };
        shards[0].end.uplink.event(event);
        shards[0].end.uplink.flush();
    };
    mark("single_7_8");
    mark("single_8_9");
    mark("strange");
    let mut codes = Vec::new();
    for _ in 0..2 {
        let (data, _) = shards[0].frame("error").await;
        assert!(!data.to_string().contains("table"), "{data}");
        codes.push(data["code"].as_str().unwrap().to_owned());
    }
    codes.sort();
    assert_eq!(codes, ["INTERNAL_ERROR", "NOT_CONVERSATION_MEMBER"]);
    let asked = within(async { setting.logic.0.lock().unwrap().reads.clone() }).await;
    assert_eq!((asked.len(), asked[0].seq_id, asked[0].user_id.as_str()), (1, 12, "7"));
}

fn registered(item: &Downlink) -> Option<(Address, bool)> {
    match item {
        Downlink::Registered { address, degraded } => Some((*address, *degraded)),
        _ => None,
    }
}
