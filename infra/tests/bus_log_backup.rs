//! A copy taken while the log is written opens, holds all that was answered before, and ends between two records; a
//! look at a log changes nothing and says what a start would.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bus_support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use bus_support::{read_all, record, topic, within};
use gochat_infra::bus::{
    Bus, BusError, Durability,
    log::{LogBus, LogConfig, inspect},
};

fn config(dir: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 * 1024, retention_bytes: 0, cache_bytes: 8 * 1024, ..LogConfig::new(dir) }
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_copy_under_load_holds_what_was_answered_before() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = LogBus::open(config(dir.path())).unwrap();
    bus.create_topic(topic("t", 1, Durability::Durable)).await.unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let load = tokio::spawn({
        let (bus, stop, answered) = (bus.clone(), stop.clone(), answered.clone());
        async move {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let value = format!("{n} {}", "x".repeat(3000));
                bus.produce("t", 0, vec![record(value)]).await.unwrap();
                answered.store(n + 1, Ordering::SeqCst);
            }
        }
    });
    for round in 0..5 {
        let before = answered.load(Ordering::SeqCst);
        while answered.load(Ordering::SeqCst) < before + 30 {
            tokio::task::yield_now().await;
        }
        let acknowledged = answered.load(Ordering::SeqCst);
        let cut = within("cut", bus.cut()).await.unwrap();
        // Nobody reads this topic: without the cut, all but the newest segments would go.
        bus.trim().await.unwrap();
        let copy = copies.path().join(round.to_string());
        fs::create_dir(&copy).unwrap();
        let names = cut.copy_to(&copy, || true).unwrap();
        let held = contents(&copy);
        assert_eq!(held.keys().cloned().collect::<Vec<_>>(), names);
        assert_eq!(held.values().map(|file| file.len() as u64).sum::<u64>(), cut.bytes());
        drop(cut);
        bus.trim().await.unwrap();

        let report = inspect(&copy).unwrap();
        assert_eq!(contents(&copy), held, "a look changes nothing");
        assert!(!report.torn, "it ends between two frames");
        let copied = LogBus::open(config(&copy)).unwrap();
        let end = copied.end_offset("t", 0).await.unwrap();
        assert!(end >= acknowledged, "{acknowledged} were answered, the copy ends at {end}");
        assert_eq!(report.ends["t"], [end]);
        let records = read_all(&*copied, "t", 0).await;
        let first = copied.earliest_offset("t", 0).unwrap();
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (first..end).collect::<Vec<_>>());
        for record in &records {
            let text = std::str::from_utf8(&record.value).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), record.offset.to_string());
        }
    }
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
}

#[tokio::test]
async fn a_copy_ends_when_it_is_told_to_and_a_closed_log_gives_none() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = LogBus::open(config(dir.path())).unwrap();
    let error = bus.cut().await.unwrap().copy_to(copy.path(), || false).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    bus.close().await.unwrap();
    assert!(matches!(bus.cut().await, Err(BusError::Closed)));
}

#[tokio::test]
async fn a_look_says_what_a_start_would() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(inspect(dir.path()).unwrap().segments, 0, "no log yet");
    let bus = LogBus::open(config(dir.path())).unwrap();
    bus.create_topic(topic("t", 1, Durability::Durable)).await.unwrap();
    for n in 0..3 {
        bus.produce("t", 0, vec![record(format!("{n} {}", "y".repeat(500)))]).await.unwrap();
    }
    drop(bus);
    let file = dir.path().join("000000000001.log");
    let whole = fs::read(&file).unwrap();
    // The last record's bytes: a torn tail, which a start cuts.
    let mut torn = whole.clone();
    let last = torn.iter().rposition(|byte| *byte == b'y').unwrap();
    torn[last] ^= 1;
    fs::write(&file, &torn).unwrap();
    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.ends["t"].clone(), report.torn), (vec![2], true));
    assert_eq!(fs::read(&file).unwrap(), torn);
    // The first record's: later frames say that it had been synced.
    let mut damaged = whole;
    let first = damaged.iter().position(|byte| *byte == b'y').unwrap();
    damaged[first] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let looked = inspect(dir.path()).unwrap_err().to_string();
    assert_eq!(looked, LogBus::open(config(dir.path())).err().unwrap().to_string());
    assert_eq!(fs::read(&file).unwrap(), damaged);
}
