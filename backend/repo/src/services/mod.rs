//! The gRPC services of repo: contracts on one side, store, cache and the pipeline's rules on the other.

mod activity;
pub(crate) mod conversations;
mod convert;
mod fail;
mod finish;
pub(crate) mod friends;
mod groups;
pub(crate) mod idempotency;
mod lists;
pub(crate) mod messages;
pub(crate) mod pipeline;
pub(crate) mod presence;
pub(crate) mod revoked;
pub(crate) mod rooms;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod users;
