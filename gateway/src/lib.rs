//! The only public entry: WebSocket sessions on pinned shards, the HTTP API, delivery to sockets.
#![forbid(unsafe_code)]

pub mod admin;
pub mod bridge;
mod chunks;
pub mod config;
pub mod control;
pub mod data_plane;
pub mod engine;
mod http;
pub mod limits;
mod shard;
