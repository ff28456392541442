//! Which gateways have to hear of a conversation whose members they know themselves (pipeline.md F1).
//!
//! Owns the question and its fallback: when nobody can say, every living gateway is addressed, and one without members
//! drops what it gets. Never caches: a gateway that has just got its first member must not be missed.

use std::time::Duration;

use gochat_proto::ids::GatewayId;
use gochat_proto::im::repo::v1::GetConversationGatewaysRequest;
use gochat_proto::im::repo::v1::online_status_service_client::OnlineStatusServiceClient;
use tokio::sync::watch;

use crate::rpc::{self, Channel};

/// Deadline of one call to repo.
const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// The gateways of this installation. Cheap to clone.
#[derive(Clone)]
pub struct Gateways {
    alive: watch::Receiver<Vec<GatewayId>>,
    presence: OnlineStatusServiceClient<Channel>,
}

impl Gateways {
    /// `alive`: those that are; where coordination keeps no list it never changes. `repo`: who asks it for rooms.
    pub fn new(alive: watch::Receiver<Vec<GatewayId>>, repo: Channel) -> Gateways {
        Gateways { alive, presence: OnlineStatusServiceClient::new(repo) }
    }

    /// Those that may have a member of the conversation connected.
    pub async fn of(&self, conversation_id: &str) -> Vec<GatewayId> {
        let alive = self.alive.borrow().clone();
        if alive.len() <= 1 {
            return alive;
        }
        let request = GetConversationGatewaysRequest { conversation_id: conversation_id.to_owned() };
        match self.presence.clone().get_conversation_gateways(rpc::request(request, CALL_DEADLINE)).await {
            Ok(answer) if answer.get_ref().known => {
                answer.into_inner().gateway_ids.iter().filter_map(|id| id.parse().ok()).collect()
            }
            Ok(_) => alive,
            Err(status) => {
                tracing::warn!(conversation_id, %status, "not known who has members connected, telling all gateways");
                alive
            }
        }
    }
}
