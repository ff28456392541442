//! The only owner of data: SQL behind a store seam, and the cache rules in front of it.
#![forbid(unsafe_code)]

pub mod store;
