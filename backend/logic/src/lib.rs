//! The rules: authentication, conversations, the message pipeline.
//!
//! Owns decisions. Never touches the store except through repo's gRPC clients, and never a socket.
#![forbid(unsafe_code)]

mod auth;
mod config;
mod conversations;
mod credentials;
mod deps;
mod events;
mod friends;
mod friendship;
mod groups;
mod history;
mod lists;
mod logic;
mod logins;
mod members;
mod messages;
mod names;
mod pages;
mod passwords;
mod persisted;
mod pipeline;
mod profiles;
mod reads;
mod repo;
mod roles;
mod seat;
mod signals;
mod singles;
mod statuses;
mod tokens;
mod world;

pub use auth::Auth;
pub use config::{AuthConfig, LogicConfig, OmittedRules, PipelineConfig, RulesConfig};
pub use conversations::Conversations;
pub use deps::LogicDeps;
pub use events::Events;
pub use friends::Friends;
pub use logic::{Logic, LogicError};
pub use messages::Messages;
pub use passwords::hash_password;
pub use pipeline::{Health, Pipeline};
pub use profiles::Profiles;
