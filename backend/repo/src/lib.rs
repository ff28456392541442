//! The only owner of data: SQL behind a store seam, and the cache rules in front of it.
//!
//! [`open_sqlite`] gives a [`store::Store`]; a [`Repo`] puts the rules of the message pipeline and the gRPC services of
//! `im.repo.v1` on top of any store. Nothing outside this crate knows a statement, a table or a cache key.

#![forbid(unsafe_code)]

mod directory;
mod events;
mod pipeline;
mod recent;
mod repo;
mod services;
pub mod store;

pub use repo::{Repo, RepoConfig};
pub use services::conversations::Conversations;
pub use services::friends::Friends;
pub use services::idempotency::Idempotency;
pub use services::messages::Messages;
pub use services::pipeline::Pipeline;
pub use services::presence::Presence;
pub use services::tokens::Tokens;
pub use services::users::Users;
pub use store::sqlite::{SqliteConfig, StoreReport, inspect_sqlite, open_sqlite};
