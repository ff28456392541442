//! A client that nobody here wrote, and not in Rust, talks to the running server.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "needs the Python client that `cargo xtask test` installs"]
fn python_websockets_talks_to_the_server() {
    let python =
        std::env::var("GOCHAT_TEST_PYTHON").expect("run `cargo xtask test`, it installs the client and sets this");
    let script = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/foreign/client.py");
    for reactor in ["uring", "epoll"] {
        let dir = tempfile::tempdir().unwrap();
        let server = support::Server::start_with(dir.path(), &["--limits", "off", "--reactor", reactor]);
        let out = Command::new(&python).arg(&script).arg(server.http.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.contains("ok: 100 messages"), "{reactor}: {said}");
    }
}
