//! Appends to the upstream topic: per partition at most one append in flight, the next one collects meanwhile, so that
//! order holds and batches grow with load. Never retries: whoever sent what failed is told and sends again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use gochat_infra::bus::{Bus, BusError, Headers, Record, partition_of};
use gochat_infra::clock::Clock;
use gochat_proto::topics;
use tokio::sync::mpsc;

use super::stats::UplinkStats;

/// Records of one append.
const APPEND_RECORDS_MAX: usize = 4096;
/// Bytes of one append, but for its last record.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// Bytes that may wait for all partitions together; what comes beyond is refused.
const WAITING_BYTES_MAX: usize = 64 << 20;
const SUBMITS_MAX: usize = 1024;

/// One message on its way to the upstream topic.
#[derive(Clone, Debug)]
pub(crate) struct Submit {
    /// Partition of its conversation.
    pub(crate) partition: u32,
    /// The conversation id.
    pub(crate) key: Bytes,
    /// The encoded `UpstreamMessage`.
    pub(crate) value: Bytes,
    /// Empty when there is none.
    pub(crate) trace_id: Bytes,
}

/// The uplink loop is gone: the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// Submits messages that do not come from a shard.
#[derive(Clone)]
pub(crate) struct UpstreamHandle {
    submits: mpsc::Sender<Submit>,
    partitions: u32,
}

impl UpstreamHandle {
    /// A handle, and where its messages come out.
    pub(crate) fn new(partitions: u32) -> (UpstreamHandle, mpsc::Receiver<Submit>) {
        let (submits, inbox) = mpsc::channel(SUBMITS_MAX);
        (UpstreamHandle { submits, partitions }, inbox)
    }

    /// Hands one message over; whether it was appended shows in what comes back to its origin.
    pub(crate) async fn submit(&self, conversation_id: &str, value: Bytes, trace_id: Bytes) -> Result<(), Ended> {
        let partition = partition_of(conversation_id.as_bytes(), self.partitions);
        let key = Bytes::copy_from_slice(conversation_id.as_bytes());
        self.submits.send(Submit { partition, key, value, trace_id }).await.map_err(|_| Ended)
    }
}

/// An append has ended.
struct Appended {
    partition: usize,
    values: Vec<Bytes>,
    result: Result<(), BusError>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Submit>,
    is_busy: bool,
}

/// The appends of all partitions.
pub(crate) struct Upstream {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    lanes: Vec<Lane>,
    in_flight: FuturesUnordered<BoxFuture<'static, Appended>>,
    waiting_bytes: usize,
    stats: UplinkStats,
}

impl Upstream {
    pub(crate) fn new(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, partitions: u32, stats: UplinkStats) -> Upstream {
        let lanes = (0..partitions).map(|_| Lane::default()).collect();
        Upstream { bus, clock, lanes, in_flight: FuturesUnordered::new(), waiting_bytes: 0, stats }
    }

    /// Takes one message, or gives its value back when there is no room or no such partition.
    pub(crate) fn push(&mut self, submit: Submit) -> Result<(), Bytes> {
        let bytes = submit.value.len();
        match self.lanes.get_mut(submit.partition as usize) {
            Some(lane) if self.waiting_bytes + bytes <= WAITING_BYTES_MAX => {
                self.waiting_bytes += bytes;
                lane.waiting.push_back(submit);
                Ok(())
            }
            Some(_) | None => {
                self.stats.refused.inc();
                Err(submit.value)
            }
        }
    }

    /// Starts an append for every partition that has something and none in flight.
    pub(crate) fn start(&mut self) {
        for partition in 0..self.lanes.len() {
            if !self.lanes[partition].is_busy && !self.lanes[partition].waiting.is_empty() {
                self.append(partition);
            }
        }
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Waits for the next append to end, starts the one behind it, and gives the values back that were not appended.
    /// Pending for ever when none is in flight. Cancel safe.
    pub(crate) async fn next_failed(&mut self) -> Vec<Bytes> {
        let Some(Appended { partition, values, result }) = self.in_flight.next().await else {
            return std::future::pending().await;
        };
        self.lanes[partition].is_busy = false;
        if !self.lanes[partition].waiting.is_empty() {
            self.append(partition);
        }
        match result {
            Ok(()) => {
                self.stats.produced.add(values.len() as u64);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(partition, records = values.len(), %error, "messages were not appended");
                self.stats.refused.add(values.len() as u64);
                values
            }
        }
    }

    fn append(&mut self, partition: usize) {
        let produced_at_ms = self.clock.unix_ms();
        let lane = &mut self.lanes[partition];
        let (mut records, mut values, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < APPEND_BYTES_MAX
            && records.len() < APPEND_RECORDS_MAX
            && let Some(submit) = lane.waiting.pop_front()
        {
            bytes += submit.value.len();
            values.push(submit.value.clone());
            let headers = Headers { trace_id: submit.trace_id, payload_type: "UpstreamMessage", produced_at_ms };
            records.push(Record { key: submit.key, value: submit.value, headers });
        }
        lane.is_busy = true;
        self.waiting_bytes -= bytes;
        self.stats.batch.record(records.len() as u64);
        let bus = Arc::clone(&self.bus);
        self.in_flight.push(Box::pin(async move {
            let result = bus.produce(topics::MESSAGES_UPSTREAM, partition as u32, records).await.map(|_| ());
            Appended { partition, values, result }
        }));
    }
}
