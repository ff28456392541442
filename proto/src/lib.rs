//! Wire contracts: gRPC services, bus records, client frames, ids and error codes.
//!
//! Owns every format that crosses a process or a topic. Never decides anything: no I/O, no clocks, no policy.

#![forbid(unsafe_code)]

mod generated;

pub use generated::gochat::bus;
pub use generated::{common, im};
