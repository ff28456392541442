//! From the persist topic to the store: one worker a partition (pipeline.md E1).
//!
//! Owns the order: read what is there, one transaction, then the bus's offset at leisure. The store says where to go on;
//! a record it cannot store is parked by repo and never stops the partition.

use std::time::Duration;

use gochat_infra::bus::{BatchLimits, BusError, Consumed, Offset, PartitionStream, StartAt};
use gochat_infra::rpc;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{GetPositionsRequest, SaveRecord, SaveRecordsRequest, SaveRecordsResponse};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::TaskConfig;
use crate::group::Halt;
use crate::stats::Stats;
use gochat_infra::backoff::{Backoff, asked_to_stop};

/// Deadline of one transaction (spec 03 §1).
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// A gRPC message holds 4 MiB.
const BYTES_MAX: usize = 3 << 20;

/// One partition's worker.
pub(crate) struct PersistWorker {
    pub(crate) partition: u32,
    pub(crate) stream: Box<dyn PartitionStream>,
    pub(crate) pipeline: PipelineServiceClient<rpc::Channel>,
    pub(crate) config: TaskConfig,
    pub(crate) stats: Stats,
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) commits: Commits,
}

/// What the bus was told.
pub(crate) struct Commits {
    stored: Offset,
    committed: Offset,
    at: Instant,
}

impl Default for Commits {
    fn default() -> Commits {
        Commits { stored: 0, committed: 0, at: Instant::now() }
    }
}

impl PersistWorker {
    /// Works until the partition is taken away, the process shuts down or the log ends; says which.
    pub(crate) async fn run(mut self) -> Halt {
        let halt = match self.work().await {
            Ok(never) => match never {},
            Err(halt) => halt,
        };
        if let Halt::Stopped(reason) = &halt {
            tracing::error!(partition = self.partition, reason, "persistence stopped");
        } else {
            self.commit().await;
        }
        halt
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, Halt> {
        self.resume().await?;
        loop {
            let records = self.read().await?;
            let next = Instant::now() + self.config.save_period;
            self.save(&records).await?;
            if !self.is_full(&records) {
                self.wait_until(next).await?;
            }
        }
    }

    /// Whether more was there than one transaction took.
    fn is_full(&self, records: &[Consumed]) -> bool {
        let bytes: usize = records.iter().map(|record| record.value.len()).sum();
        records.len() >= self.config.records_max || bytes >= self.config.bytes_max.min(BYTES_MAX) / 2
    }

    async fn wait_until(&mut self, at: Instant) -> Result<(), Halt> {
        tokio::select! {
            biased;
            () = asked_to_stop(&mut self.shutdown) => Err(Halt::Shutdown),
            () = tokio::time::sleep_until(at) => Ok(()),
        }
    }

    /// Goes on where the store stands.
    async fn resume(&mut self) -> Result<(), Halt> {
        let mut backoff = Backoff::default();
        loop {
            match self.pipeline.get_positions(rpc::request(GetPositionsRequest {}, CALL_DEADLINE)).await {
                Ok(answer) => {
                    let positions = answer.into_inner().positions;
                    let at = positions.iter().find(|p| p.partition == self.partition).map_or(0, |p| p.offset);
                    return self.seek(at).await;
                }
                Err(status) => {
                    tracing::warn!(partition = self.partition, %status, "the store does not say where it stands");
                    self.pause(&mut backoff).await?;
                }
            }
        }
    }

    async fn seek(&mut self, at: Offset) -> Result<(), Halt> {
        let mut backoff = Backoff::default();
        while let Err(error) = self.stream.seek(StartAt::Offset(at)).await {
            self.bus_failed(error, &mut backoff).await?;
        }
        self.commits.stored = at;
        Ok(())
    }

    /// What is there now, as much as one transaction takes.
    async fn read(&mut self) -> Result<Vec<Consumed>, Halt> {
        let limits = BatchLimits {
            records_max: self.config.records_max.max(1),
            bytes_max: self.config.bytes_max.clamp(1, BYTES_MAX),
        };
        let mut backoff = Backoff::default();
        loop {
            let is_behind = self.commits.committed < self.commits.stored;
            let commit_at = self.commits.at + self.config.commit_period;
            tokio::select! {
                biased;
                () = asked_to_stop(&mut self.shutdown) => return Err(Halt::Shutdown),
                () = tokio::time::sleep_until(commit_at) => {
                    if is_behind {
                        self.commit().await;
                    }
                    self.follow_store().await?;
                }
                read = self.stream.next_batch(limits) => match read {
                    Ok(records) => return Ok(records),
                    Err(error) => self.bus_failed(error, &mut backoff).await?,
                },
            }
        }
    }

    /// Nothing came for a while: a store that failed over may stand further back than what was read.
    async fn follow_store(&mut self) -> Result<(), Halt> {
        self.commits.at = Instant::now();
        let Ok(answer) = self.pipeline.get_positions(rpc::request(GetPositionsRequest {}, CALL_DEADLINE)).await else {
            return Ok(());
        };
        let positions = answer.into_inner().positions;
        let at = positions.iter().find(|p| p.partition == self.partition).map_or(0, |p| p.offset);
        if at < self.commits.stored {
            tracing::error!(partition = self.partition, at, was = self.commits.stored, "the store stands further back");
            return self.seek(at).await;
        }
        Ok(())
    }

    /// One transaction; the same again until the store has answered.
    async fn save(&mut self, records: &[Consumed]) -> Result<(), Halt> {
        let Some(last) = records.last() else { return Ok(()) };
        self.stats.records.record(records.len() as u64);
        let mut backoff = Backoff::default();
        loop {
            let records = records.iter().map(|r| SaveRecord { offset: r.offset, record: r.value.clone() }).collect();
            let message = SaveRecordsRequest { partition: self.partition, records };
            match self.pipeline.save_records(rpc::request(message, CALL_DEADLINE)).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    self.saved(&answer);
                    // Elsewhere: a database that failed over stands further back and gets the records again.
                    if answer.next_offset != last.offset + 1 {
                        return self.seek(answer.next_offset).await;
                    }
                    return Ok(());
                }
                Err(status) if is_retryable(&status) => {
                    tracing::warn!(partition = self.partition, %status, "the store did not answer, saving again");
                    self.pause(&mut backoff).await?;
                }
                Err(status) => {
                    tracing::error!(partition = self.partition, %status, "the store refused persist records");
                    self.pause(&mut backoff).await?;
                    return self.resume().await;
                }
            }
        }
    }

    fn saved(&mut self, answer: &SaveRecordsResponse) {
        self.stats.saved(answer);
        self.commits.stored = answer.next_offset;
        if answer.parked > 0 {
            tracing::error!(partition = self.partition, parked = answer.parked, "messages could not be stored: parked");
        }
    }

    /// Tells the bus what the store has; a failure is made up for by the next commit.
    async fn commit(&mut self) {
        self.commits.at = Instant::now();
        if self.commits.stored <= self.commits.committed {
            return;
        }
        match self.stream.commit(self.commits.stored).await {
            Ok(()) => self.commits.committed = self.commits.stored,
            Err(error) => tracing::warn!(partition = self.partition, %error, "persist commit failed"),
        }
    }

    async fn bus_failed(&mut self, error: BusError, backoff: &mut Backoff) -> Result<(), Halt> {
        match error {
            BusError::Revoked => Err(Halt::Revoked),
            // The log lost what the store has seen: going on would give its offsets to other records (J2).
            BusError::OffsetBeyondEnd { .. } | BusError::Stopped(_) | BusError::Closed | BusError::Corrupt { .. } => {
                Err(Halt::Stopped(error.to_string()))
            }
            BusError::DiskFull
            | BusError::Unavailable(_)
            | BusError::UnknownPartition { .. }
            | BusError::TopicMismatch { .. }
            | BusError::TooLarge { .. } => {
                tracing::warn!(partition = self.partition, %error, "the bus did not answer");
                self.pause(backoff).await
            }
        }
    }

    async fn pause(&mut self, backoff: &mut Backoff) -> Result<(), Halt> {
        self.stats.retries.inc();
        if backoff.pause(&mut self.shutdown).await { Ok(()) } else { Err(Halt::Shutdown) }
    }
}

fn is_retryable(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded)
}
