//! The body of an append frame: records one after another. Never knows about files or offsets on disk.
//!
//! `payload_type` is not kept: a topic holds one type of payload, and readers are not given it.

use bytes::Bytes;

use super::{
    bytes_io::{Fields, put_u16, put_u32, put_u64},
    format::{FRAME_HEADER_BYTES, frame_bytes},
};
use crate::bus::{BusError, Consumed, Offset, Record};

const RECORD_HEADER_BYTES: usize = 16;

/// An encoded frame whose header is filled in when its place in the log is known.
#[derive(Debug)]
pub(super) struct Frame {
    /// Room for the header, the body, padding.
    pub bytes: Vec<u8>,
    pub body_bytes: u32,
    pub body_crc: u32,
    pub count: u32,
}

impl Frame {
    /// A frame around any body.
    pub(super) fn of_body(body: &[u8]) -> Self {
        let mut bytes = vec![0; frame_bytes(body.len())];
        bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + body.len()].copy_from_slice(body);
        Frame { bytes, body_bytes: body.len() as u32, body_crc: crc32fast::hash(body), count: 0 }
    }

    /// Copies the records into a frame, the one copy on the way in.
    pub(super) fn of_records(records: &[Record], record_max: usize, batch_max: usize) -> Result<Self, BusError> {
        let mut body_bytes = 0;
        for record in records {
            let bytes = record.key.len() + record.value.len() + record.headers.trace_id.len();
            if bytes > record_max {
                return Err(BusError::TooLarge { bytes, limit: record_max });
            }
            let named = record.key.len().max(record.headers.trace_id.len());
            if named > usize::from(u16::MAX) {
                return Err(BusError::TooLarge { bytes: named, limit: usize::from(u16::MAX) });
            }
            body_bytes += RECORD_HEADER_BYTES + bytes;
        }
        if frame_bytes(body_bytes) > batch_max {
            return Err(BusError::TooLarge { bytes: body_bytes, limit: batch_max });
        }
        let size = frame_bytes(body_bytes);
        let mut bytes = Vec::with_capacity(size);
        bytes.resize(FRAME_HEADER_BYTES, 0);
        for record in records {
            put_u16(&mut bytes, record.key.len() as u16);
            put_u16(&mut bytes, record.headers.trace_id.len() as u16);
            put_u32(&mut bytes, record.value.len() as u32);
            put_u64(&mut bytes, record.headers.produced_at_ms as u64);
            bytes.extend_from_slice(&record.key);
            bytes.extend_from_slice(&record.headers.trace_id);
            bytes.extend_from_slice(&record.value);
        }
        let body_crc = crc32fast::hash(&bytes[FRAME_HEADER_BYTES..]);
        bytes.resize(size, 0);
        Ok(Frame { bytes, body_bytes: body_bytes as u32, body_crc, count: records.len() as u32 })
    }
}

/// Walks the records of one append frame; what it gives are slices of the frame.
#[derive(Debug)]
pub(super) struct RecordCursor {
    frame: Bytes,
    at: usize,
    next: Offset,
    end: Offset,
}

impl RecordCursor {
    /// `frame` holds the records `base..base + count`.
    pub(super) fn new(frame: Bytes, base: Offset, count: u32) -> Self {
        RecordCursor { frame, at: FRAME_HEADER_BYTES, next: base, end: base + Offset::from(count) }
    }

    /// Offset of the record that comes next; `None` behind the last one.
    pub(super) fn next_offset(&self) -> Option<Offset> {
        (self.next < self.end).then_some(self.next)
    }

    /// Records that come yet.
    pub(super) fn remaining(&self) -> usize {
        (self.end - self.next) as usize
    }

    /// Size of the next record's key and value, and where it ends; `None` when the frame is not well formed.
    fn peek(&self) -> Option<RecordShape> {
        let mut fields = Fields::new(self.frame.get(self.at..)?);
        let key = usize::from(fields.u16()?);
        let trace = usize::from(fields.u16()?);
        let value = fields.u32()? as usize;
        let produced_at_ms = fields.u64()? as i64;
        let end = self.at + RECORD_HEADER_BYTES + key + trace + value;
        (end <= self.frame.len()).then_some(RecordShape { key, trace, value, produced_at_ms, end })
    }

    /// Size of the next record's key and value together.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        self.peek().map(|shape| shape.key + shape.value)
    }

    /// Passes over one record.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.at = self.peek()?.end;
        self.next += 1;
        Some(())
    }

    /// The next record.
    pub(super) fn take(&mut self) -> Option<Consumed> {
        let shape = self.peek()?;
        let key_at = self.at + RECORD_HEADER_BYTES;
        let trace_at = key_at + shape.key;
        let value_at = trace_at + shape.trace;
        let consumed = Consumed {
            offset: self.next,
            key: self.slice(key_at, shape.key),
            trace_id: self.slice(trace_at, shape.trace),
            value: self.slice(value_at, shape.value),
            produced_at_ms: shape.produced_at_ms,
        };
        self.at = shape.end;
        self.next += 1;
        Some(consumed)
    }

    fn slice(&self, at: usize, len: usize) -> Bytes {
        if len == 0 { Bytes::new() } else { self.frame.slice(at..at + len) }
    }
}

struct RecordShape {
    key: usize,
    trace: usize,
    value: usize,
    produced_at_ms: i64,
    end: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::bus::Headers;

    #[test]
    fn records_come_back_as_they_went_in() {
        let records: Vec<Record> = (0..5u8)
            .map(|i| Record {
                key: Bytes::from(vec![i; usize::from(i)]),
                value: Bytes::from(vec![i; 100 * usize::from(i)]),
                headers: Headers {
                    trace_id: Bytes::from(vec![b't'; usize::from(i) % 2]),
                    payload_type: "",
                    produced_at_ms: i64::from(i) - 2,
                },
            })
            .collect();
        let frame = Frame::of_records(&records, 1000, 10_000).unwrap();
        assert_eq!(frame.bytes.len() % 8, 0);
        assert_eq!(frame.bytes.len(), frame.bytes.capacity());
        let mut cursor = RecordCursor::new(Bytes::from(frame.bytes), 40, frame.count);
        for (i, record) in records.iter().enumerate() {
            assert_eq!(cursor.next_bytes().unwrap(), record.key.len() + record.value.len());
            let got = cursor.take().unwrap();
            assert_eq!(got.offset, 40 + i as i64);
            assert_eq!(
                (got.key, got.value, got.trace_id),
                (record.key.clone(), record.value.clone(), record.headers.trace_id.clone())
            );
            assert_eq!(got.produced_at_ms, record.headers.produced_at_ms);
        }
        assert_eq!(cursor.next_offset(), None);
        assert!(matches!(Frame::of_records(&records, 399, 10_000), Err(BusError::TooLarge { limit: 399, .. })));
        assert!(matches!(Frame::of_records(&records, 1000, 500), Err(BusError::TooLarge { limit: 500, .. })));
    }
}
