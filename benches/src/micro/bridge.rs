//! The steps between control and a shard, both ends in one thread: `bridge-down`, one frame for a hundred connections is handed
//! over, taken and given back; `bridge-up`, a hundred records are collected, handed over, read and given back.

use std::hint::black_box;

use gochat_gateway::bridge::{FrameClass, OutFrame, bridge};
use gochat_proto::ids::Address;
use gochat_ring::{Epoll, Reactor, RingConfig};

use super::Outcome;
use super::case::{Case, OURS, Work, checked};

const MANY: usize = 100;
const VALUE: [u8; 150] = [b'x'; 150];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("bridge-down-100", OURS, down), Case::new("bridge-up-100", OURS, up)]
}

fn down() -> Outcome<Work> {
    let (control, mut shards) = bridge(vec![Epoll::new(&RingConfig::default())?.waker()]);
    let mut shard = shards.pop().ok_or("the bridge has no shard")?;
    let frame = OutFrame::text(&VALUE, FrameClass::Chat);
    checked(&MANY, move || {
        let mut batch = control.shards[0].batch();
        batch.frame([Address::NONE; MANY], frame.clone());
        if control.shards[0].try_send(batch).is_err() {
            return 0;
        }
        let Some(mut batch) = shard.downlink.try_recv() else { return 0 };
        let (items, targets) = batch.parts();
        let handed_over = items.count() * targets.len();
        shard.downlink.recycle(batch);
        handed_over
    })
}

fn up() -> Outcome<Work> {
    let (mut control, mut shards) = bridge(vec![Epoll::new(&RingConfig::default())?.waker()]);
    let mut shard = shards.pop().ok_or("the bridge has no shard")?;
    checked(&MANY, move || {
        for _ in 0..MANY {
            let record = shard.uplink.record(3, VALUE.len(), |buffer| {
                buffer.extend_from_slice(&VALUE);
                0..24
            });
            if record.is_err() {
                return 0;
            }
        }
        shard.uplink.flush();
        let Some(batch) = control.uplinks.try_recv() else { return 0 };
        let read = batch.records().map(black_box).count();
        control.uplinks.recycle(batch);
        read
    })
}
