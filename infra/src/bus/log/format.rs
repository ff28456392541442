//! What the bytes on disk mean: segment headers and frames, with version and checksums. Pure; never touches a file.
//!
//! A segment is a header page followed by frames, each padded to 8 bytes, then zeros. A frame is one append, commit
//! or note of the log itself; it is taken whole or not at all. Its header's checksum covers the segment's random salt
//! and the frame's position, so that neither old bytes nor a payload can be mistaken for a frame. `synced_through`
//! says how far the log was on stable storage when the frame was written: a bad frame below what a later frame
//! calls synced is damage, any other is a torn tail.

use super::bytes_io::{Fields, put_u32, put_u64};

/// Version of everything in this file. A log of another version is refused.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes before the first frame of a segment.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 4096;
/// Bytes of a frame before its body.
pub(super) const FRAME_HEADER_BYTES: usize = 48;
/// Frames start at multiples of this.
pub(super) const FRAME_ALIGN: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"GOCHATLG";
const SEGMENT_HEADER_USED: usize = 56;
/// First four bytes of every frame.
const FRAME_MAGIC: [u8; 4] = *b"GCfr";

/// First page of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Number of the segment; one more than its predecessor's.
    pub sequence: u64,
    /// Position of the segment's first byte in the whole log.
    pub base_position: u64,
    /// Size of the file.
    pub segment_bytes: u64,
    /// Random, see the top of this file.
    pub salt: u64,
    /// Unix milliseconds.
    pub created_at_ms: u64,
}

/// Why a segment header is not usable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderProblem {
    NotALog,
    Version(u32),
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_USED);
        out.extend_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, 0);
        for field in [self.sequence, self.base_position, self.segment_bytes, self.salt, self.created_at_ms] {
            put_u64(&mut out, field);
        }
        let crc = crc32fast::hash(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(page: &[u8]) -> Result<Self, HeaderProblem> {
        let Some(used) = page.get(..SEGMENT_HEADER_USED) else { return Err(HeaderProblem::Damaged) };
        if used[..8] != SEGMENT_MAGIC {
            return Err(HeaderProblem::NotALog);
        }
        let mut fields = Fields::new(&used[8..]);
        let version = fields.u32().ok_or(HeaderProblem::Damaged)?;
        if version != FORMAT_VERSION {
            return Err(HeaderProblem::Version(version));
        }
        let crc = fields.u32().ok_or(HeaderProblem::Damaged)?;
        let mut summed = used.to_vec();
        summed[12..16].fill(0);
        if crc32fast::hash(&summed) != crc {
            return Err(HeaderProblem::Damaged);
        }
        let mut field = || fields.u64().ok_or(HeaderProblem::Damaged);
        Ok(SegmentHeader {
            sequence: field()?,
            base_position: field()?,
            segment_bytes: field()?,
            salt: field()?,
            created_at_ms: field()?,
        })
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Records of one produce call.
    Append = 1,
    /// A group's committed offset, in `base_offset`; the body is the group's name.
    Commit = 2,
    /// A topic was made; the body is its image.
    Topic = 3,
    /// All topics with their end offsets and commits, at the head of a segment.
    Checkpoint = 4,
    /// The log goes on in the next segment.
    Seal = 5,
    /// The log was closed with everything before synced.
    Closed = 6,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Append, Self::Commit, Self::Topic, Self::Checkpoint, Self::Seal, Self::Closed]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A frame without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub kind: FrameKind,
    /// Number of the topic; 0 where it has no meaning, as with the next three.
    pub topic: u32,
    pub partition: u32,
    /// Records in the body.
    pub count: u32,
    /// Offset of the first record.
    pub base_offset: i64,
    /// See the top of this file.
    pub synced_through: u64,
    pub body_bytes: u32,
    pub body_crc: u32,
}

impl FrameHeader {
    /// Bytes the frame takes, with padding.
    pub(super) fn frame_bytes(&self) -> usize {
        frame_bytes(self.body_bytes as usize)
    }

    /// Whether the body behind this header, in the frame's bytes, is as it was written.
    pub(super) fn body_is_intact(&self, frame: &[u8]) -> bool {
        let end = FRAME_HEADER_BYTES + self.body_bytes as usize;
        frame.get(FRAME_HEADER_BYTES..end).is_some_and(|body| crc32fast::hash(body) == self.body_crc)
    }

    /// Writes the header into the first [`FRAME_HEADER_BYTES`] of `out`, which is at least that long.
    pub(super) fn encode_into(&self, out: &mut [u8], salt: u64, position: u64) {
        out[0..4].copy_from_slice(&FRAME_MAGIC);
        out[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[16..20].copy_from_slice(&(self.kind as u32).to_le_bytes());
        out[20..24].copy_from_slice(&self.topic.to_le_bytes());
        out[24..28].copy_from_slice(&self.partition.to_le_bytes());
        out[28..32].copy_from_slice(&self.count.to_le_bytes());
        out[32..40].copy_from_slice(&self.base_offset.to_le_bytes());
        out[40..48].copy_from_slice(&self.synced_through.to_le_bytes());
        let crc = header_crc(&out[8..FRAME_HEADER_BYTES], salt, position);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header at the start of `bytes`, when it is one that was written at `position`.
    pub(super) fn decode(bytes: &[u8], salt: u64, position: u64) -> Option<Self> {
        let head = bytes.get(..FRAME_HEADER_BYTES)?;
        if head[..4] != FRAME_MAGIC {
            return None;
        }
        let mut fields = Fields::new(&head[4..]);
        if fields.u32()? != header_crc(&head[8..], salt, position) {
            return None;
        }
        let (body_crc, body_bytes) = (fields.u32()?, fields.u32()?);
        Some(FrameHeader {
            kind: FrameKind::from_byte(u8::try_from(fields.u32()?).ok()?)?,
            topic: fields.u32()?,
            partition: fields.u32()?,
            count: fields.u32()?,
            base_offset: fields.u64()? as i64,
            synced_through: fields.u64()?,
            body_bytes,
            body_crc,
        })
    }
}

/// Bytes of a frame with a body of this length.
pub(super) fn frame_bytes(body_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(FRAME_ALIGN)
}

fn header_crc(head: &[u8], salt: u64, position: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(head);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn segment_header_round_trip_and_refusals() {
        let header =
            SegmentHeader { sequence: 3, base_position: 9, segment_bytes: 1 << 20, salt: 77, created_at_ms: 5 };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 16..SEGMENT_HEADER_USED {
            bytes[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderProblem::Damaged), "byte {at}");
            bytes[at] ^= 1;
        }
        bytes[8] = 9;
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderProblem::Version(9)));
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(HeaderProblem::NotALog));
    }

    #[test]
    fn frame_header_is_bound_to_salt_and_position() {
        let header = FrameHeader {
            kind: FrameKind::Append,
            topic: 1,
            partition: 2,
            count: 3,
            base_offset: 12,
            synced_through: 4096,
            body_bytes: 3,
            body_crc: crc32fast::hash(b"abc"),
        };
        let mut bytes = vec![0; FRAME_HEADER_BYTES];
        header.encode_into(&mut bytes, 1, 2);
        assert_eq!(FrameHeader::decode(&bytes, 1, 2), Some(header));
        assert_eq!(FrameHeader::decode(&bytes, 2, 2), None);
        assert_eq!(FrameHeader::decode(&bytes, 1, 3), None);
        for at in 0..FRAME_HEADER_BYTES {
            bytes[at] ^= 0x10;
            assert_eq!(FrameHeader::decode(&bytes, 1, 2), None, "byte {at}");
            bytes[at] ^= 0x10;
        }
    }
}
