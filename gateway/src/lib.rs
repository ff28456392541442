//! The only public entry: WebSocket sessions on pinned shards, the HTTP API, delivery to sockets.
#![forbid(unsafe_code)]

pub mod bridge;
mod chunks;
pub mod config;
pub mod data_plane;
pub mod engine;
pub mod limits;
mod shard;
