//! Sans-io WebSocket: HTTP/1.1 upgrade and RFC 6455 framing, for both roles.
//!
//! The crate owns the bytes of the protocol and nothing else: it takes no stream, no clock, no random numbers and no
//! threads. Callers bring a receive buffer, a [`Limits`] and, one per shard, a [`Scratch`]; whole messages are
//! unmasked, validated and handed out inside the receive buffer, and memory is held only while a message is incomplete.
//! Compression is never negotiated: offers are declined by omission, and a reserved bit is a protocol error.
//!
//! ```
//! use gochat_ws::{Decoder, Event, Input, Limits, Opcode, Role, Scratch, message};
//!
//! let mut wire = Vec::new();
//! message::encode_frame(Opcode::Text, b"hello", Some([1, 2, 3, 4]), &mut wire);
//! let (limits, mut scratch) = (Limits::default(), Scratch::new());
//! let mut decoder = Decoder::new(Role::Server);
//! let mut input = Input::new(&mut wire);
//! while let Some(event) = decoder.next(&limits, &mut scratch, &mut input).unwrap() {
//!     assert_eq!(event, Event::Text("hello"));
//! }
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod close;
mod decoder;
mod error;
pub mod frame;
pub mod handshake;
pub mod message;
mod spill;

pub use decoder::{Decoder, Event, Input, Limits};
pub use error::ProtocolError;
pub use frame::{Opcode, Role};
pub use spill::Scratch;
