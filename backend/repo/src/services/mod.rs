//! The gRPC services of repo: contracts on one side, store, cache and the pipeline's rules on the other.

pub(crate) mod conversations;
mod convert;
mod fail;
pub(crate) mod idempotency;
pub(crate) mod messages;
pub(crate) mod pipeline;
pub(crate) mod presence;
pub(crate) mod revoked;
mod sessions;
pub(crate) mod tokens;
pub(crate) mod users;
