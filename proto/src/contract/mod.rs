//! The contract of `/ws` as AsyncAPI 3.0, made from one table of frames, the close codes and the objects of the API.
//!
//! Owns the document and the helpers that descriptions share. Never parses or writes a frame.

mod asyncapi;
pub mod schema;
mod table;

pub use asyncapi::asyncapi;
pub use table::{CLIENT_FRAMES, Field, Frame, Kind, SERVER_FRAMES};
