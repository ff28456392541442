//! Which segments may go, and their removal. Never removes what a group has not passed or what is being written.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use super::{
    partition::lock,
    segment::{self, Segment},
    shared::Shared,
};
use crate::bus::BusError;

/// Removes the oldest segments that nobody needs and that retention does not keep; gives how many.
///
/// Blocks on the file system. The caller made a sync first, so that the checkpoint that stands for what is removed
/// is on stable storage.
pub(super) fn trim(shared: &Shared) -> Result<usize, BusError> {
    let mut removed = 0;
    while let Some(segment) = next_to_remove(shared) {
        for topic in shared.catalog.all() {
            for partition in &topic.partitions {
                partition.forget_through(segment.header.sequence);
            }
        }
        fs::remove_file(&segment.path)
            .and_then(|()| segment::sync_dir(&shared.config.dir))
            .map_err(|error| BusError::Unavailable(format!("removing {}: {error}", segment.path.display())))?;
        removed += 1;
    }
    Ok(removed)
}

/// Takes the oldest segment out of the list when it may go.
fn next_to_remove(shared: &Shared) -> Option<Arc<Segment>> {
    let mut segments = lock(&shared.segments);
    let oldest = segments.front()?;
    // Its successor's checkpoint stands for it, and everything in it is published.
    let next = segments.get(1)?;
    if shared.synced_through.load(Ordering::Acquire) <= next.header.base_position {
        return None;
    }
    let newer_bytes: u64 = segments.iter().skip(1).map(|segment| segment.header.segment_bytes).sum();
    let kept_by_age = oldest.sealed_age_ms() < shared.config.retention_age.as_millis() as u64;
    let kept_by_size = newer_bytes < shared.config.retention_bytes;
    if (kept_by_age && kept_by_size) || !is_passed(shared, oldest.header.sequence) {
        return None;
    }
    segments.pop_front()
}

fn is_passed(shared: &Shared, sequence: u64) -> bool {
    shared.catalog.all().iter().all(|topic| {
        (0u32..)
            .zip(&topic.partitions)
            .all(|(number, partition)| partition.end_in(sequence).is_none_or(|end| topic.is_passed(number, end)))
    })
}
