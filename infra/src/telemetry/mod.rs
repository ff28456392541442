//! Logs and metrics of a process: how it tells an operator what it does.
//!
//! Never carries data a decision hangs on, and never sees message text or secrets (spec 07 §2).

pub mod log;
pub mod metrics;

pub use log::{Format, LogConfig, LogError, init};
