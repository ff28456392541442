//! Ten thousand connections in the world room: every message reaches each of them once. The load tool counts; what it cost is
//! printed and decides nothing.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and show their figures")]

mod support;

use clap::Parser;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::report::{Report, Verdict};
use std::process::Command as Process;
use support::Server;

const CONNECTIONS: u32 = 10_000;

fn publish(url: &str, tokens: &str, pid: u32) -> Report {
    let connections = CONNECTIONS.to_string();
    let pid = pid.to_string();
    let line = [
        "gochat-loadtest",
        "run",
        "publish",
        "--protocol",
        "gochat",
        "--url",
        url,
        "--tokens",
        tokens,
        "--server-pid",
        &pid,
    ];
    let load = ["--connections", &connections, "--rate", "2", "--warmup", "1s", "--duration", "10s", "--drain", "60s"];
    let ramp = ["--ramp", "2000"];
    let Command::Run { scenario } = Cli::try_parse_from(line.iter().chain(&load).chain(&ramp)).unwrap().command else {
        panic!("a run");
    };
    gochat_loadtest::run(scenario).unwrap()
}

#[test]
fn one_message_reaches_ten_thousand_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let tokens = dir.path().join("tokens.csv");
    let minted = Process::new(env!("CARGO_BIN_EXE_gochat"))
        .args(["user", "mint", "--count", &CONNECTIONS.to_string(), "--out"])
        .arg(&tokens)
        .arg("--data-dir")
        .arg(&data)
        .output()
        .unwrap();
    assert!(minted.status.success(), "{minted:?}");
    let server = Server::start(&data);
    let report = publish(&format!("http://{}", server.http), tokens.to_str().unwrap(), server.pid());
    eprintln!("{report}");
    let messages = report.messages.unwrap();
    // A slow machine makes a run invalid, which says nothing about the server; what is counted stands.
    assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    assert_eq!(report.connections.established, CONNECTIONS);
    assert!(messages.sent > 0);
    assert_eq!(messages.delivered, messages.acked * u64::from(CONNECTIONS - 1));
    assert_eq!([messages.lost, messages.duplicated, messages.reordered, messages.corrupted, messages.unacked], [0; 5]);
    let latency = &report.latency_us;
    let (cost, last) = (report.server.unwrap(), latency.fanout_last.as_ref().unwrap());
    eprintln!(
        "time to the last of {CONNECTIONS}: p50 {} µs, max {} µs; server CPU per delivery {:.2} µs; resident memory per connection {:.0} B",
        last.p50,
        last.max,
        cost.us_per_message.unwrap_or_default(),
        cost.bytes_per_connection
    );
}
