//! Logic's services as clients call them, over the real repo, task and bus in a temporary directory.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod accounts;
mod chat;
mod events;
mod friends;
mod groups;
mod members;
mod messages;
mod wire;
