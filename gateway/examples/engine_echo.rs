//! The engine without the chat: echoes every message, text and binary, of up to 16 MiB.
//!
//! `cargo run --release -p gochat-gateway --example engine_echo -- --listen 127.0.0.1:9001 --reactor uring --shards 1`

use gochat_gateway::engine::AppMaker;

#[path = "common/arguments.rs"]
mod arguments;
#[path = "common/echo.rs"]
mod echo;

fn main() {
    arguments::serve(|shards| (0..shards).map(|_| Box::new(|| echo::Echo) as AppMaker<echo::Echo>).collect());
}
