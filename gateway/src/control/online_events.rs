//! Tells the bus that users have come online: `user.online`, one event a user, at least once, in order. A bounded number
//! waits while the bus does not take them; what finds no room is dropped and counted. Never decides who is online.

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

/// Registrations whose users wait to be told of; each has at most 500.
const QUEUE_MAX: usize = 256;
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Where users who came online are handed over.
#[derive(Clone)]
pub(crate) struct OnlineOutlet {
    queue: mpsc::Sender<Vec<String>>,
    dropped: Counter,
}

impl OnlineOutlet {
    /// The outlet, and where it leads.
    pub(crate) fn new() -> (OnlineOutlet, mpsc::Receiver<Vec<String>>) {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let dropped = counter("gochat_online_events_dropped_total", "Online events dropped, as too many waited.", &[]);
        (OnlineOutlet { queue, dropped }, inbox)
    }

    /// Hands users over, or drops them.
    pub(crate) fn offer(&self, users: Vec<String>) {
        let count = users.len() as u64;
        if count > 0 && self.queue.try_send(users).is_err() {
            self.dropped.add(count);
        }
    }
}

/// Produces the events.
pub(crate) struct OnlineEvents {
    pub(crate) inbox: mpsc::Receiver<Vec<String>>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gateway: GatewayId,
}

impl OnlineEvents {
    /// Runs until the outlet is gone or the bus is closed.
    pub(crate) async fn run(mut self) {
        let produced = counter("gochat_online_events_total", "Online events produced.", &[]);
        while let Some(users) = self.inbox.recv().await {
            let mut backoff = Backoff::default();
            // Made once: the event's id tells a repetition from another event.
            let events: Vec<_> = users.into_iter().map(|user_id| self.event(user_id)).collect();
            loop {
                match self.produce(&events).await {
                    Ok(()) => break produced.add(events.len() as u64),
                    Err(error @ (BusError::Closed | BusError::Stopped(_))) => {
                        return tracing::info!(%error, "online events end");
                    }
                    Err(error) => tracing::warn!(%error, users = events.len(), "online events were not produced"),
                }
                tokio::time::sleep(backoff.next_delay().min(DELAY_MAX)).await;
            }
        }
    }

    fn event(&self, user_id: String) -> Event {
        Event {
            event_id: Uuid::now_v7().to_string(),
            timestamp: self.clock.unix_ms() / 1000,
            conversation_id: String::new(),
            user_id,
            friend_id: String::new(),
            operator_id: String::new(),
            body: EventBody::UserOnline { gateway_id: self.gateway.to_string() },
        }
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
