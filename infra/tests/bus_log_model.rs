//! Random operations with clean and unclean restarts against a model that is a few vectors.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bus_support;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bus_support::{assigned, read_all, record, topic, within};
use gochat_infra::bus::{
    Bus, Durability,
    log::{LogBus, LogConfig},
};
use proptest::prelude::*;

const PARTITIONS: u32 = 3;

#[derive(Clone, Debug)]
enum Op {
    /// To a topic and partition, this many records of this size.
    Produce(bool, u32, usize, usize),
    /// On a topic and partition, this share of the end, in percent.
    Commit(bool, u32, i64),
    Trim,
    Close,
    Crash,
    Check,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (any::<bool>(), 0..PARTITIONS, 1..12usize, 0..2500usize)
            .prop_map(|(durable, partition, count, size)| Op::Produce(durable, partition, count, size)),
        4 => (any::<bool>(), 0..PARTITIONS, 0..=100i64)
            .prop_map(|(durable, partition, percent)| Op::Commit(durable, partition, percent)),
        1 => Just(Op::Trim),
        1 => Just(Op::Close),
        1 => Just(Op::Crash),
        1 => Just(Op::Check),
    ]
}

#[derive(Default)]
struct Model {
    records: BTreeMap<(bool, u32), Vec<Vec<u8>>>,
    committed: BTreeMap<(bool, u32), i64>,
    /// Below these the log had the right to remove.
    free: BTreeMap<(bool, u32), i64>,
}

impl Model {
    fn trim(&mut self) {
        for durable in [true, false] {
            let has_group = self.committed.keys().any(|key| key.0 == durable);
            for partition in 0..PARTITIONS {
                let key = (durable, partition);
                let end = self.records.get(&key).map_or(0, |records| records.len() as i64);
                let passed = if has_group { self.committed.get(&key).copied().unwrap_or(0) } else { end };
                let free = self.free.entry(key).or_insert(0);
                *free = passed.max(*free);
            }
        }
    }
}

fn name(durable: bool) -> &'static str {
    if durable { "durable" } else { "written" }
}

fn open(dir: &Path) -> Arc<LogBus> {
    let config = LogConfig { segment_bytes: 64 * 1024, cache_bytes: 20_000, retention_bytes: 0, ..LogConfig::new(dir) };
    LogBus::open(config).unwrap()
}

async fn check(bus: &LogBus, model: &Model) {
    for durable in [true, false] {
        for partition in 0..PARTITIONS {
            let expected = model.records.get(&(durable, partition)).map_or(&[][..], Vec::as_slice);
            let end = bus.end_offset(name(durable), partition).await.unwrap();
            assert_eq!(end, expected.len() as i64);
            let committed = model.committed.get(&(durable, partition)).copied();
            assert_eq!(bus.committed(name(durable), "g", partition).unwrap(), committed);
            let earliest = bus.earliest_offset(name(durable), partition).unwrap();
            let free = model.free.get(&(durable, partition)).copied().unwrap_or(0);
            assert!(earliest <= free, "{earliest} is the first kept, only {free} were passed");
            if earliest == end {
                continue;
            }
            let got = read_all(bus, name(durable), partition).await;
            assert_eq!(got.len() as i64, end - earliest);
            for (record, offset) in got.iter().zip(earliest..) {
                assert_eq!((record.offset, &record.value[..]), (offset, &expected[offset as usize][..]));
            }
        }
    }
}

async fn apply(bus: &mut Arc<LogBus>, dir: &Path, model: &mut Model, op: &Op, step: usize) {
    match op {
        Op::Produce(durable, partition, count, size) => {
            let kept = model.records.entry((*durable, *partition)).or_default();
            let values: Vec<Vec<u8>> =
                (0..*count).map(|i| [&[step as u8, i as u8][..], &vec![9; *size]].concat()).collect();
            let records = values.iter().cloned().map(record).collect();
            let offset = within("produce", bus.produce(name(*durable), *partition, records)).await.unwrap();
            assert_eq!(offset, kept.len() as i64);
            kept.extend(values);
        }
        Op::Commit(durable, partition, percent) => {
            let end = bus.end_offset(name(*durable), *partition).await.unwrap();
            let next = end * percent / 100;
            let before = model.committed.entry((*durable, *partition)).or_insert(0);
            *before = next.max(*before);
            let mut consumer = bus.subscribe(name(*durable), "g").await.unwrap();
            for _ in 0..PARTITIONS {
                let mut stream = assigned(&mut *consumer).await;
                if stream.partition().partition == *partition {
                    within("commit", stream.commit(*before)).await.unwrap();
                }
            }
        }
        Op::Trim => {
            within("trim", bus.trim()).await.unwrap();
        }
        Op::Close | Op::Crash => {
            if matches!(op, Op::Close) {
                within("close", bus.close()).await.unwrap();
            }
            // Only one log at a time has the directory.
            let empty = tempfile::tempdir().unwrap();
            *bus = open(empty.path());
            *bus = open(dir);
        }
        Op::Check => check(bus, model).await,
    }
    // Segments serve again without being asked, at any time.
    model.trim();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_its_model(ops in prop::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut bus = open(dir.path());
            for durable in [true, false] {
                let durability = if durable { Durability::Durable } else { Durability::Written };
                bus.create_topic(topic(name(durable), PARTITIONS, durability)).await.unwrap();
            }
            let mut model = Model::default();
            for (step, op) in ops.iter().enumerate() {
                apply(&mut bus, dir.path(), &mut model, op, step).await;
            }
            check(&bus, &model).await;
        });
    }
}
