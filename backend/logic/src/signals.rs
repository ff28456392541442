//! Frames to users' connections outside the message pipeline, and the end of sessions.
//!
//! Owns finding the connections and grouping them by gateway. Never carries chat messages, and never decides who may
//! know of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gochat_infra::bus::{Bus, BusError, Headers, Record, partition_of};
use gochat_infra::clock::Clock;
use gochat_infra::gateways::Gateways;
use gochat_infra::uid::uuid_v7;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamItem, DownstreamRecord, Kick, Signal, SignalClass};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::events::{Event, EventBody};
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::{BatchUpdateRequest, OnlineStatus, PresenceEntry, Session};
use gochat_proto::topics;
use prost::Message as _;
use tonic::Status;

use crate::repo::{Repo, ask};

/// Connections asked for in one record at most, so that a record stays far below what the bus takes.
const ADDRESSES_MAX: usize = 4_096;

/// One life of one gateway; incarnation 0 is whichever runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gateway {
    pub(crate) id: u32,
    pub(crate) incarnation: u64,
}

/// Connections by gateway.
pub(crate) type Targets = BTreeMap<Gateway, Vec<u64>>;

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("presence or gateways unknown: {0}")]
    Repo(#[from] Status),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A frame: its type and the JSON of its data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: &'static str,
    pub(crate) data: Bytes,
    pub(crate) class: SignalClass,
}

impl Frame {
    /// A frame that is never dropped silently.
    pub(crate) fn new(kind: &'static str, data: &impl serde::Serialize) -> Frame {
        // Strings, numbers and lists of them: nothing that cannot be written.
        Frame { kind, data: serde_json::to_vec(data).unwrap_or_default().into(), class: SignalClass::Chat }
    }

    /// The same, shed first under pressure.
    pub(crate) fn ephemeral(self) -> Frame {
        Frame { class: SignalClass::Ephemeral, ..self }
    }

    /// As it travels to some connections.
    pub(crate) fn to_addresses(&self, addresses: Vec<u64>) -> Item {
        Item::Signal(Signal {
            addresses,
            frame_type: self.kind.to_owned(),
            payload: self.data.clone(),
            class: self.class.into(),
            ..Signal::default()
        })
    }

    /// As it travels to every local member of a conversation.
    pub(crate) fn to_room(&self, conversation_id: &str, membership_version: i64) -> Item {
        Item::Signal(Signal {
            frame_type: self.kind.to_owned(),
            payload: self.data.clone(),
            class: self.class.into(),
            target_conversation_id: conversation_id.to_owned(),
            membership_version,
            ..Signal::default()
        })
    }
}

/// Sends signals and kicks.
#[derive(Clone)]
pub(crate) struct Signals {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) repo: Repo,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gateways: Gateways,
}

impl Signals {
    /// One frame to every connection of some users; best effort: a failure is logged, never passed on.
    pub(crate) async fn to_users(&self, user_ids: &[String], frame: &Frame) {
        if let Err(error) = self.try_users(user_ids, user_ids.first().map_or("", String::as_str), frame).await {
            tracing::warn!(%error, frame = frame.kind, "signal not sent");
        }
    }

    /// One frame to every connection of some users, in order with everything else of `key`.
    pub(crate) async fn try_users(&self, user_ids: &[String], key: &str, frame: &Frame) -> Result<(), SendError> {
        let targets = targets(&self.repo.statuses(user_ids).await?);
        self.to_targets(&targets, key, frame).await
    }

    /// One frame to these connections.
    pub(crate) async fn to_targets(&self, targets: &Targets, key: &str, frame: &Frame) -> Result<(), SendError> {
        for (gateway, addresses) in targets {
            for slice in addresses.chunks(ADDRESSES_MAX) {
                self.produce(*gateway, key, vec![frame.to_addresses(slice.to_vec())]).await?;
            }
        }
        Ok(())
    }

    /// Ends those sessions of a user that are `wanted`; best effort. Gives the ended ones.
    pub(crate) async fn kick(&self, user_id: &str, code: CloseCode, wanted: impl Fn(&Session) -> bool) -> Vec<Session> {
        match self.try_kick(user_id, code, code.reason(), wanted).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(user_id, %error, "sessions not ended, they end with their tokens");
                Vec::new()
            }
        }
    }

    /// Ends those sessions of a user that are `wanted`. Gives the ended ones.
    pub(crate) async fn try_kick(
        &self,
        user_id: &str,
        code: CloseCode,
        reason: &str,
        wanted: impl Fn(&Session) -> bool,
    ) -> Result<Vec<Session>, SendError> {
        let statuses = self.repo.statuses(&[user_id.to_owned()]).await?;
        let sessions = statuses.into_iter().filter(|s| s.user_id == user_id).flat_map(|s| s.sessions);
        let ended: Vec<Session> = sessions.filter(|session| wanted(session)).collect();
        let mut kicks: BTreeMap<Gateway, Vec<Item>> = BTreeMap::new();
        for session in &ended {
            let Some(gateway) = gateway_of(session) else { continue };
            let (close_code, reason) = (u32::from(code.number()), reason.to_owned());
            let kick = Item::Kick(Kick { address: session.address, close_code, reason });
            kicks.entry(gateway).or_default().push(kick);
        }
        for (gateway, items) in kicks {
            self.produce(gateway, user_id, items).await?;
        }
        Ok(ended)
    }

    /// Takes sessions of a user who logged out away from presence: offline at once, without a confirmation.
    pub(crate) async fn logged_out(&self, user_id: &str, sessions: &[Session]) {
        let at = self.clock.unix_ms() / 1_000;
        for session in sessions {
            let entry = PresenceEntry {
                user_id: user_id.to_owned(),
                device_id: session.device_id.clone(),
                at,
                address: session.address,
                logout: true,
                ..PresenceEntry::default()
            };
            let update = BatchUpdateRequest {
                gateway_id: session.gateway_id.clone(),
                gateway_incarnation: session.gateway_incarnation,
                offline: vec![entry],
                ..BatchUpdateRequest::default()
            };
            match self.repo.presence.clone().batch_update(ask(update)).await {
                Ok(answer) if answer.get_ref().logged_out.iter().any(|gone| gone == user_id) => {
                    self.offline(user_id, at).await;
                }
                Ok(_) => {}
                Err(status) => {
                    tracing::warn!(user_id, %status, "a logged out session stays until its gateway removes it");
                }
            }
        }
    }

    async fn offline(&self, user_id: &str, last_seen: i64) {
        let event = Event {
            event_id: uuid_v7(),
            timestamp: last_seen,
            conversation_id: String::new(),
            user_id: user_id.to_owned(),
            friend_id: String::new(),
            operator_id: String::new(),
            body: EventBody::UserOffline { last_seen, reason: "logout".to_owned() },
        };
        if let Err(error) = self.publish(event.topic(), event.key(), event.to_json()).await {
            tracing::warn!(user_id, %error, "nobody is told that a user logged out");
        }
    }

    /// Appends one JSON record to a topic of events or notices.
    pub(crate) async fn publish(&self, topic: &str, key: &str, value: Vec<u8>) -> Result<(), BusError> {
        let partition = partition_of(key.as_bytes(), self.bus.partitions(topic).await?);
        let headers = Headers { trace_id: Bytes::new(), payload_type: "Event", produced_at_ms: self.clock.unix_ms() };
        let record = Record { key: key.to_owned().into(), value: value.into(), headers };
        self.bus.produce(topic, partition, vec![record]).await.map(|_| ())
    }

    /// Items for one gateway, in order with everything else of `key`. A gateway without a topic is gone.
    pub(crate) async fn produce(&self, gateway: Gateway, key: &str, items: Vec<Item>) -> Result<(), SendError> {
        let Some(id) = GatewayId::new(gateway.id) else { return Ok(()) };
        let topic = topics::downstream(id);
        let partitions = match self.bus.partitions(&topic).await {
            Err(BusError::UnknownPartition { .. }) => return Ok(()),
            partitions => partitions?,
        };
        let items = items.into_iter().map(|item| DownstreamItem { item: Some(item) }).collect();
        let record = DownstreamRecord { incarnation: gateway.incarnation, items };
        let headers =
            Headers { trace_id: Bytes::new(), payload_type: "DownstreamRecord", produced_at_ms: self.clock.unix_ms() };
        let record = Record { key: key.to_owned().into(), value: record.encode_to_vec().into(), headers };
        self.bus.produce(&topic, partition_of(key.as_bytes(), partitions), vec![record]).await?;
        Ok(())
    }
}

/// The connections in presence's answer.
pub(crate) fn targets(statuses: &[OnlineStatus]) -> Targets {
    let mut targets = Targets::new();
    for session in statuses.iter().flat_map(|status| &status.sessions) {
        if let Some(gateway) = gateway_of(session) {
            targets.entry(gateway).or_default().push(session.address);
        }
    }
    targets
}

fn gateway_of(session: &Session) -> Option<Gateway> {
    let id: GatewayId = session.gateway_id.parse().ok()?;
    Some(Gateway { id: id.number(), incarnation: session.gateway_incarnation })
}
