//! Downstream records taken apart: frames for connections by shard, outcomes for waiting HTTP requests. Never sends and
//! never reorders: items of a record, and records of a partition, keep their order towards each shard.

use bytes::Bytes;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamRecord, Kick, Origin};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::{Address, GatewayId};
use prost::Message as _;

use super::frames::FrameWriter;
use super::shards::Batches;
use super::stats::DownlinkStats;
use super::waiting::Outcome;
use crate::bridge::Downlink;

/// Takes records apart for one life of one gateway.
pub(crate) struct Deliverer {
    pub(crate) gateway: GatewayId,
    pub(crate) incarnation: u64,
    pub(crate) frames: FrameWriter,
    pub(crate) stats: DownlinkStats,
}

impl Deliverer {
    /// Adds what one record holds to `batches` and `outcomes`.
    pub(crate) fn record(&mut self, value: Bytes, batches: &mut Batches, outcomes: &mut Vec<(u64, Outcome)>) {
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
                Some(item) => self.item(item, batches, outcomes),
                None => self.stats.malformed.inc(),
            }
        }
    }

    fn item(&mut self, item: Item, batches: &mut Batches, outcomes: &mut Vec<(u64, Outcome)>) {
        match item {
            Item::Ack(ack) => match self.target(ack.origin) {
                Target::Request(request) => outcomes.push((request, Outcome::Acked(ack))),
                Target::Connection(address) => batches.frame(address, self.frames.ack(&ack)),
                Target::Stranger => self.stats.stale.inc(),
            },
            Item::Refusal(refusal) => match self.target(refusal.origin) {
                Target::Request(request) => outcomes.push((request, Outcome::Refused(refusal))),
                Target::Connection(address) => batches.frame(address, self.frames.refusal(&refusal)),
                Target::Stranger => self.stats.stale.inc(),
            },
            Item::Push(mut push) => {
                push.addresses.retain(|address| *address != push.exclude_address);
                // A push for all local members of a conversation needs the gateway's own membership, which groups bring.
                match self.frames.push(&push).filter(|_| push.target_conversation_id.is_empty()) {
                    Some(frame) => batches.frame_to_many(&push.addresses, &frame),
                    None => self.stats.malformed.inc(),
                }
            }
            Item::Signal(signal) => match self.frames.signal(&signal) {
                Some(frame) => batches.frame_to_many(&signal.addresses, &frame),
                None => self.stats.malformed.inc(),
            },
            Item::Kick(kick) => self.kick(&kick, batches),
            Item::Room(_) => self.stats.malformed.inc(),
        }
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
