//! The consumers: persistence, large fan-outs, relay of the outbox, jobs.
//!
//! Owns what happens after a message was acknowledged. Never touches the store except through repo's gRPC clients.
#![forbid(unsafe_code)]

mod config;
mod error;
mod fanout;
mod group;
mod jobs;
mod leader;
mod outbox;
mod persist;
mod presence;
mod stats;
mod task;

pub use config::{JobsConfig, TaskConfig, TaskDeps};
pub use task::{Health, Task};
