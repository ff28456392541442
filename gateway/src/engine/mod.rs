//! The engine: connections on pinned shards, HTTP upgrade and WebSocket, outboxes and timers, for any [`App`].
//! Knows nothing of chat.

mod app;
mod conn;
mod inbound;
mod io;
mod metrics;
mod outbox;
mod spawn;
mod tick;
mod timers;
mod upgrade;

pub use app::{App, Route, Verdict};
pub use conn::slot_bytes;
pub use io::{Io, Refusal};
pub use metrics::{Metric, Published};
pub use spawn::{AppMaker, EngineConfig, Shards, StartError, start};
pub use tick::Engine;
