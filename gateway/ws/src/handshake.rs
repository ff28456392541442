//! The opening handshake: the HTTP/1.1 request head by RFC 9112, the upgrade by RFC 6455 section 4, for both sides.
//! Reads and writes heads only; never a body, never a frame, never a socket.
//!
//! Parsing is strict where a lenient reader and a strict one behind it could disagree about where a message ends: line
//! ends are CRLF, fields are never folded, no space stands before a colon, lengths and hosts come once.

mod accept;
mod client;
mod fields;
mod request;
mod response;
mod syntax;
mod target;
mod upgrade;

pub use accept::accept_value;
pub use client::{ClientRequest, InvalidClientRequest, Response, ResponseError, parse_response, write_request};
pub use fields::{Fields, HeadError, HeadLimits};
pub use request::{Body, Request, RequestError, Version, parse_request};
pub use response::{write_accept, write_refusal};
pub use upgrade::{Upgrade, UpgradeError, is_websocket_upgrade};

/// The limits of a request head, under the name the server uses.
pub type RequestLimits = HeadLimits;
