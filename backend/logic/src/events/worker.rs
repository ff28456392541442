//! One partition of events: read, handled in order per key, committed.
//!
//! Owns repetition: what fails for a while is tried again, what can never succeed is skipped and counted. Never knows
//! what an event means.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, StreamExt as _, stream};
use gochat_infra::backoff::{Backoff, asked_to_stop};
use gochat_infra::bus::{BatchLimits, BusError, Consumed, PartitionStream, StartAt};
use gochat_infra::telemetry::metrics::Counter;
use gochat_proto::codes::ErrorCode;
use gochat_proto::events::Event;
use gochat_proto::failure::Failure;
use tokio::sync::watch;

use super::dispatch;
use super::teller::Teller;
use crate::signals::SendError;

const LIMITS: BatchLimits = BatchLimits { records_max: 256, bytes_max: 1 << 20 };
/// Keys of one batch handled at the same time.
const KEYS_CONCURRENT: usize = 8;

/// Why a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The partition was taken away.
    Revoked,
    /// The process is shutting down.
    Shutdown,
    /// It cannot go on in this process.
    Stopped(String),
}

/// What all workers count together.
#[derive(Clone)]
pub(super) struct Counters {
    pub(super) handled: Counter,
    pub(super) skipped: Counter,
    pub(super) retries: Counter,
}

/// The owner of one partition.
pub(super) struct Worker {
    pub(super) stream: Box<dyn PartitionStream>,
    pub(super) teller: Teller,
    pub(super) counters: Counters,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Worker {
    /// Works until the partition is taken away or the process stops.
    pub(super) async fn run(mut self) -> Halt {
        let mut backoff = Backoff::default();
        let mut is_positioned = false;
        loop {
            let done = if is_positioned {
                self.batch().await
            } else {
                self.stream.seek(StartAt::Committed).await.map(|()| None)
            };
            match done {
                Ok(None) => {
                    is_positioned = true;
                    backoff = Backoff::default();
                }
                Ok(Some(halt)) => return halt,
                Err(BusError::Revoked) => return Halt::Revoked,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "cannot read events");
                    if !backoff.pause(&mut self.shutdown).await {
                        return Halt::Shutdown;
                    }
                }
                Err(error) => return Halt::Stopped(error.to_string()),
            }
        }
    }

    async fn batch(&mut self) -> Result<Option<Halt>, BusError> {
        let records = tokio::select! {
            biased;
            () = asked_to_stop(&mut self.shutdown) => return Ok(Some(Halt::Shutdown)),
            records = self.stream.next_batch(LIMITS) => records?,
        };
        let Some(last) = records.last().map(|record| record.offset) else { return Ok(None) };
        let keys = self.by_key(&records);
        let work = keys.into_iter().map(|events| handle(&self.teller, &self.counters, events, self.shutdown.clone()));
        // Collected first: a stream over a closure that borrows is not known to be Send.
        let work: Vec<_> = work.collect();
        let ends: Vec<Option<Halt>> = stream::iter(work).buffer_unordered(KEYS_CONCURRENT).collect().await;
        if let Some(halt) = ends.into_iter().flatten().next() {
            return Ok(Some(halt));
        }
        self.stream.commit(last + 1).await?;
        Ok(None)
    }

    /// Events of one key stay together and in order.
    fn by_key(&self, records: &[Consumed]) -> Vec<Vec<Event>> {
        let mut keys: Vec<(String, Vec<Event>)> = Vec::new();
        for record in records {
            match Event::from_json(&record.value) {
                Ok(event) => match keys.iter_mut().find(|(key, _)| key == event.key()) {
                    Some((_, events)) => events.push(event),
                    None => keys.push((event.key().to_owned(), vec![event])),
                },
                Err(error) => {
                    self.counters.skipped.inc();
                    tracing::error!(offset = record.offset, %error, "a domain event is not usable, skipped");
                }
            }
        }
        keys.into_iter().map(|(_, events)| events).collect()
    }
}

/// Handles the events of one key; gives why the worker has to end, if it has.
async fn handle(
    teller: &Teller,
    counters: &Counters,
    events: Vec<Event>,
    mut shutdown: watch::Receiver<bool>,
) -> Option<Halt> {
    for event in events {
        let mut backoff = Backoff::default();
        loop {
            // One event that breaks its telling must not silence all others, also after the next start.
            let Ok(told) = AssertUnwindSafe(dispatch::tell(teller, &event)).catch_unwind().await else {
                counters.skipped.inc();
                tracing::error!(event = event.event_id, "telling a domain event panicked, skipped");
                break;
            };
            match told {
                Ok(()) => {
                    counters.handled.inc();
                    break;
                }
                Err(SendError::Bus(error @ (BusError::Stopped(_) | BusError::Closed))) => {
                    return Some(Halt::Stopped(error.to_string()));
                }
                Err(error) if is_temporary(&error) => {
                    counters.retries.inc();
                    tracing::warn!(event = event.event_id, %error, "a domain event waits");
                    if !backoff.pause(&mut shutdown).await {
                        return Some(Halt::Shutdown);
                    }
                }
                Err(error) => {
                    counters.skipped.inc();
                    tracing::warn!(event = event.event_id, %error, "a domain event cannot be told, skipped");
                    break;
                }
            }
        }
    }
    None
}

fn is_temporary(error: &SendError) -> bool {
    match error {
        SendError::Bus(error) => error.is_retryable(),
        SendError::Repo(status) => matches!(
            Failure::from_status(status).code,
            ErrorCode::ServiceUnavailable | ErrorCode::Timeout | ErrorCode::RateLimited
        ),
    }
}
