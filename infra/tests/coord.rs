//! Local coordination under the coordination contract.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[path = "contracts/coord.rs"]
mod contract;

use gochat_infra::clock::{ManualClock, SystemClock};
use gochat_infra::coord::Coord;
use gochat_infra::coord::local::LocalCoord;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn local_coord_keeps_the_contract() {
    contract::run(Arc::new(LocalCoord::new(SystemClock::shared()))).await;
}

#[tokio::test]
async fn fencing_tokens_grow_over_a_restart() {
    let token = |unix_ms| async move {
        let coord = LocalCoord::new(ManualClock::at(unix_ms));
        coord.try_lock("l").await.unwrap().unwrap().fencing_token()
    };
    assert!(token(1_800_000_000_001).await > token(1_800_000_000_000).await);
}
