//! Readers: a group member and the records of one partition. Never owns data; reads memory first, files else.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    append::append_or_wait,
    format::FrameHeader,
    groups::{Change, Lease, Membership},
    partition::{Located, Partition, StoredFrame},
    records::RecordCursor,
    shared::Shared,
    spare::SpareSlot,
    topic::Topic,
    writer::Writer,
};
use crate::bus::{
    Assignment, BatchLimits, BusError, Consumed, Consumer, Offset, PartitionStream, StartAt, TopicPartition,
};

/// What readers need of the log.
#[derive(Clone)]
pub(super) struct LogParts {
    pub shared: Arc<Shared>,
    pub writer: Arc<Writer>,
    pub spare: Arc<SpareSlot>,
}

/// A member of a group.
pub(super) struct LogConsumer {
    pub parts: LogParts,
    pub membership: Membership,
}

#[async_trait]
impl Consumer for LogConsumer {
    async fn next(&mut self) -> Result<Assignment, BusError> {
        self.parts.shared.check_open()?;
        let topic = self.membership.topic.clone();
        match self.membership.changes.recv().await {
            Some(Change::Assigned(partition, lease)) => {
                let owner = Owner { group: self.membership.group.clone(), lease };
                let stream = LogStream::new(self.parts.clone(), topic, partition, Some(owner))?;
                Ok(Assignment::Assigned(Box::new(stream)))
            }
            Some(Change::Revoked(partition)) => {
                Ok(Assignment::Revoked(TopicPartition { topic: topic.spec.name.clone(), partition }))
            }
            None => Err(BusError::Closed),
        }
    }
}

/// In whose name a stream reads and commits.
pub(super) struct Owner {
    group: String,
    lease: Arc<Lease>,
}

/// The records of one partition.
pub(super) struct LogStream {
    parts: LogParts,
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    /// None for a stream outside any group.
    owner: Option<Owner>,
    /// Offset of the next record to give; none before the first seek.
    next: Option<Offset>,
    /// Frames that were fetched and not yet given, in order.
    fetched: VecDeque<RecordCursor>,
}

impl LogStream {
    pub(super) fn new(
        parts: LogParts,
        topic: Arc<Topic>,
        partition: u32,
        owner: Option<Owner>,
    ) -> Result<Self, BusError> {
        let partition = topic.partition(partition)?.clone();
        Ok(LogStream { parts, topic, partition, owner, next: None, fetched: VecDeque::new() })
    }

    fn check(&self) -> Result<(), BusError> {
        if self.is_owned() { Ok(()) } else { Err(BusError::Revoked) }
    }

    /// Makes sure that `fetched` begins at `next`, which lies below the visible end.
    async fn fetch(&mut self, next: Offset, limits: BatchLimits) -> Result<(), BusError> {
        while self.fetched.front().is_some_and(|cursor| cursor.next_offset().is_none()) {
            self.fetched.pop_front();
        }
        if self.fetched.front().is_some_and(|cursor| cursor.next_offset() == Some(next)) {
            return Ok(());
        }
        self.fetched.clear();
        let mut frames: VecDeque<RecordCursor> = match self.partition.locate(next, limits) {
            Located::Cached(frames) => {
                frames.into_iter().map(|(base, count, frame)| RecordCursor::new(frame, base, count)).collect()
            }
            Located::Stored(stored) => {
                self.parts.shared.counters.file_reads.fetch_add(stored.len() as u64, Ordering::Relaxed);
                tokio::task::spawn_blocking(move || read_frames(&stored))
                    .await
                    .map_err(|error| BusError::Unavailable(format!("a read did not finish: {error}")))??
            }
        };
        if let Some(first) = frames.front_mut() {
            while first.next_offset().is_some_and(|offset| offset < next) {
                first.skip().ok_or_else(|| self.malformed())?;
            }
        }
        self.fetched = frames;
        Ok(())
    }

    /// Takes records out of `fetched`, at least one, up to the limits.
    fn take(&mut self, limits: BatchLimits) -> Result<Vec<Consumed>, BusError> {
        let mut records = Vec::with_capacity(limits.records_max.min(self.fetched_records()).max(1));
        let mut bytes = 0;
        while let Some(cursor) = self.fetched.front_mut() {
            if cursor.next_offset().is_none() {
                self.fetched.pop_front();
                continue;
            }
            let next_bytes = cursor.next_bytes();
            bytes += next_bytes.unwrap_or(0);
            if !records.is_empty() && (records.len() >= limits.records_max || bytes > limits.bytes_max) {
                break;
            }
            let Some(record) = cursor.take() else { return Err(self.malformed()) };
            records.push(record);
        }
        Ok(records)
    }

    fn fetched_records(&self) -> usize {
        self.fetched.iter().map(RecordCursor::remaining).sum()
    }

    fn malformed(&self) -> BusError {
        BusError::Corrupt {
            path: self.parts.shared.config.dir.display().to_string(),
            problem: format!("a frame of {}/{} is not well formed", self.topic.spec.name, self.partition.id.partition),
        }
    }
}

fn read_frames(stored: &[StoredFrame]) -> Result<VecDeque<RecordCursor>, BusError> {
    let mut frames = VecDeque::with_capacity(stored.len());
    for frame in stored {
        let at = u64::from(frame.at);
        let damaged = |problem: String| BusError::Corrupt {
            path: frame.segment.path.display().to_string(),
            problem: format!("{problem} at byte {at}; restore the directory from a backup"),
        };
        let mut bytes = vec![0; frame.bytes as usize];
        frame.segment.read_at(&mut bytes, at).map_err(|error| damaged(format!("cannot read: {error}")))?;
        let position = frame.segment.header.base_position + at;
        let header = FrameHeader::decode(&bytes, frame.segment.header.salt, position)
            .filter(|header| header.body_is_intact(&bytes))
            .ok_or_else(|| damaged("damaged frame".to_owned()))?;
        frames.push_back(RecordCursor::new(Bytes::from(bytes), header.base_offset, header.count));
    }
    Ok(frames)
}

#[async_trait]
impl PartitionStream for LogStream {
    fn partition(&self) -> &TopicPartition {
        &self.partition.id
    }

    async fn seek(&mut self, at: StartAt) -> Result<(), BusError> {
        self.check()?;
        let earliest = self.partition.earliest();
        let end = self.partition.visible_end();
        let next = match at {
            StartAt::Committed => {
                let owner = self.owner.as_ref();
                owner.and_then(|owner| self.topic.committed(&owner.group, self.partition.id.partition)).unwrap_or(0)
            }
            StartAt::Offset(offset) => offset,
            StartAt::End => end,
        };
        if next > end {
            return Err(self.beyond_end(next, end));
        }
        self.fetched.clear();
        self.next = Some(next.max(earliest));
        Ok(())
    }

    async fn next_batch(&mut self, limits: BatchLimits) -> Result<Vec<Consumed>, BusError> {
        loop {
            self.check()?;
            if let Some(next) = self.next
                && next < self.partition.visible_end()
            {
                self.fetch(next, limits).await?;
                self.check()?;
                let records = self.take(limits)?;
                if let Some(last) = records.last() {
                    self.next = Some(last.offset + 1);
                    return Ok(records);
                }
                // Retention passed this reader by.
                self.next = Some(self.partition.earliest().max(next));
                continue;
            }
            let partition = self.partition.clone();
            let mut changed = std::pin::pin!(partition.changed.notified());
            changed.as_mut().enable();
            self.parts.shared.check_open()?;
            if self.is_owned() && self.next.is_none_or(|next| next >= partition.visible_end()) {
                changed.await;
            }
        }
    }

    async fn commit(&mut self, next: Offset) -> Result<(), BusError> {
        let end = self.partition.visible_end();
        if next > end {
            return Err(self.beyond_end(next, end));
        }
        // Without a group there is nothing that could be committed to.
        let Some(owner) = &self.owner else { return Err(BusError::Revoked) };
        let (topic, partition) = (&self.topic, self.partition.id.partition);
        append_or_wait(&self.parts.shared, &self.parts.spare, || {
            self.parts.writer.commit(topic, partition, &owner.group, next.max(0), || owner.lease.is_owned())
        })
        .await
    }

    fn is_owned(&self) -> bool {
        self.owner.as_ref().is_none_or(|owner| owner.lease.is_owned())
    }
}

impl LogStream {
    fn beyond_end(&self, asked: Offset, end: Offset) -> BusError {
        let TopicPartition { topic, partition } = self.partition.id.clone();
        BusError::OffsetBeyondEnd { topic, partition, asked, end }
    }
}
