//! Topics by name and number, with what groups committed on them. Never decides who owns a partition.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{
    image::TopicImage,
    partition::{Partition, lock},
};
use crate::bus::{BusError, Offset, TopicPartition, TopicSpec};

/// A topic and its partitions.
#[derive(Debug)]
pub(super) struct Topic {
    /// Number in frame headers.
    pub id: u32,
    pub spec: TopicSpec,
    pub partitions: Vec<Arc<Partition>>,
    /// Per group that has committed or has members now, and per partition.
    committed: Mutex<BTreeMap<String, Vec<Option<Offset>>>>,
}

impl Topic {
    pub(super) fn new(image: TopicImage) -> Self {
        let partitions = (0u32..)
            .zip(&image.next_offsets)
            .map(|(partition, next)| {
                Arc::new(Partition::new(TopicPartition { topic: image.spec.name.clone(), partition }, *next))
            })
            .collect();
        Topic { id: image.id, spec: image.spec, partitions, committed: Mutex::new(image.committed) }
    }

    pub(super) fn partition(&self, partition: u32) -> Result<&Arc<Partition>, BusError> {
        self.partitions.get(partition as usize).ok_or_else(|| unknown(&self.spec.name, partition))
    }

    /// What the group committed on a partition.
    pub(super) fn committed(&self, group: &str, partition: u32) -> Option<Offset> {
        lock(&self.committed).get(group)?.get(partition as usize).copied().flatten()
    }

    pub(super) fn set_committed(&self, group: &str, partition: u32, next: Offset) {
        let mut committed = lock(&self.committed);
        if !committed.contains_key(group) {
            committed.insert(group.to_owned(), vec![None; self.partitions.len()]);
        }
        if let Some(slot) = committed.get_mut(group).and_then(|offsets| offsets.get_mut(partition as usize)) {
            *slot = Some(next);
        }
    }

    /// Replaces all commits by those of a checkpoint.
    pub(super) fn restore_committed(&self, committed: BTreeMap<String, Vec<Option<Offset>>>) {
        *lock(&self.committed) = committed;
    }

    /// From now on the group holds back retention, whether it has committed or not.
    pub(super) fn register_group(&self, group: &str) {
        lock(&self.committed).entry(group.to_owned()).or_insert_with(|| vec![None; self.partitions.len()]);
    }

    /// A group without members holds back retention only when it has committed.
    pub(super) fn unregister_group(&self, group: &str) {
        let mut committed = lock(&self.committed);
        if committed.get(group).is_some_and(|offsets| offsets.iter().all(Option::is_none)) {
            committed.remove(group);
        }
    }

    /// Whether every group has passed everything below `end` in a partition.
    pub(super) fn is_passed(&self, partition: u32, end: Offset) -> bool {
        lock(&self.committed)
            .values()
            .all(|offsets| offsets.get(partition as usize).copied().flatten().is_some_and(|next| next >= end))
    }

    /// For a checkpoint. Under the writer's lock, so that the end offsets belong together.
    pub(super) fn image(&self) -> TopicImage {
        let committed = lock(&self.committed)
            .iter()
            .filter(|(_, offsets)| offsets.iter().any(Option::is_some))
            .map(|(group, offsets)| (group.clone(), offsets.clone()))
            .collect();
        TopicImage {
            id: self.id,
            spec: self.spec.clone(),
            next_offsets: self.partitions.iter().map(|partition| partition.assigned_end()).collect(),
            committed,
        }
    }
}

/// The error for a topic or partition that does not exist.
pub(super) fn unknown(topic: &str, partition: u32) -> BusError {
    BusError::UnknownPartition { topic: topic.to_owned(), partition }
}

/// All topics.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    by_name: RwLock<HashMap<String, Arc<Topic>>>,
}

impl Catalog {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn insert(&self, topic: Arc<Topic>) {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(topic.spec.name.clone(), topic);
    }

    /// All topics in the order of their numbers.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> =
            self.by_name.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        topics.sort_by_key(|topic| topic.id);
        topics
    }
}
