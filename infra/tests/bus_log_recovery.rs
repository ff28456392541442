//! What the embedded log does with files that a crash, a bad disk or another version left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bus_support;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bus_support::{assigned, number, read, read_all, record, topic, within};
use gochat_infra::bus::{
    Bus, BusError, Durability, StartAt,
    log::{LogBus, LogConfig},
};

const SEGMENT_BYTES: u64 = 64 * 1024;

fn config(dir: &Path) -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES, ..LogConfig::new(dir) }
}

fn open(dir: &Path) -> Result<Arc<LogBus>, BusError> {
    LogBus::open(config(dir))
}

/// A copy as a crash would leave it; the log may be open.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Where the written part of a segment ends.
fn written_bytes(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(8)
}

async fn put(bus: &dyn Bus, topic: &str, partition: u32, value: u64) -> i64 {
    within("produce", bus.produce(topic, partition, vec![record(value.to_string())])).await.unwrap()
}

/// Values of a partition, which must be 0.. without gap; gives how many.
async fn count(bus: &dyn Bus, topic: &str) -> u64 {
    let values: Vec<u64> = read_all(bus, topic, 0).await.iter().map(number).collect();
    assert_eq!(values, (0..values.len() as u64).collect::<Vec<_>>());
    values.len() as u64
}

fn corrupt(answer: Result<Arc<LogBus>, BusError>) -> (String, String) {
    match answer {
        Err(BusError::Corrupt { path, problem }) => (path, problem),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut produced = 0;
        for round in 0..4u64 {
            let bus = open(dir.path()).unwrap();
            for (name, durability) in [("d", Durability::Durable), ("w", Durability::Written)] {
                bus.create_topic(topic(name, 2, durability)).await.unwrap();
                assert_eq!(count(&*bus, name).await, produced, "round {round}");
            }
            let mut consumer = bus.subscribe("w", "g").await.unwrap();
            let mut stream = assigned(&mut *consumer).await;
            stream.seek(StartAt::Committed).await.unwrap();
            // Several segments a round.
            for _ in 0..700 {
                assert_eq!(put(&*bus, "d", 0, produced).await, produced as i64);
                put(&*bus, "w", 0, produced).await;
                produced += 1;
            }
            assert_eq!(
                read(&mut *stream, 700 + usize::from(round > 0)).await[0].offset,
                (round as i64 * 700 - 1).max(0)
            );
            stream.commit(produced as i64 - 1).await.unwrap();
            if clean {
                bus.close().await.unwrap();
            }
        }
        assert!(segments(dir.path()).len() > 4);
    }
}

#[tokio::test]
async fn a_file_cut_at_any_byte_loses_only_what_the_cut_took() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir.path().join("log")).unwrap();
    bus.create_topic(topic("d", 1, Durability::Durable)).await.unwrap();
    let segment = segments(&dir.path().join("log"))[0].clone();
    let mut ends = Vec::new();
    for value in 0..12 {
        put(&*bus, "d", 0, value).await;
        ends.push(written_bytes(&segment));
    }
    for cut in ends[8]..=ends[11] {
        let copied = dir.path().join("copy");
        copy(&dir.path().join("log"), &copied);
        let file = fs::OpenOptions::new().write(true).open(segments(&copied)[0].clone()).unwrap();
        file.set_len(cut as u64).unwrap();
        let again = open(&copied).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(count(&*again, "d").await, whole, "cut at {cut}");
        // It goes on, and what was cut never comes back.
        assert_eq!(put(&*again, "d", 0, whole).await, whole as i64);
        drop(again);
        assert_eq!(count(&*open(&copied).unwrap(), "d").await, whole + 1, "cut at {cut}");
        fs::remove_dir_all(&copied).unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_cuts_the_tail_and_is_refused_below_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let bus = open(&log).unwrap();
    bus.create_topic(topic("d", 1, Durability::Durable)).await.unwrap();
    let segment = segments(&log)[0].clone();
    let mut ends = vec![written_bytes(&segment)];
    for value in 0..6 {
        put(&*bus, "d", 0, value).await;
        ends.push(written_bytes(&segment));
    }
    for at in ends[3]..ends[6] {
        let copied = dir.path().join("copy");
        copy(&log, &copied);
        let path = segments(&copied)[0].clone();
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 0x04;
        fs::write(&path, &bytes).unwrap();
        let frame = ends.partition_point(|end| *end <= at) as u64 - 1;
        // Padding carries nothing: there the frame stays whole.
        let opened = open(&copied);
        if let Ok(again) = &opened {
            let seen = count(&**again, "d").await;
            let padding = seen == 6 && ends.iter().any(|end| (end - 8..*end).contains(&at));
            assert!(padding || (frame == 5 && seen == 5), "byte {at}: {seen} records, flip in {frame}");
        } else {
            // Only the frame after the damaged one says that it had been synced.
            assert!(frame < 5, "byte {at}");
            let (damaged_path, problem) = corrupt(opened);
            assert_eq!(damaged_path, path.display().to_string());
            assert!(problem.contains(&format!("byte {}", ends[frame as usize])), "{problem}");
            assert!(problem.contains("backup"), "{problem}");
        }
        fs::remove_dir_all(&copied).unwrap();
    }
}

#[tokio::test]
async fn after_a_clean_close_damage_to_the_tail_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).unwrap();
    bus.create_topic(topic("w", 1, Durability::Written)).await.unwrap();
    let segment = segments(dir.path())[0].clone();
    put(&*bus, "w", 0, 0).await;
    let end = written_bytes(&segment);
    bus.close().await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"?", end as u64 - 20).unwrap();
    corrupt(open(dir.path()));
}

/// Writes of one round reach the disk in any order: a hole is a torn tail, and what lies behind it is void for ever.
#[tokio::test]
async fn unsynced_frames_behind_a_hole_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).unwrap();
    bus.create_topic(topic("w", 1, Durability::Written)).await.unwrap();
    let segment = segments(dir.path())[0].clone();
    let mut ends = Vec::new();
    for value in 0..5 {
        put(&*bus, "w", 0, value).await;
        ends.push(written_bytes(&segment));
    }
    drop(bus);
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&vec![0; ends[2] - ends[1]], ends[1] as u64).unwrap();
    let bus = open(dir.path()).unwrap();
    assert_eq!(count(&*bus, "w").await, 2);
    // Fills the hole exactly.
    put(&*bus, "w", 0, 2).await;
    assert_eq!(written_bytes(&segment), ends[2]);
    drop(bus);
    assert_eq!(count(&*open(dir.path()).unwrap(), "w").await, 3);
}

#[tokio::test]
async fn a_tear_across_segments_is_cut_and_a_synced_one_refused() {
    for durability in [Durability::Written, Durability::Durable] {
        let dir = tempfile::tempdir().unwrap();
        let bus = open(dir.path()).unwrap();
        bus.create_topic(topic("t", 1, durability)).await.unwrap();
        let mut value = 0;
        while segments(dir.path()).len() < 3 {
            put(&*bus, "t", 0, value).await;
            value += 1;
        }
        let copied = dir.path().join("copy");
        copy(dir.path(), &copied);
        let first = segments(&copied)[0].clone();
        let at = written_bytes(&first) / 2;
        fs::OpenOptions::new().write(true).open(&first).unwrap().write_all_at(&[0xff; 64], at as u64).unwrap();
        // The log syncs every segment that it leaves, so damage to one is known as such.
        let (path, _) = corrupt(open(&copied));
        assert_eq!(path, first.display().to_string());
    }
}

#[tokio::test]
async fn a_missing_segment_another_version_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let bus = open(&log).unwrap();
    bus.create_topic(topic("d", 1, Durability::Durable)).await.unwrap();
    let mut value = 0;
    while segments(&log).len() < 4 {
        put(&*bus, "d", 0, value).await;
        value += 1;
    }
    let change = |what: &dyn Fn(&[PathBuf])| {
        let copied = dir.path().join("copy");
        copy(&log, &copied);
        what(&segments(&copied));
        let (_, problem) = corrupt(open(&copied));
        fs::remove_dir_all(&copied).unwrap();
        problem
    };
    let write = |path: &PathBuf, bytes: &[u8], at| {
        fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
    };
    assert!(change(&|paths| fs::remove_file(&paths[1]).unwrap()).contains("missing"));
    let problem = change(&|paths| write(&paths[0], &[9], 8));
    assert!(problem.contains("version 9") && problem.contains("version 1"), "{problem}");
    assert!(change(&|paths| write(&paths[2], &[1], 20)).contains("header is damaged"));
    assert!(change(&|paths| fs::write(&paths[0], b"hello").unwrap()).contains("header is damaged"));
    assert!(change(&|paths| fs::write(&paths[0], [b'x'; 9000]).unwrap()).contains("not a segment"));
    assert!(change(&|paths| write(&paths[1], &[0; 48], 4096)).contains("synced"));
    assert!(corrupt(open(&log)).1.contains("another process"));
    assert!(corrupt(open(Path::new("/proc/nowhere"))).1.contains("cannot be used"));
}
