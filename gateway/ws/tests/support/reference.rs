//! tungstenite as the reference: the same stream through its reader, and what both must agree on.

use std::io::{self, Read, Write};

use gochat_ws::{ProtocolError, Role};
use tungstenite::protocol::{CloseFrame, Role as TheirRole, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use super::{Owned, decode_cut};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The stream ran out, perhaps inside a frame.
    Open,
    /// A close frame was delivered.
    Closed,
    /// The stream was refused.
    Rejected,
}

/// Reads from a slice and swallows what is written.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of `stream`.
pub(crate) fn decode(role: Role, message_bytes_max: usize, stream: &[u8]) -> (Vec<Owned>, End) {
    let role = match role {
        Role::Server => TheirRole::Server,
        Role::Client => TheirRole::Client,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
        .read_buffer_size(4096)
        .write_buffer_size(0);
    let mut socket = WebSocket::from_raw_socket(Wire(stream), role, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => Owned::Text(text.as_str().into()),
            Ok(Message::Binary(bytes)) => Owned::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Owned::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Owned::Pong(bytes.to_vec()),
            Ok(Message::Close(close)) => {
                events.push(close.map_or(Owned::Close(None, String::new()), owned_close));
                return (events, End::Closed);
            }
            Ok(Message::Frame(_)) => unreachable!("never returned by read"),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, End::Open);
            }
            Err(_) => return (events, End::Rejected),
        });
    }
}

fn owned_close(frame: CloseFrame) -> Owned {
    Owned::Close(Some(frame.code.into()), frame.reason.as_str().into())
}

/// Asserts that both decoders agree on `stream`. The differences that are right:
/// - we refuse at the first byte that is wrong, tungstenite once the frame is complete, so it may still wait for more;
/// - we refuse lengths that are not minimal and those of 64 bits, which tungstenite takes (RFC 6455 section 5.2);
///   a control frame with such a length is refused as too long, as only lengths above 125 may be written so;
/// - we refuse close codes not allowed on the wire, which tungstenite delivers as a close with 1002;
/// - it does so with 1014 too, which IANA has registered since and we deliver.
pub(crate) fn assert_agreement(role: Role, message_bytes_max: usize, stream: &[u8], cuts: &[usize]) {
    let mut ours = decode_cut(role, message_bytes_max, stream, cuts);
    let (mut theirs, their_end) = decode(role, message_bytes_max, stream);
    let failure = match ours.last() {
        Some(Owned::Failed(error)) => Some(*error),
        _ => None,
    };
    let Some(error) = failure else {
        let end = if matches!(ours.last(), Some(Owned::Close(..))) { End::Closed } else { End::Open };
        if let (Some(Owned::Close(Some(1014), _)), Some(Owned::Close(Some(1002), _))) = (ours.last(), theirs.last()) {
            ours.pop();
            theirs.pop();
        }
        assert_eq!((ours, end), (theirs, their_end));
        return;
    };
    ours.pop();
    assert!(theirs.starts_with(&ours), "before {error:?}: ours {ours:?}, theirs {theirs:?}");
    let stricter = matches!(
        error,
        ProtocolError::NonMinimalLength
            | ProtocolError::LengthOverflow
            | ProtocolError::LongControl
            | ProtocolError::InvalidCloseCode(_)
    );
    if !stricter {
        assert_eq!(theirs.len(), ours.len(), "after {error:?} tungstenite went on to {theirs:?}");
        assert_ne!(their_end, End::Closed, "after {error:?}");
    }
}
