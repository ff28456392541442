//! Relays what transactions of repo have to tell from the store's outbox: domain events to their topics (pipeline.md F2),
//! corrected acknowledgements to the gateways they came from (B5).
//!
//! At least once, in order per key. Never makes one: repo writes them in the transaction of the change.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use gochat_infra::backoff::{Backoff, asked_to_stop};
use gochat_infra::bus::{BusError, Headers, Record, partition_of};
use gochat_infra::rpc;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, DownstreamItem, DownstreamRecord, OutboxEvent};
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{DeleteOutboxRequest, ListOutboxRequest, OutboxEntry};
use gochat_proto::topics;
use prost::Message as _;
use tokio::sync::watch;

use crate::config::TaskDeps;
use crate::leader::Leader;
use crate::stats::Stats;

/// Deadline of one call to repo, beyond what it may wait.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Entries of one round.
const ENTRIES_MAX: u32 = 256;
/// Bytes of one append, unless one record is larger.
const APPEND_BYTES_MAX: usize = 1 << 20;

/// The relay of one task process.
pub(crate) struct Relay {
    pub(crate) deps: TaskDeps,
    /// How long one look at an empty outbox waits.
    pub(crate) wait: Duration,
    pub(crate) stats: Stats,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// Entries of one partition of one topic, in order.
#[derive(Default)]
struct Bundle {
    ids: Vec<i64>,
    records: Vec<Record>,
}

type Bundles = BTreeMap<(String, u32), Bundle>;

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("repo: {0}")]
    Repo(#[from] tonic::Status),
    #[error("bus: {0}")]
    Bus(#[from] BusError),
}

impl Relay {
    /// Relays whatever comes, as long as this process leads the job; until it shuts down.
    pub(crate) async fn run(mut self) {
        let mut leader = Leader::new(self.deps.coord.clone(), "task.outbox");
        let mut shutdown = self.shutdown.clone();
        let mut backoff = Backoff::default();
        while leader.lead(&mut self.shutdown).await {
            let round = tokio::select! {
                biased;
                () = asked_to_stop(&mut shutdown) => return,
                round = self.round() => round,
            };
            match round {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => {
                    tracing::warn!(%error, "outbox not relayed, trying again");
                    if !backoff.pause(&mut self.shutdown).await {
                        return;
                    }
                }
            }
        }
    }

    /// The oldest entries; what a topic does not take stays, and with it everything of its partition.
    async fn round(&self) -> Result<(), RelayError> {
        let mut pipeline = PipelineServiceClient::new(self.deps.repo.clone());
        let wait_ms = u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX);
        let list = ListOutboxRequest { limit: ENTRIES_MAX, wait_ms };
        let list = pipeline.list_outbox(rpc::request(list, self.wait + CALL_DEADLINE)).await?;
        let (bundles, mut ids) = self.sort(list.into_inner().entries).await?;
        let sent = join_all(bundles.into_iter().map(|((topic, partition), bundle)| async move {
            let ids = bundle.ids;
            self.append(&topic, partition, bundle.records).await.map(|()| ids)
        }))
        .await;
        let mut failed = None;
        for result in sent {
            match result {
                Ok(gone) => ids.extend(gone),
                Err(error) => failed = Some(error),
            }
        }
        if !ids.is_empty() {
            self.stats.relayed.add(ids.len() as u64);
            pipeline.delete_outbox(rpc::request(DeleteOutboxRequest { ids }, CALL_DEADLINE)).await?;
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Entries by where they go, and the ids of those that go nowhere.
    async fn sort(&self, entries: Vec<OutboxEntry>) -> Result<(Bundles, Vec<i64>), RelayError> {
        let (mut bundles, mut nowhere) = (Bundles::new(), Vec::new());
        let mut acks: BTreeMap<(GatewayId, u64), Vec<(i64, Ack)>> = BTreeMap::new();
        for entry in entries {
            let origin = entry.ack.as_ref().and_then(|ack| ack.origin);
            let gateway = origin.and_then(|origin| Some((GatewayId::new(origin.gateway)?, origin.incarnation)));
            match (entry.event, entry.ack, gateway) {
                (Some(event), _, _) => self.add_event(&mut bundles, entry.id, event).await?,
                (None, Some(ack), Some(gateway)) => acks.entry(gateway).or_default().push((entry.id, ack)),
                (None, _, _) => nowhere.push(entry.id),
            }
        }
        for ((gateway, incarnation), acks) in acks {
            match self.deps.bus.partitions(&topics::downstream(gateway)).await {
                Ok(partitions) => self.add_acks(&mut bundles, gateway, incarnation, partitions, acks),
                // That gateway is gone, and with it the connection that waited.
                Err(BusError::UnknownPartition { .. }) => {
                    tracing::info!(%gateway, "no such gateway any more, corrected acknowledgements dropped");
                    nowhere.extend(acks.iter().map(|(id, _)| *id));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((bundles, nowhere))
    }

    async fn add_event(&self, bundles: &mut Bundles, id: i64, event: OutboxEvent) -> Result<(), RelayError> {
        let partitions = self.deps.bus.partitions(&event.topic).await?;
        let partition = partition_of(event.key.as_bytes(), partitions);
        let bundle = bundles.entry((event.topic, partition)).or_default();
        bundle.ids.push(id);
        bundle.records.push(self.record(event.key.into(), event.value, "Event"));
        Ok(())
    }

    fn add_acks(
        &self,
        bundles: &mut Bundles,
        gateway: GatewayId,
        incarnation: u64,
        partitions: u32,
        acks: Vec<(i64, Ack)>,
    ) {
        for (id, ack) in acks {
            let partition = partition_of(ack.conversation_id.as_bytes(), partitions);
            let item = DownstreamItem { item: Some(Item::Ack(Ack { corrected: true, ..ack })) };
            let value = DownstreamRecord { incarnation, items: vec![item] }.encode_to_vec().into();
            let bundle = bundles.entry((topics::downstream(gateway), partition)).or_default();
            bundle.ids.push(id);
            bundle.records.push(self.record(Bytes::new(), value, "DownstreamRecord"));
        }
    }

    fn record(&self, key: Bytes, value: Bytes, payload_type: &'static str) -> Record {
        let headers = Headers { trace_id: Bytes::new(), payload_type, produced_at_ms: self.deps.clock.unix_ms() };
        Record { key, value, headers }
    }

    /// In order, in appends of bounded size. A record that no bus takes is given up: it would hold back all behind it.
    async fn append(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<(), BusError> {
        let mut together = Vec::new();
        let mut bytes = 0;
        for record in records {
            if bytes + record.value.len() > APPEND_BYTES_MAX && !together.is_empty() {
                self.produce(topic, partition, std::mem::take(&mut together)).await?;
                bytes = 0;
            }
            bytes += record.value.len();
            together.push(record);
        }
        self.produce(topic, partition, together).await
    }

    async fn produce(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<(), BusError> {
        let count = records.len();
        match self.deps.bus.produce(topic, partition, records).await {
            Err(BusError::TooLarge { bytes, limit }) if count == 1 => {
                tracing::error!(topic, bytes, limit, "an event is larger than the bus takes, dropped");
                self.stats.relay_dropped.inc();
                Ok(())
            }
            result => result.map(|_| ()),
        }
    }
}
