//! What comes for a gateway and which shard gets it: this life's items only, in order, none lost while a shard is full.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod control_support;

use control_support::{Heard, INCARNATION, PARTITIONS, Setting, config, gateway, shards};
use gochat_gateway::bridge::Downlink;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, ChatMessage, Kick, Origin, Push, Refusal, Sender, Signal};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::ids::Address;
use gochat_proto::im::repo::v1::Position;
use gochat_proto::topics;

const HERE: Address = Address::new(0, 5, 1);
const THERE: Address = Address::new(1, 6, 1);

fn origin(incarnation: u64, address: u64) -> Option<Origin> {
    Some(Origin { gateway: gateway().number(), incarnation, address, request: 0 })
}

fn ack(id: &str, origin: Option<Origin>) -> Item {
    Item::Ack(Ack { origin, client_msg_id: id.into(), message_id: 1, seq_id: 2, ..Ack::default() })
}

fn push(seq_id: i64, addresses: Vec<u64>) -> Push {
    let message = ChatMessage {
        message_id: 100 + seq_id,
        conversation_id: "single_7_8".into(),
        sender: Some(Sender { id: 8, ..Sender::default() }),
        seq_id,
        ..ChatMessage::default()
    };
    Push { addresses, message: Some(message), ..Push::default() }
}

#[tokio::test]
async fn only_this_life_is_delivered() {
    let setting = Setting::new().await;
    {
        // A first life makes the topic and leaves something behind.
        let (end, _shards) = shards(1);
        let control = setting.control(end, config()).await;
        drop(_shards);
        control.stop(std::time::Duration::from_secs(20)).await;
        setting.downstream(0, 0, vec![ack("before", origin(INCARNATION, HERE.0))]).await;
    }
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    let mut elsewhere = origin(INCARNATION, HERE.0).unwrap();
    elsewhere.gateway += 1;
    setting.downstream(0, INCARNATION - 1, vec![ack("record of another life", origin(INCARNATION, HERE.0))]).await;
    let topic = topics::downstream(gateway());
    setting.produce(&topic, 0, vec![b"\xff\xff\xff".as_slice().into()]).await;
    let strangers = vec![
        ack("answer of another life", origin(INCARNATION - 1, HERE.0)),
        ack("another gateway's", Some(elsewhere)),
        ack("nobody's", origin(INCARNATION, 0)),
        ack("no origin", None),
        ack("no such shard", origin(INCARNATION, Address::new(200, 1, 1).0)),
        Item::Push(Push { message: None, ..push(1, vec![HERE.0]) }),
        Item::Signal(Signal {
            addresses: vec![HERE.0],
            frame_type: "x".into(),
            payload: b"no json".to_vec().into(),
            ..Signal::default()
        }),
        Item::Kick(Kick { address: HERE.0, close_code: 70_000, reason: String::new() }),
    ];
    setting.downstream(0, 0, strangers).await;
    setting.downstream(0, INCARNATION, vec![ack("mine", origin(INCARNATION, HERE.0))]).await;
    let (data, targets) = shards[0].frame("message-ack").await;
    assert_eq!((data["client_msg_id"].as_str(), targets), (Some("mine"), vec![HERE]));
    let frames = shards[0].rest().into_iter().filter(|heard| !matches!(heard, Heard::Other(Downlink::Accepting(_))));
    assert_eq!(frames.count(), 0);
}

#[tokio::test]
async fn items_go_to_the_shards_of_their_connections() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(2);
    let _control = setting.control(end, config()).await;
    let second = Address::new(1, 7, 3);
    let refusal = Refusal {
        origin: origin(INCARNATION, THERE.0),
        client_msg_id: "c".into(),
        code: ErrorCode::Muted.number(),
        ..Refusal::default()
    };
    let payload = br#"{"conversationId":"c","updates":{"unreadCount":1}}"#.to_vec().into();
    let items = vec![
        Item::Push(Push {
            exclude_address: 9,
            exclude_incarnation: INCARNATION,
            ..push(1, vec![THERE.0, HERE.0, 9, second.0])
        }),
        Item::Refusal(refusal),
        Item::Signal(Signal {
            addresses: vec![HERE.0],
            frame_type: "conversation-updated".into(),
            payload,
            ..Signal::default()
        }),
        Item::Kick(Kick { address: THERE.0, close_code: 4004, reason: "bye".into() }),
    ];
    setting.downstream(1, INCARNATION, items).await;
    let (data, targets) = shards[0].frame("new-message").await;
    assert_eq!((data["seqId"].as_i64(), targets), (Some(1), vec![HERE]));
    assert_eq!(shards[1].frame("new-message").await.1, [THERE, second]);
    assert_eq!(shards[1].frame("error").await.0["code"], "MUTED");
    assert_eq!(shards[0].frame("conversation-updated").await.0["updates"]["unreadCount"], 1);
    let kicked = shards[1].told(|item| match item {
        Downlink::Close { address, code, .. } => Some((*address, *code)),
        _ => None,
    });
    assert_eq!(kicked.await, (THERE, CloseCode::LoggedOut));
}

#[tokio::test]
async fn a_full_shard_delays_but_loses_and_reorders_nothing() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(2);
    let _control = setting.control(end, config()).await;
    const COUNT: i64 = 3_000;
    for seq in 1..=COUNT {
        setting.downstream(0, INCARNATION, vec![Item::Push(push(seq, vec![HERE.0, THERE.0]))]).await;
        if seq % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Shard 1 reads only now, long after its queue was full.
    for shard in [1, 0] {
        let mut seqs = Vec::new();
        while seqs.len() < COUNT as usize {
            // Each in turn, or the full one would hold the other back for ever.
            let (data, _) = tokio::select! {
                frame = shards_frame(&mut shards, shard) => frame,
            };
            seqs.push(data["seqId"].as_i64().unwrap());
        }
        assert!(seqs.iter().copied().eq(1..=COUNT), "shard {shard}");
    }
}

/// A frame of one shard while the other one is emptied too.
async fn shards_frame(shards: &mut [control_support::FakeShard], shard: usize) -> (serde_json::Value, Vec<Address>) {
    let (first, second) = shards.split_at_mut(1);
    let (wanted, other) = if shard == 0 { (&mut first[0], &mut second[0]) } else { (&mut second[0], &mut first[0]) };
    tokio::select! {
        frame = wanted.frame("new-message") => frame,
        () = other.hear(|_| None::<()>) => unreachable!("nothing is picked"),
    }
}

#[tokio::test]
async fn senders_are_slowed_while_persistence_lags() {
    let setting = Setting::new().await;
    let (end, mut shards) = shards(1);
    let _control = setting.control(end, config()).await;
    shards[0].accepting(true).await;
    let empty = bytes::Bytes::from_static(b"x");
    for partition in 0..PARTITIONS {
        setting.produce(topics::MESSAGES_PERSIST, partition, vec![empty.clone(); 30_000]).await;
    }
    let slowed = |item: &Downlink| match item {
        Downlink::SlowDown { retry_after_s } => Some(*retry_after_s),
        _ => None,
    };
    assert!(shards[0].told(slowed).await > 0);
    let position = |partition| Position { partition, offset: 30_000 };
    setting.repo.0.lock().unwrap().positions = (0..PARTITIONS).map(position).collect();
    assert_eq!(shards[0].told(slowed).await, 0);
}
