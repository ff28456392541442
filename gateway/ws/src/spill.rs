//! What a connection holds while a frame or message is incomplete, and the shard's store of such memory for reuse.
//! Grows with bytes received, never with a length that was only announced.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ProtocolError;
use crate::frame::{CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, HEADER_BYTES_MAX};

/// How many unused spills a shard keeps.
const SPARES_MAX: usize = 16;
/// The capacity in bytes up to which a message buffer is kept for reuse.
const KEPT_BYTES_MAX: usize = 64 * 1024;
// Each spare has a text and a binary buffer.
const _: () = assert!(SPARES_MAX * 2 * KEPT_BYTES_MAX <= 2 * 1024 * 1024, "idle memory of a shard's scratch");

/// The kind of an open message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

/// A frame whose payload has not arrived in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenFrame {
    pub(crate) header: FrameHeader,
    /// Payload bytes already taken.
    pub(crate) received: u64,
}

/// The protocol memory of one connection, present only while something is incomplete.
#[derive(Debug)]
pub(crate) struct Spill {
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    control_len: u8,
    control: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    pub(crate) frame: Option<OpenFrame>,
    pub(crate) message: Option<Kind>,
    assembly: Assembly,
}

impl Spill {
    fn new() -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            control_len: 0,
            control: [0; CONTROL_PAYLOAD_BYTES_MAX],
            frame: None,
            message: None,
            assembly: Assembly::default(),
        }
    }

    /// The bytes of a frame header that arrived so far.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_len)]
    }

    /// Appends to the header; bytes beyond the longest header are ignored, as it is complete by then.
    pub(crate) fn push_header(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.header[usize::from(self.header_len)..].iter_mut().zip(bytes) {
            *slot = *byte;
            self.header_len += 1;
        }
    }

    pub(crate) fn clear_header(&mut self) {
        self.header_len = 0;
    }

    /// Appends unmasked bytes of a control frame, whose header has already bounded them to 125.
    pub(crate) fn push_control(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.control[usize::from(self.control_len)..].iter_mut().zip(bytes) {
            *slot = *byte;
            self.control_len += 1;
        }
    }

    /// Appends unmasked bytes to the open message, which `rest_max` further bytes may follow.
    ///
    /// # Errors
    /// Text that no further bytes can make UTF-8.
    pub(crate) fn push_message(&mut self, kind: Kind, bytes: &[u8], rest_max: usize) -> Result<(), ProtocolError> {
        match kind {
            Kind::Text => self.assembly.push_text(bytes, rest_max),
            Kind::Binary => {
                let binary = &mut self.assembly.binary;
                binary.reserve_exact(growth(binary.len(), binary.capacity(), bytes.len(), rest_max));
                self.assembly.binary.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Bytes of the open message so far.
    pub(crate) fn message_bytes(&self) -> usize {
        self.assembly.text.len() + usize::from(self.assembly.tail_len) + self.assembly.binary.len()
    }

    /// Heap bytes this spill holds.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.assembly.text.capacity() + self.assembly.binary.capacity()
    }
}

/// The open message. Text is kept as a `String` and a cut code point, so that each byte is validated once.
#[derive(Debug, Default)]
struct Assembly {
    text: String,
    binary: Vec<u8>,
    tail: [u8; 4],
    tail_len: u8,
}

impl Assembly {
    fn push_text(&mut self, mut bytes: &[u8], rest_max: usize) -> Result<(), ProtocolError> {
        while self.tail_len > 0 {
            let Some((&byte, after)) = bytes.split_first() else { return Ok(()) };
            bytes = after;
            // A code point has at most four bytes, so the tail is decided before it is full.
            self.tail[usize::from(self.tail_len)] = byte;
            self.tail_len += 1;
            match core::str::from_utf8(&self.tail[..usize::from(self.tail_len)]) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.tail_len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(ProtocolError::InvalidUtf8),
                Err(_) => {}
            }
        }
        let (valid, cut) = match simdutf8::compat::from_utf8(bytes) {
            Ok(valid) => (valid, &bytes[bytes.len()..]),
            Err(error) if error.error_len().is_some() => return Err(ProtocolError::InvalidUtf8),
            Err(error) => {
                let (valid, cut) = bytes.split_at(error.valid_up_to());
                (core::str::from_utf8(valid).map_err(|_| ProtocolError::InvalidUtf8)?, cut)
            }
        };
        let text = &mut self.text;
        text.reserve_exact(growth(text.len(), text.capacity(), valid.len(), rest_max.saturating_add(cut.len())));
        self.text.push_str(valid);
        self.tail[..cut.len()].copy_from_slice(cut);
        self.tail_len = cut.len() as u8;
        Ok(())
    }
}

/// How much to grow a buffer by for `added` bytes: doubling, so that many small fragments cost linear time, but not past
/// what the message can still need.
fn growth(len: usize, capacity: usize, added: usize, rest_max: usize) -> usize {
    if capacity - len >= added {
        return 0;
    }
    added.max(len.min(added.saturating_add(rest_max)))
}

/// Decoding memory shared by all connections of a shard: it holds the message being handed out when that did not arrive
/// in one piece, and keeps a bounded number of buffers for reuse, so that cut messages cost no allocation in steady
/// state. At most 2 MiB while nothing is handed out.
#[derive(Debug)]
pub struct Scratch {
    text: String,
    binary: Vec<u8>,
    control: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    // Boxed because a spill moves between here and a connection as one pointer.
    #[allow(clippy::vec_box)]
    spares: Vec<Box<Spill>>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// An empty store; allocates on first need.
    #[must_use]
    pub fn new() -> Self {
        Self { text: String::new(), binary: Vec::new(), control: [0; CONTROL_PAYLOAD_BYTES_MAX], spares: Vec::new() }
    }

    /// Frees the last message handed out when it is too large to keep.
    #[inline]
    pub(crate) fn trim(&mut self) {
        if self.text.capacity() > KEPT_BYTES_MAX {
            self.text = String::new();
        }
        if self.binary.capacity() > KEPT_BYTES_MAX {
            self.binary = Vec::new();
        }
    }

    pub(crate) fn take_spill(&mut self) -> Box<Spill> {
        self.spares.pop().unwrap_or_else(|| Box::new(Spill::new()))
    }

    /// Takes a spill back, emptied; what would exceed the bounds is freed.
    pub(crate) fn put_spill(&mut self, mut spill: Box<Spill>) {
        if self.spares.len() >= SPARES_MAX {
            return;
        }
        spill.header_len = 0;
        spill.control_len = 0;
        spill.frame = None;
        spill.message = None;
        let assembly = &mut spill.assembly;
        assembly.tail_len = 0;
        assembly.text.clear();
        assembly.text.shrink_to(KEPT_BYTES_MAX);
        assembly.binary.clear();
        assembly.binary.shrink_to(KEPT_BYTES_MAX);
        self.spares.push(spill);
    }

    /// Moves the complete text out of `spill`, to be read with [`text`](Self::text).
    ///
    /// # Errors
    /// The text ends inside a code point.
    pub(crate) fn store_text(&mut self, spill: &mut Spill) -> Result<(), ProtocolError> {
        if spill.assembly.tail_len > 0 {
            return Err(ProtocolError::InvalidUtf8);
        }
        core::mem::swap(&mut self.text, &mut spill.assembly.text);
        spill.assembly.text.clear();
        Ok(())
    }

    /// Moves the complete binary message out of `spill`, to be read with [`binary`](Self::binary).
    pub(crate) fn store_binary(&mut self, spill: &mut Spill) {
        core::mem::swap(&mut self.binary, &mut spill.assembly.binary);
        spill.assembly.binary.clear();
    }

    /// Moves the complete control payload out of `spill`, to be read with [`control`](Self::control).
    pub(crate) fn store_control(&mut self, spill: &mut Spill) -> usize {
        let len = usize::from(spill.control_len);
        spill.control_len = 0;
        self.control[..len].copy_from_slice(&spill.control[..len]);
        len
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn binary(&self) -> &[u8] {
        &self.binary
    }

    pub(crate) fn control(&self, len: usize) -> &[u8] {
        &self.control[..len]
    }
}
