//! Relays corrected acknowledgements from the store's outbox to the gateways they came from (pipeline.md B5).
//!
//! At least once, oldest first. Never makes one: repo writes them in the transaction that voids a number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gochat_infra::bus::{BusError, Headers, Record, partition_of};
use gochat_infra::rpc;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{Ack, DownstreamItem, DownstreamRecord};
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{DeleteOutboxRequest, ListOutboxRequest, OutboxEntry};
use gochat_proto::topics;
use prost::Message as _;
use tokio::sync::{Notify, watch};

use crate::config::{TaskConfig, TaskDeps};
use crate::stats::Stats;
use gochat_infra::backoff::{Backoff, asked_to_stop};

/// Deadline of one call to repo.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Entries of one round.
const ENTRIES_MAX: u32 = 256;

/// The relay of one task process.
pub(crate) struct Relay {
    pub(crate) deps: TaskDeps,
    pub(crate) config: TaskConfig,
    pub(crate) stats: Stats,
    pub(crate) pending: Arc<Notify>,
    pub(crate) shutdown: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("repo: {0}")]
    Repo(#[from] tonic::Status),
    #[error("bus: {0}")]
    Bus(#[from] BusError),
}

impl Relay {
    /// Relays at start, when told, and now and then; until the process shuts down.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.drain().await {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => {
                    tracing::warn!(%error, "outbox not relayed, trying again");
                    if !backoff.pause(&mut self.shutdown).await {
                        return;
                    }
                    continue;
                }
            }
            tokio::select! {
                biased;
                () = asked_to_stop(&mut self.shutdown) => return,
                () = self.pending.notified() => {}
                () = tokio::time::sleep(self.config.outbox_period) => {}
            }
        }
    }

    async fn drain(&self) -> Result<(), RelayError> {
        let mut pipeline = PipelineServiceClient::new(self.deps.repo.clone());
        loop {
            let list = rpc::request(ListOutboxRequest { limit: ENTRIES_MAX, wait_ms: 0 }, CALL_DEADLINE);
            let entries = pipeline.list_outbox(list).await?.into_inner().entries;
            if entries.is_empty() {
                return Ok(());
            }
            let ids: Vec<i64> = entries.iter().map(|e| e.id).collect();
            self.relay(entries).await?;
            self.stats.relayed.add(ids.len() as u64);
            pipeline.delete_outbox(rpc::request(DeleteOutboxRequest { ids }, CALL_DEADLINE)).await?;
        }
    }

    async fn relay(&self, entries: Vec<OutboxEntry>) -> Result<(), RelayError> {
        let mut by_gateway: BTreeMap<(u32, u64), Vec<Ack>> = BTreeMap::new();
        for ack in entries.into_iter().filter_map(|entry| entry.ack) {
            if let Some(origin) = ack.origin {
                by_gateway.entry((origin.gateway, origin.incarnation)).or_default().push(ack);
            }
        }
        for ((gateway, incarnation), acks) in by_gateway {
            let Some(gateway) = GatewayId::new(gateway) else { continue };
            match self.produce(&topics::downstream(gateway), incarnation, acks).await {
                Ok(()) => {}
                // That gateway is gone, and with it the connection that waited.
                Err(BusError::UnknownPartition { .. }) => {
                    tracing::info!(%gateway, "no such gateway any more, corrected acknowledgements dropped");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn produce(&self, topic: &str, incarnation: u64, acks: Vec<Ack>) -> Result<(), BusError> {
        let partitions = self.deps.bus.partitions(topic).await?;
        let mut by_partition: BTreeMap<u32, Vec<DownstreamItem>> = BTreeMap::new();
        for ack in acks {
            let partition = partition_of(ack.conversation_id.as_bytes(), partitions);
            let item = Item::Ack(Ack { corrected: true, ..ack });
            by_partition.entry(partition).or_default().push(DownstreamItem { item: Some(item) });
        }
        for (partition, items) in by_partition {
            let headers = Headers {
                trace_id: Bytes::new(),
                payload_type: "DownstreamRecord",
                produced_at_ms: self.deps.clock.unix_ms(),
            };
            let value = DownstreamRecord { incarnation, items }.encode_to_vec().into();
            self.deps.bus.produce(topic, partition, vec![Record { key: Bytes::new(), value, headers }]).await?;
        }
        Ok(())
    }
}
