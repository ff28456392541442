//! What every `Coord` must do, whichever it is. Service and lock names are the suite's own.

use futures::future::join_all;
use gochat_infra::coord::{Coord, CoordError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Runs every case.
pub(crate) async fn run(coord: Arc<dyn Coord>) {
    instance_ids(&coord).await;
    concurrent_leases(&coord).await;
    locks(&coord).await;
    concurrent_locks(&coord).await;
}

async fn instance_ids(coord: &Arc<dyn Coord>) {
    let first = coord.lease_instance_id("contract-a", 2).await.unwrap();
    let second = coord.lease_instance_id("contract-a", 2).await.unwrap();
    assert_eq!(BTreeSet::from([first.id(), second.id()]), BTreeSet::from([1, 2]));
    assert!(first.is_valid() && second.is_valid());
    let full = coord.lease_instance_id("contract-a", 2).await.err().unwrap();
    assert!(matches!(full, CoordError::NoFreeId { max: 2, .. }), "{full}");
    assert_eq!(coord.lease_instance_id("contract-b", 1).await.unwrap().id(), 1, "services do not share ids");
    let freed = second.id();
    drop(second);
    assert_eq!(coord.lease_instance_id("contract-a", 2).await.unwrap().id(), freed, "given back when dropped");
}

async fn concurrent_leases(coord: &Arc<dyn Coord>) {
    let leases = (0..40).map(|_| {
        let coord = coord.clone();
        tokio::spawn(async move { coord.lease_instance_id("contract-many", 1023).await.unwrap() })
    });
    let leases = join_all(leases).await;
    let ids: BTreeSet<u16> = leases.iter().map(|lease| lease.as_ref().unwrap().id()).collect();
    assert_eq!(ids.len(), 40);
    assert!(ids.iter().all(|id| (1..=1023).contains(id)));
}

async fn locks(coord: &Arc<dyn Coord>) {
    let held = coord.try_lock("contract-lock").await.unwrap().unwrap();
    assert!(held.is_held());
    assert!(coord.try_lock("contract-lock").await.unwrap().is_none());
    let other = coord.try_lock("contract-other").await.unwrap();
    assert!(other.is_some(), "another name is another lock");
    let mut token = held.fencing_token();
    drop(held);
    for _ in 0..3 {
        let next = coord.try_lock("contract-lock").await.unwrap().unwrap();
        assert!(next.fencing_token() > token, "fencing tokens grow");
        token = next.fencing_token();
    }
}

async fn concurrent_locks(coord: &Arc<dyn Coord>) {
    let tries = (0..40).map(|_| {
        let coord = coord.clone();
        tokio::spawn(async move { coord.try_lock("contract-race").await.unwrap() })
    });
    // All answers are kept while they are counted, so a lock once won stays held.
    let guards = join_all(tries).await;
    assert_eq!(guards.iter().filter(|guard| guard.as_ref().unwrap().is_some()).count(), 1);
}
