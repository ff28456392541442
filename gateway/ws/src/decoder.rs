//! From received bytes to messages: the receiving half of one connection. Owns the order of frames, fragmentation and
//! limits; never answers a ping or a close by itself and never touches a socket.

use alloc::boxed::Box;

use crate::close;
use crate::error::ProtocolError;
use crate::frame::{FrameHeader, Opcode, Role, parse_header, unmask};
use crate::spill::{Kind, OpenFrame, Scratch, Spill};

/// Bounds on what a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes, over all of its fragments. A longer one fails with 1009 as soon as a frame
    /// announces it.
    pub message_bytes_max: usize,
}

impl Default for Limits {
    /// 1 MiB a message.
    fn default() -> Self {
        Self { message_bytes_max: 1 << 20 }
    }
}

/// What a peer sent. The data lies in the receive buffer when it arrived in one piece, else in the [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A complete text message.
    Text(&'a str),
    /// A complete binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer's close frame, to be answered by one with the same code unless this side has sent its own. It is the
    /// last event.
    Close {
        /// The peer's code, valid on the wire; `None` when the frame was empty (reported to applications as 1005).
        code: Option<u16>,
        /// The peer's reason, at most 123 bytes.
        reason: &'a str,
    },
}

/// A cursor over bytes just received; the decoder unmasks them in place and consumes them.
#[derive(Debug)]
pub struct Input<'b> {
    rest: &'b mut [u8],
}

impl<'b> Input<'b> {
    /// Starts at the first byte of `received`.
    #[inline]
    pub fn new(received: &'b mut [u8]) -> Self {
        Self { rest: received }
    }

    /// Bytes not consumed yet; 0 once [`Decoder::next`] has returned `None` or an error.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Consumes up to `n` bytes.
    #[inline]
    fn take(&mut self, n: usize) -> &'b mut [u8] {
        let rest = core::mem::take(&mut self.rest);
        let (taken, rest) = rest.split_at_mut(n.min(rest.len()));
        self.rest = rest;
        taken
    }

    fn clear(&mut self) {
        self.rest = &mut [];
    }
}

/// The decoding state of one connection: 16 bytes, and a heap block only while a frame header, a frame or a message is
/// incomplete.
///
/// Feed it by calling [`next`](Self::next) until it returns `None`. Events borrow the input and the scratch but not the
/// decoder, so a connection's slot stays free to use while an event is handled. Dropping a decoder frees its memory;
/// [`release`](Self::release) gives it back to the shard's scratch instead.
#[derive(Debug)]
pub struct Decoder {
    spill: Option<Box<Spill>>,
    role: Role,
    finished: bool,
}

const _: () = assert!(size_of::<Decoder>() <= 16, "the decoder is part of every connection's slot");

impl Decoder {
    /// A decoder for what `role` receives, at the start of the frame stream.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self { spill: None, role, finished: false }
    }

    /// The next event, or `None` when all input is consumed and more is needed, or after a close frame.
    ///
    /// # Errors
    /// The peer's violation. The connection must be failed with [`ProtocolError::close_code`]; after an error or a
    /// close frame all further input is discarded and `None` returned.
    #[inline]
    pub fn next<'e, 'b: 'e>(
        &mut self,
        limits: &Limits,
        scratch: &'e mut Scratch,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'e>>, ProtocolError> {
        scratch.trim();
        if self.finished {
            input.clear();
            return Ok(None);
        }
        let outcome = Machine { spill: &mut self.spill, role: self.role }.next(limits, scratch, input);
        if matches!(outcome, Err(_) | Ok(Some(Event::Close { .. }))) {
            self.finished = true;
            // Freed and not given back to the scratch, which the event may borrow; it happens once a connection.
            self.spill = None;
            input.clear();
        }
        outcome
    }

    /// Whether a close frame or an error has ended the stream.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether a frame or message is incomplete.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        self.spill.is_some()
    }

    /// Heap bytes held for what is incomplete, for the shard's accounting; 0 between messages.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.held_bytes())
    }

    /// Ends the stream and gives its memory back to `scratch` for reuse.
    pub fn release(&mut self, scratch: &mut Scratch) {
        self.finished = true;
        if let Some(spill) = self.spill.take() {
            scratch.put_spill(spill);
        }
    }
}

/// A decoder that has not finished.
struct Machine<'d> {
    spill: &'d mut Option<Box<Spill>>,
    role: Role,
}

impl Machine<'_> {
    #[inline]
    fn next<'e, 'b: 'e>(
        &mut self,
        limits: &Limits,
        scratch: &'e mut Scratch,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'e>>, ProtocolError> {
        loop {
            let frame = match self.spill.as_mut().and_then(|spill| spill.frame.take()) {
                Some(frame) => frame,
                None => {
                    let Some(header) = self.read_header(limits, scratch, input)? else { return Ok(None) };
                    if is_whole(&header, input) {
                        // A header that was cut has left a spill behind.
                        self.settle(scratch);
                        return whole_frame(&header, input).map(Some);
                    }
                    OpenFrame { header, received: 0 }
                }
            };
            if frame.header.opcode.is_control() {
                return self.continue_control(frame, scratch, input);
            }
            match self.continue_message(frame, limits, scratch, input)? {
                Progress::Message(Kind::Text) => return Ok(Some(Event::Text(scratch.text()))),
                Progress::Message(Kind::Binary) => return Ok(Some(Event::Binary(scratch.binary()))),
                Progress::Fragment => {}
                Progress::Starved => return Ok(None),
            }
        }
    }

    /// The next frame header, checked against the open message and the limits; `None` while it is incomplete.
    #[inline]
    fn read_header(
        &mut self,
        limits: &Limits,
        scratch: &mut Scratch,
        input: &mut Input<'_>,
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        let Some(header) = (match self.spill {
            Some(spill) if !spill.header().is_empty() => complete_header(spill, self.role, input)?,
            _ => self.start_header(scratch, input)?,
        }) else {
            return Ok(None);
        };
        if !header.opcode.is_control() {
            let so_far = self.spill.as_ref().map_or(0, |spill| spill.message_bytes());
            if header.payload_bytes > limits.message_bytes_max.saturating_sub(so_far) as u64 {
                return Err(ProtocolError::MessageTooLarge);
            }
        }
        Ok(Some(header))
    }

    /// Parses a header whose first byte is the next of the input; keeps what arrived of one that is cut.
    #[inline]
    fn start_header(
        &mut self,
        scratch: &mut Scratch,
        input: &mut Input<'_>,
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        let Some(first) = input.rest.first() else { return Ok(None) };
        check_order(*first, self.spill.as_ref().is_some_and(|spill| spill.message.is_some()))?;
        let Some((header, header_len)) = parse_header(input.rest, self.role)? else {
            let cut = input.take(usize::MAX);
            self.spill.get_or_insert_with(|| scratch.take_spill()).push_header(cut);
            return Ok(None);
        };
        input.take(header_len);
        Ok(Some(header))
    }

    /// Gives the spill back unless a message is open.
    #[inline]
    fn settle(&mut self, scratch: &mut Scratch) {
        if self.spill.as_ref().is_some_and(|spill| spill.message.is_none())
            && let Some(spill) = self.spill.take()
        {
            scratch.put_spill(spill);
        }
    }

    /// Takes what arrived of a control frame that did not arrive in one piece.
    fn continue_control<'e>(
        &mut self,
        mut frame: OpenFrame,
        scratch: &'e mut Scratch,
        input: &mut Input<'_>,
    ) -> Result<Option<Event<'e>>, ProtocolError> {
        let spill = self.spill.get_or_insert_with(|| scratch.take_spill());
        let bytes = take_payload(&mut frame, input);
        spill.push_control(bytes);
        if frame.received < frame.header.payload_bytes {
            spill.frame = Some(frame);
            return Ok(None);
        }
        let len = scratch.store_control(spill);
        self.settle(scratch);
        control_event(frame.header.opcode, scratch.control(len)).map(Some)
    }

    /// Takes what arrived of a data frame that is a fragment or did not arrive in one piece.
    fn continue_message(
        &mut self,
        mut frame: OpenFrame,
        limits: &Limits,
        scratch: &mut Scratch,
        input: &mut Input<'_>,
    ) -> Result<Progress, ProtocolError> {
        let spill = self.spill.get_or_insert_with(|| scratch.take_spill());
        let kind = *spill.message.get_or_insert(match frame.header.opcode {
            Opcode::Text => Kind::Text,
            _ => Kind::Binary,
        });
        let bytes = take_payload(&mut frame, input);
        let rest = frame.header.payload_bytes - frame.received;
        // The limit bounds both, so they fit a usize.
        let end = if frame.header.fin { rest as usize } else { limits.message_bytes_max };
        spill.push_message(kind, bytes, end)?;
        if rest > 0 {
            spill.frame = Some(frame);
            return Ok(Progress::Starved);
        }
        if !frame.header.fin {
            return Ok(Progress::Fragment);
        }
        match kind {
            Kind::Text => scratch.store_text(spill)?,
            Kind::Binary => scratch.store_binary(spill),
        }
        if let Some(spill) = self.spill.take() {
            scratch.put_spill(spill);
        }
        Ok(Progress::Message(kind))
    }
}

/// What a data frame's bytes led to.
enum Progress {
    /// A message is complete and lies in the scratch.
    Message(Kind),
    /// A fragment is complete, its message is not.
    Fragment,
    /// The frame is not complete.
    Starved,
}

/// Adds input to a cut header byte by byte, so that a violation shows at the byte that makes it.
fn complete_header(spill: &mut Spill, role: Role, input: &mut Input<'_>) -> Result<Option<FrameHeader>, ProtocolError> {
    while let [byte] = input.take(1) {
        spill.push_header(&[*byte]);
        if let Some((header, _)) = parse_header(spill.header(), role)? {
            spill.clear_header();
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// Fragments of two messages must not mix (RFC 6455 section 5.4); the first byte of a frame decides it.
/// Reserved bits are left to the header parser.
#[inline]
fn check_order(first: u8, message_open: bool) -> Result<(), ProtocolError> {
    match first & 0x7f {
        0x0 if !message_open => Err(ProtocolError::UnexpectedContinuation),
        0x1 | 0x2 if message_open => Err(ProtocolError::ExpectedContinuation),
        _ => Ok(()),
    }
}

/// Consumes and unmasks what has arrived of a frame's payload.
fn take_payload<'b>(frame: &mut OpenFrame, input: &mut Input<'b>) -> &'b [u8] {
    let rest = frame.header.payload_bytes - frame.received;
    let bytes = input.take(usize::try_from(rest).unwrap_or(usize::MAX));
    if let Some(key) = frame.header.mask {
        unmask(bytes, key, (frame.received & 3) as usize);
    }
    frame.received += bytes.len() as u64;
    bytes
}

/// Whether the frame can be handed out from the receive buffer: a control frame, or a message of one frame.
#[inline]
fn is_whole(header: &FrameHeader, input: &Input<'_>) -> bool {
    header.payload_bytes <= input.rest.len() as u64
        && (header.opcode.is_control() || (header.fin && header.opcode != Opcode::Continuation))
}

/// A frame that lies whole in the receive buffer and is an event of its own.
#[inline]
fn whole_frame<'b>(header: &FrameHeader, input: &mut Input<'b>) -> Result<Event<'b>, ProtocolError> {
    let payload = input.take(header.payload_bytes as usize);
    if let Some(key) = header.mask {
        unmask(payload, key, 0);
    }
    match header.opcode {
        Opcode::Text => simdutf8::basic::from_utf8(payload).map(Event::Text).map_err(|_| ProtocolError::InvalidUtf8),
        Opcode::Binary | Opcode::Continuation => Ok(Event::Binary(payload)),
        control => control_event(control, payload),
    }
}

fn control_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match opcode {
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Pong => Ok(Event::Pong(payload)),
        _ => close::parse_payload(payload).map(|(code, reason)| Event::Close { code, reason }),
    }
}
