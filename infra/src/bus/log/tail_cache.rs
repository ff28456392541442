//! Bounds the memory of all partitions' newest frames together: first in, first out. Never holds a frame itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::partition::{Partition, lock};
use crate::bus::Offset;

/// See the top of this file.
#[derive(Debug)]
pub(super) struct TailCache {
    bytes_max: usize,
    admitted: Mutex<Admitted>,
}

#[derive(Debug, Default)]
struct Admitted {
    frames: VecDeque<(Arc<Partition>, Offset, usize)>,
    bytes: usize,
}

impl TailCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        TailCache { bytes_max, admitted: Mutex::default() }
    }

    /// Counts a frame that was just published and evicts what no longer fits.
    pub(super) fn admit(&self, partition: &Arc<Partition>, base_offset: Offset, bytes: usize) {
        let mut admitted = lock(&self.admitted);
        admitted.frames.push_back((partition.clone(), base_offset, bytes));
        admitted.bytes += bytes;
        while admitted.bytes > self.bytes_max {
            let Some((partition, base_offset, bytes)) = admitted.frames.pop_front() else { break };
            admitted.bytes -= bytes;
            partition.evict(base_offset);
        }
    }
}
