//! The embedded log keeps the contract of `Bus`, with segments so small that every rule meets several of them, and
//! once more with no memory for recent records, so that every read comes from the files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bus_support;

use std::sync::Arc;

use gochat_infra::bus::{
    Bus,
    log::{LogBus, LogConfig},
};
use tempfile::TempDir;

async fn open(cache_bytes: usize) -> (Arc<dyn Bus>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = LogConfig::new(dir.path().join("log"));
    config.segment_bytes = 4 << 20;
    config.cache_bytes = cache_bytes;
    (LogBus::open(config).unwrap(), dir)
}

mod from_memory {
    use super::{bus_support, open};
    crate::bus_contract!(open(1 << 20));
}

mod from_files {
    use super::{bus_support, open};
    crate::bus_contract!(open(0));
}
