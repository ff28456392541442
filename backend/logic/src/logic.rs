//! The logic service as a whole: its gRPC services, its pipeline and its consumer of events, over one set of dependencies.
//!
//! Owns the composition only.

use gochat_infra::gateways::Gateways;
use gochat_infra::token::TokenError;
use gochat_proto::failure::Failure;
use gochat_proto::im::logic::v1::auth_service_server::AuthServiceServer;
use gochat_proto::im::logic::v1::conversation_service_server::ConversationServiceServer;
use gochat_proto::im::logic::v1::friend_service_server::FriendServiceServer;
use gochat_proto::im::logic::v1::message_service_server::MessageServiceServer;
use gochat_proto::im::logic::v1::user_service_server::UserServiceServer;

use crate::auth::Auth;
use crate::config::LogicConfig;
use crate::conversations::Conversations;
use crate::credentials::Credentials;
use crate::deps::LogicDeps;
use crate::events::Events;
use crate::friends::Friends;
use crate::friendship::Views;
use crate::groups::Groups;
use crate::lists::Lists;
use crate::logins::Logins;
use crate::members::Members;
use crate::messages::Messages;
use crate::passwords::Passwords;
use crate::persisted::Persisted;
use crate::pipeline::Pipeline;
use crate::profiles::Profiles;
use crate::reads::Reads;
use crate::repo::Repo;
use crate::signals::Signals;
use crate::statuses::Statuses;
use crate::tokens::Tokens;
use crate::world::World;

/// Why logic cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LogicError {
    /// The token signing key cannot be used.
    #[error("token signing key: {0}")]
    SigningKey(#[from] TokenError),
    /// What has to exist could not be made.
    #[error("the world room cannot be made: {0}")]
    World(Failure),
}

/// The logic service. Its servers may be added to any number of channels.
#[derive(Clone)]
pub struct Logic {
    deps: LogicDeps,
    config: LogicConfig,
    parts: Parts,
    auth: Auth,
    profiles: Profiles,
    conversations: Conversations,
    messages: Messages,
    friends: Friends,
}

/// What several services share.
#[derive(Clone)]
struct Parts {
    repo: Repo,
    signals: Signals,
    world: World,
    views: Views,
}

impl Logic {
    /// Builds the services; nothing runs before [`Pipeline::run`] and [`Events::run`].
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn new(deps: LogicDeps, config: LogicConfig) -> Result<Logic, LogicError> {
        let repo = Repo::new(&deps.repo);
        let signals = Signals {
            bus: deps.bus.clone(),
            repo: repo.clone(),
            clock: deps.clock.clone(),
            gateways: Gateways::new(deps.gateways.clone(), deps.repo.clone()),
        };
        let world = World { repo: repo.clone() };
        let statuses = Statuses { repo: repo.clone() };
        let views = Views { repo: repo.clone(), statuses: statuses.clone() };
        let persisted = Persisted { bus: deps.bus.clone(), repo: repo.clone(), wait_max: config.read_wait_max };
        let logins = Logins { repo: repo.clone(), tokens: Tokens::new(&config.auth)?, clock: deps.clock.clone() };
        let passwords = Passwords::new(config.auth.bcrypt_cost, config.auth.hashes_max);
        let credentials = Credentials { repo: repo.clone(), passwords };
        let parts = Parts { repo, signals, world, views };
        Ok(Logic {
            auth: auth(&parts, &logins, &credentials, &config),
            profiles: Profiles {
                repo: parts.repo.clone(),
                signals: parts.signals.clone(),
                logins,
                credentials,
                statuses,
            },
            conversations: conversations(&parts, &persisted, &deps, &config),
            messages: Messages { repo: parts.repo.clone(), persisted, signals: parts.signals.clone() },
            friends: Friends { repo: parts.repo.clone(), views: parts.views.clone(), clock: deps.clock.clone() },
            parts,
            deps,
            config,
        })
    }

    /// Makes what has to exist before anybody is served: the world room.
    ///
    /// # Errors
    /// Repo cannot make it now.
    pub async fn prepare(&self) -> Result<(), LogicError> {
        self.parts.world.prepare().await.map_err(|status| LogicError::World(Failure::from_status(&status)))
    }

    /// im.logic.v1.AuthService.
    pub fn auth_service(&self) -> AuthServiceServer<Auth> {
        AuthServiceServer::new(self.auth.clone())
    }

    /// im.logic.v1.UserService.
    pub fn user_service(&self) -> UserServiceServer<Profiles> {
        UserServiceServer::new(self.profiles.clone())
    }

    /// im.logic.v1.ConversationService.
    pub fn conversation_service(&self) -> ConversationServiceServer<Conversations> {
        ConversationServiceServer::new(self.conversations.clone())
    }

    /// im.logic.v1.MessageService.
    pub fn message_service(&self) -> MessageServiceServer<Messages> {
        MessageServiceServer::new(self.messages.clone())
    }

    /// im.logic.v1.FriendService.
    pub fn friend_service(&self) -> FriendServiceServer<Friends> {
        FriendServiceServer::new(self.friends.clone())
    }

    /// The message pipeline; each one made is a member of the consumer group of its own.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.deps.clone(), self.config.pipeline.clone())
    }

    /// The consumer of domain events; each one made is a member of the consumer group of its own.
    pub fn events(&self) -> Events {
        Events::new(self.parts.repo.clone(), self.parts.signals.clone(), self.parts.views.clone())
    }
}

fn auth(parts: &Parts, logins: &Logins, credentials: &Credentials, config: &LogicConfig) -> Auth {
    Auth {
        repo: parts.repo.clone(),
        signals: parts.signals.clone(),
        logins: logins.clone(),
        credentials: credentials.clone(),
        world: parts.world.clone(),
        rules: config.rules.clone(),
        refresh_grace_s: config.auth.refresh_grace_s,
    }
}

fn conversations(parts: &Parts, persisted: &Persisted, deps: &LogicDeps, config: &LogicConfig) -> Conversations {
    let groups = Groups { repo: parts.repo.clone(), world: parts.world.clone(), uid: deps.uid.clone() };
    Conversations {
        repo: parts.repo.clone(),
        persisted: persisted.clone(),
        clock: deps.clock.clone(),
        lists: Lists { repo: parts.repo.clone(), persisted: persisted.clone() },
        members: Members { repo: parts.repo.clone(), groups: groups.clone() },
        groups,
        reads: Reads { repo: parts.repo.clone(), signals: parts.signals.clone() },
        world: parts.world.clone(),
        single_requires_friend: config.rules.single_requires_friend,
    }
}
