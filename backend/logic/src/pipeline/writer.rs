//! The writer's calls: epoch, marker, prepare, append, check. Each is repeated until it has an answer or the writer
//! has to stop, so that a batch is never skipped.
//!
//! Owns the back-off and the reasons to stop. Never decides what a batch means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gochat_infra::backoff::{Backoff, asked_to_stop};
use gochat_infra::bus::{Bus, BusError, Headers, Offset, Record};
use gochat_infra::rpc;
use gochat_proto::bus::v1::{PersistMessage, PersistRecord};
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::im::repo::v1::{
    AwaitPositionsRequest, CheckEpochRequest, DrawEpochRequest, GetPositionsRequest, GetUsersOnlineStatusRequest,
    OnlineStatus, Position, PrepareConversation, PrepareMessagesRequest, PrepareMessagesResponse,
};
use gochat_proto::topics;
use prost::Message as _;
use tokio::sync::watch;

use super::stats::Stats;

/// Payload type in the record's headers.
const PERSIST_RECORD: &str = "PersistRecord";
/// Deadline of one call to repo (spec 03 §1).
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// Users of one presence call at most.
const PRESENCE_USERS_MAX: usize = 1_000;

/// Why a writer does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A newer epoch exists: drop the batch and look who owns the partition (A2).
    Stale,
    /// The partition was taken away.
    Revoked,
    /// The process is shutting down.
    Shutdown,
    /// The bus takes nothing any more.
    Stopped(String),
}

/// What a writer acts under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reign {
    pub(crate) epoch: i64,
    /// Claim space that was waited for.
    pub(crate) incarnation: u64,
    /// Upstream end offset read after the wait (B4).
    pub(crate) end_at_draw: Offset,
}

/// The calls of one partition's writer.
pub(crate) struct Writer {
    pub(crate) partition: u32,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) pipeline: PipelineServiceClient<rpc::Channel>,
    pub(crate) presence: OnlineStatusServiceClient<rpc::Channel>,
    pub(crate) stats: Stats,
    pub(crate) shutdown: watch::Receiver<bool>,
}

impl Writer {
    /// A2: a new epoch, and the claim space's incarnation as it was then.
    pub(crate) async fn draw_epoch(&mut self) -> Result<(i64, u64), Halt> {
        let mut backoff = Backoff::default();
        loop {
            let request = rpc::request(DrawEpochRequest { partition: self.partition }, CALL_DEADLINE);
            match self.pipeline.draw_epoch(request).await {
                Ok(answer) => {
                    self.stats.epochs.inc();
                    let answer = answer.into_inner();
                    return Ok((answer.epoch, answer.incarnation));
                }
                Err(status) => self.failed("DrawEpoch", &status, &mut backoff).await?,
            }
        }
    }

    /// A2, B3: appends an epoch marker and waits until persistence has passed it.
    pub(crate) async fn pass_marker(&mut self, epoch: i64) -> Result<(), Halt> {
        let marker = PersistRecord { epoch, marker: true, messages: Vec::new() };
        let offset = self.append_record(marker.encode_to_vec().into(), 0).await?;
        self.await_persisted(offset + 1).await
    }

    /// Waits until persistence has reached `position` of this partition, however long that takes.
    pub(crate) async fn await_persisted(&mut self, position: Offset) -> Result<(), Halt> {
        let mut backoff = Backoff::default();
        loop {
            self.stop_when_asked()?;
            let positions = vec![Position { partition: self.partition, offset: position }];
            let message = AwaitPositionsRequest { positions, timeout_ms: 1_000 };
            match self.pipeline.await_positions(rpc::request(message, CALL_DEADLINE)).await {
                Ok(answer) if answer.get_ref().passed => return Ok(()),
                Ok(_) => backoff = Backoff::default(),
                Err(status) => self.failed("AwaitPositions", &status, &mut backoff).await?,
            }
        }
    }

    /// Waits until persistence has passed what is appended in this partition by now; false when that took too long (D3).
    pub(crate) async fn await_appended(&mut self, wait_max: Duration) -> Result<bool, Halt> {
        let passed = async {
            let end = self.end_of(topics::MESSAGES_PERSIST).await?;
            self.await_persisted(end).await
        };
        match tokio::time::timeout(wait_max, passed).await {
            Ok(passed) => passed.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Where persistence stands in this partition; `None` when repo does not answer now.
    pub(crate) async fn persisted(&mut self) -> Option<Offset> {
        let answer = self.pipeline.get_positions(rpc::request(GetPositionsRequest {}, CALL_DEADLINE)).await.ok()?;
        answer.into_inner().positions.iter().find(|p| p.partition == self.partition).map(|p| p.offset)
    }

    /// End of the upstream partition now.
    pub(crate) async fn upstream_end(&mut self) -> Result<Offset, Halt> {
        self.end_of(topics::MESSAGES_UPSTREAM).await
    }

    async fn end_of(&mut self, topic: &str) -> Result<Offset, Halt> {
        let mut backoff = Backoff::default();
        loop {
            match self.bus.end_offset(topic, self.partition).await {
                Ok(end) => return Ok(end),
                Err(error) => self.bus_failed("end offset", error, &mut backoff).await?,
            }
        }
    }

    /// A3: one call for the batch. The same question again when the answer is lost.
    pub(crate) async fn prepare(
        &mut self,
        reign: &Reign,
        targets_final: bool,
        question: impl Fn() -> Vec<PrepareConversation>,
    ) -> Result<PrepareMessagesResponse, Halt> {
        let mut backoff = Backoff::default();
        loop {
            let message = PrepareMessagesRequest {
                partition: self.partition,
                epoch: reign.epoch,
                incarnation: reign.incarnation,
                conversations: question(),
                targets_final,
            };
            match self.pipeline.prepare_messages(rpc::request(message, CALL_DEADLINE)).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => self.failed("PrepareMessages", &status, &mut backoff).await?,
            }
        }
    }

    /// The commit point: one durable persist record for the batch, which gives the messages back. The same record again when it fails: the store
    /// knows message ids it has seen.
    pub(crate) async fn append(
        &mut self,
        epoch: i64,
        messages: Vec<PersistMessage>,
        produced_at_ms: i64,
    ) -> Result<(Offset, Vec<PersistMessage>), Halt> {
        let count = messages.len() as u64;
        let record = PersistRecord { epoch, marker: false, messages };
        let offset = self.append_record(record.encode_to_vec().into(), produced_at_ms).await?;
        self.stats.appended.add(count);
        Ok((offset, record.messages))
    }

    /// A2: does the epoch still stand, now that the append is durable?
    pub(crate) async fn check_epoch(&mut self, epoch: i64) -> Result<(), Halt> {
        let mut backoff = Backoff::default();
        loop {
            let message = CheckEpochRequest { partition: self.partition, epoch };
            match self.pipeline.check_epoch(rpc::request(message, CALL_DEADLINE)).await {
                Ok(answer) if answer.get_ref().stands => return Ok(()),
                Ok(_) => return Err(Halt::Stale),
                Err(status) => self.failed("CheckEpoch", &status, &mut backoff).await?,
            }
        }
    }

    /// Presence of users, once; the caller repeats.
    pub(crate) async fn online(&self, users: &[i64]) -> Result<Vec<OnlineStatus>, tonic::Status> {
        let calls = users.chunks(PRESENCE_USERS_MAX).map(|chunk| {
            let mut presence = self.presence.clone();
            let user_ids = chunk.iter().map(i64::to_string).collect();
            async move {
                let request = rpc::request(GetUsersOnlineStatusRequest { user_ids }, CALL_DEADLINE);
                presence.get_users_online_status(request).await.map(|a| a.into_inner().statuses)
            }
        });
        Ok(futures::future::try_join_all(calls).await?.into_iter().flatten().collect())
    }

    async fn append_record(&mut self, value: Bytes, produced_at_ms: i64) -> Result<Offset, Halt> {
        let mut backoff = Backoff::default();
        loop {
            let headers = Headers { trace_id: Bytes::new(), payload_type: PERSIST_RECORD, produced_at_ms };
            let records = vec![Record { key: Bytes::new(), value: value.clone(), headers }];
            match self.bus.produce(topics::MESSAGES_PERSIST, self.partition, records).await {
                Ok(offset) => return Ok(offset),
                Err(error) => self.bus_failed("append", error, &mut backoff).await?,
            }
        }
    }

    /// Waits before the next attempt, or says why there is none.
    pub(crate) async fn failed(
        &mut self,
        call: &'static str,
        status: &tonic::Status,
        backoff: &mut Backoff,
    ) -> Result<(), Halt> {
        if Failure::from_status(status).code == ErrorCode::StaleWriter {
            return Err(Halt::Stale);
        }
        let delay = backoff.next_delay();
        if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded) {
            tracing::warn!(partition = self.partition, call, error = status.message(), ?delay, "repo did not answer");
        } else {
            tracing::error!(partition = self.partition, call, %status, ?delay, "repo refused a pipeline call");
        }
        self.pause(delay).await
    }

    /// As [`Writer::failed`], for the bus.
    pub(crate) async fn bus_failed(
        &mut self,
        what: &'static str,
        error: BusError,
        backoff: &mut Backoff,
    ) -> Result<(), Halt> {
        match error {
            BusError::Revoked => Err(Halt::Revoked),
            BusError::Stopped(_) | BusError::Closed => Err(Halt::Stopped(error.to_string())),
            BusError::DiskFull
            | BusError::Unavailable(_)
            | BusError::UnknownPartition { .. }
            | BusError::TopicMismatch { .. }
            | BusError::TooLarge { .. }
            | BusError::OffsetBeyondEnd { .. }
            | BusError::Corrupt { .. } => {
                let delay = backoff.next_delay();
                tracing::error!(partition = self.partition, what, %error, ?delay, "the bus refused, trying again");
                self.pause(delay).await
            }
        }
    }

    /// Sleeps, unless the process is asked to stop.
    pub(crate) async fn pause(&mut self, delay: Duration) -> Result<(), Halt> {
        self.stats.retries.inc();
        tokio::select! {
            biased;
            () = tokio::time::sleep(delay) => {}
            () = asked_to_stop(&mut self.shutdown) => return Err(Halt::Shutdown),
        }
        self.stop_when_asked()
    }

    fn stop_when_asked(&self) -> Result<(), Halt> {
        if *self.shutdown.borrow() { Err(Halt::Shutdown) } else { Ok(()) }
    }
}
