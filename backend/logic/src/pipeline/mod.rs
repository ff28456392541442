//! The message pipeline (pipeline.md A-C): upstream records in, durable persist records, answers and pushes out.
//!
//! Owns the consumer group and one [`worker`] a partition. Never touches the store except through repo.

mod audience;
mod batch;
mod entry;
mod fanout;
mod stats;
mod unstored;
mod worker;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use gochat_infra::backoff::{Backoff, asked_to_stop};
use gochat_infra::bus::{Assignment, BusError, PartitionStream};
use gochat_infra::gateways::Gateways;
use gochat_infra::lanes::{HeldLimits, LaneCounters, Lanes};
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::topics::{self, groups};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::config::PipelineConfig;
use crate::deps::LogicDeps;
use stats::Stats;
use worker::{Progress, Worker};
use writer::{Halt, Writer};

/// Whether the pipeline takes messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does, or will when what it waits for answers.
    Working,
    /// It never will again in this process: the bus stopped.
    Stopped(String),
}

/// The pipeline of one logic process.
pub struct Pipeline {
    deps: LogicDeps,
    config: PipelineConfig,
    stats: Stats,
    health: Arc<watch::Sender<Health>>,
}

impl Pipeline {
    pub(crate) fn new(deps: LogicDeps, config: PipelineConfig) -> Pipeline {
        Pipeline { deps, config, stats: Stats::new(), health: Arc::new(watch::Sender::new(Health::Working)) }
    }

    /// Follows whether messages are taken.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Consumes the upstream topic as a member of the logic group until `shutdown` turns true; batches in flight are
    /// finished. Dropping the future ends everything at once, as a crash would.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut workers: JoinSet<Halt> = JoinSet::new();
        let mut backoff = Backoff::default();
        loop {
            let halt = match self.consume(&mut workers, &mut shutdown).await {
                Ok(halt) => halt,
                Err(error) if error.is_retryable() => {
                    tracing::error!(%error, "cannot consume the upstream topic");
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(backoff.next_delay()) => continue,
                        () = asked_to_stop(&mut shutdown) => Halt::Shutdown,
                    }
                }
                Err(error) => Halt::Stopped(error.to_string()),
            };
            if let Halt::Stopped(reason) = halt {
                self.health.send_replace(Health::Stopped(reason));
            }
            break;
        }
        while workers.join_next().await.is_some() {}
    }

    async fn consume(
        &self,
        workers: &mut JoinSet<Halt>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Halt, BusError> {
        let partitions = self.deps.bus.partitions(topics::MESSAGES_UPSTREAM).await?;
        let mut consumer = self.deps.bus.subscribe(topics::MESSAGES_UPSTREAM, groups::LOGIC_UPSTREAM).await?;
        let mut running: HashMap<u32, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
               biased;
                () = asked_to_stop(shutdown) => return Ok(Halt::Shutdown),
                Some(ended) = workers.join_next() => match ended {
                    Ok(Halt::Stopped(reason)) => return Ok(Halt::Stopped(reason)),
                    Ok(Halt::Stale | Halt::Revoked | Halt::Shutdown) => {}
                    Err(error) if error.is_panic() => {
                        return Ok(Halt::Stopped("an upstream worker panicked".to_owned()));
                    }
                    Err(_) => {}
                },
                assignment = consumer.next() => match assignment? {
                    Assignment::Assigned(stream) => {
                        let partition = stream.partition().partition;
                        let worker = self.worker(stream, partitions, shutdown.clone());
                        if let Some(old) = running.insert(partition, workers.spawn(worker.run())) {
                            old.abort();
                        }
                    }
                    // Its stream tells the worker; what it still appends is void under the next epoch.
                    Assignment::Revoked(revoked) => {
                        running.remove(&revoked.partition);
                    }
                },
            }
        }
    }

    fn worker(&self, stream: Box<dyn PartitionStream>, partitions: u32, shutdown: watch::Receiver<bool>) -> Worker {
        let partition = stream.partition().partition;
        let limits = HeldLimits { bytes_max: self.config.held_bytes_max, age_max: self.config.held_max };
        let counters = LaneCounters { retries: self.stats.retries.clone(), dropped: self.stats.pushes_dropped.clone() };
        Worker {
            writer: Writer {
                partition,
                bus: self.deps.bus.clone(),
                pipeline: PipelineServiceClient::new(self.deps.repo.clone()),
                presence: OnlineStatusServiceClient::new(self.deps.repo.clone()),
                stats: self.stats.clone(),
                shutdown,
            },
            stream,
            lanes: Lanes::new(self.deps.bus.clone(), partition, limits, counters),
            gateways: Gateways::new(self.deps.gateways.clone(), self.deps.repo.clone()),
            config: self.config.clone(),
            uid: self.deps.uid.clone(),
            clock: self.deps.clock.clone(),
            partitions,
            progress: Progress::default(),
        }
    }
}
