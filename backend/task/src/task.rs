//! The task service as a whole: persistence, the outbox relay, clean-up.
//!
//! Owns the consumer group and the lifetime of its workers.

use std::collections::HashMap;
use std::sync::Arc;

use gochat_infra::bus::{Assignment, BusError, PartitionStream};
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::topics::{self, groups};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::cleanup;
use crate::config::{TaskConfig, TaskDeps};
use crate::outbox::Relay;
use crate::persist::{Commits, Halt, PersistWorker};
use crate::stats::Stats;
use gochat_infra::backoff::{Backoff, asked_to_stop};

/// Whether messages are being stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are, or will be when what is waited for answers.
    Working,
    /// They never will again in this process.
    Stopped(String),
}

/// The task service.
pub struct Task {
    deps: TaskDeps,
    config: TaskConfig,
    stats: Stats,
    outbox: Arc<Notify>,
    health: watch::Sender<Health>,
}

impl Task {
    /// Nothing runs before [`Task::run`].
    pub fn new(deps: TaskDeps, config: TaskConfig) -> Task {
        Task { deps, config, stats: Stats::new(), outbox: Arc::default(), health: watch::Sender::new(Health::Working) }
    }

    /// Follows whether messages are being stored.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Works until `shutdown` turns true; transactions in flight are finished. Dropping the future ends everything at
    /// once, as a crash would.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut jobs = JoinSet::new();
        let relay = Relay {
            deps: self.deps.clone(),
            config: self.config.clone(),
            stats: self.stats.clone(),
            pending: self.outbox.clone(),
            shutdown: shutdown.clone(),
        };
        jobs.spawn(relay.run());
        jobs.spawn(cleanup::run(self.deps.clone(), self.config.clone(), shutdown.clone()));
        let mut workers = JoinSet::new();
        let mut backoff = Backoff::default();
        loop {
            match self.persist(&mut workers, &mut shutdown).await {
                Ok(Halt::Stopped(reason)) => {
                    self.health.send_replace(Health::Stopped(reason));
                    break;
                }
                Ok(Halt::Revoked | Halt::Shutdown) => break,
                Err(error) if error.is_retryable() => {
                    tracing::error!(%error, "cannot consume the persist topic");
                    if !backoff.pause(&mut shutdown).await {
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot consume the persist topic");
                    self.health.send_replace(Health::Stopped(error.to_string()));
                    break;
                }
            }
        }
        asked_to_stop(&mut shutdown).await;
        while workers.join_next().await.is_some() {}
        while jobs.join_next().await.is_some() {}
    }

    async fn persist(
        &self,
        workers: &mut JoinSet<Halt>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Halt, BusError> {
        let mut consumer = self.deps.bus.subscribe(topics::MESSAGES_PERSIST, groups::TASK_PERSIST).await?;
        let mut running: HashMap<u32, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = asked_to_stop(shutdown) => return Ok(Halt::Shutdown),
                Some(ended) = workers.join_next() => match ended {
                    Ok(Halt::Stopped(reason)) => return Ok(Halt::Stopped(reason)),
                    Ok(Halt::Revoked | Halt::Shutdown) => {}
                    Err(error) if error.is_panic() => {
                        return Ok(Halt::Stopped("a persist worker panicked".to_owned()));
                    }
                    Err(_) => {}
                },
                assignment = consumer.next() => match assignment? {
                    Assignment::Assigned(stream) => {
                        let partition = stream.partition().partition;
                        let worker = self.worker(partition, stream, shutdown.clone());
                        if let Some(old) = running.insert(partition, workers.spawn(worker.run())) {
                            old.abort();
                        }
                    }
                    Assignment::Revoked(revoked) => {
                        running.remove(&revoked.partition);
                    }
                },
            }
        }
    }

    fn worker(
        &self,
        partition: u32,
        stream: Box<dyn PartitionStream>,
        shutdown: watch::Receiver<bool>,
    ) -> PersistWorker {
        PersistWorker {
            partition,
            stream,
            pipeline: PipelineServiceClient::new(self.deps.repo.clone()),
            config: self.config.clone(),
            stats: self.stats.clone(),
            outbox: self.outbox.clone(),
            shutdown,
            commits: Commits::default(),
        }
    }
}
