//! Wire contracts: gRPC services, bus records, client frames, ids and error codes.
//!
//! Owns every format that crosses a process or a topic. Never decides anything: no I/O, no clocks, no policy.

#![forbid(unsafe_code)]

pub mod close_codes;
pub mod codes;
pub mod contract;
pub mod events;
pub mod failure;
pub mod frames;
mod generated;
pub mod ids;
pub mod objects;
pub mod rooms;
pub mod settings;
pub mod topics;

pub use generated::gochat::bus;
pub use generated::{common, im};
