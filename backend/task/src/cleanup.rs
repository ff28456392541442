//! Periodic clean-up: the bus's retention.
//!
//! Owns the period. Never deletes itself what it cleans.

use tokio::sync::watch;

use crate::config::{TaskConfig, TaskDeps};
use gochat_infra::backoff::pause;

/// Trims the bus now and then, until the process shuts down.
pub(crate) async fn run(deps: TaskDeps, config: TaskConfig, mut shutdown: watch::Receiver<bool>) {
    while pause(config.trim_period, &mut shutdown).await {
        if let Err(error) = deps.bus.trim().await {
            tracing::warn!(%error, "the bus was not trimmed");
        }
    }
}
