//! Limits of what clients may send (spec 02 §6).
//!
//! Owns the numbers. Never checks them.

/// Longest content of a message, in characters.
pub const CONTENT_CHARS_MAX: usize = 5_000;
/// Longest `extra` of a message, in bytes.
pub const EXTRA_BYTES_MAX: usize = 4 * 1024;
/// Longest client_msg_id and tempMessageId, in characters.
pub const CLIENT_MSG_ID_CHARS_MAX: usize = 64;
/// First character of ids that the server gives what no client named (bus.proto); refused from clients.
pub const SERVER_ID_MARK: char = '\u{1}';
/// Longest conversation id, in characters.
pub const CONVERSATION_ID_CHARS_MAX: usize = 64;
/// Longest reason of a recall, in characters.
pub const REASON_CHARS_MAX: usize = 200;
/// Deepest nesting of objects and arrays in a client's frame; the envelope is the first level.
pub const DEPTH_MAX: u8 = 16;
