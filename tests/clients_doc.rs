//! The guide for client developers: its example works as written, and its tables are those of the code.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::Command;

use gochat_proto::close_codes::{CloseCode, Reconnect};
use gochat_proto::codes::ErrorCode;

const GUIDE: &str = include_str!("../docs/clients.md");

#[test]
fn the_example_works_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = support::Server::start_with(dir.path(), &[]);
    let example = GUIDE.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let script = example.replace("127.0.0.1:8080", &server.http.to_string());
    let out = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{complaints}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["ann-x", "sent once", "unread 1"], "{said}\n{complaints}");
    assert!(lines[3].contains("hello"), "{said}");
    assert_eq!(lines[4..6], ["0", "true"], "{said}");
    assert!(lines[6].starts_with("changed "), "{said}");
    assert_eq!(lines[7..], ["3", "INVALID_PARAMS"], "{said}");
}

#[test]
fn the_close_codes_are_those_of_the_code() {
    let table = GUIDE.split("### Close codes").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(2).map(|row| row.split('|').map(str::trim).collect()).collect();
    for code in CloseCode::ALL {
        let row = rows.iter().find(|row| row[1] == code.number().to_string());
        let row = row.unwrap_or_else(|| panic!("{} is missing", code.number()));
        let (reconnect, resume) = match code.reconnect() {
            Reconnect::Never => ("no", "no"),
            Reconnect::Yes | Reconnect::AfterSeconds(_) | Reconnect::ThenResync => ("yes", "yes"),
            Reconnect::Once => ("once", "yes"),
            Reconnect::AfterRefresh => ("after a refresh", "yes"),
        };
        assert_eq!((row[3], row[4]), (reconnect, resume), "{}", code.number());
    }
    assert_eq!(rows.len(), CloseCode::ALL.len() + 1, "and 1006, which nobody sends");
}

#[test]
fn codes_that_the_guide_names_exist() {
    let errors = GUIDE.split("## Errors").nth(1).unwrap().split("## Creating once").next().unwrap();
    let codes: Vec<&str> = errors
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(codes.len() > 20);
    for code in codes {
        assert!(code.parse::<ErrorCode>().is_ok(), "{code}");
    }
}
