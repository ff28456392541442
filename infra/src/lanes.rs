//! The way to topics that may fail for a while, one lane a topic (pipeline.md F4).
//!
//! Owns order within a lane: while a record is held back, later ones of that topic wait behind it. Bounded in bytes
//! and age; what is finally dropped is counted. Never looks into a record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::bus::{Bus, BusError, Headers, Offset, Record};
use crate::telemetry::metrics::Counter;

/// What held records of one topic may take.
#[derive(Clone, Copy, Debug)]
pub struct HeldLimits {
    /// Bytes at most; above it the oldest are dropped.
    pub bytes_max: usize,
    /// Time at most.
    pub age_max: Duration,
}

/// What lanes count.
#[derive(Clone)]
pub struct LaneCounters {
    /// Attempts that were repeated.
    pub retries: Counter,
    /// Records finally dropped.
    pub dropped: Counter,
}

/// What one batch has for one topic, in order.
pub struct Parcel {
    /// Topic it goes to.
    pub topic: String,
    /// `X-Payload-Type` of its records.
    pub payload_type: &'static str,
    /// Key and value of each record.
    pub records: Vec<(Bytes, Bytes)>,
}

/// Lanes to the topics that one partition's worker produces to.
pub struct Lanes {
    bus: Arc<dyn Bus>,
    /// Of the worker: what it reads takes the partition of the same number, modulo those the topic has.
    partition: u32,
    limits: HeldLimits,
    counters: LaneCounters,
    /// Partition of a topic.
    routes: BTreeMap<String, u32>,
    held: BTreeMap<String, Lane>,
}

struct Lane {
    records: VecDeque<Held>,
    bytes: usize,
    backoff: Backoff,
    due: Instant,
}

struct Held {
    record: Record,
    since: Instant,
    /// First offset of its batch, which is not committed before this record has gone.
    batch: Offset,
}

impl Lanes {
    /// Lanes of the worker of `partition`; nothing is held.
    pub fn new(bus: Arc<dyn Bus>, partition: u32, limits: HeldLimits, counters: LaneCounters) -> Lanes {
        Lanes { bus, partition, limits, counters, routes: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Produces what one batch has, each topic once; what fails for now is held.
    ///
    /// # Errors
    /// The bus itself has ended.
    pub async fn send(&mut self, parcels: Vec<Parcel>, batch: Offset, produced_at_ms: i64) -> Result<(), BusError> {
        let mut now = Vec::new();
        for parcel in parcels {
            let records = parcel.records.into_iter().map(|(key, value)| Record {
                key,
                value,
                headers: Headers { trace_id: Bytes::new(), payload_type: parcel.payload_type, produced_at_ms },
            });
            let records: Vec<Record> = records.collect();
            match self.held.get_mut(&parcel.topic) {
                Some(lane) => {
                    let since = Instant::now();
                    lane.bytes += bytes_of(&records);
                    lane.records.extend(records.into_iter().map(|record| Held { record, since, batch }));
                    self.shed(&parcel.topic);
                }
                None => match self.route(&parcel.topic).await {
                    Ok(partition) => now.push((parcel.topic, partition, records)),
                    Err(error) => self.failed(parcel.topic, records, batch, error)?,
                },
            }
        }
        let bus = &self.bus;
        let results = join_all(now.into_iter().map(|(topic, partition, records)| async move {
            let result = bus.produce(&topic, partition, records.clone()).await;
            (topic, records, result)
        }))
        .await;
        for (topic, records, result) in results {
            if let Err(error) = result {
                self.failed(topic, records, batch, error)?;
            }
        }
        Ok(())
    }

    /// When the next held record is to be tried again.
    pub fn due(&self) -> Option<Instant> {
        self.held.values().map(|lane| lane.due).min()
    }

    /// First offset of the oldest batch that still has a record held.
    pub fn oldest_batch(&self) -> Option<Offset> {
        self.held.values().filter_map(|lane| lane.records.front()).map(|held| held.batch).min()
    }

    /// Tries every lane that is due.
    ///
    /// # Errors
    /// The bus itself has ended.
    pub async fn retry(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let due: Vec<String> = self.held.iter().filter(|(_, l)| l.due <= now).map(|(t, _)| t.clone()).collect();
        for topic in due {
            self.counters.retries.inc();
            self.shed(&topic);
            self.drain(&topic).await?;
        }
        Ok(())
    }

    async fn drain(&mut self, topic: &str) -> Result<(), BusError> {
        let partition = match self.route(topic).await {
            Ok(partition) => partition,
            Err(error) => return self.postpone(topic, error),
        };
        while let Some(held) = self.held.get(topic).and_then(|lane| lane.records.front()) {
            if let Err(error) = self.bus.produce(topic, partition, vec![held.record.clone()]).await {
                return self.postpone(topic, error);
            }
            if let Some(lane) = self.held.get_mut(topic)
                && let Some(gone) = lane.records.pop_front()
            {
                lane.bytes -= gone.record.value.len();
            }
        }
        self.held.remove(topic);
        Ok(())
    }

    fn failed(&mut self, topic: String, records: Vec<Record>, batch: Offset, error: BusError) -> Result<(), BusError> {
        if !error.is_retryable() {
            return self.give_up(&topic, records.len(), error);
        }
        tracing::warn!(topic, %error, "a topic cannot be reached, holding its records back");
        let mut backoff = Backoff::default();
        let since = Instant::now();
        let lane = Lane {
            bytes: bytes_of(&records),
            records: records.into_iter().map(|record| Held { record, since, batch }).collect(),
            due: since + backoff.next_delay(),
            backoff,
        };
        self.held.insert(topic, lane);
        Ok(())
    }

    fn postpone(&mut self, topic: &str, error: BusError) -> Result<(), BusError> {
        if error.is_retryable() {
            if let Some(lane) = self.held.get_mut(topic) {
                lane.due = Instant::now() + lane.backoff.next_delay();
            }
            return Ok(());
        }
        let records = self.held.remove(topic).map_or(0, |lane| lane.records.len());
        self.give_up(topic, records, error)
    }

    /// A topic that is not there belongs to nobody any more; a bus that has ended ends the worker.
    fn give_up(&mut self, topic: &str, records: usize, error: BusError) -> Result<(), BusError> {
        if matches!(error, BusError::Stopped(_) | BusError::Closed) {
            return Err(error);
        }
        self.counters.dropped.add(records as u64);
        self.routes.remove(topic);
        tracing::warn!(topic, records, %error, "records dropped");
        Ok(())
    }

    /// Drops what is too old or too much, oldest first: clients pull what they missed.
    fn shed(&mut self, topic: &str) {
        let Some(lane) = self.held.get_mut(topic) else { return };
        let before = lane.records.len();
        while lane
            .records
            .front()
            .is_some_and(|h| lane.bytes > self.limits.bytes_max || h.since.elapsed() > self.limits.age_max)
        {
            if let Some(gone) = lane.records.pop_front() {
                lane.bytes -= gone.record.value.len();
            }
        }
        let dropped = before - lane.records.len();
        if dropped > 0 {
            self.counters.dropped.add(dropped as u64);
            tracing::warn!(topic, dropped, "records held for too long were dropped");
        }
    }

    async fn route(&mut self, topic: &str) -> Result<u32, BusError> {
        if let Some(partition) = self.routes.get(topic) {
            return Ok(*partition);
        }
        let partition = self.partition % self.bus.partitions(topic).await?.max(1);
        self.routes.insert(topic.to_owned(), partition);
        Ok(partition)
    }
}

fn bytes_of(records: &[Record]) -> usize {
    records.iter().map(|record| record.value.len()).sum()
}
