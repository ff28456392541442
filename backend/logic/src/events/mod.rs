//! Domain events, turned into what clients see: frames, room changes, system messages, notices (spec 04 §6, pipeline.md F2).
//!
//! Owns the consumer group: one worker a partition, each event handled until it was, then committed. Never changes a
//! conversation: what happened has happened.

mod conversations;
mod dispatch;
mod frames;
mod friends;
mod notices;
mod rooms;
mod system;
mod teller;
mod users;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use gochat_infra::backoff::{Backoff, asked_to_stop};
use gochat_infra::bus::{Assignment, Bus, BusError};
use gochat_infra::telemetry::metrics;
use gochat_proto::topics::{self, groups};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::friendship::Views;
use crate::pipeline::Health;
use crate::repo::Repo;
use crate::signals::Signals;
use teller::Teller;
use worker::{Counters, Halt, Worker};

const TOPICS: [&str; 3] = [topics::CONVERSATION_EVENTS, topics::FRIEND_EVENTS, topics::USER_EVENTS];

/// The consumer of domain events of one logic process.
pub struct Events {
    teller: Teller,
    counters: Counters,
    health: Arc<watch::Sender<Health>>,
}

impl Events {
    pub(crate) fn new(repo: Repo, signals: Signals, views: Views) -> Events {
        let counter = |name, help| metrics::counter(name, help, &[]);
        Events {
            teller: Teller { repo, signals, views },
            counters: Counters {
                handled: counter("gochat_logic_events_total", "Domain events handled."),
                skipped: counter("gochat_logic_events_skipped_total", "Domain events that could not be used."),
                retries: counter("gochat_logic_event_retries_total", "Attempts at domain events that were repeated."),
            },
            health: Arc::new(watch::Sender::new(Health::Working)),
        }
    }

    /// Follows whether events are handled.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Consumes as a member of the group until `shutdown` turns true; events in hand are finished.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        join_all(TOPICS.map(|topic| self.follow(topic, shutdown.clone()))).await;
    }

    async fn follow(&self, topic: &'static str, mut shutdown: watch::Receiver<bool>) {
        let mut workers: JoinSet<Halt> = JoinSet::new();
        let mut backoff = Backoff::default();
        loop {
            match self.consume(topic, &mut workers, &mut shutdown).await {
                Ok(Halt::Stopped(reason)) => {
                    self.health.send_replace(Health::Stopped(reason));
                    break;
                }
                Ok(Halt::Revoked | Halt::Shutdown) => break,
                Err(error) if error.is_retryable() => {
                    tracing::error!(topic, %error, "cannot consume events");
                    if !backoff.pause(&mut shutdown).await {
                        break;
                    }
                }
                Err(error) => {
                    self.health.send_replace(Health::Stopped(error.to_string()));
                    break;
                }
            }
        }
        while workers.join_next().await.is_some() {}
    }

    async fn consume(
        &self,
        topic: &'static str,
        workers: &mut JoinSet<Halt>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Halt, BusError> {
        let mut consumer = self.bus().subscribe(topic, groups::LOGIC_EVENTS).await?;
        let mut running: HashMap<u32, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = asked_to_stop(shutdown) => return Ok(Halt::Shutdown),
                Some(ended) = workers.join_next() => match ended {
                    Ok(Halt::Stopped(reason)) => return Ok(Halt::Stopped(reason)),
                    Ok(Halt::Revoked | Halt::Shutdown) => {}
                    Err(error) if error.is_panic() => {
                        return Ok(Halt::Stopped("a worker of domain events panicked".to_owned()));
                    }
                    Err(_) => {}
                },
                assignment = consumer.next() => match assignment? {
                    Assignment::Assigned(stream) => {
                        let partition = stream.partition().partition;
                        let worker = Worker {
                            stream,
                            teller: self.teller.clone(),
                            counters: self.counters.clone(),
                            shutdown: shutdown.clone(),
                        };
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

    fn bus(&self) -> &dyn Bus {
        &*self.teller.signals.bus
    }
}
