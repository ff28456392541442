//! What all handlers work with. Owns the bundle; decides nothing.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::clock::Clock;
use gochat_infra::rpc::{self, Channel};
use gochat_infra::token::TokenKey;
use gochat_proto::ids::GatewayId;
use gochat_proto::im::logic::v1::auth_service_client::AuthServiceClient;
use gochat_proto::im::logic::v1::conversation_service_client::ConversationServiceClient;
use gochat_proto::im::logic::v1::friend_service_client::FriendServiceClient;
use gochat_proto::im::logic::v1::message_service_client::MessageServiceClient;
use gochat_proto::im::logic::v1::user_service_client::UserServiceClient;
use gochat_proto::im::repo::v1::idempotency_service_client::IdempotencyServiceClient;
use tokio::sync::watch;

use super::limits::Limits;
use super::verified::Verified;
use crate::control::shards::Shards;
use crate::control::status::Status;
use crate::control::upstream::UpstreamHandle;
use crate::control::waiting::Waiting;

/// Of one call (spec 08 §1.2).
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// What an [`Api`] is made from.
pub(crate) struct ApiParts {
    pub(crate) logic: Channel,
    pub(crate) repo: Channel,
    pub(crate) tokens: TokenKey,
    pub(crate) clock: Arc<dyn Clock>,
    /// This gateway and its incarnation.
    pub(crate) origin: (GatewayId, u64),
    pub(crate) upstream: UpstreamHandle,
    pub(crate) waiting: Waiting,
    pub(crate) shards: Shards,
    pub(crate) status: watch::Receiver<Status>,
    /// Whether rates are limited.
    pub(crate) limits: bool,
    pub(crate) send_timeout: Duration,
}

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) auth: AuthServiceClient<Channel>,
    pub(crate) users: UserServiceClient<Channel>,
    pub(crate) conversations: ConversationServiceClient<Channel>,
    pub(crate) messages: MessageServiceClient<Channel>,
    pub(crate) friends: FriendServiceClient<Channel>,
    pub(crate) idempotency: IdempotencyServiceClient<Channel>,
    pub(crate) verified: Verified,
    pub(crate) limits: Limits,
    pub(crate) parts: ApiParts,
}

impl Api {
    /// Must be called on a runtime.
    pub(crate) fn new(parts: ApiParts) -> Api {
        Api(Arc::new(Inner {
            auth: AuthServiceClient::new(parts.logic.clone()),
            users: UserServiceClient::new(parts.logic.clone()),
            conversations: ConversationServiceClient::new(parts.logic.clone()),
            messages: MessageServiceClient::new(parts.logic.clone()),
            friends: FriendServiceClient::new(parts.logic.clone()),
            idempotency: IdempotencyServiceClient::new(parts.repo.clone()),
            verified: Verified::start(),
            limits: Limits::new(parts.limits, Arc::clone(&parts.clock)),
            parts,
        }))
    }

    /// Unix seconds.
    pub(crate) fn now_s(&self) -> i64 {
        self.parts.clock.unix_ms() / 1000
    }
}

impl std::ops::Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// A request to logic or repo, under its deadline.
pub(crate) fn ask<T>(message: T) -> tonic::Request<T> {
    rpc::request(message, CALL_DEADLINE)
}
