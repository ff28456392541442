//! Replays the fuzz corpus without a fuzzer, and keeps it useful: every target has inputs that reach its depths.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "the test harness captures it; tests fail by panicking")]

mod support;

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) -> usize {
    let directory = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", directory.display())).path();
        let data = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Shown only when the test fails: the last path is the input that did it.
        println!("{}", path.display());
        body(&data);
        count += 1;
    }
    count
}

#[test]
fn decoder() {
    assert!(replay("decoder", support::fuzz_bodies::decoder) >= 10);
}

#[test]
fn differential() {
    assert!(replay("differential", support::fuzz_bodies::differential) >= 10);
}

#[test]
fn handshake() {
    assert!(replay("handshake", support::fuzz_bodies::handshake) >= 10);
}
