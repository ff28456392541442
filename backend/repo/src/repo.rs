//! The assembled repo: one value that makes every service and puts them on a channel.

use crate::directory::Directory;
use crate::pipeline::hash::PlaceHasher;
use crate::pipeline::positions::Positions;
use crate::pipeline::prepare::Preparer;
use crate::pipeline::save::Saver;
use crate::services::conversations::Conversations;
use crate::services::friends::Friends;
use crate::services::idempotency::Idempotency;
use crate::services::messages::Messages;
use crate::services::pipeline::Pipeline;
use crate::services::presence::Presence;
use crate::services::revoked::RevokedUsers;
use crate::services::rooms::Rooms;
use crate::services::sessions::Sessions;
use crate::services::tokens::Tokens;
use crate::services::users::Users;
use crate::store::Store;
use gochat_infra::cache::Cache;
use gochat_infra::clock::{Clock, SystemClock};
use gochat_infra::rpc::InProcess;
use gochat_infra::uid::Snowflake;
use gochat_proto::im::repo::v1::conversation_service_server::ConversationServiceServer;
use gochat_proto::im::repo::v1::friendship_service_server::FriendshipServiceServer;
use gochat_proto::im::repo::v1::idempotency_service_server::IdempotencyServiceServer;
use gochat_proto::im::repo::v1::message_service_server::MessageServiceServer;
use gochat_proto::im::repo::v1::online_status_service_server::OnlineStatusServiceServer;
use gochat_proto::im::repo::v1::pipeline_service_server::PipelineServiceServer;
use gochat_proto::im::repo::v1::token_service_server::TokenServiceServer;
use gochat_proto::im::repo::v1::user_service_server::UserServiceServer;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How a [`Repo`] works.
#[derive(Clone)]
pub struct RepoConfig {
    /// Sequence numbers reserved at once for a conversation (C1). Default 1,000.
    pub sequence_block: i64,
    /// Password checks that run at the same time, each a quarter of a second of one core. Default: one a core.
    pub password_checks: usize,
    /// Low bits kept of the hash that places claims. 64; fewer are for tests of collisions.
    pub claim_hash_bits: u32,
    /// Wall clock of everything stored.
    pub clock: Arc<dyn Clock>,
}

impl Default for RepoConfig {
    fn default() -> RepoConfig {
        RepoConfig {
            sequence_block: 1_000,
            password_checks: std::thread::available_parallelism().map_or(1, usize::from),
            claim_hash_bits: 64,
            clock: SystemClock::shared(),
        }
    }
}

/// Rules and services over a store and a cache. Cheap to clone.
#[derive(Clone)]
pub struct Repo {
    users: Users,
    friends: Friends,
    conversations: Conversations,
    messages: Messages,
    presence: Presence,
    tokens: Tokens,
    idempotency: Idempotency,
    pipeline: Pipeline,
}

/// Batches of messages are larger than tonic's default of 4 MiB (spec 03 §1).
const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;

impl Repo {
    /// Puts the rules on top of a store and a cache. `uid` makes the ids of users.
    pub fn new(store: Arc<dyn Store>, cache: Arc<dyn Cache>, uid: Arc<Snowflake>, config: RepoConfig) -> Repo {
        let RepoConfig { sequence_block, password_checks, claim_hash_bits, clock } = config;
        let directory = Arc::new(Directory::new(store.clone()));
        let revoked = Arc::new(RevokedUsers::default());
        let positions = Arc::new(Positions::new(store.clone()));
        let hasher = PlaceHasher::with_bits(claim_hash_bits);
        let preparer = Preparer {
            store: store.clone(),
            cache: cache.clone(),
            directory: directory.clone(),
            hasher,
            block: sequence_block.max(1),
        };
        let saver = Saver {
            store: store.clone(),
            cache: cache.clone(),
            directory: directory.clone(),
            positions: positions.clone(),
            clock: clock.clone(),
            hasher,
        };
        let sessions = Sessions { cache: cache.clone() };
        let rooms = Rooms { sessions: sessions.clone(), store: store.clone(), clock: clock.clone() };
        Repo {
            users: Users {
                store: store.clone(),
                directory: directory.clone(),
                revoked: revoked.clone(),
                uid: uid.clone(),
                clock: clock.clone(),
                sessions: sessions.clone(),
                checks: Arc::new(Semaphore::new(password_checks.max(1))),
            },
            friends: Friends { store: store.clone(), directory: directory.clone(), uid, clock: clock.clone() },
            conversations: Conversations {
                store: store.clone(),
                cache: cache.clone(),
                directory: directory.clone(),
                rooms: rooms.clone(),
                clock: clock.clone(),
            },
            messages: Messages { store: store.clone(), cache: cache.clone() },
            presence: Presence::new(sessions, rooms, directory.clone(), revoked.clone(), clock.clone()),
            tokens: Tokens { store: store.clone(), directory, revoked, clock },
            idempotency: Idempotency { cache: cache.clone() },
            pipeline: Pipeline { store, cache, preparer: Arc::new(preparer), saver: Arc::new(saver), positions },
        }
    }

    /// Adds every service to a channel of this process.
    pub fn add_to(&self, channel: InProcess) -> InProcess {
        channel
            .add(UserServiceServer::new(self.users.clone()))
            .add(FriendshipServiceServer::new(self.friends.clone()))
            .add(ConversationServiceServer::new(self.conversations.clone()))
            .add(MessageServiceServer::new(self.messages.clone()))
            .add(OnlineStatusServiceServer::new(self.presence.clone()))
            .add(TokenServiceServer::new(self.tokens.clone()))
            .add(IdempotencyServiceServer::new(self.idempotency.clone()))
            .add(PipelineServiceServer::new(self.pipeline.clone()).max_decoding_message_size(REQUEST_BYTES_MAX))
    }
}
