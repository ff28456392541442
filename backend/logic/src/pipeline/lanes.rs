//! The way to the gateways' downstream topics, one lane a gateway (pipeline.md F4).
//!
//! Owns order within a lane: while a record is held back, later ones of that gateway wait behind it. Bounded in bytes
//! and age; what is finally dropped is counted. Never looks into a record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use gochat_infra::backoff::Backoff;
use gochat_infra::bus::{Bus, BusError, Headers, Offset, Record};
use gochat_proto::ids::GatewayId;
use gochat_proto::topics;
use tokio::time::Instant;

use super::stats::Stats;

/// Payload type in the record's headers.
pub(crate) const DOWNSTREAM_RECORD: &str = "DownstreamRecord";

/// What held records may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldLimits {
    pub(crate) bytes_max: usize,
    pub(crate) age_max: Duration,
}

/// Lanes to all gateways of one upstream partition.
pub(crate) struct Lanes {
    bus: Arc<dyn Bus>,
    /// Upstream partition: a conversation always takes the same downstream partition.
    partition: u32,
    limits: HeldLimits,
    stats: Stats,
    routes: BTreeMap<u32, Route>,
    held: BTreeMap<u32, Lane>,
}

#[derive(Clone)]
struct Route {
    topic: String,
    partition: u32,
}

struct Lane {
    records: VecDeque<Held>,
    bytes: usize,
    backoff: Backoff,
    due: Instant,
}

struct Held {
    value: Bytes,
    produced_at_ms: i64,
    since: Instant,
    /// First offset of its upstream batch, which is not committed before this record has gone.
    batch: Offset,
}

impl Lanes {
    pub(crate) fn new(bus: Arc<dyn Bus>, partition: u32, limits: HeldLimits, stats: Stats) -> Lanes {
        Lanes { bus, partition, limits, stats, routes: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Produces what one batch has for gateways; what fails for now is held. Fails only when the bus itself has ended.
    pub(crate) async fn send(
        &mut self,
        outgoing: Vec<(u32, Vec<Bytes>)>,
        batch: Offset,
        produced_at_ms: i64,
    ) -> Result<(), BusError> {
        let mut now = Vec::new();
        for (gateway, values) in outgoing {
            match self.held.get_mut(&gateway) {
                Some(lane) => {
                    let since = Instant::now();
                    for value in values {
                        lane.bytes += value.len();
                        lane.records.push_back(Held { value, produced_at_ms, since, batch });
                    }
                    self.shed(gateway);
                }
                None => match self.route(gateway).await {
                    Ok(route) => now.push((gateway, route, values)),
                    Err(error) => self.failed(gateway, values, batch, produced_at_ms, error)?,
                },
            }
        }
        let bus = &self.bus;
        let results = join_all(now.into_iter().map(|(gateway, route, values)| async move {
            let records = values.iter().map(|v| record(v.clone(), produced_at_ms)).collect();
            let result = bus.produce(&route.topic, route.partition, records).await;
            (gateway, values, result)
        }))
        .await;
        for (gateway, values, result) in results {
            if let Err(error) = result {
                self.failed(gateway, values, batch, produced_at_ms, error)?;
            }
        }
        Ok(())
    }

    /// When the next held record is to be tried again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.values().map(|lane| lane.due).min()
    }

    /// First offset of the oldest batch that still has a record held.
    pub(crate) fn oldest_batch(&self) -> Option<Offset> {
        self.held.values().filter_map(|lane| lane.records.front()).map(|held| held.batch).min()
    }

    /// Tries every lane that is due. Fails only when the bus itself has ended.
    pub(crate) async fn retry(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let due: Vec<u32> = self.held.iter().filter(|(_, l)| l.due <= now).map(|(g, _)| *g).collect();
        for gateway in due {
            self.stats.retries.inc();
            self.shed(gateway);
            self.drain(gateway).await?;
        }
        Ok(())
    }

    async fn drain(&mut self, gateway: u32) -> Result<(), BusError> {
        let route = match self.route(gateway).await {
            Ok(route) => route,
            Err(error) => return self.postpone(gateway, error),
        };
        while let Some(held) = self.held.get(&gateway).and_then(|lane| lane.records.front()) {
            let records = vec![record(held.value.clone(), held.produced_at_ms)];
            if let Err(error) = self.bus.produce(&route.topic, route.partition, records).await {
                return self.postpone(gateway, error);
            }
            if let Some(lane) = self.held.get_mut(&gateway)
                && let Some(gone) = lane.records.pop_front()
            {
                lane.bytes -= gone.value.len();
            }
        }
        self.held.remove(&gateway);
        Ok(())
    }

    fn failed(
        &mut self,
        gateway: u32,
        values: Vec<Bytes>,
        batch: Offset,
        produced_at_ms: i64,
        error: BusError,
    ) -> Result<(), BusError> {
        if !error.is_retryable() {
            return self.give_up(gateway, values.len(), error);
        }
        let mut backoff = Backoff::default();
        let since = Instant::now();
        let lane = Lane {
            bytes: values.iter().map(Bytes::len).sum(),
            records: values.into_iter().map(|value| Held { value, produced_at_ms, since, batch }).collect(),
            due: since + backoff.next_delay(),
            backoff,
        };
        tracing::warn!(gateway, %error, "downstream topic cannot be reached, holding its records back");
        self.held.insert(gateway, lane);
        Ok(())
    }

    fn postpone(&mut self, gateway: u32, error: BusError) -> Result<(), BusError> {
        if error.is_retryable() {
            if let Some(lane) = self.held.get_mut(&gateway) {
                lane.due = Instant::now() + lane.backoff.next_delay();
            }
            return Ok(());
        }
        let records = self.held.remove(&gateway).map_or(0, |lane| lane.records.len());
        self.give_up(gateway, records, error)
    }

    /// A topic that is not there belongs to no gateway any more; a bus that has ended ends the worker.
    fn give_up(&mut self, gateway: u32, records: usize, error: BusError) -> Result<(), BusError> {
        if matches!(error, BusError::Stopped(_) | BusError::Closed) {
            return Err(error);
        }
        self.stats.pushes_dropped.add(records as u64);
        self.routes.remove(&gateway);
        tracing::warn!(gateway, records, %error, "downstream records dropped");
        Ok(())
    }

    /// Drops what is too old or too much, oldest first: clients pull what they missed.
    fn shed(&mut self, gateway: u32) {
        let Some(lane) = self.held.get_mut(&gateway) else { return };
        let before = lane.records.len();
        while lane
            .records
            .front()
            .is_some_and(|h| lane.bytes > self.limits.bytes_max || h.since.elapsed() > self.limits.age_max)
        {
            if let Some(gone) = lane.records.pop_front() {
                lane.bytes -= gone.value.len();
            }
        }
        let dropped = before - lane.records.len();
        if dropped > 0 {
            self.stats.pushes_dropped.add(dropped as u64);
            tracing::warn!(gateway, dropped, "downstream records held for too long were dropped");
        }
    }

    async fn route(&mut self, gateway: u32) -> Result<Route, BusError> {
        if let Some(route) = self.routes.get(&gateway) {
            return Ok(route.clone());
        }
        let topic = match GatewayId::new(gateway) {
            Some(id) => topics::downstream(id),
            None => return Err(BusError::UnknownPartition { topic: gateway.to_string(), partition: 0 }),
        };
        let partitions = self.bus.partitions(&topic).await?;
        let route = Route { topic, partition: self.partition % partitions.max(1) };
        self.routes.insert(gateway, route.clone());
        Ok(route)
    }
}

fn record(value: Bytes, produced_at_ms: i64) -> Record {
    let headers = Headers { trace_id: Bytes::new(), payload_type: DOWNSTREAM_RECORD, produced_at_ms };
    Record { key: Bytes::new(), value, headers }
}
