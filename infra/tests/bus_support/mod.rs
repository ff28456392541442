//! Helpers of the bus tests: records, reading with a hang guard, the contract every bus must keep.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod contract;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use gochat_infra::bus::{
    Assignment, BatchLimits, Bus, Consumed, Consumer, Durability, Headers, PartitionStream, Record, StartAt, TopicSpec,
};

pub const LIMITS: BatchLimits = BatchLimits { records_max: 1000, bytes_max: 1 << 20 };

/// A topic for one test.
pub fn topic(name: &str, partitions: u32, durability: Durability) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, durability }
}

pub fn record(value: impl Into<Vec<u8>>) -> Record {
    Record {
        key: Bytes::from_static(b"key"),
        value: Bytes::from(value.into()),
        headers: Headers { trace_id: Bytes::from_static(b"trace"), payload_type: "Test", produced_at_ms: 1234 },
    }
}

/// Fails the test instead of hanging it.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// Whether a future is still waiting after every ready task had its turn.
pub async fn is_waiting<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future).await.is_err()
}

pub async fn read(stream: &mut dyn PartitionStream, count: usize) -> Vec<Consumed> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(within("read", stream.next_batch(LIMITS)).await.unwrap());
    }
    assert_eq!(records.len(), count, "more records than expected");
    for (before, after) in records.iter().zip(&records[1..]) {
        assert_eq!(before.offset + 1, after.offset, "offsets without gap");
    }
    records
}

/// All visible records of a partition.
pub async fn read_all(bus: &dyn Bus, topic: &str, partition: u32) -> Vec<Consumed> {
    let end = bus.end_offset(topic, partition).await.unwrap();
    let mut stream = bus.assign(topic, partition, StartAt::Offset(0)).await.unwrap();
    let mut records: Vec<Consumed> = Vec::new();
    while records.last().map_or(0, |record| record.offset + 1) < end {
        records.extend(within("read", stream.next_batch(LIMITS)).await.unwrap());
    }
    records
}

pub async fn assigned(consumer: &mut dyn Consumer) -> Box<dyn PartitionStream> {
    match within("assignment", consumer.next()).await.unwrap() {
        Assignment::Assigned(stream) => stream,
        Assignment::Revoked(partition) => panic!("{partition:?} revoked instead of assigned"),
    }
}

/// The value of a record that holds a number.
pub fn number(record: &Consumed) -> u64 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}
