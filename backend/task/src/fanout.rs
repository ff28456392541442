//! Large fan-outs: from a task of logic to one record for every gateway that may have members connected (pipeline.md F1).
//!
//! Owns one partition's order: what a gateway does not take is held, later records for it wait behind (F4), and the
//! offset is not committed over it. Never knows who the members are: the gateways do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use gochat_infra::backoff::{Backoff, asked_to_stop, sleep_until};
use gochat_infra::bus::{BatchLimits, BusError, Consumed, Offset, PartitionStream, StartAt};
use gochat_infra::clock::Clock;
use gochat_infra::gateways::Gateways;
use gochat_infra::lanes::{Lanes, Parcel};
use gochat_proto::bus::v1::{DownstreamRecord, FanoutTask};
use gochat_proto::ids::GatewayId;
use gochat_proto::topics;
use prost::Message as _;
use tokio::sync::watch;

use crate::group::Halt;
use crate::stats::Stats;

/// What is sent on together at most; a batch to one gateway stays below what a bus takes.
const LIMITS: BatchLimits = BatchLimits { records_max: 256, bytes_max: 2 << 20 };

/// One partition's worker.
pub(crate) struct FanoutWorker {
    pub(crate) partition: u32,
    pub(crate) stream: Box<dyn PartitionStream>,
    pub(crate) gateways: Gateways,
    pub(crate) lanes: Lanes,
    pub(crate) stats: Stats,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: watch::Receiver<bool>,
    /// Behind the last record that was sent on or is held.
    pub(crate) done: Offset,
    pub(crate) committed: Offset,
}

impl FanoutWorker {
    /// Works until the partition is taken away, the process shuts down or the bus ends; says which.
    pub(crate) async fn run(mut self) -> Halt {
        match self.work().await {
            Ok(never) => match never {},
            Err(halt) => halt,
        }
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, Halt> {
        let mut backoff = Backoff::default();
        while let Err(error) = self.stream.seek(StartAt::Committed).await {
            self.bus_failed(error, &mut backoff).await?;
        }
        loop {
            let records = self.read().await?;
            self.send_on(&records).await?;
            self.done = records.last().map_or(self.done, |record| record.offset + 1);
            self.commit().await;
        }
    }

    /// The next records; meanwhile what is held is tried again.
    async fn read(&mut self) -> Result<Vec<Consumed>, Halt> {
        let mut backoff = Backoff::default();
        loop {
            let due = self.lanes.due();
            tokio::select! {
                biased;
                () = asked_to_stop(&mut self.shutdown) => return Err(Halt::Shutdown),
                () = sleep_until(due) => {
                    self.lanes.retry().await.map_err(stopped)?;
                    self.commit().await;
                }
                read = self.stream.next_batch(LIMITS) => match read {
                    Ok(records) => return Ok(records),
                    Err(error) => self.bus_failed(error, &mut backoff).await?,
                },
            }
        }
    }

    async fn send_on(&mut self, records: &[Consumed]) -> Result<(), Halt> {
        let Some(first) = records.first() else { return Ok(()) };
        let (tasks, dead): (Vec<_>, Vec<_>) = records.iter().map(decode).partition(Result::is_ok);
        let tasks: Vec<FanoutTask> = tasks.into_iter().flatten().collect();
        let dead: Vec<(Bytes, Bytes)> = dead.into_iter().filter_map(Result::err).collect();
        let gateways = look_up(&self.gateways, &tasks).await;
        let mut parcels: BTreeMap<GatewayId, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        for FanoutTask { conversation_id, items } in tasks {
            let value = Bytes::from(DownstreamRecord { incarnation: 0, items }.encode_to_vec());
            for gateway in gateways.get(&conversation_id).into_iter().flatten() {
                parcels.entry(*gateway).or_default().push((Bytes::new(), value.clone()));
                self.stats.fanned_out.inc();
            }
        }
        let mut parcels: Vec<Parcel> = parcels
            .into_iter()
            .map(|(gateway, records)| Parcel {
                topic: topics::downstream(gateway),
                payload_type: "DownstreamRecord",
                records,
            })
            .collect();
        if !dead.is_empty() {
            tracing::error!(partition = self.partition, offset = first.offset, count = dead.len(), "unusable fan-outs");
            self.stats.dead_fanouts.add(dead.len() as u64);
            let topic = topics::dead_letter(topics::TASKS_FANOUT);
            parcels.push(Parcel { topic, payload_type: "FanoutTask", records: dead });
        }
        self.lanes.send(parcels, first.offset, self.clock.unix_ms()).await.map_err(stopped)
    }

    /// Commits what is out. A commit that fails is caught up by a later one.
    async fn commit(&mut self) {
        let upto = self.lanes.oldest_batch().map_or(self.done, |held| held.min(self.done));
        if upto <= self.committed {
            return;
        }
        match self.stream.commit(upto).await {
            Ok(()) => self.committed = upto,
            Err(error) => tracing::warn!(partition = self.partition, %error, "fan-out commit failed"),
        }
    }

    async fn bus_failed(&mut self, error: BusError, backoff: &mut Backoff) -> Result<(), Halt> {
        match error {
            BusError::Revoked => Err(Halt::Revoked),
            BusError::Stopped(_) | BusError::Closed | BusError::Corrupt { .. } => Err(stopped(error)),
            BusError::OffsetBeyondEnd { .. }
            | BusError::DiskFull
            | BusError::Unavailable(_)
            | BusError::UnknownPartition { .. }
            | BusError::TopicMismatch { .. }
            | BusError::TooLarge { .. } => {
                tracing::warn!(partition = self.partition, %error, "the bus did not answer");
                if backoff.pause(&mut self.shutdown).await { Ok(()) } else { Err(Halt::Shutdown) }
            }
        }
    }
}

/// Each conversation's gateways, asked once.
async fn look_up(gateways: &Gateways, tasks: &[FanoutTask]) -> BTreeMap<String, Vec<GatewayId>> {
    let mut conversations: Vec<&str> = tasks.iter().map(|task| task.conversation_id.as_str()).collect();
    conversations.sort_unstable();
    conversations.dedup();
    let found = join_all(conversations.iter().map(|conversation| gateways.of(conversation))).await;
    conversations.into_iter().map(str::to_owned).zip(found).collect()
}

/// The task, or the record as it stands when it is none.
fn decode(record: &Consumed) -> Result<FanoutTask, (Bytes, Bytes)> {
    match FanoutTask::decode(record.value.clone()) {
        Ok(task) if !task.conversation_id.is_empty() => Ok(task),
        Ok(_) | Err(_) => Err((record.key.clone(), record.value.clone())),
    }
}

fn stopped(error: BusError) -> Halt {
    Halt::Stopped(error.to_string())
}
