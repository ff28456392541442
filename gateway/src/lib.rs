//! The only public entry: WebSocket sessions on pinned shards, the HTTP API, delivery to sockets.
#![forbid(unsafe_code)]

pub mod bridge;
mod chunks;
pub mod engine;
pub mod limits;
