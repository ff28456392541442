//! A consumer group with one worker a partition.
//!
//! Owns the lifetime of the workers. Never reads a record.

use std::collections::HashMap;
use std::sync::Arc;

use gochat_infra::backoff::{Backoff, asked_to_stop};
use gochat_infra::bus::{Assignment, Bus, BusError, PartitionStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Why a worker ended.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The partition was taken away.
    Revoked,
    /// The process is shutting down.
    Shutdown,
    /// It cannot go on in this process.
    Stopped(String),
}

/// A member of a group.
pub(crate) struct Group {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) topic: &'static str,
    pub(crate) name: &'static str,
    pub(crate) shutdown: watch::Receiver<bool>,
    workers: JoinSet<Halt>,
}

impl Group {
    /// Nobody is a member before [`Group::run`].
    pub(crate) fn new(
        bus: Arc<dyn Bus>,
        topic: &'static str,
        name: &'static str,
        shutdown: watch::Receiver<bool>,
    ) -> Group {
        Group { bus, topic, name, shutdown, workers: JoinSet::new() }
    }

    /// Gives each partition's stream to a worker of its own until the process shuts down, and waits for them; what cannot
    /// go on in this process is told to `stopped` at once.
    pub(crate) async fn run<W>(mut self, worker: impl Fn(Box<dyn PartitionStream>) -> W, stopped: impl FnOnce(String))
    where
        W: Future<Output = Halt> + Send + 'static,
    {
        let mut backoff = Backoff::default();
        loop {
            match self.consume(&worker).await {
                Ok(Halt::Stopped(reason)) => {
                    stopped(reason);
                    break;
                }
                Ok(Halt::Revoked | Halt::Shutdown) => break,
                Err(error) => {
                    tracing::error!(topic = self.topic, %error, "cannot consume");
                    if !error.is_retryable() {
                        stopped(error.to_string());
                        break;
                    }
                    if !backoff.pause(&mut self.shutdown).await {
                        break;
                    }
                }
            }
        }
        asked_to_stop(&mut self.shutdown).await;
        while self.workers.join_next().await.is_some() {}
    }

    async fn consume<W>(&mut self, worker: impl Fn(Box<dyn PartitionStream>) -> W) -> Result<Halt, BusError>
    where
        W: Future<Output = Halt> + Send + 'static,
    {
        let mut consumer = self.bus.subscribe(self.topic, self.name).await?;
        let mut running: HashMap<u32, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = asked_to_stop(&mut self.shutdown) => return Ok(Halt::Shutdown),
                Some(ended) = self.workers.join_next() => match ended {
                    Ok(Halt::Stopped(reason)) => return Ok(Halt::Stopped(reason)),
                    Ok(Halt::Revoked | Halt::Shutdown) => {}
                    Err(error) if error.is_panic() => {
                        return Ok(Halt::Stopped(format!("a worker of {} panicked", self.name)));
                    }
                    Err(_) => {}
                },
                assignment = consumer.next() => match assignment? {
                    Assignment::Assigned(stream) => {
                        let partition = stream.partition().partition;
                        if let Some(old) = running.insert(partition, self.workers.spawn(worker(stream))) {
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
}
