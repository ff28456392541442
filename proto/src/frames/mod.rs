//! Client frames of the WebSocket protocol (spec 02): JSON, one object a frame.
//!
//! Owns parsing what clients send and writing what the server sends. Never checks rights, rates or membership.

mod client;
mod error;
mod fields;
mod json;
mod limits;
mod records;
mod server;

pub use client::{ClientFrame, MarkRead, RecallMessage, SendMessage, parse, parse_send_body};
pub use error::FrameError;
pub use limits::{
    CLIENT_MSG_ID_CHARS_MAX, CONTENT_CHARS_MAX, CONVERSATION_ID_CHARS_MAX, DEPTH_MAX, EXTRA_BYTES_MAX,
    REASON_CHARS_MAX, SERVER_ID_MARK,
};
pub use server::{
    Closing, Connected, ConversationUpdated, ErrorDetails, ErrorFrame, MessageAck, MessageRecalled, NewMessage,
    RecallAck, Resync, Sender, Updates, write_pong, write_signal,
};
