//! What an operator meets at start: a second start finds the data; every reason not to start is one clear line and a
//! non-zero exit.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use support::{Api, Server, login, open_chat, register};

#[test]
fn a_second_start_finds_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let ann = register(&Api::new(server.http), "ann");
    assert_eq!(server.stop(), Some(0), "SIGTERM ends it with 0");
    let key = dir.path().join("signing.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the signing key is the owner's alone");

    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let profile = api.as_user(&ann.token).get("/api/users/profile").data();
    assert_eq!(profile["username"], "ann", "a token of before is still good");
    assert_eq!(login(&api, "ann").id, ann.id);
}

#[test]
fn help_explains() {
    let out = gochat(&["--help"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    for word in [
        "--listen",
        "--admin",
        "--data-dir",
        "--shards",
        "--reactor",
        "--limits",
        "--config",
        "dev",
        "user",
        "world",
        "backup",
        "restore",
        "doctor",
    ] {
        assert!(text.contains(word), "--help does not mention {word}");
    }
}

#[test]
fn a_port_in_use_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    for flag in ["--listen", "--admin"] {
        let other = if flag == "--listen" { "--admin" } else { "--listen" };
        let out = start(dir.path(), &[flag, &address, other, "127.0.0.1:0"]);
        refused(&out, &[&address, "in use"]);
    }
}

#[test]
fn a_locked_directory_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let out = start(dir.path(), &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    refused(&out, &[dir.path().to_str().unwrap(), &server.pid().to_string()]);
}

#[test]
fn an_unwritable_directory_is_said() {
    // Not even root may write here.
    let out = start(Path::new("/proc/gochat"), &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    refused(&out, &["/proc/gochat"]);
}

#[test]
fn a_corrupt_configuration_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gochat.toml");
    std::fs::write(&file, "[ws]\nconections_max = 5\n").unwrap();
    let out = start(&dir.path().join("data"), &["--config", file.to_str().unwrap()]);
    refused(&out, &[file.to_str().unwrap(), "line 2", "did you mean `connections_max`?"]);
    let out = start(&dir.path().join("data"), &["--config", "/nowhere/gochat.toml"]);
    refused(&out, &["/nowhere/gochat.toml", "No such file"]);
    assert!(!dir.path().join("data").exists(), "a refused configuration makes nothing");
}

#[test]
fn a_damaged_log_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    register(&Api::new(server.http), "ann");
    server.kill();
    let mut segments: Vec<_> = walk(&dir.path().join("log"));
    segments.sort();
    std::fs::write(&segments[0], b"this was a log once").unwrap();
    let out = start(dir.path(), &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    refused(&out, &["log"]);
}

#[test]
fn a_store_ahead_of_its_log_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::new(server.http);
    let (ann, bob) = (register(&api, "ann"), register(&api, "bob"));
    let chat = open_chat(&api, &ann, &bob);
    let path = format!("/api/conversations/{chat}/messages");
    let me = api.as_user(&ann.token);
    let sent = me.post(&path, &serde_json::json!({"messageType": 1, "content": "x", "client_msg_id": "1"}));
    assert_eq!(sent.status, 201);
    assert_eq!(me.get(&path).data()["complete"], true, "it is stored");
    server.kill();
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let out = start(dir.path(), &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    refused(&out, &["ends at 0", "backup"]);
}

#[test]
fn a_flag_out_of_range_is_said() {
    let out = gochat(&["--shards", "0"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--shards"));
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

fn gochat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gochat")).args(args).output().unwrap()
}

fn start(dir: &Path, flags: &[&str]) -> Output {
    let mut args = vec!["--data-dir", dir.to_str().unwrap()];
    args.extend(flags);
    gochat(&args)
}

/// One line on standard error that starts with `gochat:` and holds every word, and exit code 1.
fn refused(out: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    let line =
        text.lines().rfind(|line| line.starts_with("gochat: ")).unwrap_or_else(|| panic!("no reason given: {text}"));
    for word in words {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
}
