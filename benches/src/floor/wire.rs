//! The least that makes a WebSocket client believe in a server: frame ends are found and payloads unmasked in place.
//! Checks nothing, and is no server for anybody else. Owns no socket.

use gochat_ws::frame::unmask;
use gochat_ws::handshake::accept_value;

/// Turns whole masked frames into unmasked ones at the front of `buf`: how long these are, how much of the input they
/// took, and whether none was a close frame.
pub fn turn_round(buf: &mut [u8]) -> (usize, usize, bool) {
    let (mut read, mut written) = (0, 0);
    while buf.len() >= read + 6 {
        let short = usize::from(buf[read + 1] & 0x7f);
        let length_bytes = [0, 2, 8][usize::from(short >= 126) + usize::from(short == 127)];
        let header = 2 + length_bytes + 4;
        if buf.len() < read + header {
            break;
        }
        let length = match length_bytes {
            0 => short,
            _ => buf[read + 2..read + 2 + length_bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        let (start, end) = (read + header, read + header + length);
        if buf.len() < end {
            break;
        }
        let key = [buf[start - 4], buf[start - 3], buf[start - 2], buf[start - 1]];
        unmask(&mut buf[start..end], key, 0);
        let close = buf[read] & 0xf == 8;
        buf[written] = buf[read];
        buf[written + 1] = short as u8;
        buf.copy_within(read + 2..read + 2 + length_bytes, written + 2);
        buf.copy_within(start..end, written + 2 + length_bytes);
        written += 2 + length_bytes + length;
        read = end;
        if close {
            return (written, read, false);
        }
    }
    (written, read, true)
}

/// The answer to a whole upgrade request; `None` when it is not one.
pub fn upgrade_answer(head: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(head).ok()?;
    let key = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = accept_value(<&[u8; 24]>::try_from(key.as_bytes()).ok()?);
    let mut answer =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            .to_vec();
    answer.extend_from_slice(&accept);
    answer.extend_from_slice(b"\r\n\r\n");
    Some(answer)
}

/// Whether a request is whole.
pub fn is_whole(head: &[u8]) -> bool {
    head.ends_with(b"\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gochat_ws::{Opcode, message::encode_frame};

    #[test]
    fn frames_are_turned_round_and_tails_left() {
        let (mut wire, mut wanted) = (Vec::new(), Vec::new());
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; size];
            encode_frame(Opcode::Binary, &payload, Some([1, 2, 3, 4]), &mut wire);
            encode_frame(Opcode::Binary, &payload, None, &mut wanted);
        }
        let whole = wire.len();
        encode_frame(Opcode::Text, b"cut", Some([9; 4]), &mut wire);
        wire.pop();
        assert_eq!(turn_round(&mut wire.clone()), (wanted.len(), whole, true));
        turn_round(&mut wire);
        assert!(wire.starts_with(&wanted));
    }
}
