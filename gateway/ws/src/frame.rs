//! The frame header of RFC 6455 section 5.2 and the masking of section 5.3. Knows one frame, never a message.

use crate::error::ProtocolError;

/// The longest possible frame header in bytes: two, an eight-byte length and a four-byte mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// The longest payload of a control frame in bytes (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Which end of the connection this side is; it decides whether frames of the peer must or must not be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// This side accepts connections: received frames must be masked.
    Server,
    /// This side opens connections: received frames must not be masked.
    Client,
}

/// The defined opcodes (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the open message.
    Continuation = 0x0,
    /// A text message or its first fragment.
    Text = 0x1,
    /// A binary message or its first fragment.
    Binary = 0x2,
    /// The close frame.
    Close = 0x8,
    /// A ping.
    Ping = 0x9,
    /// A pong.
    Pong = 0xa,
}

impl Opcode {
    /// Whether this is a control opcode: never fragmented, at most 125 bytes, allowed between fragments.
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    fn from_low_bits(byte: u8) -> Option<Self> {
        match byte & 0x0f {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }
}

/// A parsed frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Last (or only) fragment of its message.
    pub fin: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The masking key; present exactly on frames sent by a client.
    pub mask: Option<[u8; 4]>,
    /// Payload length in bytes, below 2^63.
    pub payload_bytes: u64,
}

/// Parses the header at the start of `buf` as `role` receives it; `None` while it is incomplete, else the header and
/// its length in bytes. What the bytes seen so far already violate is reported at once, in the order of the bytes, so
/// that the answer does not depend on how the stream was cut.
///
/// # Errors
/// Reserved bits and opcodes, fragmented or long control frames, a mask missing or superfluous for `role`, and lengths
/// that are not minimal or exceed 63 bits.
#[inline]
pub fn parse_header(buf: &[u8], role: Role) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
    let Some(&first) = buf.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let Some(opcode) = Opcode::from_low_bits(first) else { return Err(ProtocolError::ReservedOpcode) };
    let fin = first & 0x80 != 0;
    if !fin && opcode.is_control() {
        return Err(ProtocolError::FragmentedControl);
    }
    let Some(&second) = buf.get(1) else { return Ok(None) };
    let masked = second & 0x80 != 0;
    match role {
        Role::Server if !masked => return Err(ProtocolError::Unmasked),
        Role::Client if masked => return Err(ProtocolError::Masked),
        Role::Server | Role::Client => {}
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(ProtocolError::LongControl);
    }
    let Some((payload_bytes, length_end)) = parse_length(short, buf)? else { return Ok(None) };
    if !masked {
        return Ok(Some((FrameHeader { fin, opcode, mask: None, payload_bytes }, length_end)));
    }
    let Some(key) = buf.get(length_end..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    Ok(Some((FrameHeader { fin, opcode, mask: Some(*key), payload_bytes }, length_end + 4)))
}

/// The payload length and the offset behind it.
#[inline]
fn parse_length(short: u8, buf: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    let (length, end, minimum) = match short {
        126 => {
            let Some(bytes) = buf.get(2..4).and_then(|b| b.first_chunk::<2>()) else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), 4, 126)
        }
        127 => {
            let Some(bytes) = buf.get(2..10).and_then(|b| b.first_chunk::<8>()) else { return Ok(None) };
            (u64::from_be_bytes(*bytes), 10, 0x1_0000)
        }
        _ => return Ok(Some((u64::from(short), 2))),
    };
    if length < minimum {
        return Err(ProtocolError::NonMinimalLength);
    }
    if length >> 63 != 0 {
        return Err(ProtocolError::LengthOverflow);
    }
    Ok(Some((length, end)))
}

/// Writes the header of a frame of `payload_bytes` bytes into `out` and returns how many bytes it takes (2 to 14).
/// A client passes a fresh unpredictable `mask` for every frame and masks the payload with [`unmask`]; a server `None`.
#[inline]
pub fn build_header(
    out: &mut [u8; HEADER_BYTES_MAX],
    fin: bool,
    opcode: Opcode,
    payload_bytes: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out[0] = u8::from(fin) << 7 | opcode as u8;
    let mut end = match payload_bytes {
        0..=125 => {
            out[1] = mask_bit | payload_bytes as u8;
            2
        }
        126..=0xffff => {
            out[1] = mask_bit | 126;
            out[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = mask_bit | 127;
            out[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    if let Some(key) = mask {
        out[end..end + 4].copy_from_slice(&key);
        end += 4;
    }
    end
}

/// Masks or unmasks `buf` in place (the operation is its own inverse). `offset` is the position of `buf[0]` in the
/// payload, so that a payload may be processed in pieces (RFC 6455 section 5.3).
#[inline]
pub fn unmask(buf: &mut [u8], key: [u8; 4], offset: usize) {
    const LANE: usize = 32;
    let mut key = key;
    key.rotate_left(offset & 3);
    // A whole lane of the repeated key makes the inner loop two vector instructions on the x86-64 baseline.
    let mut lane_key = [0u8; LANE];
    for (i, byte) in lane_key.iter_mut().enumerate() {
        *byte = key[i & 3];
    }
    let (lanes, rest) = buf.as_chunks_mut::<LANE>();
    for lane in lanes {
        for (byte, k) in lane.iter_mut().zip(&lane_key) {
            *byte ^= k;
        }
    }
    let word_key = u32::from_ne_bytes(key);
    let (words, tail) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ word_key).to_ne_bytes();
    }
    for (byte, k) in tail.iter_mut().zip(&key) {
        *byte ^= k;
    }
}
