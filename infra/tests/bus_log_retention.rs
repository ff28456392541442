//! Segments go when nobody needs them and retention does not keep them; commits and ends survive their files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bus_support;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bus_support::{assigned, read, read_all, record, topic, within};
use gochat_infra::bus::{
    Bus, Durability, PartitionStream, StartAt,
    log::{FileHook, FileOp, LogBus, LogConfig},
};

fn config(dir: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 * 1024, retention_bytes: 0, cache_bytes: 8 * 1024, ..LogConfig::new(dir) }
}

fn segments(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".log")).count()
}

async fn fill(bus: &dyn Bus, topic: &str, partition: u32, records: i64) {
    for _ in 0..records {
        within("produce", bus.produce(topic, partition, vec![record(vec![1; 1000])])).await.unwrap();
    }
}

async fn commit(bus: &dyn Bus, name: &str, group: &str, partition: u32, next: i64) {
    let mut consumer = bus.subscribe(name, group).await.unwrap();
    loop {
        let mut stream = assigned(&mut *consumer).await;
        if stream.partition().partition == partition {
            stream.commit(next).await.unwrap();
            return;
        }
    }
}

#[tokio::test]
async fn groups_hold_back_and_topics_without_groups_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let bus = LogBus::open(config(dir.path())).unwrap();
    for name in ["kept", "free"] {
        bus.create_topic(topic(name, 2, Durability::Written)).await.unwrap();
    }
    fill(&*bus, "kept", 0, 5).await;
    commit(&*bus, "kept", "slow", 0, 2).await;
    commit(&*bus, "kept", "fast", 0, 5).await;
    fill(&*bus, "free", 0, 300).await;
    assert!(segments(dir.path()) >= 5);
    bus.trim().await.unwrap();
    assert_eq!(bus.earliest_offset("free", 0).unwrap(), 0, "one group has not passed the first segment");
    commit(&*bus, "kept", "slow", 0, 5).await;
    bus.trim().await.unwrap();
    assert!(segments(dir.path()) <= 2, "{}", segments(dir.path()));
    assert_eq!(bus.earliest_offset("kept", 0).unwrap(), 5);
    let earliest = bus.earliest_offset("free", 0).unwrap();
    assert!(earliest > 200 && earliest <= 300);
    // A reader from before the beginning starts at the beginning.
    let records = read_all(&*bus, "free", 0).await;
    assert_eq!(records.first().map_or(300, |record| record.offset), earliest);

    // Ends and commits outlive their records, twice over.
    for round in 0..2 {
        fill(&*bus, "free", 1, 200).await;
        bus.trim().await.unwrap();
        bus.produce("free", 0, vec![record("x")]).await.unwrap();
        let copied = dir.path().join(format!("copy{round}"));
        fs::create_dir(&copied).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                fs::copy(&path, copied.join(path.file_name().unwrap())).unwrap();
            }
        }
        let again = LogBus::open(config(&copied)).unwrap();
        assert_eq!(again.end_offset("kept", 0).await.unwrap(), 5);
        assert_eq!(again.end_offset("free", 0).await.unwrap(), 301 + round);
        assert_eq!(again.committed("kept", "slow", 0).unwrap(), Some(5));
        assert_eq!(again.committed("kept", "fast", 0).unwrap(), Some(5));
        assert_eq!(again.committed("kept", "other", 0).unwrap(), None);
        assert_eq!(again.produce("kept", 0, vec![record("y")]).await.unwrap(), 5);
    }
}

#[tokio::test]
async fn a_member_without_commits_and_an_uncommitted_partition_hold_back() {
    let dir = tempfile::tempdir().unwrap();
    let bus = LogBus::open(config(dir.path())).unwrap();
    bus.create_topic(topic("t", 2, Durability::Written)).await.unwrap();
    let consumer = bus.subscribe("t", "g").await.unwrap();
    fill(&*bus, "t", 0, 200).await;
    bus.trim().await.unwrap();
    assert_eq!(bus.earliest_offset("t", 0).unwrap(), 0);
    drop(consumer);
    bus.trim().await.unwrap();
    let earliest = bus.earliest_offset("t", 0).unwrap();
    assert!(earliest > 100, "a member that left and never committed counts no more");

    fill(&*bus, "t", 0, 200).await;
    commit(&*bus, "t", "h", 1, 0).await;
    bus.trim().await.unwrap();
    assert_eq!(bus.earliest_offset("t", 0).unwrap(), earliest, "the group committed, but not on partition 0");
}

#[tokio::test]
async fn size_and_age_keep_segments() {
    for (bytes, age, kept) in [
        (u64::MAX, Duration::from_secs(3600), true),
        (128 * 1024, Duration::from_secs(3600), false),
        (u64::MAX, Duration::ZERO, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { retention_bytes: bytes, retention_age: age, ..config(dir.path()) };
        let bus = LogBus::open(config).unwrap();
        bus.create_topic(topic("t", 1, Durability::Written)).await.unwrap();
        fill(&*bus, "t", 0, 300).await;
        bus.trim().await.unwrap();
        assert_eq!(bus.earliest_offset("t", 0).unwrap() == 0, kept, "{bytes} {age:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_are_overtaken_go_on_at_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let bus: Arc<LogBus> = LogBus::open(config(dir.path())).unwrap();
    bus.create_topic(topic("t", 1, Durability::Written)).await.unwrap();
    fill(&*bus, "t", 0, 10).await;
    let mut stream: Box<dyn PartitionStream> = bus.assign("t", 0, StartAt::Offset(0)).await.unwrap();
    read(&mut *stream, 10).await;
    fill(&*bus, "t", 0, 300).await;
    bus.trim().await.unwrap();
    let earliest = bus.earliest_offset("t", 0).unwrap();
    assert!(earliest > 10);
    let rest = read(&mut *stream, (310 - earliest) as usize).await;
    assert_eq!(rest[0].offset, earliest);
}

#[tokio::test]
async fn segments_serve_again_and_what_they_held_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let made = Arc::new(AtomicU32::new(0));
    let counted = made.clone();
    let hook = FileHook::new(move |op| {
        counted.fetch_add(u32::from(op == FileOp::Allocate), Ordering::Relaxed);
        Ok(())
    });
    let bus = LogBus::open(LogConfig { file_hook: Some(hook), ..config(dir.path()) }).unwrap();
    bus.create_topic(topic("t", 1, Durability::Durable)).await.unwrap();
    for round in 0..6 {
        fill(&*bus, "t", 0, 150).await;
        let earliest = bus.earliest_offset("t", 0).unwrap();
        let records = read_all(&*bus, "t", 0).await;
        assert_eq!((records[0].offset, records.len() as i64), (earliest, 150 * (round + 1) - earliest));
        let copied = dir.path().join(format!("copy{round}"));
        fs::create_dir(&copied).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_some_and(|extension| extension != "lock") {
                fs::copy(&path, copied.join(path.file_name().unwrap())).unwrap();
            }
        }
        let again = LogBus::open(config(&copied)).unwrap();
        assert_eq!(again.end_offset("t", 0).await.unwrap(), 150 * (round + 1));
        assert_eq!(again.produce("t", 0, vec![record("x")]).await.unwrap(), 150 * (round + 1));
        let read = read_all(&*again, "t", 0).await;
        assert_eq!(read.last().unwrap().offset, 150 * (round + 1));
    }
    let written: u64 = bus.stats().bytes / (64 * 1024);
    assert!(written >= 12 && u64::from(made.load(Ordering::Relaxed)) <= written / 2, "{made:?} of {written}");
}
