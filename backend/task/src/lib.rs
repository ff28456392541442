//! The consumers: persistence, relay of the outbox, clean-up.
//!
//! Owns what happens after a message was acknowledged. Never touches the store except through repo's gRPC clients.
#![forbid(unsafe_code)]

mod cleanup;
mod config;
mod outbox;
mod persist;
mod stats;
mod task;

pub use config::{TaskConfig, TaskDeps};
pub use task::{Health, Task};
