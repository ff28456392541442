//! Repo as its callers see it: the gRPC services over SQLite and the cache of a single process.

#![allow(clippy::unwrap_used, reason = "tests: a failure is a panic")]

mod absence;
mod bench;
mod friends;
mod groups;
mod idempotency;
mod lists;
mod people;
mod pipeline;
mod presence;
mod recalls;
mod rooms;
mod tokens;
mod users;
