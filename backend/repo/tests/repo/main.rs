//! Repo as its callers see it: the gRPC services over SQLite and the cache of a single process.

#![allow(clippy::unwrap_used, reason = "tests: a failure is a panic")]

mod bench;
mod lists;
mod pipeline;
mod presence;
mod tokens;
