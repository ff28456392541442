//! What every implementation of `Bus` must do, as one function per rule. `bus_contract!` makes tests of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use gochat_infra::bus::{
    Assignment, BatchLimits, Bus, BusError, Consumer, Durability, PartitionStream, StartAt, partition_of,
};

use super::{LIMITS, assigned, is_waiting, number, read, read_all, record, topic, within};

/// Makes one test per rule; `$make` is an async expression that gives an `Arc<dyn Bus>` and what keeps it alive.
#[macro_export]
macro_rules! bus_contract {
    ($make:expr) => {
        $crate::bus_contract!(@tests $make;
            topics_are_made_once, records_keep_content_and_order, keys_choose_partitions, batches_are_contiguous,
            too_large_is_refused_whole, unknown_partitions_are_named, limits_cut_batches, end_offset_is_what_is_visible,
            nothing_before_seek, without_commit_everything_comes_again, a_commit_resumes_the_group,
            groups_do_not_see_each_other, the_application_chooses_the_start, beyond_the_end_is_refused,
            start_at_end_skips_what_was, two_members_share_and_hand_over, a_revoked_stream_neither_reads_nor_commits,
            a_waiting_reader_is_woken, next_batch_is_cancel_safe, many_producers_many_readers, closed_refuses);
    };
    (@tests $make:expr; $($rule:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let (bus, _alive) = $make.await;
                bus_support::contract::$rule(bus).await;
            }
        )*
    };
}

type TestBus = Arc<dyn Bus>;

/// A name no earlier run has used.
fn fresh(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("test.{name}.{now}.{}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

async fn make(bus: &TestBus, name: &str, partitions: u32, durability: Durability) -> String {
    let name = fresh(name);
    bus.create_topic(topic(&name, partitions, durability)).await.unwrap();
    name
}

async fn put(bus: &TestBus, topic: &str, partition: u32, values: std::ops::Range<u64>) -> i64 {
    let records = values.map(|value| record(value.to_string())).collect();
    within("produce", bus.produce(topic, partition, records)).await.unwrap()
}

pub async fn topics_are_made_once(bus: TestBus) {
    let name = make(&bus, "once", 3, Durability::Durable).await;
    put(&bus, &name, 2, 0..5).await;
    bus.create_topic(topic(&name, 3, Durability::Durable)).await.unwrap();
    assert_eq!(bus.partitions(&name).await.unwrap(), 3);
    assert_eq!(bus.end_offset(&name, 2).await.unwrap(), 5);
    let other = bus.create_topic(topic(&name, 4, Durability::Durable)).await;
    assert!(matches!(other, Err(BusError::TopicMismatch { existing: 3, asked: 4, .. })), "{other:?}");
    let many = (0..8).map(|_| bus.create_topic(topic(&format!("{name}.b"), 2, Durability::Written)));
    for made in futures::future::join_all(many).await {
        made.unwrap();
    }
    for name in ["", "a b", "a/b", &"x".repeat(201)] {
        assert!(bus.create_topic(topic(name, 1, Durability::Written)).await.is_err(), "{name:?}");
    }
    for partitions in [0, 1025] {
        assert!(bus.create_topic(topic(&fresh("n"), partitions, Durability::Written)).await.is_err());
    }
}

pub async fn records_keep_content_and_order(bus: TestBus) {
    for durability in [Durability::Durable, Durability::Written] {
        let name = make(&bus, "content", 1, durability).await;
        for i in 0..10 {
            assert_eq!(put(&bus, &name, 0, i * 3..i * 3 + 3).await, i as i64 * 3);
        }
        bus.produce(&name, 0, vec![Default::default()]).await.unwrap();
        let records = read_all(&*bus, &name, 0).await;
        assert_eq!(records.len(), 31);
        for (i, got) in records[..30].iter().enumerate() {
            assert_eq!((got.offset, number(got)), (i as i64, i as u64));
            assert_eq!((&got.key[..], &got.trace_id[..], got.produced_at_ms), (&b"key"[..], &b"trace"[..], 1234));
        }
        let empty = &records[30];
        assert!(empty.key.is_empty() && empty.value.is_empty() && empty.trace_id.is_empty());
    }
}

pub async fn keys_choose_partitions(bus: TestBus) {
    let name = make(&bus, "keys", 4, Durability::Written).await;
    let mut expected: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for i in 0..200u64 {
        let partition = partition_of(format!("conversation-{}", i % 17).as_bytes(), 4);
        expected.entry(partition).or_default().push(i);
        put(&bus, &name, partition, i..i + 1).await;
    }
    assert!(expected.len() > 1);
    for (partition, values) in expected {
        let got: Vec<u64> = read_all(&*bus, &name, partition).await.iter().map(number).collect();
        assert_eq!(got, values);
    }
}

pub async fn batches_are_contiguous(bus: TestBus) {
    let name = make(&bus, "batches", 1, Durability::Durable).await;
    let produces = (0..20u64).map(|batch| put(&bus, &name, 0, batch * 10..batch * 10 + 10));
    let offsets = futures::future::join_all(produces).await;
    let records = read_all(&*bus, &name, 0).await;
    assert_eq!(records.len(), 200);
    for (batch, offset) in offsets.into_iter().enumerate() {
        for i in 0..10 {
            assert_eq!(number(&records[offset as usize + i]), (batch * 10 + i) as u64);
        }
    }
}

pub async fn too_large_is_refused_whole(bus: TestBus) {
    let name = make(&bus, "large", 1, Durability::Durable).await;
    let answer = bus.produce(&name, 0, vec![record("1"), record(vec![0; 64 << 20])]).await;
    assert!(matches!(answer, Err(BusError::TooLarge { .. })), "{answer:?}");
    assert_eq!(bus.end_offset(&name, 0).await.unwrap(), 0);
    let fits = vec![7; 900 * 1024];
    assert_eq!(bus.produce(&name, 0, vec![record(fits.clone())]).await.unwrap(), 0);
    assert_eq!(read_all(&*bus, &name, 0).await[0].value, fits);
}

pub async fn unknown_partitions_are_named(bus: TestBus) {
    let name = make(&bus, "unknown", 2, Durability::Written).await;
    let answer = bus.produce(&name, 2, vec![record("x")]).await;
    assert!(matches!(&answer, Err(BusError::UnknownPartition { topic, partition: 2 }) if *topic == name), "{answer:?}");
    let missing = fresh("missing");
    assert!(matches!(bus.partitions(&missing).await, Err(BusError::UnknownPartition { .. })));
    assert!(matches!(bus.end_offset(&name, 9).await, Err(BusError::UnknownPartition { .. })));
    assert!(matches!(bus.assign(&name, 9, StartAt::End).await.err(), Some(BusError::UnknownPartition { .. })));
    assert!(matches!(bus.subscribe(&missing, "g").await.err(), Some(BusError::UnknownPartition { .. })));
}

pub async fn limits_cut_batches(bus: TestBus) {
    let name = make(&bus, "limits", 1, Durability::Written).await;
    let records = (0..100u64).map(|value| record(format!("{value:0100}"))).collect();
    bus.produce(&name, 0, records).await.unwrap();
    let mut stream = bus.assign(&name, 0, StartAt::Offset(0)).await.unwrap();
    let mut seen = 0;
    for limits in [
        BatchLimits { records_max: 7, bytes_max: 1 << 20 },
        BatchLimits { records_max: 1000, bytes_max: 1030 },
        BatchLimits { records_max: 1000, bytes_max: 1 },
        BatchLimits { records_max: 0, bytes_max: 0 },
        LIMITS,
    ] {
        let batch = within("batch", stream.next_batch(limits)).await.unwrap();
        assert!(!batch.is_empty() && batch.len() <= limits.records_max.max(1));
        let bytes: usize = batch.iter().map(|record| record.key.len() + record.value.len()).sum();
        assert!(batch.len() == 1 || bytes <= limits.bytes_max, "{bytes} bytes for {limits:?}");
        for record in batch {
            assert_eq!((record.offset as u64, number(&record)), (seen, seen));
            seen += 1;
        }
    }
    let rest = 100 - seen as usize;
    if rest > 0 {
        read(&mut *stream, rest).await;
    }
}

pub async fn end_offset_is_what_is_visible(bus: TestBus) {
    let name = make(&bus, "end", 1, Durability::Durable).await;
    assert_eq!(bus.end_offset(&name, 0).await.unwrap(), 0);
    for i in 0..20 {
        let offset = put(&bus, &name, 0, i..i + 1).await;
        assert_eq!(bus.end_offset(&name, 0).await.unwrap(), offset + 1);
    }
}

async fn group(bus: &TestBus, name: &str, group: &str) -> (Box<dyn Consumer>, Box<dyn PartitionStream>) {
    let mut consumer = bus.subscribe(name, group).await.unwrap();
    let stream = assigned(&mut *consumer).await;
    (consumer, stream)
}

pub async fn nothing_before_seek(bus: TestBus) {
    let name = make(&bus, "seek", 1, Durability::Written).await;
    put(&bus, &name, 0, 0..3).await;
    let (_consumer, mut stream) = group(&bus, &name, "g").await;
    assert_eq!((stream.partition().topic.as_str(), stream.partition().partition), (name.as_str(), 0));
    assert!(is_waiting(stream.next_batch(LIMITS)).await);
    stream.seek(StartAt::Committed).await.unwrap();
    assert_eq!(read(&mut *stream, 3).await[0].offset, 0);
}

pub async fn without_commit_everything_comes_again(bus: TestBus) {
    let name = make(&bus, "again", 1, Durability::Durable).await;
    put(&bus, &name, 0, 0..10).await;
    for _ in 0..3 {
        let (_consumer, mut stream) = group(&bus, &name, "g").await;
        stream.seek(StartAt::Committed).await.unwrap();
        let records = read(&mut *stream, 10).await;
        assert_eq!(number(&records[0]), 0);
    }
}

pub async fn a_commit_resumes_the_group(bus: TestBus) {
    let name = make(&bus, "resume", 1, Durability::Written).await;
    put(&bus, &name, 0, 0..10).await;
    for start in [0u64, 4, 8] {
        let (_consumer, mut stream) = group(&bus, &name, "g").await;
        stream.seek(StartAt::Committed).await.unwrap();
        let records = read(&mut *stream, 10 - start as usize).await;
        assert_eq!(number(&records[0]), start);
        stream.commit(start as i64 + 1).await.unwrap();
        let next = (start + 4).min(10);
        stream.commit(next as i64).await.unwrap();
        // Within one assignment a seek to what was committed reads what follows again too.
        if next < 10 {
            stream.seek(StartAt::Committed).await.unwrap();
            assert_eq!(number(&read(&mut *stream, (10 - next) as usize).await[0]), next);
        }
    }
}

pub async fn groups_do_not_see_each_other(bus: TestBus) {
    let name = make(&bus, "groups", 1, Durability::Written).await;
    put(&bus, &name, 0, 0..5).await;
    let (_consumer_a, mut a) = group(&bus, &name, "a").await;
    let (_consumer_b, mut b) = group(&bus, &name, "b").await;
    a.seek(StartAt::Committed).await.unwrap();
    read(&mut *a, 5).await;
    a.commit(5).await.unwrap();
    b.seek(StartAt::Committed).await.unwrap();
    assert_eq!(read(&mut *b, 5).await[0].offset, 0);
}

/// pipeline.md J3: the store, not the group, says where to go on.
pub async fn the_application_chooses_the_start(bus: TestBus) {
    let name = make(&bus, "start", 1, Durability::Durable).await;
    put(&bus, &name, 0, 0..10).await;
    {
        let (_consumer, mut stream) = group(&bus, &name, "g").await;
        stream.seek(StartAt::Committed).await.unwrap();
        stream.commit(9).await.unwrap();
    }
    let (_consumer, mut stream) = group(&bus, &name, "g").await;
    for start in [3i64, 0, 7] {
        stream.seek(StartAt::Offset(start)).await.unwrap();
        let records = read(&mut *stream, 10 - start as usize).await;
        assert_eq!((records[0].offset, number(&records[0])), (start, start as u64));
    }
    stream.seek(StartAt::Offset(10)).await.unwrap();
    assert!(is_waiting(stream.next_batch(LIMITS)).await);
    put(&bus, &name, 0, 10..11).await;
    assert_eq!(read(&mut *stream, 1).await[0].offset, 10);
}

pub async fn beyond_the_end_is_refused(bus: TestBus) {
    let name = make(&bus, "beyond", 1, Durability::Durable).await;
    put(&bus, &name, 0, 0..4).await;
    let (_consumer, mut stream) = group(&bus, &name, "g").await;
    let answer = stream.seek(StartAt::Offset(5)).await;
    assert!(matches!(answer, Err(BusError::OffsetBeyondEnd { asked: 5, end: 4, .. })), "{answer:?}");
    let answer = bus.assign(&name, 0, StartAt::Offset(5)).await.err();
    assert!(matches!(answer, Some(BusError::OffsetBeyondEnd { asked: 5, end: 4, .. })), "{answer:?}");
    stream.seek(StartAt::Offset(4)).await.unwrap();
}

pub async fn start_at_end_skips_what_was(bus: TestBus) {
    let name = make(&bus, "tail", 1, Durability::Written).await;
    put(&bus, &name, 0, 0..4).await;
    let mut stream = bus.assign(&name, 0, StartAt::End).await.unwrap();
    put(&bus, &name, 0, 4..6).await;
    assert_eq!(read(&mut *stream, 2).await.iter().map(number).collect::<Vec<_>>(), [4, 5]);
}

pub async fn two_members_share_and_hand_over(bus: TestBus) {
    let name = make(&bus, "share", 4, Durability::Written).await;
    for partition in 0..4 {
        put(&bus, &name, partition, 0..3).await;
    }
    let mut first = bus.subscribe(&name, "g").await.unwrap();
    let mut streams = BTreeMap::new();
    for _ in 0..4 {
        let mut stream = assigned(&mut *first).await;
        stream.seek(StartAt::Committed).await.unwrap();
        read(&mut *stream, 3).await;
        stream.commit(2).await.unwrap();
        streams.insert(stream.partition().partition, stream);
    }
    assert_eq!(streams.len(), 4);
    let mut second = bus.subscribe(&name, "g").await.unwrap();
    let mut taken = BTreeMap::new();
    for _ in 0..2 {
        let Assignment::Revoked(partition) = within("revocation", first.next()).await.unwrap() else {
            panic!("assigned instead of revoked")
        };
        assert!(!streams.remove(&partition.partition).unwrap().is_owned());
        let mut stream = assigned(&mut *second).await;
        stream.seek(StartAt::Committed).await.unwrap();
        assert_eq!(read(&mut *stream, 1).await[0].offset, 2, "goes on behind the commit of the first member");
        taken.insert(stream.partition().partition, stream);
    }
    assert!(streams.keys().all(|partition| !taken.contains_key(partition)), "one owner each");
    assert!(streams.values().chain(taken.values()).all(|stream| stream.is_owned()));
    assert!(is_waiting(first.next()).await && is_waiting(second.next()).await, "balanced: nothing more moves");
    drop(second);
    for _ in 0..2 {
        let stream = assigned(&mut *first).await;
        assert!(!taken[&stream.partition().partition].is_owned());
        streams.insert(stream.partition().partition, stream);
    }
    assert_eq!(streams.len(), 4);
}

pub async fn a_revoked_stream_neither_reads_nor_commits(bus: TestBus) {
    let name = make(&bus, "revoked", 1, Durability::Written).await;
    put(&bus, &name, 0, 0..3).await;
    let (first, mut stream) = group(&bus, &name, "g").await;
    stream.seek(StartAt::Committed).await.unwrap();
    read(&mut *stream, 2 + 1).await;
    let mut second = bus.subscribe(&name, "g").await.unwrap();
    let waiting = tokio::spawn(async move {
        let answer = stream.next_batch(LIMITS).await.map(|records| records.len());
        (stream, answer)
    });
    drop(first);
    let (mut stream, answer) = within("revocation wakes a reader", waiting).await.unwrap();
    assert!(matches!(answer, Err(BusError::Revoked)), "{answer:?}");
    assert!(matches!(stream.commit(3).await, Err(BusError::Revoked)));
    assert!(matches!(stream.seek(StartAt::Committed).await, Err(BusError::Revoked)));
    let mut stream = assigned(&mut *second).await;
    stream.seek(StartAt::Committed).await.unwrap();
    assert_eq!(read(&mut *stream, 3).await[0].offset, 0, "the late commit did not count");
}

pub async fn a_waiting_reader_is_woken(bus: TestBus) {
    for durability in [Durability::Durable, Durability::Written] {
        let name = make(&bus, "woken", 1, durability).await;
        let mut stream = bus.assign(&name, 0, StartAt::Offset(0)).await.unwrap();
        let reader = tokio::spawn(async move { read(&mut *stream, 100).await.len() });
        for i in 0..100 {
            put(&bus, &name, 0, i..i + 1).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(within("reader", reader).await.unwrap(), 100);
    }
}

pub async fn next_batch_is_cancel_safe(bus: TestBus) {
    let name = make(&bus, "cancel", 1, Durability::Written).await;
    let mut stream = bus.assign(&name, 0, StartAt::Offset(0)).await.unwrap();
    let producer = {
        let (bus, name) = (bus.clone(), name.clone());
        tokio::spawn(async move {
            for i in 0..500 {
                put(&bus, &name, 0, i..i + 1).await;
            }
        })
    };
    let mut seen = 0;
    while seen < 500 {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            batch = stream.next_batch(LIMITS) => {
                for record in batch.unwrap() {
                    assert_eq!(record.offset, seen);
                    seen += 1;
                }
            }
        }
    }
    producer.await.unwrap();
}

pub async fn many_producers_many_readers(bus: TestBus) {
    const PRODUCERS: u64 = 8;
    const BATCHES: u64 = 60;
    for durability in [Durability::Durable, Durability::Written] {
        let name = make(&bus, "stress", 2, durability).await;
        let producers = (0..PRODUCERS).map(|producer| {
            let (bus, name) = (bus.clone(), name.clone());
            tokio::spawn(async move {
                for batch in 0..BATCHES {
                    let from = producer * 1_000_000 + batch * 3;
                    put(&bus, &name, (producer % 2) as u32, from..from + 3).await;
                }
            })
        });
        let readers = (0..2).map(|partition| {
            let (bus, name) = (bus.clone(), name.clone());
            tokio::spawn(async move {
                let mut stream = bus.assign(&name, partition, StartAt::Offset(0)).await.unwrap();
                read(&mut *stream, (PRODUCERS / 2 * BATCHES * 3) as usize).await
            })
        });
        let (producers, readers): (Vec<_>, Vec<_>) = (producers.collect(), readers.collect());
        for producer in producers {
            within("producer", producer).await.unwrap();
        }
        for reader in readers {
            let records = within("reader", reader).await.unwrap();
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for (offset, record) in records.iter().enumerate() {
                assert_eq!(record.offset, offset as i64);
                let (producer, value) = (number(record) / 1_000_000, number(record) % 1_000_000);
                let expected = last.get(&producer).map_or(0, |last| last + 1);
                assert_eq!(value, expected, "order of producer {producer}");
                last.insert(producer, value);
            }
        }
    }
}

pub async fn closed_refuses(bus: TestBus) {
    let name = make(&bus, "closed", 1, Durability::Durable).await;
    let mut stream = bus.assign(&name, 0, StartAt::End).await.unwrap();
    let mut consumer = bus.subscribe(&name, "g").await.unwrap();
    assigned(&mut *consumer).await;
    let reader = tokio::spawn(async move { stream.next_batch(LIMITS).await.map(|records| records.len()) });
    let member = tokio::spawn(async move { consumer.next().await.map(|_| ()) });
    put(&bus, &name, 0, 0..0).await;
    within("close", bus.close()).await.unwrap();
    within("close again", bus.close()).await.unwrap();
    assert!(matches!(bus.produce(&name, 0, vec![record("x")]).await, Err(BusError::Closed)));
    assert!(matches!(bus.subscribe(&name, "g").await.err(), Some(BusError::Closed)));
    assert!(matches!(within("reader", reader).await.unwrap(), Err(BusError::Closed)));
    assert!(matches!(within("member", member).await.unwrap(), Err(BusError::Closed)));
}
