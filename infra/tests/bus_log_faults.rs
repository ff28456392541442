//! Failing disks: full ones are waited for, failing writes and syncs end the log, and nothing is shown too early.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bus_support;

use std::{
    fs, io,
    path::Path,
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bus_support::{LIMITS, assigned, is_waiting, read, read_all, record, topic, within};
use gochat_infra::bus::{
    Bus, BusError, Durability, StartAt,
    log::{BusHealth, FileHook, FileOp, LogBus, LogConfig},
};

const NO_SPACE: i32 = 28;

fn config(dir: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 * 1024, ..LogConfig::new(dir) }
}

/// A log whose operations of one kind fail while the switch is on.
fn failing(dir: &Path, failing: FileOp, errno: i32) -> (Arc<LogBus>, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let asked = switch.clone();
    let hook = FileHook::new(move |op| match op == failing && asked.load(Ordering::SeqCst) {
        true => Err(io::Error::from_raw_os_error(errno)),
        false => Ok(()),
    });
    (LogBus::open(LogConfig { file_hook: Some(hook), ..config(dir) }).unwrap(), switch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_or_sync_ends_the_log() {
    for op in [FileOp::Write, FileOp::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let (bus, switch) = failing(dir.path(), op, 5);
        for (name, durability) in [("d", Durability::Durable), ("w", Durability::Written)] {
            bus.create_topic(topic(name, 1, durability)).await.unwrap();
            bus.produce(name, 0, vec![record("before")]).await.unwrap();
        }
        let mut consumer = bus.subscribe("w", "g").await.unwrap();
        let mut member = assigned(&mut *consumer).await;
        member.seek(StartAt::Committed).await.unwrap();
        let mut stream = bus.assign("d", 0, StartAt::End).await.unwrap();
        let reader = tokio::spawn(async move { stream.next_batch(LIMITS).await.map(|records| records.len()) });
        let mut health = bus.health();
        assert_eq!(*health.borrow_and_update(), BusHealth::Ok);

        switch.store(true, Ordering::SeqCst);
        let answer = within("produce", bus.produce("d", 0, vec![record("lost")])).await;
        assert!(matches!(answer, Err(BusError::Stopped(_))), "{op:?}: {answer:?}");
        // Also when the disk would take it again: never tried a second time.
        switch.store(false, Ordering::SeqCst);
        let syncs = bus.stats().syncs;
        for name in ["d", "w"] {
            let answer = within("produce", bus.produce(name, 0, vec![record("late")])).await;
            assert!(matches!(answer, Err(BusError::Stopped(_))), "{op:?}: {answer:?}");
        }
        assert!(matches!(member.commit(1).await, Err(BusError::Stopped(_))));
        assert!(matches!(within("trim", bus.trim()).await, Err(BusError::Stopped(_))));
        assert!(matches!(within("reader", reader).await.unwrap(), Err(BusError::Stopped(_))));
        within("health", health.changed()).await.unwrap();
        assert!(matches!(&*health.borrow(), BusHealth::Stopped(_)));
        assert_eq!(bus.end_offset("d", 0).await.unwrap(), 1);
        assert_eq!(read(&mut *member, 1).await.len(), 1, "what was visible is still read");
        assert!(matches!(within("close", bus.close()).await, Err(BusError::Stopped(_))));
        assert!(within("close again", bus.close()).await.is_err());
        assert_eq!(bus.stats().syncs, syncs);
        drop((member, consumer, bus));

        let again = LogBus::open(config(dir.path())).unwrap();
        let kept = read_all(&*again, "d", 0).await;
        assert_eq!(kept[0].value, "before");
        // A write whose sync failed may be there or not, a failed write is not; refused ones never are.
        assert!(kept.len() <= 1 + usize::from(op == FileOp::Sync));
        assert_eq!(read_all(&*again, "w", 0).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_records_are_invisible_and_written_ones_overtake_while_a_sync_runs() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let hook_gate = gate.clone();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = syncs.clone();
    let hook = FileHook::new(move |op| {
        if op == FileOp::Sync {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut open = hook_gate.0.lock().unwrap();
            while !*open {
                open = hook_gate.1.wait(open).unwrap();
            }
        }
        Ok(())
    });
    let bus = LogBus::open(LogConfig { file_hook: Some(hook), queue_bytes_max: 2000, ..config(dir.path()) }).unwrap();
    bus.create_topic(topic("d", 1, Durability::Durable)).await.unwrap();
    bus.create_topic(topic("w", 1, Durability::Written)).await.unwrap();
    let mut reader = bus.assign("d", 0, StartAt::Offset(0)).await.unwrap();
    *gate.0.lock().unwrap() = false;
    let before = syncs.load(Ordering::SeqCst);
    let spawn = |value: &'static str| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.produce("d", 0, vec![record(value)]).await.unwrap() })
    };
    let first = spawn("first");
    while syncs.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    let appends = bus.stats().appends;
    let late: Vec<_> = (0..8).map(|_| spawn("late")).collect();
    while bus.stats().appends < appends + 8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(within("written", bus.produce("w", 0, vec![record("w")])).await.unwrap(), 0);
    assert_eq!(read_all(&*bus, "w", 0).await.len(), 1);
    assert_eq!(bus.end_offset("d", 0).await.unwrap(), 0);
    assert!(is_waiting(reader.next_batch(LIMITS)).await, "durable records are invisible before their sync");
    assert!(!first.is_finished());
    let refused = within("full queue", bus.produce("d", 0, vec![record(vec![0; 2000])])).await;
    assert!(matches!(&refused, Err(error @ BusError::Unavailable(_)) if error.is_retryable()), "{refused:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!(within("first", first).await.unwrap(), 0);
    for append in late {
        within("late", append).await.unwrap();
    }
    assert_eq!(read(&mut *reader, 9).await[0].value, "first");
    assert_eq!(syncs.load(Ordering::SeqCst), before + 2, "one sync for all that waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_refused_and_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, full) = failing(dir.path(), FileOp::Allocate, NO_SPACE);
    check_full_disk(&bus, |is_full| full.store(is_full, Ordering::SeqCst)).await;
    drop(bus);
    read_all(&*LogBus::open(config(dir.path())).unwrap(), "d", 0).await;
}

/// The same on a real small file system, where the machine lets us mount one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_full_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("small");
    fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&mount).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    let bus = LogBus::open(config(&mount.join("log"))).unwrap();
    let ballast = mount.join("ballast");
    check_full_disk(&bus, |is_full| {
        if is_full {
            let _ = fs::write(&ballast, vec![1; 2 << 20]);
        } else {
            fs::remove_file(&ballast).unwrap();
        }
    })
    .await;
    drop(bus);
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
}

async fn check_full_disk(bus: &LogBus, set_full: impl Fn(bool)) {
    bus.create_topic(topic("d", 1, Durability::Durable)).await.unwrap();
    let mut consumer = bus.subscribe("d", "g").await.unwrap();
    let mut stream = assigned(&mut *consumer).await;
    stream.seek(StartAt::Committed).await.unwrap();
    let mut health = bus.health();
    set_full(true);
    let mut appended = 0;
    let refused = loop {
        match within("produce", bus.produce("d", 0, vec![record(vec![7; 1000])])).await {
            Ok(offset) => assert_eq!(offset, appended),
            Err(error) => break error,
        }
        appended += 1;
    };
    assert!(matches!(refused, BusError::DiskFull) && refused.is_retryable(), "{refused}");
    assert!(appended > 10);
    within("health", health.wait_for(|health| *health == BusHealth::DiskFull)).await.unwrap();
    assert_eq!(bus.end_offset("d", 0).await.unwrap(), appended, "nothing of a refused append");
    assert_eq!(read(&mut *stream, appended as usize).await.len() as i64, appended);
    // What still fits is taken; a commit counts in any case, so that trimming can free space.
    let _ = stream.commit(appended).await;
    assert_eq!(bus.committed("d", "g", 0).unwrap(), Some(appended));
    set_full(false);
    let offset = loop {
        match within("produce", bus.produce("d", 0, vec![record(vec![8; 1000])])).await {
            Err(BusError::DiskFull) => tokio::time::sleep(Duration::from_millis(10)).await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(offset, appended);
    within("health", health.wait_for(|health| *health == BusHealth::Ok)).await.unwrap();
    assert_eq!(read(&mut *stream, 1).await[0].value[0], 8);
}
