//! What all services share: bus, cache, coordination, ids, rate limits, retries, in-process gRPC, telemetry.
//!
//! Never knows what a message or a user is.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod bus;
pub mod cache;
pub mod clock;
pub mod coord;
pub mod gateways;
pub mod lanes;
pub mod once;
pub mod ratelimit;
pub mod retry;
pub mod rpc;
pub mod telemetry;
pub mod token;
pub mod uid;
