//! A bus in memory with one file behind it: appends, group assignment by hand, lost answers, torn tails.
//!
//! Owns the logs of a run. Durable topics are visible when synced, others when written, as the embedded log does it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use gochat_infra::bus::{
    Assignment, BatchLimits, Bus, BusError, Consumed, Consumer, Durability, Offset, PartitionStream, Record, StartAt,
    TopicPartition, TopicSpec,
};
use gochat_proto::topics;
use tokio::sync::Notify;

use crate::chaos::{Chaos, Fate, Place, Process, locked};

/// What is told of every downstream record as soon as it is written.
pub(crate) type Observer = Box<dyn Fn(&Bytes) + Send + Sync>;

/// The logs all processes share.
pub(crate) struct Logs {
    state: Mutex<State>,
    pub(crate) changed: Notify,
    pub(crate) chaos: Arc<Chaos>,
    observer: Observer,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    /// Entries in the order they were written.
    file: Vec<Entry>,
    /// Entries of the file that survive a crash for certain.
    synced: usize,
    owners: BTreeMap<(String, u32), Owner>,
}

struct Topic {
    durability: Durability,
    partitions: Vec<Vec<Stored>>,
}

struct Stored {
    record: Record,
    at: usize,
}

enum Entry {
    Record,
    Commit { topic: String, partition: u32, next: Offset },
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    process: usize,
    generation: u64,
}

impl Logs {
    pub(crate) fn new(chaos: Arc<Chaos>, observer: Observer) -> Arc<Logs> {
        Arc::new(Logs { state: Mutex::default(), changed: Notify::new(), chaos, observer })
    }

    fn notify(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn create(&self, name: &str, partitions: u32, durability: Durability) {
        let partitions = (0..partitions).map(|_| Vec::new()).collect();
        locked(&self.state).topics.insert(name.to_owned(), Topic { durability, partitions });
    }

    /// Hands a partition of a topic's group to a process; its stream of before is revoked.
    pub(crate) fn give(&self, topic: &str, partition: u32, process: usize) {
        let mut state = locked(&self.state);
        let owner = state.owners.entry((topic.to_owned(), partition)).or_insert(Owner { process, generation: 0 });
        *owner = Owner { process, generation: owner.generation + 1 };
        drop(state);
        self.notify();
    }

    pub(crate) fn owner(&self, topic: &str, partition: u32) -> usize {
        locked(&self.state).owners.get(&(topic.to_owned(), partition)).map_or(0, |o| o.process)
    }

    /// The whole machine dies: a random part of what was not synced is lost, the rest is synced at the next start.
    pub(crate) fn crash(&self) {
        let mut state = locked(&self.state);
        let cut = state.synced + self.chaos.below((state.file.len() - state.synced) as u64 + 1) as usize;
        state.file.truncate(cut);
        state.synced = cut;
        for partition in state.topics.values_mut().flat_map(|t| &mut t.partitions) {
            partition.retain(|stored| stored.at < cut);
        }
        drop(state);
        self.notify();
    }

    /// Writes without any fault, as a gateway that waited long enough.
    pub(crate) fn write(&self, topic: &str, partition: u32, records: Vec<Record>) -> Option<Offset> {
        let mut state = locked(&self.state);
        let mut at = state.file.len();
        let partition = state.topics.get_mut(topic)?.partitions.get_mut(partition as usize)?;
        let first = partition.len() as Offset;
        for record in records {
            if topics::downstream_gateway(topic).is_some() {
                (self.observer)(&record.value);
            }
            partition.push(Stored { record, at });
            at += 1;
        }
        state.file.resize_with(at, || Entry::Record);
        drop(state);
        self.notify();
        Some(first)
    }

    fn is_durable(&self, topic: &str) -> bool {
        locked(&self.state).topics.get(topic).is_some_and(|t| t.durability == Durability::Durable)
    }

    fn sync(&self) {
        let mut state = locked(&self.state);
        state.synced = state.file.len();
        drop(state);
        self.notify();
    }

    pub(crate) fn end(&self, topic: &str, partition: u32) -> Option<Offset> {
        let state = locked(&self.state);
        let topic = state.topics.get(topic)?;
        let records = topic.partitions.get(partition as usize)?;
        let visible = match topic.durability {
            Durability::Written => records.len(),
            Durability::Durable => records.partition_point(|stored| stored.at < state.synced),
        };
        Some(visible as Offset)
    }

    pub(crate) fn committed(&self, topic: &str, partition: u32) -> Offset {
        let state = locked(&self.state);
        let commits = state.file.iter().filter_map(|entry| match entry {
            Entry::Commit { topic: t, partition: p, next } if t == topic && *p == partition => Some(*next),
            Entry::Commit { .. } | Entry::Record => None,
        });
        commits.max().unwrap_or(0)
    }

    /// Text of a partition, for a failing seed.
    pub(crate) fn values(&self, topic: &str, partition: u32) -> Vec<Bytes> {
        let state = locked(&self.state);
        let records = state.topics.get(topic).and_then(|t| t.partitions.get(partition as usize));
        records.map_or_else(Vec::new, |all| all.iter().map(|stored| stored.record.value.clone()).collect())
    }
}

/// The bus as one process sees it.
#[derive(Clone)]
pub(crate) struct SimBus {
    pub(crate) logs: Arc<Logs>,
    pub(crate) process: Arc<Process>,
}

impl SimBus {
    fn unknown(topic: &str, partition: u32) -> BusError {
        BusError::UnknownPartition { topic: topic.to_owned(), partition }
    }
}

fn lost() -> BusError {
    BusError::Unavailable("simulated".to_owned())
}

#[async_trait]
impl Bus for SimBus {
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), BusError> {
        self.logs.create(&spec.name, spec.partitions, spec.durability);
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        let state = locked(&self.logs.state);
        state.topics.get(topic).map(|t| t.partitions.len() as u32).ok_or_else(|| Self::unknown(topic, 0))
    }

    async fn produce(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Offset, BusError> {
        let chaos = &self.logs.chaos;
        self.process.running().await;
        chaos.jitter().await;
        self.process.running().await;
        let is_persist = topic == topics::MESSAGES_PERSIST;
        if is_persist {
            chaos.pass(Place::PersistAppend, &self.process);
            self.process.running().await;
        }
        let fate = chaos.fate(Some(if is_persist { Place::PersistAppend } else { Place::Downstream }));
        if fate == Fate::Refused {
            return Err(lost());
        }
        let first = self.logs.write(topic, partition, records).ok_or_else(|| Self::unknown(topic, partition))?;
        if self.logs.is_durable(topic) {
            chaos.jitter().await;
            self.logs.sync();
        }
        self.process.running().await;
        if fate == Fate::AnswerLost { Err(lost()) } else { Ok(first) }
    }

    async fn end_offset(&self, topic: &str, partition: u32) -> Result<Offset, BusError> {
        self.process.running().await;
        self.logs.end(topic, partition).ok_or_else(|| Self::unknown(topic, partition))
    }

    async fn subscribe(&self, topic: &str, _group: &str) -> Result<Box<dyn Consumer>, BusError> {
        Ok(Box::new(SimConsumer { bus: self.clone(), topic: topic.to_owned(), known: HashMap::new() }))
    }

    async fn assign(&self, topic: &str, partition: u32, at: StartAt) -> Result<Box<dyn PartitionStream>, BusError> {
        let mut stream = SimStream::new(self.clone(), topic, partition, None);
        stream.seek(at).await?;
        Ok(Box::new(stream))
    }

    async fn trim(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), BusError> {
        Ok(())
    }
}

struct SimConsumer {
    bus: SimBus,
    topic: String,
    known: HashMap<u32, u64>,
}

impl SimConsumer {
    fn change(&mut self) -> Option<Assignment> {
        let owned: Vec<(u32, Owner)> = locked(&self.bus.logs.state)
            .owners
            .iter()
            .filter(|((topic, _), _)| *topic == self.topic)
            .map(|((_, partition), owner)| (*partition, *owner))
            .collect();
        for (partition, owner) in owned {
            if owner.process != self.bus.process.id {
                if self.known.remove(&partition).is_some() {
                    return Some(Assignment::Revoked(TopicPartition { topic: self.topic.clone(), partition }));
                }
            } else if self.known.insert(partition, owner.generation) != Some(owner.generation) {
                let stream = SimStream::new(self.bus.clone(), &self.topic, partition, Some(owner));
                return Some(Assignment::Assigned(Box::new(stream)));
            }
        }
        None
    }
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&mut self) -> Result<Assignment, BusError> {
        let logs = self.bus.logs.clone();
        loop {
            self.bus.process.running().await;
            let changed = logs.changed.notified();
            if let Some(change) = self.change() {
                return Ok(change);
            }
            changed.await;
        }
    }
}

struct SimStream {
    bus: SimBus,
    partition: TopicPartition,
    /// `None`: read without a group.
    owner: Option<Owner>,
    next: Option<Offset>,
}

impl SimStream {
    fn new(bus: SimBus, topic: &str, partition: u32, owner: Option<Owner>) -> SimStream {
        SimStream { bus, partition: TopicPartition { topic: topic.to_owned(), partition }, owner, next: None }
    }

    fn check_owned(&self) -> Result<(), BusError> {
        if self.is_owned() { Ok(()) } else { Err(BusError::Revoked) }
    }

    fn read(&self, from: Offset, limits: BatchLimits) -> Vec<Consumed> {
        let TopicPartition { topic, partition } = &self.partition;
        let end = self.bus.logs.end(topic, *partition).unwrap_or(0);
        // Any prefix is a valid answer.
        let count = 1 + self.bus.logs.chaos.below((end - from).max(1) as u64) as usize;
        let state = locked(&self.bus.logs.state);
        let Some(records) = state.topics.get(topic).and_then(|t| t.partitions.get(*partition as usize)) else {
            return Vec::new();
        };
        let range = records.iter().enumerate().take(end as usize).skip(from as usize);
        range
            .take(count.min(limits.records_max))
            .map(|(offset, stored)| Consumed {
                offset: offset as Offset,
                key: stored.record.key.clone(),
                value: stored.record.value.clone(),
                trace_id: Bytes::new(),
                produced_at_ms: stored.record.headers.produced_at_ms,
            })
            .collect()
    }
}

#[async_trait]
impl PartitionStream for SimStream {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    async fn seek(&mut self, at: StartAt) -> Result<(), BusError> {
        self.bus.process.running().await;
        let TopicPartition { topic, partition } = &self.partition;
        let end = self.bus.logs.end(topic, *partition).unwrap_or(0);
        let to = match at {
            StartAt::Committed => self.bus.logs.committed(topic, *partition),
            StartAt::Offset(offset) => offset,
            StartAt::End => end,
        };
        if to > end {
            let (topic, partition) = (topic.clone(), *partition);
            return Err(BusError::OffsetBeyondEnd { topic, partition, asked: to, end });
        }
        self.next = Some(to);
        Ok(())
    }

    async fn next_batch(&mut self, limits: BatchLimits) -> Result<Vec<Consumed>, BusError> {
        let logs = self.bus.logs.clone();
        loop {
            self.bus.process.running().await;
            let changed = logs.changed.notified();
            self.check_owned()?;
            if let Some(from) = self.next {
                let records = self.read(from, limits);
                if let Some(last) = records.last() {
                    self.next = Some(last.offset + 1);
                    return Ok(records);
                }
            }
            changed.await;
        }
    }

    async fn commit(&mut self, next: Offset) -> Result<(), BusError> {
        self.bus.process.running().await;
        self.bus.logs.chaos.jitter().await;
        self.bus.process.running().await;
        self.check_owned()?;
        let TopicPartition { topic, partition } = self.partition.clone();
        locked(&self.bus.logs.state).file.push(Entry::Commit { topic, partition, next });
        Ok(())
    }

    fn is_owned(&self) -> bool {
        let key = (self.partition.topic.clone(), self.partition.partition);
        self.owner.is_none_or(|mine| locked(&self.bus.logs.state).owners.get(&key) == Some(&mine))
    }
}
