//! What reaches the one gateway, read as that gateway would.

use std::time::Duration;

use gochat_infra::bus::{BatchLimits, Bus, StartAt};
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamRecord, Kick, RoomChange};
use gochat_proto::ids::GatewayId;
use gochat_proto::topics;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

const LIMITS: BatchLimits = BatchLimits { records_max: 100, bytes_max: 1 << 20 };
/// A frame that has not come by then never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Items in the order in which they came; each is taken once.
pub(crate) struct Wire(Mutex<(mpsc::UnboundedReceiver<Item>, Vec<Item>)>);

impl Wire {
    pub(crate) async fn listen(bus: &dyn Bus, gateway: GatewayId) -> Wire {
        let topic = topics::downstream(gateway);
        let (sender, receiver) = mpsc::unbounded_channel();
        for partition in 0..bus.partitions(&topic).await.unwrap() {
            let mut stream = bus.assign(&topic, partition, StartAt::End).await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Ok(records) = stream.next_batch(LIMITS).await {
                    for record in records {
                        let record = DownstreamRecord::decode(record.value).unwrap();
                        for item in record.items.into_iter().filter_map(|item| item.item) {
                            let _ = sender.send(item);
                        }
                    }
                }
            });
        }
        Wire(Mutex::new((receiver, Vec::new())))
    }

    /// Data of the next frame of this type for a connection.
    pub(crate) async fn frame(&self, address: u64, kind: &str) -> Value {
        self.take(&format!("{kind} for {address}"), address, |item| match item {
            Item::Signal(s) if s.frame_type == kind && s.addresses.contains(&address) => {
                Some(serde_json::from_slice(&s.payload).unwrap())
            }
            _ => None,
        })
        .await
    }

    /// Data and membership version of the next frame of this type for a room.
    pub(crate) async fn room_frame(&self, conversation: &str, kind: &str) -> (Value, i64) {
        self.take(&format!("{kind} for {conversation}"), 0, |item| match item {
            Item::Signal(s) if s.frame_type == kind && s.target_conversation_id == conversation => {
                Some((serde_json::from_slice(&s.payload).unwrap(), s.membership_version))
            }
            _ => None,
        })
        .await
    }

    /// The next change of a room.
    pub(crate) async fn room_change(&self, conversation: &str) -> RoomChange {
        self.take("a room change", 0, |item| match item {
            Item::Room(change) if change.conversation_id == conversation => Some(change.clone()),
            _ => None,
        })
        .await
    }

    /// The next kick of a connection.
    pub(crate) async fn kick(&self, address: u64) -> Kick {
        self.take(&format!("kick of {address}"), address, |item| match item {
            Item::Kick(kick) if kick.address == address => Some(kick.clone()),
            _ => None,
        })
        .await
    }

    /// The next message of this type pushed to a connection: its content.
    pub(crate) async fn message(&self, address: u64, message_type: i32) -> gochat_proto::bus::v1::ChatMessage {
        self.take(&format!("message of type {message_type} for {address}"), address, |item| match item {
            Item::Push(push) if push.addresses.contains(&address) => {
                push.message.clone().filter(|message| message.message_type == message_type)
            }
            _ => None,
        })
        .await
    }

    /// Types of the frames that came for a connection and were not taken.
    pub(crate) async fn left(&self, address: u64) -> Vec<String> {
        let mut inner = self.0.lock().await;
        let (receiver, seen) = &mut *inner;
        while let Ok(item) = receiver.try_recv() {
            seen.push(item);
        }
        let kinds = seen.iter().filter_map(|item| match item {
            Item::Signal(s) if s.addresses.contains(&address) => Some(s.frame_type.clone()),
            _ => None,
        });
        kinds.collect()
    }

    /// The first item that is `wanted`; it is gone afterwards, for this address or, with address 0, altogether.
    async fn take<T>(&self, what: &str, address: u64, wanted: impl Fn(&Item) -> Option<T>) -> T {
        let mut inner = self.0.lock().await;
        let (receiver, seen) = &mut *inner;
        let mut at = 0;
        loop {
            while at < seen.len() {
                if let Some(found) = wanted(&seen[at]) {
                    if is_used_up(&mut seen[at], address) {
                        seen.remove(at);
                    }
                    return found;
                }
                at += 1;
            }
            let next = tokio::time::timeout(PATIENCE, receiver.recv()).await;
            let Ok(Some(item)) = next else { panic!("no {what} came; left: {seen:?}") };
            seen.push(item);
        }
    }
}

/// A frame for several connections stays for the others.
fn is_used_up(item: &mut Item, address: u64) -> bool {
    let addresses = match item {
        Item::Signal(signal) => &mut signal.addresses,
        Item::Push(push) => &mut push.addresses,
        _ => return true,
    };
    addresses.retain(|other| *other != address);
    addresses.is_empty()
}
