//! Tells the bus that users have come online, or went offline by logging out: one event a user, at least once, in order. A
//! bounded number waits while the bus does not take them; what finds no room is dropped and counted. Never decides who is
//! online, and never tells of those who may come back: their absence is confirmed elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gochat_infra::backoff::Backoff;
use gochat_infra::bus::{Bus, BusError, Headers, Record, partition_of};
use gochat_infra::clock::Clock;
use gochat_infra::telemetry::metrics::{Counter, counter};
use gochat_proto::events::{Event, EventBody};
use gochat_proto::ids::GatewayId;
use gochat_proto::topics;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Registrations whose users wait to be told of; each has at most 500 of both kinds.
const QUEUE_MAX: usize = 256;
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Users whose presence changed with one call to repo.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) logged_out: Vec<String>,
    pub(crate) online: Vec<String>,
}

/// Where users whose presence changed are handed over.
#[derive(Clone)]
pub(crate) struct OnlineOutlet {
    queue: mpsc::Sender<Changed>,
    dropped: Counter,
}

impl OnlineOutlet {
    /// The outlet, and where it leads.
    pub(crate) fn new() -> (OnlineOutlet, mpsc::Receiver<Changed>) {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let dropped =
            counter("gochat_presence_events_dropped_total", "Presence events dropped, as too many waited.", &[]);
        (OnlineOutlet { queue, dropped }, inbox)
    }

    /// Hands users over, or drops them.
    pub(crate) fn offer(&self, changed: Changed) {
        let count = (changed.logged_out.len() + changed.online.len()) as u64;
        if count > 0 && self.queue.try_send(changed).is_err() {
            self.dropped.add(count);
        }
    }
}

/// Produces the events.
pub(crate) struct OnlineEvents {
    pub(crate) inbox: mpsc::Receiver<Changed>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gateway: GatewayId,
}

impl OnlineEvents {
    /// Runs until the outlet is gone or the bus is closed.
    pub(crate) async fn run(mut self) {
        let produced = counter("gochat_presence_events_total", "Presence events produced.", &[]);
        while let Some(changed) = self.inbox.recv().await {
            let mut backoff = Backoff::default();
            // Made once: the event's id tells a repetition from another event.
            let events = self.events(changed);
            loop {
                match self.produce(&events).await {
                    Ok(()) => break produced.add(events.len() as u64),
                    Err(error @ (BusError::Closed | BusError::Stopped(_))) => {
                        return tracing::info!(%error, "presence events end");
                    }
                    Err(error) => tracing::warn!(%error, events = events.len(), "presence events were not produced"),
                }
                tokio::time::sleep(backoff.next_delay().min(DELAY_MAX)).await;
            }
        }
    }

    /// Repo takes who went before who came.
    fn events(&self, changed: Changed) -> Vec<Event> {
        let now = self.clock.unix_ms() / 1000;
        let offline = || EventBody::UserOffline { last_seen: now, reason: "logout".to_owned() };
        let online = || EventBody::UserOnline { gateway_id: self.gateway.to_string() };
        let event = |user_id, body| Event {
            event_id: Uuid::now_v7().to_string(),
            timestamp: now,
            conversation_id: String::new(),
            user_id,
            friend_id: String::new(),
            operator_id: String::new(),
            body,
        };
        let gone = changed.logged_out.into_iter().map(|user_id| event(user_id, offline()));
        gone.chain(changed.online.into_iter().map(|user_id| event(user_id, online()))).collect()
    }

    async fn produce(&self, events: &[Event]) -> Result<(), BusError> {
        let partitions = self.bus.partitions(topics::USER_EVENTS).await?;
        let produced_at_ms = self.clock.unix_ms();
        let mut by_partition: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for event in events {
            let key = Bytes::copy_from_slice(event.key().as_bytes());
            let headers = Headers { trace_id: Bytes::new(), payload_type: "Event", produced_at_ms };
            let record = Record { key: key.clone(), value: event.to_json().into(), headers };
            by_partition.entry(partition_of(&key, partitions)).or_default().push(record);
        }
        for (partition, records) in by_partition {
            self.bus.produce(topics::USER_EVENTS, partition, records).await?;
        }
        Ok(())
    }
}
