//! The rules: authentication, conversations, the message pipeline.
//!
//! Owns decisions. Never touches the store except through repo's gRPC clients, and never a socket.
#![forbid(unsafe_code)]

mod auth;
mod config;
mod conversations;
mod deps;
mod history;
mod logic;
mod names;
mod passwords;
mod persisted;
mod pipeline;
mod profiles;
mod repo;
mod signals;
mod tokens;

pub use auth::Auth;
pub use config::{AuthConfig, LogicConfig, OmittedRules, PipelineConfig};
pub use conversations::Conversations;
pub use deps::LogicDeps;
pub use logic::{Logic, LogicError};
pub use passwords::hash_password;
pub use pipeline::{Health, Pipeline};
pub use profiles::Profiles;
