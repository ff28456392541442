//! Waiting until persistence has passed what a request could know of (pipeline.md D2).
//!
//! Owns the bound of the wait. Never fails a request: an answer that could not wait says so.

use std::sync::Arc;
use std::time::Duration;

use gochat_infra::bus::{Bus, BusError, partition_of};
use gochat_infra::rpc;
use gochat_proto::im::repo::v1::{AwaitPositionsRequest, Position};
use gochat_proto::topics;

use crate::repo::Repo;

/// Time for the answer itself beyond the wait.
const MARGIN: Duration = Duration::from_millis(500);

/// Knows where the persist topic ends and asks repo whether the store is there.
#[derive(Clone)]
pub(crate) struct Persisted {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) repo: Repo,
    pub(crate) wait_max: Duration,
}

impl Persisted {
    /// Whether everything appended for one conversation before this call is in the store now.
    pub(crate) async fn conversation(&self, conversation_id: &str, wait_ms: i32) -> bool {
        let partition = match self.bus.partitions(topics::MESSAGES_PERSIST).await {
            Ok(partitions) => partition_of(conversation_id.as_bytes(), partitions),
            Err(error) => return unknown(&error),
        };
        self.pass(partition..partition + 1, wait_ms).await
    }

    /// Whether everything appended before this call is in the store now.
    pub(crate) async fn everything(&self, wait_ms: i32) -> bool {
        match self.bus.partitions(topics::MESSAGES_PERSIST).await {
            Ok(partitions) => self.pass(0..partitions, wait_ms).await,
            Err(error) => unknown(&error),
        }
    }

    async fn pass(&self, partitions: std::ops::Range<u32>, wait_ms: i32) -> bool {
        let mut positions = Vec::with_capacity(partitions.len());
        for partition in partitions {
            match self.bus.end_offset(topics::MESSAGES_PERSIST, partition).await {
                Ok(0) => {}
                Ok(offset) => positions.push(Position { partition, offset }),
                Err(error) => return unknown(&error),
            }
        }
        if positions.is_empty() {
            return true;
        }
        // Not told means the whole wait.
        let wait = match u64::try_from(wait_ms) {
            Ok(ms) if ms > 0 => self.wait_max.min(Duration::from_millis(ms)),
            Ok(_) | Err(_) => self.wait_max,
        };
        let timeout_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = rpc::request(AwaitPositionsRequest { positions, timeout_ms }, wait + MARGIN);
        match self.repo.pipeline.clone().await_positions(request).await {
            Ok(answer) => answer.get_ref().passed,
            Err(status) => {
                tracing::warn!(%status, "cannot tell whether persistence has caught up");
                false
            }
        }
    }
}

fn unknown(error: &BusError) -> bool {
    tracing::warn!(%error, "cannot tell where the persist topic ends");
    false
}
