//! The logic service as a whole: its gRPC services and its pipeline, over one set of dependencies.
//!
//! Owns the composition only.

use gochat_infra::token::TokenError;
use gochat_proto::im::logic::v1::auth_service_server::AuthServiceServer;
use gochat_proto::im::logic::v1::conversation_service_server::ConversationServiceServer;
use gochat_proto::im::logic::v1::user_service_server::UserServiceServer;

use crate::auth::Auth;
use crate::config::LogicConfig;
use crate::conversations::Conversations;
use crate::deps::LogicDeps;
use crate::persisted::Persisted;
use crate::pipeline::Pipeline;
use crate::profiles::Profiles;
use crate::repo::Repo;
use crate::signals::Signals;

/// Why logic cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LogicError {
    /// The token signing key cannot be used.
    #[error("token signing key: {0}")]
    SigningKey(#[from] TokenError),
}

/// The logic service. Its servers may be added to any number of channels.
#[derive(Clone)]
pub struct Logic {
    deps: LogicDeps,
    config: LogicConfig,
    auth: Auth,
    profiles: Profiles,
    conversations: Conversations,
}

impl Logic {
    /// Builds the services; nothing runs before [`Pipeline::run`].
    pub fn new(deps: LogicDeps, config: LogicConfig) -> Result<Logic, LogicError> {
        let repo = Repo::new(&deps.repo);
        let signals = Signals { bus: deps.bus.clone(), repo: repo.clone(), clock: deps.clock.clone() };
        let persisted = Persisted { bus: deps.bus.clone(), repo: repo.clone(), wait_max: config.read_wait_max };
        Ok(Logic {
            auth: Auth::new(repo.clone(), signals.clone(), deps.clock.clone(), &config.auth)?,
            profiles: Profiles { repo: repo.clone() },
            conversations: Conversations { repo, signals, persisted, clock: deps.clock.clone() },
            deps,
            config,
        })
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

    /// The message pipeline; each one made is a member of the consumer group of its own.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.deps.clone(), self.config.pipeline.clone())
    }
}
