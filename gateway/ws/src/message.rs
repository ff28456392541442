//! Whole frames into a byte vector: the sending half. Never fragments and keeps no state.

use alloc::vec::Vec;

use crate::close::REASON_BYTES_MAX;
use crate::frame::{HEADER_BYTES_MAX, Opcode, build_header, unmask};

/// Appends one unfragmented frame. A control frame's payload must not exceed 125 bytes; a longer one is cut there.
/// A client passes a fresh unpredictable `mask` for every frame, a server `None`.
pub fn encode_frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let payload = match opcode.is_control() {
        true => &payload[..payload.len().min(crate::frame::CONTROL_PAYLOAD_BYTES_MAX)],
        false => payload,
    };
    encode_fragment(true, opcode, payload, mask, out);
}

/// Appends one data frame that is a fragment of a message: `opcode` of the message on the first,
/// [`Opcode::Continuation`] on the others, `fin` on the last.
pub fn encode_fragment(fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mut header = [0; HEADER_BYTES_MAX];
    let header_len = build_header(&mut header, fin, opcode, payload.len(), mask);
    out.reserve(header_len + payload.len());
    out.extend_from_slice(&header[..header_len]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        unmask(&mut out[start..], key, 0);
    }
}

/// Appends a close frame: without payload when `code` is `None`, as in the reply to an empty close. A reason longer
/// than 123 bytes is cut at a character boundary.
pub fn encode_close(code: Option<u16>, reason: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let Some(code) = code else { return encode_frame(Opcode::Close, &[], mask, out) };
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut payload = [0; 2 + REASON_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason);
    encode_frame(Opcode::Close, &payload[..2 + reason.len()], mask, out);
}
