//! The task service as a whole: persistence, large fan-outs, the outbox relay, jobs.
//!
//! Owns the composition and the lifetime of its parts.

use std::sync::Arc;

use gochat_infra::bus::PartitionStream;
use gochat_infra::gateways::Gateways;
use gochat_infra::lanes::Lanes;
use gochat_proto::im::repo::v1::pipeline_service_client::PipelineServiceClient;
use gochat_proto::topics::{self, groups};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{TaskConfig, TaskDeps};
use crate::fanout::FanoutWorker;
use crate::group::Group;
use crate::jobs::Jobs;
use crate::outbox::Relay;
use crate::persist::{Commits, PersistWorker};
use crate::stats::Stats;

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
    health: Arc<watch::Sender<Health>>,
}

impl Task {
    /// Nothing runs before [`Task::run`].
    pub fn new(deps: TaskDeps, config: TaskConfig) -> Task {
        Task { deps, config, stats: Stats::new(), health: Arc::new(watch::Sender::new(Health::Working)) }
    }

    /// Follows whether messages are being stored.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Works until `shutdown` turns true; transactions in flight are finished. Dropping the future ends everything at
    /// once, as a crash would.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let relay = Relay {
            deps: self.deps.clone(),
            wait: self.config.outbox_wait,
            stats: self.stats.clone(),
            shutdown: shutdown.clone(),
        };
        let mut parts = JoinSet::new();
        parts.spawn(relay.run());
        Jobs::new(&self.deps, &self.config.jobs).spawn(&mut parts, &shutdown);
        let group = |topic, name| Group::new(self.deps.bus.clone(), topic, name, shutdown.clone());
        let persist = group(topics::MESSAGES_PERSIST, groups::TASK_PERSIST);
        let fanout = group(topics::TASKS_FANOUT, groups::TASK_FANOUT);
        tokio::join!(
            persist.run(|stream| self.persist_worker(stream, shutdown.clone()).run(), |reason| self.stopped(reason)),
            fanout.run(|stream| self.fanout_worker(stream, shutdown.clone()).run(), |reason| self.stopped(reason)),
        );
        while parts.join_next().await.is_some() {}
    }

    fn stopped(&self, reason: String) {
        tracing::error!(reason, "task stopped");
        self.health.send_replace(Health::Stopped(reason));
    }

    fn persist_worker(&self, stream: Box<dyn PartitionStream>, shutdown: watch::Receiver<bool>) -> PersistWorker {
        PersistWorker {
            partition: stream.partition().partition,
            stream,
            pipeline: PipelineServiceClient::new(self.deps.repo.clone()),
            config: self.config.clone(),
            stats: self.stats.clone(),
            shutdown,
            commits: Commits::default(),
        }
    }

    fn fanout_worker(&self, stream: Box<dyn PartitionStream>, shutdown: watch::Receiver<bool>) -> FanoutWorker {
        let partition = stream.partition().partition;
        FanoutWorker {
            partition,
            stream,
            gateways: Gateways::new(self.deps.gateways.clone(), self.deps.repo.clone()),
            lanes: Lanes::new(self.deps.bus.clone(), partition, self.config.held, self.stats.fanout_lanes.clone()),
            stats: self.stats.clone(),
            clock: self.deps.clock.clone(),
            shutdown,
            done: 0,
            committed: 0,
        }
    }
}
