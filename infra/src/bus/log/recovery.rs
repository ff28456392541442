//! What happens before a log is used: read all segments, tell a torn tail from damage, cut the one and refuse the
//! other, rebuild the partitions, and make sure that what is shown is on stable storage. Nothing else runs meanwhile.
//! [`inspect`] does the reading alone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    config::LogConfig,
    format::{FRAME_ALIGN, FRAME_HEADER_BYTES, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES},
    image::TopicImage,
    segment::{self, Segment},
    topic::{Catalog, Topic},
};
use crate::bus::{BusError, Offset};

const CHUNK_BYTES: usize = 1024 * 1024;

/// A log that is ready for its writer.
pub(super) struct Recovered {
    pub catalog: Catalog,
    /// Oldest first, the one to write last.
    pub segments: VecDeque<Arc<Segment>>,
    /// Made and still empty.
    pub spare: Option<Arc<Segment>>,
    /// Where the next frame goes in the last segment.
    pub at: u64,
    /// Everything below this position of the log is on stable storage.
    pub synced_through: u64,
}

/// Opens what is in the directory, or begins a log.
pub(super) fn recover(config: &LogConfig) -> Result<Recovered, BusError> {
    let dir = &config.dir;
    let (paths, leftovers) = segment::list(dir).map_err(|error| cannot(dir, &error))?;
    for leftover in leftovers {
        fs::remove_file(&leftover).map_err(|error| cannot(&leftover, &error))?;
    }
    let mut segments = open_all(paths, |path| Segment::open(path, config.file_hook.clone()))?;
    if segments.is_empty() {
        segments.push(make(config, 1, 0)?);
    }
    let mut state = Rebuild::default();
    let (mut end, kept) = state.scan_all(&segments)?;
    let later = segments.split_off(kept);
    let head = segments[kept - 1].clone();
    let mut segments: VecDeque<_> = segments.into();
    let tail = Tail::survey(&head, end, later, state.synced_through)?;
    let spare = tail.cut(dir, &head, end).map_err(|error| cannot(dir, &error))?;
    rewrite_unsynced(&segments, &head, end.at, state.synced_through).map_err(|error| cannot(dir, &error))?;
    for segment in &segments {
        segment.sync().map_err(|error| BusError::Stopped(format!("fdatasync at start: {error}")))?;
    }
    if end.sealed {
        segments.push_back(make(config, head.header.sequence + 1, head.end_position())?);
        end.at = SEGMENT_HEADER_BYTES;
    }
    let synced_through = segments.back().map_or(0, |head| head.header.base_position + end.at);
    Ok(Recovered { catalog: state.catalog, segments, spare, at: end.at, synced_through })
}

/// Reads what is in a directory as a start would, and changes nothing. Nobody may be writing to it.
///
/// # Errors
/// `Corrupt`: what a start would say.
pub fn inspect(dir: &Path) -> Result<LogReport, BusError> {
    let (paths, _) = segment::list(dir).map_err(|error| cannot(dir, &error))?;
    let mut segments = open_all(paths, Segment::open_to_read)?;
    let mut report = LogReport::default();
    if segments.is_empty() {
        return Ok(report);
    }
    let mut state = Rebuild::default();
    let (end, kept) = state.scan_all(&segments)?;
    let later = segments.split_off(kept);
    let tail = Tail::survey(&segments[kept - 1], end, later, state.synced_through)?;
    report.segments = segments.len();
    report.torn = tail.remains.any_frames;
    for topic in state.catalog.all() {
        let ends = topic.partitions.iter().map(|partition| partition.assigned_end()).collect();
        report.ends.insert(topic.spec.name.clone(), ends);
    }
    Ok(report)
}

/// What [`inspect`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Segments that hold records or may; 0: there is no log yet.
    pub segments: usize,
    /// Something that was written and not synced stands behind the end: a start cuts it.
    pub torn: bool,
    /// Per topic, the next offset of each partition.
    pub ends: BTreeMap<String, Vec<Offset>>,
}

fn open_all(
    paths: Vec<PathBuf>,
    open: impl Fn(PathBuf) -> Result<Segment, BusError>,
) -> Result<Vec<Arc<Segment>>, BusError> {
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(paths.len());
    for path in paths {
        let segment = open(path)?;
        if let Some(before) = segments.last()
            && (segment.header.sequence != before.header.sequence + 1
                || segment.header.base_position != before.end_position())
        {
            return Err(damaged(
                &segment.path,
                format!("it does not follow {}: a segment is missing", before.path.display()),
            ));
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn make(config: &LogConfig, sequence: u64, base_position: u64) -> Result<Arc<Segment>, BusError> {
    Segment::create(config, sequence, base_position)
        .map_err(|error| if segment::is_disk_full(&error) { BusError::DiskFull } else { cannot(&config.dir, &error) })
}

fn cannot(path: &Path, error: &io::Error) -> BusError {
    BusError::Corrupt { path: path.display().to_string(), problem: format!("cannot be used: {error}") }
}

fn damaged(path: &Path, what: String) -> BusError {
    BusError::Corrupt {
        path: path.display().to_string(),
        problem: format!(
            "{what}; restore the whole data directory from a backup: a store does not start without the log it was fed from"
        ),
    }
}

/// Where the good frames of a segment end.
#[derive(Clone, Copy)]
struct ScanEnd {
    at: u64,
    sealed: bool,
}

/// What the frames read so far add up to.
#[derive(Default)]
struct Rebuild {
    catalog: Catalog,
    by_id: HashMap<u32, Arc<Topic>>,
    /// Largest that any frame says.
    synced_through: u64,
    began: bool,
}

impl Rebuild {
    /// Reads segments up to the first one that is not sealed; gives how many, and where the last of them ends.
    fn scan_all(&mut self, segments: &[Arc<Segment>]) -> Result<(ScanEnd, usize), BusError> {
        let mut end = ScanEnd { at: SEGMENT_HEADER_BYTES, sealed: false };
        for (index, segment) in segments.iter().enumerate() {
            end = self.scan(segment)?;
            if !end.sealed {
                return Ok((end, index + 1));
            }
        }
        Ok((end, segments.len()))
    }

    fn scan(&mut self, segment: &Arc<Segment>) -> Result<ScanEnd, BusError> {
        let file_bytes = segment.file_bytes().map_err(|error| cannot(&segment.path, &error))?;
        let mut reader = ChunkReader::new(segment, file_bytes);
        let mut at = SEGMENT_HEADER_BYTES;
        loop {
            let frame = reader.frame(at).map_err(|error| cannot(&segment.path, &error))?;
            let Some((header, body)) = frame else { return Ok(ScanEnd { at, sealed: false }) };
            self.apply(segment, at, &header, body).ok_or_else(|| {
                damaged(&segment.path, format!("the frame at byte {at} does not fit to those before it"))
            })?;
            self.synced_through = self.synced_through.max(header.synced_through);
            at += header.frame_bytes() as u64;
            if header.kind == FrameKind::Seal {
                return Ok(ScanEnd { at, sealed: true });
            }
        }
    }

    fn apply(&mut self, segment: &Arc<Segment>, at: u64, header: &FrameHeader, body: &[u8]) -> Option<()> {
        // Offsets and topics have meaning only on top of a checkpoint.
        if at == SEGMENT_HEADER_BYTES && header.kind != FrameKind::Checkpoint {
            return None;
        }
        match header.kind {
            FrameKind::Append => {
                let partition = self.by_id.get(&header.topic)?.partitions.get(header.partition as usize)?;
                if header.base_offset != partition.assigned_end() {
                    return None;
                }
                let bytes = header.frame_bytes() as u32;
                partition.restore(segment, at as u32, bytes, header.base_offset, header.count);
            }
            FrameKind::Commit => {
                let group = std::str::from_utf8(body).ok()?;
                self.by_id.get(&header.topic)?.set_committed(group, header.partition, header.base_offset);
            }
            FrameKind::Topic => TopicImage::decode_all(body)?.into_iter().for_each(|image| self.add(image)),
            FrameKind::Checkpoint => self.apply_checkpoint(TopicImage::decode_all(body)?)?,
            FrameKind::Seal | FrameKind::Closed => {}
        }
        Some(())
    }

    /// The first checkpoint begins everything; later ones must agree with what was read.
    fn apply_checkpoint(&mut self, images: Vec<TopicImage>) -> Option<()> {
        let first = !std::mem::replace(&mut self.began, true);
        if !first && images.len() != self.by_id.len() {
            return None;
        }
        for image in images {
            if first {
                self.add(image);
                continue;
            }
            let topic = self.by_id.get(&image.id)?;
            let ends: Vec<Offset> = topic.partitions.iter().map(|partition| partition.assigned_end()).collect();
            if ends != image.next_offsets {
                return None;
            }
            topic.restore_committed(image.committed);
        }
        Some(())
    }

    fn add(&mut self, image: TopicImage) {
        let topic = Arc::new(Topic::new(image));
        self.by_id.insert(topic.id, topic.clone());
        self.catalog.insert(topic);
    }
}

/// What lies behind the end of the log's good frames.
struct Tail {
    /// In the segment with the end.
    remains: Remains,
    /// Segments after it.
    later: Vec<(Arc<Segment>, Remains)>,
}

impl Tail {
    /// Looks, and refuses when later frames say that what is missing had been synced.
    fn survey(
        head: &Arc<Segment>,
        end: ScanEnd,
        later: Vec<Arc<Segment>>,
        synced_through: u64,
    ) -> Result<Tail, BusError> {
        let remains = search(head, end.at).map_err(|error| cannot(&head.path, &error))?;
        let mut surveyed = Vec::with_capacity(later.len());
        for segment in later {
            let remains = search(&segment, SEGMENT_HEADER_BYTES).map_err(|error| cannot(&segment.path, &error))?;
            surveyed.push((segment, remains));
        }
        let position = head.header.base_position + end.at;
        let claimed = surveyed.iter().map(|(_, remains)| remains.synced_through).chain([remains.synced_through]).max();
        let claimed = claimed.unwrap_or(0).max(synced_through);
        if !end.sealed && claimed > position {
            return Err(damaged(
                &head.path,
                format!("the frame at byte {} is damaged, and it had been synced", end.at),
            ));
        }
        Ok(Tail { remains, later: surveyed })
    }

    /// Clears it. Gives the segment made ahead.
    fn cut(self, dir: &Path, head: &Arc<Segment>, end: ScanEnd) -> io::Result<Option<Arc<Segment>>> {
        let mut spare = None;
        for (i, (segment, remains)) in self.later.iter().enumerate().rev() {
            let whole = segment.file_bytes()? == segment.header.segment_bytes;
            if i == 0 && whole && !remains.any_frames {
                spare = Some(segment.clone());
            } else {
                fs::remove_file(&segment.path)?;
            }
        }
        segment::sync_dir(dir)?;
        head.restore_length()?;
        if self.remains.any_frames {
            tracing::warn!(path = %head.path.display(), at = end.at, "cut what was written and not synced");
            clear(head, end.at)?;
        }
        Ok(spare)
    }
}

/// What lies behind the end of a segment's good frames.
struct Remains {
    /// Bytes alone mean nothing: a segment that serves again keeps what it held.
    any_frames: bool,
    /// Largest that a whole frame header there says; 0 without one.
    synced_through: u64,
}

fn search(segment: &Segment, from: u64) -> io::Result<Remains> {
    let mut remains = Remains { any_frames: false, synced_through: 0 };
    let end = segment.file_bytes()?;
    let zeros = vec![0; CHUNK_BYTES + FRAME_HEADER_BYTES];
    let mut chunk = Vec::new();
    let mut at = from;
    while at < end {
        // Chunks overlap, so that a header across their border is seen.
        chunk.resize((end - at).min((CHUNK_BYTES + FRAME_HEADER_BYTES) as u64) as usize, 0);
        segment.read_at(&mut chunk, at)?;
        if chunk != zeros[..chunk.len()] {
            for offset in (0..chunk.len()).step_by(FRAME_ALIGN) {
                let position = segment.header.base_position + at + offset as u64;
                if let Some(header) = FrameHeader::decode(&chunk[offset..], segment.header.salt, position) {
                    remains.any_frames = true;
                    remains.synced_through = remains.synced_through.max(header.synced_through);
                }
            }
        }
        at += CHUNK_BYTES as u64;
    }
    Ok(remains)
}

fn clear(segment: &Segment, from: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES];
    let mut at = from;
    while at < segment.header.segment_bytes {
        let len = (segment.header.segment_bytes - at).min(zeros.len() as u64);
        segment.write_at(&zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// Writes what may not have been synced once more: after a sync that failed in a process before this one, the kernel
/// may hold pages that it calls clean and that are not on the disk.
fn rewrite_unsynced(
    segments: &VecDeque<Arc<Segment>>,
    head: &Arc<Segment>,
    end_at: u64,
    synced_through: u64,
) -> io::Result<()> {
    for segment in segments {
        let base = segment.header.base_position;
        let end = if Arc::ptr_eq(segment, head) { base + end_at } else { segment.end_position() };
        let mut position = synced_through.max(base + SEGMENT_HEADER_BYTES);
        let mut chunk = Vec::new();
        while position < end {
            chunk.resize((end - position).min(CHUNK_BYTES as u64) as usize, 0);
            segment.read_at(&mut chunk, position - base)?;
            segment.write_at(&chunk, position - base)?;
            position += chunk.len() as u64;
        }
    }
    Ok(())
}

/// Reads frames one after another in large reads.
struct ChunkReader<'a> {
    segment: &'a Segment,
    file_bytes: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> ChunkReader<'a> {
    fn new(segment: &'a Segment, file_bytes: u64) -> Self {
        ChunkReader { segment, file_bytes, chunk: Vec::new(), chunk_at: 0 }
    }

    /// The frame at `at` with its body, if a whole one is there.
    fn frame(&mut self, at: u64) -> io::Result<Option<(FrameHeader, &[u8])>> {
        let position = self.segment.header.base_position + at;
        let salt = self.segment.header.salt;
        let Some(head) = self.bytes(at, FRAME_HEADER_BYTES)? else { return Ok(None) };
        let Some(header) = FrameHeader::decode(head, salt, position) else { return Ok(None) };
        let Some(frame) = self.bytes(at, header.frame_bytes())? else { return Ok(None) };
        let body_end = FRAME_HEADER_BYTES + header.body_bytes as usize;
        Ok(header.body_is_intact(frame).then(|| (header, &frame[FRAME_HEADER_BYTES..body_end])))
    }

    fn bytes(&mut self, at: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if at + len as u64 > self.file_bytes {
            return Ok(None);
        }
        if at < self.chunk_at || at + len as u64 > self.chunk_at + self.chunk.len() as u64 {
            let wanted = (self.file_bytes - at).min(len.max(CHUNK_BYTES) as u64);
            self.chunk.resize(wanted as usize, 0);
            self.segment.read_at(&mut self.chunk, at)?;
            self.chunk_at = at;
        }
        let from = (at - self.chunk_at) as usize;
        Ok(self.chunk.get(from..from + len))
    }
}
