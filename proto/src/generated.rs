//! What the build compiles from the .proto files, one module per package; documented there, never edited here.
#![allow(missing_docs, reason = "generated; the .proto files carry the documentation")]
#![allow(clippy::all, clippy::unwrap_used, unreachable_pub, rust_2018_idioms, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/packages.rs"));
