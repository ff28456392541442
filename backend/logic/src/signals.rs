//! Frames to a user's own connections outside the message pipeline: read sync, kicks.
//!
//! Best effort: a failure is logged, never passed on. Never carries chat messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gochat_infra::bus::{Bus, BusError, Headers, Record, partition_of};
use gochat_infra::clock::Clock;
use gochat_proto::bus::v1::downstream_item::Item;
use gochat_proto::bus::v1::{DownstreamItem, DownstreamRecord, Kick, Signal};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::Session;
use gochat_proto::topics;
use prost::Message as _;

use crate::repo::Repo;

/// Sends signals and kicks.
#[derive(Clone)]
pub(crate) struct Signals {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) repo: Repo,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Signals {
    /// One frame to every connection of a user.
    pub(crate) async fn to_user(&self, user_id: &str, frame_type: &str, payload: serde_json::Value) {
        let payload = Bytes::from(payload.to_string());
        self.each_gateway(
            user_id,
            |_| true,
            |addresses| {
                let frame_type = frame_type.to_owned();
                vec![Item::Signal(Signal { addresses, frame_type, payload: payload.clone(), ..Signal::default() })]
            },
        )
        .await;
    }

    /// Closes the connections of a user that were opened with this access token.
    pub(crate) async fn kick_token(&self, user_id: &str, token_hash: &str, code: CloseCode) {
        let with_token = |session: &Session| session.token_hash == token_hash;
        self.each_gateway(user_id, with_token, |addresses| {
            let kick =
                |address| Kick { address, close_code: u32::from(code.number()), reason: code.reason().to_owned() };
            addresses.into_iter().map(|address| Item::Kick(kick(address))).collect()
        })
        .await;
    }

    async fn each_gateway(
        &self,
        user_id: &str,
        wanted: impl Fn(&Session) -> bool,
        items: impl Fn(Vec<u64>) -> Vec<Item>,
    ) {
        let sessions = match self.repo.sessions(user_id).await {
            Ok(sessions) => sessions,
            Err(status) => return tracing::warn!(user_id, %status, "presence unknown, signal not sent"),
        };
        let mut targets: BTreeMap<(u32, u64), Vec<u64>> = BTreeMap::new();
        for session in sessions.iter().filter(|s| wanted(s)) {
            if let Ok(gateway) = session.gateway_id.parse::<GatewayId>() {
                targets.entry((gateway.number(), session.gateway_incarnation)).or_default().push(session.address);
            }
        }
        for ((gateway, incarnation), addresses) in targets {
            let items = items(addresses).into_iter().map(|item| DownstreamItem { item: Some(item) }).collect();
            let record = DownstreamRecord { incarnation, items };
            if let Err(error) = self.produce(gateway, user_id, &record).await {
                tracing::warn!(user_id, gateway, %error, "signal not sent");
            }
        }
    }

    async fn produce(&self, gateway: u32, key: &str, record: &DownstreamRecord) -> Result<(), BusError> {
        let Some(gateway) = GatewayId::new(gateway) else { return Ok(()) };
        let topic = topics::downstream(gateway);
        let partition = partition_of(key.as_bytes(), self.bus.partitions(&topic).await?);
        let headers =
            Headers { trace_id: Bytes::new(), payload_type: "DownstreamRecord", produced_at_ms: self.clock.unix_ms() };
        let record = Record { key: key.to_owned().into(), value: record.encode_to_vec().into(), headers };
        self.bus.produce(&topic, partition, vec![record]).await.map(|_| ())
    }
}
