//! The seam between services: partitioned, ordered, durable logs of records.
//!
//! Owns the vocabulary (topics, partitions, offsets, consumer groups) and the [`Bus`] trait. Never knows what a
//! record means. Implementations: [`log::LogBus`] (embedded, one append file) and, in a cluster, Kafka.

use async_trait::async_trait;
use bytes::Bytes;

pub mod log;

/// Offset of a record in its partition, or of the next one to read. Starts at 0.
pub type Offset = i64;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name, see `gochat_proto::topics`.
    pub topic: String,
    /// Partition number, from 0.
    pub partition: u32,
}

/// When an append is visible to consumers and resolved to its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage (in a cluster: on all in-sync replicas).
    Durable,
    /// When it is written; it may be lost with the machine, never by a crash of the process alone.
    Written,
}

/// What a topic is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name, at most 200 bytes of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Number of partitions, 1..=1024. Fixed for the life of the topic.
    pub partitions: u32,
    /// See [`Durability`].
    pub durability: Durability,
}

/// Headers that every record carries (spec 04 §2), as a closed set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `X-Trace-ID`; empty when there is none.
    pub trace_id: Bytes,
    /// `X-Payload-Type`: what `value` holds, e.g. `UpstreamMessage`.
    pub payload_type: &'static str,
    /// `X-Produced-At`, Unix milliseconds.
    pub produced_at_ms: i64,
}

/// A record to be appended.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Partitioning key (see [`partition_of`]); kept with the record.
    pub key: Bytes,
    /// The payload.
    pub value: Bytes,
    /// See [`Headers`].
    pub headers: Headers,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Consumed {
    /// Its offset.
    pub offset: Offset,
    /// Key as produced.
    pub key: Bytes,
    /// Payload as produced.
    pub value: Bytes,
    /// Trace id as produced; empty when there was none.
    pub trace_id: Bytes,
    /// Unix milliseconds at the producer.
    pub produced_at_ms: i64,
}

/// Where reading starts in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The group's committed offset, or the earliest record when there is none.
    Committed,
    /// This offset; beyond the end is [`BusError::OffsetBeyondEnd`].
    Offset(Offset),
    /// Behind the last record that exists now.
    End,
}

/// How much one read returns at most; the first record is returned whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Records.
    pub records_max: usize,
    /// Bytes of keys and values together.
    pub bytes_max: usize,
}

/// What can go wrong on a bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No such topic or partition.
    #[error("unknown partition {partition} of topic {topic}")]
    UnknownPartition {
        /// Topic asked for.
        topic: String,
        /// Partition asked for.
        partition: u32,
    },
    /// The topic exists with another shape.
    #[error("topic {topic} exists with {existing} partitions, asked for {asked}")]
    TopicMismatch {
        /// Topic name.
        topic: String,
        /// Partitions it has.
        existing: u32,
        /// Partitions asked for.
        asked: u32,
    },
    /// One record or one batch is larger than the bus takes.
    #[error("record of {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// Size of the record.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The start offset lies behind the log's end: the log lost data that the store has seen (pipeline.md J2).
    #[error("offset {asked} of {topic}/{partition} lies beyond the log's end {end}")]
    OffsetBeyondEnd {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// Offset asked for.
        asked: Offset,
        /// End of the log.
        end: Offset,
    },
    /// The partition belongs to another consumer now.
    #[error("the partition was taken away")]
    Revoked,
    /// No space: nothing was appended; taken again when there is space.
    #[error("the log's disk is full")]
    DiskFull,
    /// A write or sync failed: nothing is taken any more until the process is restarted (pipeline.md J2).
    #[error("the log stopped after a failed write: {0}")]
    Stopped(String),
    /// The bus could not be reached in time, or is overloaded; the append may or may not have happened.
    #[error("bus unavailable: {0}")]
    Unavailable(String),
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
    /// What is on disk is not a log of ours, is of an unknown version, or is damaged before its tail.
    #[error("cannot use the log at {path}: {problem}")]
    Corrupt {
        /// File or directory.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl BusError {
    /// Whether the same call may succeed later without anybody doing something.
    pub fn is_retryable(&self) -> bool {
        matches!(self, BusError::DiskFull | BusError::Unavailable(_))
    }
}

/// Partitioned, ordered, durable logs. All calls are per batch; all take `&self` and may be used from many tasks.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Makes a topic, or checks that it exists with this shape. Idempotent.
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), BusError>;

    /// Number of partitions of a topic.
    async fn partitions(&self, topic: &str) -> Result<u32, BusError>;

    /// Appends records to one partition in order, all of them or none, and resolves with the offset of the first
    /// when the topic's [`Durability`] is met. Appends by one caller that awaits each are in order.
    ///
    /// Cancelling the future does not undo the append.
    async fn produce(&self, topic: &str, partition: u32, records: Vec<Record>) -> Result<Offset, BusError>;

    /// Offset behind the last visible record.
    async fn end_offset(&self, topic: &str, partition: u32) -> Result<Offset, BusError>;

    /// Joins a consumer group. Partitions are handed out by [`Consumer::next`].
    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, BusError>;

    /// Reads one partition without a group and without commits, from `at`.
    async fn assign(&self, topic: &str, partition: u32, at: StartAt) -> Result<Box<dyn PartitionStream>, BusError>;

    /// Deletes what every group with commits has passed and retention no longer keeps. Called by a clean-up job.
    async fn trim(&self) -> Result<(), BusError>;

    /// Waits for appends in flight, makes everything durable and refuses further calls. Idempotent.
    async fn close(&self) -> Result<(), BusError>;
}

/// A member of a consumer group.
#[async_trait]
pub trait Consumer: Send {
    /// The next change of this member's assignment. Cancel safe.
    async fn next(&mut self) -> Result<Assignment, BusError>;
}

/// A change of assignment.
pub enum Assignment {
    /// This partition is ours: its stream gives nothing before [`PartitionStream::seek`] was called (pipeline.md J3).
    Assigned(Box<dyn PartitionStream>),
    /// This partition is not ours any more; its stream answers [`BusError::Revoked`].
    Revoked(TopicPartition),
}

/// The records of one assigned partition, read by its one owner.
#[async_trait]
pub trait PartitionStream: Send {
    /// Which partition this is.
    fn partition(&self) -> &TopicPartition;

    /// Sets where the next read starts.
    async fn seek(&mut self, at: StartAt) -> Result<(), BusError>;

    /// Waits for at least one record and returns what is there, in offset order, up to the limits. Cancel safe.
    async fn next_batch(&mut self, limits: BatchLimits) -> Result<Vec<Consumed>, BusError>;

    /// Commits that everything below `next` is done. Resolves when written; a later one may overtake an earlier one,
    /// never the other way round.
    async fn commit(&mut self, next: Offset) -> Result<(), BusError>;

    /// Whether the partition still belongs to this member, as far as the bus knows now.
    fn is_owned(&self) -> bool;
}

/// Partition of a key: positive murmur2 of the key modulo the number of partitions, as Kafka's clients do (spec 04 §1.2).
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own `Utils.murmur2` test table.
    #[test]
    fn murmur2_is_kafkas() {
        assert_eq!(murmur2(b"21") as i32, -973932308);
        assert_eq!(murmur2(b"foobar") as i32, -790332482);
        assert_eq!(murmur2(b"a-little-bit-long-string") as i32, -985981536);
        assert_eq!(murmur2(b"a-little-bit-longer-string") as i32, -1486304829);
        assert_eq!(murmur2(b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8") as i32, -58897971);
        assert_eq!(murmur2(b"abc") as i32, 479470107);
    }
}
