//! The README's example works as written.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::Command;

#[test]
fn the_example_works_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = support::Server::start_with(dir.path(), &[]);
    let readme = include_str!("../README.md");
    let example = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(example.lines().count(), 5);
    let script = example.replace("127.0.0.1:8080", &server.http.to_string());
    let out = Command::new("bash").args(["-euc", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&out.stderr);
    for line in ["ann connected", "bob connected", "ann message-ack", "bob new-message hello bob"] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}\n{complaints}");
    }
    assert!(out.status.success(), "{complaints}");
}
