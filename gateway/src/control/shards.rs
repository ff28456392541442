//! Sending to shards: one batch and one wake-up per shard for whatever was collected. Never reorders what one owner
//! sends to one shard, and never drops it: it waits.

use std::sync::Arc;

use futures::future::join_all;
use gochat_infra::telemetry::metrics::Counter;
use gochat_proto::ids::Address;

use super::rooms::ShardSet;
use super::stats::DownlinkStats;
use crate::bridge::{Downlink, DownlinkBatch, OutFrame, ShardSender};

/// All shards, by number. Cheap to clone; each owner of a clone keeps its own order.
#[derive(Clone)]
pub(crate) struct Shards {
    senders: Arc<[ShardSender]>,
    full: Counter,
    pushes: Counter,
}

impl Shards {
    pub(crate) fn new(senders: Vec<ShardSender>, stats: &DownlinkStats) -> Shards {
        Shards { senders: senders.into(), full: stats.full.clone(), pushes: stats.pushes.clone() }
    }

    /// Nothing collected yet.
    pub(crate) fn batches(&self) -> Batches {
        Batches { shards: self.clone(), batches: self.senders.iter().map(|_| None).collect() }
    }

    /// Tells every shard the same.
    pub(crate) async fn tell_all(&self, make: impl Fn() -> Downlink) {
        let mut batches = self.batches();
        batches.push_to_all(make);
        batches.send().await;
    }

    async fn send_one(&self, sender: &ShardSender, batch: DownlinkBatch) {
        let Err(batch) = sender.try_send(batch) else { return };
        self.full.inc();
        // A shard that has ended has no connections left to tell.
        let _ = sender.send(batch).await;
    }
}

/// What is to be sent, collected by shard.
pub(crate) struct Batches {
    shards: Shards,
    batches: Vec<Option<DownlinkBatch>>,
}

impl Batches {
    /// Adds one item for a connection; nothing when there is no such shard.
    pub(crate) fn push(&mut self, address: Address, item: Downlink) {
        let shard = usize::from(address.shard());
        if shard < self.batches.len() {
            self.batch(shard).push(item);
        }
    }

    /// Adds one frame for one connection.
    pub(crate) fn frame(&mut self, address: Address, frame: OutFrame) {
        let shard = usize::from(address.shard());
        if shard < self.batches.len() {
            self.shards.pushes.inc();
            self.batch(shard).frame([address], frame);
        }
    }

    /// Adds one frame for many connections, once per shard that has some of them.
    pub(crate) fn frame_to_many(&mut self, addresses: &[u64], frame: &OutFrame) {
        if let [address] = addresses {
            return self.frame(Address(*address), frame.clone());
        }
        for shard in 0..self.batches.len() {
            let here = |address: &Address| usize::from(address.shard()) == shard;
            let targets = || addresses.iter().map(|address| Address(*address)).filter(here);
            let count = targets().count();
            if count > 0 {
                self.shards.pushes.add(count as u64);
                self.batch(shard).frame(targets(), frame.clone());
            }
        }
    }

    /// Adds the same for each of these shards.
    pub(crate) fn push_to(&mut self, shards: ShardSet, make: impl Fn() -> Downlink) {
        for shard in (0..self.batches.len()).filter(|shard| shards.contains(*shard)) {
            self.batch(shard).push(make());
        }
    }

    /// Adds the same for every shard.
    pub(crate) fn push_to_all(&mut self, make: impl Fn() -> Downlink) {
        (0..self.batches.len()).for_each(|shard| self.batch(shard).push(make()));
    }

    /// Adds one item for every shard, made from those of the addresses that are its own.
    pub(crate) fn push_each(&mut self, addresses: &[Address], make: impl Fn(Box<[Address]>) -> Downlink) {
        for shard in 0..self.batches.len() {
            let own = addresses.iter().filter(|address| usize::from(address.shard()) == shard).copied().collect();
            self.batch(shard).push(make(own));
        }
    }

    /// Hands everything over; waits for shards whose queue is full, for all of them at once.
    pub(crate) async fn send(self) {
        let Batches { shards, batches } = self;
        let sends = shards.senders.iter().zip(batches);
        join_all(sends.filter_map(|(sender, batch)| batch.map(|batch| shards.send_one(sender, batch)))).await;
    }

    fn batch(&mut self, shard: usize) -> &mut DownlinkBatch {
        self.batches[shard].get_or_insert_with(|| self.shards.senders[shard].batch())
    }
}
