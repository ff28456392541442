//! What happens to rooms between repo, the downstream topic and shards: memberships fetched before what needs them, joins
//! before `connected`, order kept, losses told; and what sessions and presence tell besides.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod control_support;

use std::time::Duration;

use control_support::{FakeShard, Heard, INCARNATION, PARTITIONS, Setting, config, gateway, opened, shards};
use gochat_gateway::bridge::{Downlink, FrameClass, Revocation, RoomKey, UplinkEvent};
use gochat_gateway::config::SessionPolicy;
use gochat_infra::bus::{Bus as _, partition_of};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{
    Ack, ChatMessage, Origin, Push, Recalled, Refusal, RoomChange, Sender, Signal, SignalClass,
};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::events::{Event, EventBody};
use gochat_proto::ids::Address;
use gochat_proto::im::repo::v1::{
    BatchUpdateResponse, GetRoomResponse, RevokedSession, Room, SessionPolicy as Policy, UserRooms,
};
use gochat_proto::topics;
use tonic::Status;

const HERE: Address = Address::new(0, 5, 1);
const THERE: Address = Address::new(1, 6, 1);
const GROUP: &str = "group_9";

fn push(seq_id: i64, version: i64) -> Push {
    let message = ChatMessage {
        message_id: 100 + seq_id,
        conversation_id: GROUP.into(),
        conversation_type: 2,
        sender: Some(Sender { id: 8, ..Sender::default() }),
        message_type: 4,
        seq_id,
        ..ChatMessage::default()
    };
    Push {
        message: Some(message),
        target_conversation_id: GROUP.into(),
        membership_version: version,
        exclude_address: HERE.0,
        exclude_incarnation: INCARNATION,
        ..Push::default()
    }
}

fn room(version: i64, addresses: &[Address]) -> GetRoomResponse {
    let addresses = addresses.iter().map(|address| address.0).collect();
    GetRoomResponse { version, member_count: 30, addresses, exists: true }
}

/// The next thing a room is told, in words.
async fn room_item(shard: &mut FakeShard) -> (RoomKey, String) {
    shard
        .told(|item| match item {
            Downlink::RoomJoin { room, address } => Some((*room, format!("join {}", address.slot()))),
            Downlink::RoomLeave { room, user_id } => Some((*room, format!("leave {user_id}"))),
            Downlink::RoomReset { room, addresses } => {
                Some((*room, format!("reset {:?}", addresses.iter().map(|a| a.slot()).collect::<Vec<_>>())))
            }
            Downlink::RoomDrop { room } => Some((*room, "drop".to_owned())),
            Downlink::RoomFrame { room, exclude, frame } => {
                let data = &control_support::json(frame)["data"];
                let seq = data["seqId"].as_i64().map_or_else(|| data["eventType"].to_string(), |seq| seq.to_string());
                Some((*room, format!("frame {seq} but {}", exclude.slot())))
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_push_waits_for_the_membership_it_was_made_under_and_keeps_its_place() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(2);
    let _control = setting.control(end, config()).await;
    // Repo is away at first: what waits is neither lost nor overtaken.
    let named =
        Push { addresses: vec![HERE.0], target_conversation_id: String::new(), exclude_address: 0, ..push(2, 7) };
    setting.downstream(1, INCARNATION, vec![Item::Push(push(1, 7)), Item::Push(named), Item::Push(push(3, 7))]).await;
    while setting.repo.0.lock().unwrap().rooms_asked < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for shard in &mut shards {
        let early = shard.rest().into_iter().filter(|heard| !matches!(heard, Heard::Other(Downlink::Accepting(_))));
        assert_eq!(early.count(), 0);
    }
    setting.repo.0.lock().unwrap().rooms.insert(GROUP.into(), room(7, &[HERE, THERE]));
    let (key, said) = room_item(&mut shards[0]).await;
    assert_eq!(said, "reset [5]");
    let order: Vec<String> = {
        let mut order = Vec::new();
        while order.len() < 3 {
            let next = shards[0].hear(|heard| match heard {
                Heard::Frame(frame, _) => Some(format!("named {}", frame["data"]["seqId"])),
                Heard::Other(Downlink::RoomFrame { frame, .. }) => {
                    Some(format!("room {}", control_support::json(frame)["data"]["seqId"]))
                }
                Heard::Other(_) => None,
            });
            order.push(next.await);
        }
        order
    };
    assert_eq!(order, ["room 1", "named 2", "room 3"]);
    for expected in ["reset [6]", "frame 1 but 5", "frame 3 but 5"] {
        assert_eq!(room_item(&mut shards[1]).await, (key, expected.to_owned()));
    }
    // A change is applied without asking; the next push is not held up.
    let asked = setting.repo.0.lock().unwrap().rooms_asked;
    let change = |version, member_count, joined: &[Address], left: &[i64]| RoomChange {
        conversation_id: GROUP.into(),
        version,
        member_count,
        joined: joined.iter().map(|address| address.0).collect(),
        left: left.to_vec(),
        dissolved: false,
    };
    let third = Address::new(1, 9, 1);
    let items = vec![
        Item::Room(change(8, 31, &[third], &[])),
        Item::Room(change(9, 30, &[], &[77])),
        Item::Push(push(4, 9)),
        Item::Room(change(10, 20, &[], &[])),
    ];
    setting.downstream(1, INCARNATION, items).await;
    for expected in ["join 9", "leave 77", "frame 4 but 5", "drop"] {
        assert_eq!(room_item(&mut shards[1]).await, (key, expected.to_owned()));
    }
    assert_eq!(setting.repo.0.lock().unwrap().rooms_asked, asked);
}

#[tokio::test]
async fn a_session_is_in_its_rooms_before_it_is_greeted() {
    let setting = Setting::new().await;
    let named = |id: &str, version| Room { conversation_id: id.into(), version };
    let rooms = vec![UserRooms { user_id: "7".into(), rooms: vec![named("world", 0), named(GROUP, 4)] }];
    let answer = BatchUpdateResponse { rooms, became_online: vec!["7".into()], ..BatchUpdateResponse::default() };
    setting.repo.0.lock().unwrap().answers = vec![Ok(answer)];
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    shards[0].end.uplink.event(UplinkEvent::Opened(opened(HERE, 7)));
    shards[0].end.uplink.flush();
    let (world, said) = room_item(&mut shards[0]).await;
    assert_eq!(said, "join 5");
    let registered = shards[0].told(|item| matches!(item, Downlink::Registered { .. }).then_some(()));
    registered.await;
    // The world room needs no fetch, whatever the version; the group was never fetched.
    let mut to_world = push(1, 12);
    to_world.target_conversation_id = "world".into();
    setting.downstream(0, INCARNATION, vec![Item::Push(to_world)]).await;
    assert_eq!(room_item(&mut shards[0]).await, (world, "frame 1 but 5".to_owned()));
    assert_eq!(setting.repo.0.lock().unwrap().rooms_asked, 0);

    let partition = partition_of(b"7", setting.bus.partitions(topics::USER_EVENTS).await.unwrap());
    let event = setting.records(topics::USER_EVENTS, partition, 1).await.remove(0);
    assert_eq!(&event.key[..], b"7");
    let event = Event::from_json(&event.value).unwrap();
    assert_eq!(
        (event.user_id.as_str(), event.body),
        ("7", EventBody::UserOnline { gateway_id: gateway().to_string() })
    );
}

#[tokio::test]
async fn a_recall_is_a_frame_of_its_own_and_so_is_its_acknowledgement() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    let origin = Some(Origin { gateway: gateway().number(), incarnation: INCARNATION, address: HERE.0, request: 0 });
    let recalled = Recalled {
        conversation_id: "single_7_8".into(),
        message_id: 900,
        recalled_seq_id: 5,
        seq_id: 8,
        operator_id: 7,
        recalled_at_ms: 9_000,
        ..Recalled::default()
    };
    let client_msg_id = "\u{1}r900".to_owned();
    let conversation_id = "single_7_8".to_owned();
    let refusal = Refusal {
        origin,
        client_msg_id: client_msg_id.clone(),
        conversation_id: conversation_id.clone(),
        code: ErrorCode::GuestForbidden.number(),
        code_name: "GUEST_FORBIDDEN".into(),
        ..Refusal::default()
    };
    let items = vec![
        Item::Push(Push { addresses: vec![HERE.0], recalled: Some(recalled), ..Push::default() }),
        Item::Ack(Ack { origin, client_msg_id, conversation_id, seq_id: 8, ..Ack::default() }),
        Item::Refusal(refusal),
    ];
    setting.downstream(0, INCARNATION, items).await;
    let (data, _) = shards[0].frame("message-recalled").await;
    assert_eq!((&data["messageId"], &data["seqId"], &data["position"]), (&"900".into(), &5.into(), &8.into()));
    let (data, _) = shards[0].frame("recall-ack").await;
    assert_eq!((&data["messageId"], &data["position"]), (&"900".into(), &8.into()));
    let (data, _) = shards[0].frame("error").await;
    assert_eq!(data["code"], "GUEST_FORBIDDEN");
    assert_eq!(data["details"], serde_json::json!({ "conversationId": "single_7_8", "messageId": "900" }));
}

#[tokio::test]
async fn a_signal_for_a_room_goes_to_the_room_as_it_is_to_be_treated() {
    let setting = Setting::new().await;
    setting.repo.0.lock().unwrap().rooms.insert(GROUP.into(), room(3, &[HERE]));
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    let signal = |kind: &str, class: SignalClass| {
        Item::Signal(Signal {
            frame_type: kind.into(),
            payload: b"{}".to_vec().into(),
            target_conversation_id: GROUP.into(),
            membership_version: 1,
            class: class as i32,
            ..Signal::default()
        })
    };
    // Typing is not worth a fetch; the other one is.
    let items = vec![signal("typing-indicator", SignalClass::Ephemeral), signal("member-added", SignalClass::Chat)];
    setting.downstream(0, INCARNATION, items).await;
    let frame = shards[0].told(|item| match item {
        Downlink::RoomFrame { frame, .. } => Some((control_support::json(frame)["type"].to_string(), frame.class)),
        _ => None,
    });
    assert_eq!(frame.await, ("\"member-added\"".to_owned(), FrameClass::Chat));
    setting.downstream(0, INCARNATION, vec![signal("typing-indicator", SignalClass::Ephemeral)]).await;
    let frame =
        shards[0].told(|item| if let Downlink::RoomFrame { frame, .. } = item { Some(frame.class) } else { None });
    assert_eq!(frame.await, FrameClass::Ephemeral);
}

#[tokio::test]
async fn typing_reaches_logic_with_where_it_came_from() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    for is_typing in [true, false] {
        let conversation = GROUP.into();
        shards[0].end.uplink.event(UplinkEvent::Typing { address: HERE, user_id: 7, conversation, is_typing });
    }
    shards[0].end.uplink.flush();
    let signals = control_support::within(async {
        loop {
            let signals = setting.logic.0.lock().unwrap().signals.clone();
            if signals.len() == 2 {
                return signals;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let mut types: Vec<&str> = signals.iter().map(|signal| signal.signal_type.as_str()).collect();
    types.sort_unstable();
    assert_eq!(types, ["typing.start", "typing.stop"]);
    for signal in &signals {
        assert_eq!((signal.user_id.as_str(), signal.conversation_id.as_str()), ("7", GROUP));
        assert_eq!((signal.gateway, signal.gateway_incarnation, signal.address), (3, INCARNATION, HERE.0));
    }
}

#[tokio::test]
async fn a_session_that_began_degraded_is_told_when_that_ends_and_one_with_a_ticket_never_begins_so() {
    let setting = Setting::new().await;
    setting.repo.0.lock().unwrap().answers = vec![Err(Status::unavailable("away"))];
    let (end, mut shards) = shards(2);
    let _control = setting.control(end, config()).await;
    shards[0].end.uplink.event(UplinkEvent::Opened(opened(HERE, 7)));
    let mut with_ticket = opened(Address::new(0, 8, 1), 8);
    with_ticket.ticket_id = "ticket".into();
    shards[0].end.uplink.event(UplinkEvent::Opened(with_ticket));
    shards[0].end.uplink.flush();
    let began = shards[0].told(|item| match item {
        Downlink::Registered { address, degraded } => Some((*address, *degraded)),
        _ => None,
    });
    assert_eq!(began.await, (HERE, true));
    let closed = |item: &Downlink| match item {
        Downlink::Close { address, code, .. } => Some((*address, *code)),
        _ => None,
    };
    assert_eq!(shards[0].told(closed).await, (Address::new(0, 8, 1), CloseCode::TryAgainLater));
    let (data, targets) = shards[0].frame("notification").await;
    assert_eq!(data, serde_json::json!({ "eventType": "resync", "payload": {} }));
    assert_eq!(targets, [HERE]);
    let updates = setting.updates(|updates| updates.len() >= 2).await;
    assert_eq!(updates[0].online.iter().map(|entry| entry.ticket_id.as_str()).collect::<Vec<_>>(), ["", "ticket"]);
    assert_eq!(updates[0].online[0].family_id, "family");
    assert_eq!(updates[1].online.len(), 1, "the ticket is not tried again");
}

#[tokio::test]
async fn policy_logout_and_disabled_accounts_are_passed_on() {
    let setting = Setting::new().await;
    let revoked =
        RevokedSession { user_id: "8".into(), address: THERE.0, close_code: 4003, ..RevokedSession::default() };
    let answer =
        BatchUpdateResponse { revoked: vec![revoked], logged_out: vec!["7".into()], ..BatchUpdateResponse::default() };
    setting.repo.0.lock().unwrap().answers = vec![Ok(answer)];
    let (end, mut shards) = shards(2);
    let per_device =
        gochat_gateway::control::ControlConfig { session_policy: SessionPolicy::PerDevice, max_devices: 3, ..config() };
    let _control = setting.control(end, per_device).await;
    shards[1].end.uplink.event(UplinkEvent::Opened(opened(THERE, 8)));
    shards[1].end.uplink.event(UplinkEvent::Closed { address: HERE, user_id: 7, code: 4004, handover: false });
    shards[1].end.uplink.flush();
    let update = setting.updates(|updates| !updates.is_empty()).await.remove(0);
    assert_eq!((update.policy, update.max_devices), (Policy::PerDevice as i32, 3));
    assert!(update.offline[0].logout);
    for shard in &mut shards {
        let disabled = shard.told(|item| match item {
            Downlink::Revoked(Revocation::Disabled { user_id, .. }) => Some(*user_id),
            _ => None,
        });
        assert_eq!(disabled.await, 8);
    }
    let partition = partition_of(b"7", PARTITIONS);
    let event = setting.records(topics::USER_EVENTS, partition, 1).await.remove(0);
    let event = Event::from_json(&event.value).unwrap();
    assert!(matches!(event.body, EventBody::UserOffline { reason, .. } if reason == "logout"));
}
