//! Which segments may go, and their removal. Never removes what a group has not passed or what is being written.

use std::{
    collections::VecDeque,
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
    let _alone = lock(&shared.retention);
    let mut removed = 0;
    while let Some(segment) = next_to_remove(shared) {
        forget(shared, &segment);
        fs::remove_file(&segment.path)
            .and_then(|()| segment::sync_dir(&shared.config.dir))
            .map_err(|error| BusError::Unavailable(format!("removing {}: {error}", segment.path.display())))?;
        removed += 1;
    }
    Ok(removed)
}

/// Takes the oldest segment out of the log and sets it aside when it may go, for its file to serve again; one that a
/// reader still holds is removed, which gives `None` too.
///
/// Blocks for a sync: what lets the segment go is on stable storage before it goes.
pub(super) fn take_oldest(shared: &Shared) -> Result<Option<Segment>, BusError> {
    let _alone = lock(&shared.retention);
    let newest = lock(&shared.segments).back().cloned();
    // Segments that were left are synced once the newest one has begun to be.
    let began = |newest: &Arc<Segment>| shared.synced_through.load(Ordering::Acquire) > newest.header.base_position;
    let Some(newest) = newest.filter(began) else { return Ok(None) };
    if !may_remove(shared, &lock(&shared.segments)) {
        return Ok(None);
    }
    if let Err(error) = newest.sync() {
        return Err(shared.stop(format!("fdatasync of {}: {error}", newest.path.display())));
    }
    let Some(segment) = next_to_remove(shared) else { return Ok(None) };
    forget(shared, &segment);
    let path = segment.path.clone();
    let taken = match Arc::try_unwrap(segment) {
        Ok(alone) => alone.set_aside(&shared.config).map(Some),
        Err(held) => fs::remove_file(&held.path).map(|()| None),
    };
    taken.map_err(|error| BusError::Unavailable(format!("removing {}: {error}", path.display())))
}

fn forget(shared: &Shared, segment: &Segment) {
    for topic in shared.catalog.all() {
        for partition in &topic.partitions {
            partition.forget_through(segment.header.sequence);
        }
    }
}

/// Takes the oldest segment out of the list when it may go.
fn next_to_remove(shared: &Shared) -> Option<Arc<Segment>> {
    let mut segments = lock(&shared.segments);
    if may_remove(shared, &segments) { segments.pop_front() } else { None }
}

fn may_remove(shared: &Shared, segments: &VecDeque<Arc<Segment>>) -> bool {
    if shared.holds.load(Ordering::Acquire) > 0 {
        return false;
    }
    // Its successor's checkpoint stands for it, and everything in it is published.
    let (Some(oldest), Some(next)) = (segments.front(), segments.get(1)) else { return false };
    if shared.synced_through.load(Ordering::Acquire) <= next.header.base_position {
        return false;
    }
    let newer_bytes: u64 = segments.iter().skip(1).map(|segment| segment.header.segment_bytes).sum();
    let kept_by_age = oldest.sealed_age_ms() < shared.config.retention_age.as_millis() as u64;
    let kept_by_size = newer_bytes < shared.config.retention_bytes;
    !(kept_by_age && kept_by_size) && is_passed(shared, oldest.header.sequence)
}

fn is_passed(shared: &Shared, sequence: u64) -> bool {
    shared.catalog.all().iter().all(|topic| {
        (0u32..)
            .zip(&topic.partitions)
            .all(|(number, partition)| partition.end_in(sequence).is_none_or(|end| topic.is_passed(number, end)))
    })
}
