//! Downstream records taken apart: frames for connections by shard, what concerns rooms, outcomes for waiting HTTP
//! requests. Never sends and never reorders: items of a record, and records of a partition, keep their order towards each
//! shard and towards the rooms.

use bytes::Bytes;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamRecord, Kick, Origin, Push, Signal};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::{Address, GatewayId};
use prost::Message as _;

use super::frames::FrameWriter;
use super::rooms::Entry;
use super::shards::Batches;
use super::stats::DownlinkStats;
use super::waiting::Outcome;
use crate::bridge::Downlink;

/// How ids of conversations begin that may have a room.
const GROUP: &str = "group_";

/// What records hold, by where it goes.
pub(crate) struct Sorted {
    pub(crate) batches: Batches,
    pub(crate) outcomes: Vec<(u64, Outcome)>,
    pub(crate) rooms: Vec<(Box<str>, Entry)>,
}

/// Takes records apart for one life of one gateway.
pub(crate) struct Deliverer {
    pub(crate) gateway: GatewayId,
    pub(crate) incarnation: u64,
    pub(crate) frames: FrameWriter,
    pub(crate) stats: DownlinkStats,
}

impl Deliverer {
    /// Adds what one record holds.
    pub(crate) fn record(&mut self, value: Bytes, sorted: &mut Sorted) {
        self.stats.records.inc();
        let Ok(record) = DownstreamRecord::decode(value) else {
            tracing::error!("a downstream record is not one, dropped");
            return self.stats.malformed.inc();
        };
        if record.incarnation != 0 && record.incarnation != self.incarnation {
            return self.stats.stale.add(record.items.len() as u64);
        }
        for item in record.items {
            match item.item {
                Some(item) => self.item(item, sorted),
                None => self.stats.malformed.inc(),
            }
        }
    }

    fn item(&mut self, item: Item, sorted: &mut Sorted) {
        match item {
            Item::Ack(ack) => match self.target(ack.origin) {
                Target::Request(request) => sorted.outcomes.push((request, Outcome::Acked(ack))),
                Target::Connection(address) => sorted.batches.frame(address, self.frames.ack(&ack)),
                Target::Stranger => self.stats.stale.inc(),
            },
            Item::Refusal(refusal) => match self.target(refusal.origin) {
                Target::Request(request) => sorted.outcomes.push((request, Outcome::Refused(refusal))),
                Target::Connection(address) => sorted.batches.frame(address, self.frames.refusal(&refusal)),
                Target::Stranger => self.stats.stale.inc(),
            },
            Item::Push(push) => self.push(push, sorted),
            Item::Signal(signal) => self.signal(signal, sorted),
            Item::Kick(kick) => self.kick(&kick, &mut sorted.batches),
            Item::Room(change) => {
                sorted.rooms.push((change.conversation_id.as_str().into(), Entry::Change(change)));
            }
        }
    }

    fn push(&mut self, mut push: Push, sorted: &mut Sorted) {
        let Some(frame) = self.frames.push(&push) else { return self.stats.malformed.inc() };
        // An address of another life or gateway may be somebody else's here.
        if push.exclude_incarnation != self.incarnation {
            push.exclude_address = Address::NONE.0;
        }
        if !push.target_conversation_id.is_empty() {
            let (version, exclude) = (push.membership_version, Address(push.exclude_address));
            let entry = Entry::Frame { version, exclude, frame };
            return sorted.rooms.push((push.target_conversation_id.into(), entry));
        }
        push.addresses.retain(|address| *address != push.exclude_address);
        let conversation = match (push.message, push.recalled) {
            (Some(message), _) => message.conversation_id,
            (None, Some(recalled)) => recalled.conversation_id,
            (None, None) => String::new(),
        };
        if conversation.starts_with(GROUP) {
            // Behind what of this group still waits for its members to be known.
            let entry = Entry::Direct { addresses: push.addresses, frame };
            sorted.rooms.push((conversation.into(), entry));
        } else {
            sorted.batches.frame_to_many(&push.addresses, &frame);
        }
    }

    fn signal(&mut self, signal: Signal, sorted: &mut Sorted) {
        let Some(frame) = self.frames.signal(&signal) else { return self.stats.malformed.inc() };
        if signal.target_conversation_id.is_empty() {
            return sorted.batches.frame_to_many(&signal.addresses, &frame);
        }
        let entry = Entry::Frame { version: signal.membership_version, exclude: Address::NONE, frame };
        sorted.rooms.push((signal.target_conversation_id.into(), entry));
    }

    fn kick(&self, kick: &Kick, batches: &mut Batches) {
        let code = u16::try_from(kick.close_code).ok().and_then(CloseCode::from_number);
        let Some(code) = code else { return self.stats.malformed.inc() };
        let address = Address(kick.address);
        batches.push(address, Downlink::Close { address, code, reconnect_after_ms: None });
    }

    /// An answer of a previous life never reaches a stranger (pipeline.md F3).
    fn target(&self, origin: Option<Origin>) -> Target {
        match origin {
            Some(origin) if origin.gateway != self.gateway.number() || origin.incarnation != self.incarnation => {
                Target::Stranger
            }
            Some(Origin { request: 0, address: 0, .. }) | None => Target::Stranger,
            Some(Origin { request: 0, address, .. }) => Target::Connection(Address(address)),
            Some(Origin { request, .. }) => Target::Request(request),
        }
    }
}

enum Target {
    Request(u64),
    Connection(Address),
    Stranger,
}
