//! The one writer: gives out offsets and positions and writes frames, one caller at a time under its lock.
//!
//! The caller's own thread writes, so that an append that need not be synced costs one pwrite into the page cache
//! and no change of threads. Never syncs (see `sync.rs`), never allocates space (see `spare.rs`).

use std::sync::{Arc, Mutex, atomic::Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    format::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES},
    image::TopicImage,
    partition::{Partition, PlacedFrame, lock},
    records::Frame,
    segment::Segment,
    shared::Shared,
    spare::SpareSlot,
    sync::{SyncQueue, WaitingAppend},
    topic::Topic,
};
use crate::bus::{BusError, Durability, Offset, TopicSpec};

/// See the top of this file.
pub(super) struct Writer {
    shared: Arc<Shared>,
    sync: Arc<SyncQueue>,
    spare: Arc<SpareSlot>,
    head: Mutex<Head>,
}

/// Where the next frame goes.
struct Head {
    segment: Arc<Segment>,
    /// From the start of the segment's file.
    at: u64,
}

/// What became of a frame.
pub(super) enum Outcome<T> {
    /// It is written, and resolved.
    Done(T),
    /// It is written and waits for a sync.
    Waits(oneshot::Receiver<Result<T, BusError>>),
    /// There is no segment with room yet; nothing was written.
    NoSegment,
}

enum Put {
    Written { at: u64, bytes: Bytes },
    NoSegment,
}

/// The parts of a frame header that the writer does not know itself.
struct Labels {
    kind: FrameKind,
    topic: u32,
    partition: u32,
    base_offset: Offset,
}

impl Labels {
    fn of_log(kind: FrameKind) -> Self {
        Labels { kind, topic: 0, partition: 0, base_offset: 0 }
    }
}

impl Writer {
    /// Goes on at `at` in the newest segment, with its checkpoint when that is its beginning.
    pub(super) fn new(
        shared: Arc<Shared>,
        sync: Arc<SyncQueue>,
        spare: Arc<SpareSlot>,
        at: u64,
    ) -> Result<Self, BusError> {
        let newest = lock(&shared.segments).back().cloned();
        let segment = newest.ok_or_else(|| BusError::Unavailable("the log has no segment".to_owned()))?;
        let writer = Writer { shared, sync, spare, head: Mutex::new(Head { segment, at }) };
        if at == SEGMENT_HEADER_BYTES {
            writer.write_checkpoint(&mut lock(&writer.head))?;
        }
        Ok(writer)
    }

    /// Appends a frame of records.
    pub(super) fn append(
        &self,
        topic: &Topic,
        partition: &Arc<Partition>,
        frame: &mut Frame,
    ) -> Result<Outcome<Offset>, BusError> {
        let durable = topic.spec.durability == Durability::Durable;
        if durable && !self.sync.has_room(frame.bytes.len()) {
            return Err(BusError::Unavailable("too many bytes wait for the disk".to_owned()));
        }
        let count = frame.count;
        let mut head = lock(&self.head);
        let base_offset = partition.assigned_end();
        let labels =
            Labels { kind: FrameKind::Append, topic: topic.id, partition: partition.id.partition, base_offset };
        let (at, bytes) = match self.put(&mut head, frame, &labels)? {
            Put::Written { at, bytes } => (at, bytes),
            Put::NoSegment => return Ok(Outcome::NoSegment),
        };
        partition.assign(count);
        self.shared.counters.appends.fetch_add(1, Ordering::Relaxed);
        self.shared.counters.records.fetch_add(u64::from(count), Ordering::Relaxed);
        let placed = PlacedFrame { segment: head.segment.clone(), at: at as u32, frame: bytes, base_offset, count };
        if durable {
            let (reply, answer) = oneshot::channel();
            let append = WaitingAppend { partition: partition.clone(), placed, reply };
            self.sync.push_append(append, head.segment.header.base_position + head.at);
            Ok(Outcome::Waits(answer))
        } else {
            self.shared.publish(partition, placed);
            Ok(Outcome::Done(base_offset))
        }
    }

    /// Writes a group's committed offset, if `is_owned` still says so under the writer's lock.
    pub(super) fn commit(
        &self,
        topic: &Topic,
        partition: u32,
        group: &str,
        next: Offset,
        is_owned: impl Fn() -> bool,
    ) -> Result<Outcome<()>, BusError> {
        let mut frame = Frame::of_body(group.as_bytes());
        let mut head = lock(&self.head);
        if !is_owned() {
            return Err(BusError::Revoked);
        }
        let labels = Labels { kind: FrameKind::Commit, topic: topic.id, partition, base_offset: next };
        let put = self.put(&mut head, &mut frame, &labels)?;
        // Also when it could not be written: what was passed may be trimmed, which is how a full disk gets space.
        topic.set_committed(group, partition, next);
        Ok(match put {
            Put::Written { .. } => Outcome::Done(()),
            Put::NoSegment => Outcome::NoSegment,
        })
    }

    /// Makes a topic that does not exist; resolves when that is synced.
    pub(super) fn create_topic(&self, spec: &TopicSpec) -> Result<Outcome<()>, BusError> {
        let mut head = lock(&self.head);
        if self.shared.catalog.get(&spec.name).is_some() {
            return Ok(Outcome::Done(()));
        }
        let topics = self.shared.catalog.all();
        let image = TopicImage {
            id: topics.last().map_or(1, |topic| topic.id + 1),
            spec: spec.clone(),
            next_offsets: vec![0; spec.partitions as usize],
            committed: Default::default(),
        };
        let mut body = self.checkpoint_body();
        let checkpoint_bytes = body.len();
        image.encode(&mut body);
        let limit = self.shared.config.segment_bytes as usize / 4;
        if body.len() > limit {
            return Err(BusError::TooLarge { bytes: body.len(), limit });
        }
        let mut frame = Frame::of_body(&body[checkpoint_bytes..]);
        match self.put(&mut head, &mut frame, &Labels::of_log(FrameKind::Topic))? {
            Put::NoSegment => Ok(Outcome::NoSegment),
            Put::Written { .. } => {
                self.shared.catalog.insert(Arc::new(Topic::new(image)));
                Ok(Outcome::Waits(self.barrier_at(&head)))
            }
        }
    }

    /// Resolves when everything written so far is synced.
    pub(super) fn barrier(&self) -> oneshot::Receiver<Result<(), BusError>> {
        self.barrier_at(&lock(&self.head))
    }

    /// The segments, where the last of them ends now, and a receiver that resolves when all of that is synced.
    pub(super) fn mark(&self) -> (Vec<Arc<Segment>>, u64, oneshot::Receiver<Result<(), BusError>>) {
        let head = lock(&self.head);
        let segments = lock(&self.shared.segments).iter().cloned().collect();
        (segments, head.at, self.barrier_at(&head))
    }

    fn barrier_at(&self, head: &Head) -> oneshot::Receiver<Result<(), BusError>> {
        self.sync.push_barrier(&head.segment, head.segment.header.base_position + head.at)
    }

    /// Refuses further frames; everything before is covered by the barrier that is returned.
    pub(super) fn close(&self) -> oneshot::Receiver<Result<(), BusError>> {
        let head = lock(&self.head);
        self.shared.close();
        self.barrier_at(&head)
    }

    /// Notes that everything was synced, so that later damage to the tail is recognised. After [`Writer::close`].
    pub(super) fn write_closed(&self) -> Result<oneshot::Receiver<Result<(), BusError>>, BusError> {
        let mut head = lock(&self.head);
        let mut frame = Frame::of_body(&[]);
        if head.at + (frame.bytes.len() + FRAME_HEADER_BYTES) as u64 <= head.segment.header.segment_bytes {
            self.write(&mut head, &mut frame, &Labels::of_log(FrameKind::Closed))?;
        }
        Ok(self.barrier_at(&head))
    }

    fn put(&self, head: &mut Head, frame: &mut Frame, labels: &Labels) -> Result<Put, BusError> {
        self.shared.check_open()?;
        let segment_bytes = head.segment.header.segment_bytes;
        // Room for the seal stays.
        if head.at + (frame.bytes.len() + FRAME_HEADER_BYTES) as u64 > segment_bytes {
            let Some(next) = self.spare.take_after(&head.segment) else { return Ok(Put::NoSegment) };
            self.roll(head, next)?;
        }
        let (at, bytes) = self.write(head, frame, labels)?;
        if head.at >= segment_bytes / 2 {
            self.spare.prepare_after(&head.segment);
        }
        Ok(Put::Written { at, bytes })
    }

    fn roll(&self, head: &mut Head, next: Arc<Segment>) -> Result<(), BusError> {
        self.write(head, &mut Frame::of_body(&[]), &Labels::of_log(FrameKind::Seal))?;
        head.segment.mark_sealed();
        self.sync.push_left(head.segment.clone());
        lock(&self.shared.segments).push_back(next.clone());
        *head = Head { segment: next, at: SEGMENT_HEADER_BYTES };
        self.write_checkpoint(head)
    }

    fn write_checkpoint(&self, head: &mut Head) -> Result<(), BusError> {
        let mut frame = Frame::of_body(&self.checkpoint_body());
        self.write(head, &mut frame, &Labels::of_log(FrameKind::Checkpoint)).map(|_| ())
    }

    fn checkpoint_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for topic in self.shared.catalog.all() {
            topic.image().encode(&mut body);
        }
        body
    }

    /// Writes a frame for which there is room, and takes its bytes.
    fn write(&self, head: &mut Head, frame: &mut Frame, labels: &Labels) -> Result<(u64, Bytes), BusError> {
        let header = FrameHeader {
            kind: labels.kind,
            topic: labels.topic,
            partition: labels.partition,
            count: frame.count,
            base_offset: labels.base_offset,
            synced_through: self.shared.synced_through.load(Ordering::Acquire),
            body_bytes: frame.body_bytes,
            body_crc: frame.body_crc,
        };
        let at = head.at;
        let segment = &head.segment;
        header.encode_into(&mut frame.bytes, segment.header.salt, segment.header.base_position + at);
        if let Err(error) = segment.write_at(&frame.bytes, at) {
            return Err(self.shared.stop(format!("write to {}: {error}", segment.path.display())));
        }
        let bytes = Bytes::from(std::mem::take(&mut frame.bytes));
        head.at += bytes.len() as u64;
        self.shared.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok((at, bytes))
    }
}
