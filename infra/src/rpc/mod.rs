//! gRPC between services: one tower layer for calls in one process and over the network (pipeline.md G4).
//!
//! The layer owns deadline, panic isolation, trace id, authentication, concurrency bound and per-method metrics.
//! Never knows a method's meaning and never retries ([`crate::retry`] does).
//!
//! ```ignore
//! let channel = Channel::in_process().add(UserServiceServer::new(users)).build(RpcOptions::default());
//! let mut client = UserServiceClient::new(channel);
//! let user = client.get_user(rpc::request(GetUserRequest { .. }, Duration::from_secs(2))).await?;
//! ```

mod channel;
mod context;
mod layer;
mod stats;

pub use channel::{Channel, InProcess};
pub use context::{TRACE_HEADER, TraceId, request, trace_id, with_trace};
pub use layer::{DEADLINE_MAX, RpcLayer, RpcOptions, RpcService, SERVICE_TOKEN_HEADER};
