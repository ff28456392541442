//! `run churn` and `run reconnect-storm` end to end: connections come back as often as they went, the server's counts agree,
//! and one that does not let them in again is named.

use std::collections::BTreeMap;

use crate::support::doors::{Door, Doors};
use crate::support::load;
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Connections, Report, Verdict};

/// About 50 connections are closed and opened again among five.
fn churn(server: &Doors, reactor: &str) -> Option<Report> {
    let report = load(&format!(
        "run churn --url ws://{}/ --connections 5 --rate 50 --warmup 0s --duration 1s --echo --backoff 5ms --backoff-max 5ms \
         --reactor {reactor}",
        server.addr
    ));
    if let Err(error) = &report {
        eprintln!("SKIPPED: {error}");
    }
    report.ok()
}

fn standing(count: u32) -> Connections {
    Connections { target: count, established: count, refused: 0, dropped: 0 }
}

#[test]
fn churn_closes_and_opens_as_often_as_asked_and_leaves_nothing_behind() {
    for reactor in ["uring", "epoll"] {
        let server = Doors::serve(Door::Open, 5);
        let Some(report) = churn(&server, reactor) else { continue };
        let part = &report.detail.parts[0];
        let cycles = part.done;
        assert_eq!((part.name, part.sent, server.let_in()), ("reopen", cycles, cycles + 5), "{report}");
        assert!(cycles > 10, "{report}");
        for row in ["close", "connect", "cycle"] {
            assert_eq!(part.latency_us[row].count, cycles, "{row}\n{report}");
        }
        let messages = Messages { sent: cycles, delivered: cycles, ..Messages::default() };
        assert_eq!((report.messages, report.connections), (Some(messages), standing(5)), "{report}");
        // A slow machine makes a run invalid.
        assert_ne!(report.verdict, Verdict::Failed, "{report}");
        assert!(report.lag_us.is_some() && report.latency_us.connect.unwrap().count == 5);
        server.wait_until_empty();
    }
}

#[test]
fn who_is_refused_tries_again_and_the_server_is_named() {
    let server = Doors::serve(Door::EveryThird, 5);
    let report = churn(&server, "epoll").unwrap();
    let part = &report.detail.parts[0];
    let refused = server.refused();
    assert_eq!((part.sent, server.let_in()), (part.done + refused, part.done + 5), "{report}");
    assert!(refused > 5, "{report}");
    let why = "HTTP 503: the server is full, draining or not ready".to_owned();
    assert_eq!(part.errors, BTreeMap::from([(why, refused)]));
    assert_eq!((report.verdict, report.connections), (Verdict::Failed, standing(5)), "{report}");
    let reason = format!("{refused} connections that were opened again were refused");
    assert!(report.reasons.contains(&reason), "{report}");
}

#[test]
fn half_are_cut_and_all_of_those_come_back() {
    for reactor in ["uring", "epoll"] {
        let server = Doors::serve(Door::Open, 20);
        let report = load(&format!(
            "run reconnect-storm --url ws://{}/ --connections 20 --cut 50 --after 200ms --warmup 0s --duration 1s --rate 300 \
             --backoff 50ms --reactor {reactor}",
            server.addr
        ));
        let Ok(report) = report else { continue };
        let part = &report.detail.parts[0];
        assert_eq!((part.sent, part.done, part.latency_us["back"].count), (10, 10, 10), "{report}");
        assert_eq!((server.let_in(), report.connections), (30, standing(20)), "{report}");
        let messages = report.messages.unwrap();
        assert_eq!((messages.lost, messages.duplicated, messages.corrupted), (0, 0, 0), "{report}");
        assert_ne!(report.verdict, Verdict::Failed, "{report}");
        server.wait_until_empty();
    }
}

#[test]
fn a_restart_is_survived_where_it_is_expected() {
    let server = Doors::serve(Door::RestartAt(60), 8);
    let report = load(&format!(
        "run reconnect-storm --url ws://{}/ --connections 8 --restart --warmup 0s --duration 2s --rate 200 --backoff 20ms \
         --backoff-max 100ms",
        server.addr
    ))
    .unwrap();
    let part = &report.detail.parts[0];
    // Dropped as expected.
    assert_eq!((part.done, report.connections), (8, Connections { dropped: 8, ..standing(8) }), "{report}");
    assert_eq!(part.sent - part.errors.values().sum::<u64>(), 8, "{report}");
    assert_eq!(report.messages.unwrap().lost, 0, "{report}");
    assert_ne!(report.verdict, Verdict::Failed, "{report}");
    assert!(report.reasons.iter().any(|reason| reason.starts_with("8 × ")), "how they ended: {report}");
}

#[test]
fn a_restart_that_nobody_announced_drops_connections() {
    let server = Doors::serve(Door::RestartAt(60), 8);
    let report = load(&format!(
        "run reconnect-storm --url ws://{}/ --connections 8 --after 1900ms --warmup 0s --duration 2s --rate 200 --backoff 20ms \
         --backoff-max 100ms",
        server.addr
    ))
    .unwrap();
    assert_eq!((report.verdict, report.connections.dropped), (Verdict::Failed, 8), "{report}");
    assert!(report.detail.parts[0].done >= 8, "back all the same\n{report}");
}

#[test]
fn who_is_not_let_in_again_is_counted() {
    let server = Doors::serve(Door::Shut, 4);
    let report = load(&format!(
        "run reconnect-storm --url ws://{}/ --connections 4 --after 50ms --warmup 0s --duration 1s --drain 100ms \
         --backoff 10ms --backoff-max 20ms",
        server.addr
    ))
    .unwrap();
    assert_eq!((report.verdict, report.detail.parts[0].done), (Verdict::Failed, 0), "{report}");
    let reason = "4 of 4 connections were not back at the end; raise --duration".to_owned();
    assert!(report.reasons.contains(&reason) && server.refused() > 0, "{report}");
}

#[test]
fn what_does_not_go_together_is_one_clear_line() {
    for (line, wanted) in [
        ("run churn --url ws://127.0.0.1:9/ --protocol gochat", "needs --tokens"),
        (
            "run churn --url ws://127.0.0.1:9/ --protocol gochat --echo --tokens t.csv",
            "messages need --protocol raw-echo",
        ),
        ("run churn --url ws://127.0.0.1:9/ --tokens t.csv", "--tokens is of --protocol gochat"),
        ("run reconnect-storm --url ws://127.0.0.1:9/ --after 2s --duration 2s", "--after must be shorter"),
    ] {
        let error = load(line).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{line}: {error}");
    }
}
