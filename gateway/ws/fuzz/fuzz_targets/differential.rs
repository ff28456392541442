//! The decoder against tungstenite. What is checked stands in the crate's tests, which also replay the corpus.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::fuzz_bodies::differential(data));
