//! The load tool's scenarios that only GoChat knows, small, against a running server: what the tool expects of groups, mixes,
//! history and logins is what the server does. Speeds decide nothing.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and show their figures")]

#[path = "../loadtest/tests/scenarios/support/schema.rs"]
mod schema;
mod support;

use clap::Parser;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::report::{Report, Verdict};
use support::Server;

fn run(server: &Server, line: &str) -> Report {
    let line = format!("gochat-loadtest run {line} --url http://{}", server.http);
    let Command::Run { scenario } = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("a run") };
    let report = gochat_loadtest::run(scenario).unwrap();
    eprintln!("{report}");
    schema::check(&serde_json::to_value(&report).unwrap());
    report
}

#[test]
fn groups_deliver_to_all_their_members() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let report = run(&server, "group --members 4 --groups 3 --rate 20 --warmup 0s --duration 1s");
    let messages = report.messages.unwrap();
    // A slow machine makes a run invalid, which says nothing about the server; what is counted stands.
    assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    assert!(messages.acked > 0);
    assert_eq!((messages.delivered, messages.foreign), (messages.acked * 3, 0));
}

#[test]
fn a_mix_keeps_its_shares_and_an_account_of_each() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let report = run(&server, "mixed --connections 8 --members 4 --mix 50/25/25 --rate 40 --warmup 0s --duration 1s");
    assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    let seen: Vec<_> = report.detail.parts.iter().map(|part| (part.name, part.sent, part.done)).collect();
    assert_eq!(seen, [("single", 20, 20), ("group", 10, 30), ("world", 10, 70)]);
}

#[test]
fn greedy_and_slow_clients_are_told_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tokens = dir.path().join("users.csv");
    let tokens = tokens.to_str().unwrap();
    let load = "--rate 40 --warmup 0s --baseline 500ms --duration 1s";
    let greedy = "--protocol gochat --connections 4 --greedy 2 --greedy-in-flight 8";
    let report = run(&server, &format!("greedy {greedy} {load} --tokens-out {tokens}"));
    let messages = report.messages.unwrap();
    assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    assert_eq!((messages.sent, messages.acked, messages.delivered), (60, 60, 60), "of the polite");
    let [before, polite, greedy] = &report.detail.parts[..] else { panic!("three parts") };
    assert_eq!([before.name, polite.name, greedy.name], ["before", "polite", "greedy"]);
    assert!(greedy.sent > 16 && greedy.done == greedy.sent && polite.treatment.fairness.is_some());
    // Of a stall that fits into buffers everybody comes back and has everything.
    let slow = "--protocol gochat --connections 6 --publishers 2 --slow-percent 34 --size 500";
    let report = run(&server, &format!("slow-reader {slow} {load} --tokens {tokens}"));
    let messages = report.messages.unwrap();
    assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    assert_eq!((messages.acked, messages.delivered), (60, 120), "each to the two others that keep reading");
    let slow = report.detail.parts.last().unwrap();
    assert_eq!((slow.done, slow.treatment.fates.get("caught_up")), (180, Some(&3)));
}

#[test]
fn history_and_logins_are_answered_as_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tokens = dir.path().join("users.csv");
    let tokens = tokens.to_str().unwrap();
    let load = "--connections 2 --rate 20 --warmup 0s --duration 1s";
    let pages = run(&server, &format!("history --conversations 1 --messages 150 {load} --tokens-out {tokens}"));
    assert_ne!(pages.verdict, Verdict::Failed, "{:?}", pages.reasons);
    assert_eq!(pages.detail.parts.iter().map(|part| part.done).sum::<u64>(), 20);
    let logins = run(&server, &format!("login-storm --accounts 2 {load} --tokens {tokens}"));
    assert_ne!(logins.verdict, Verdict::Failed, "{:?}", logins.reasons);
    assert_eq!(logins.detail.parts[0].done, 20);
    let wrong = run(&server, &format!("login-storm --accounts 2 {load} --tokens {tokens} --password another1"));
    assert_eq!((wrong.verdict, wrong.detail.parts[0].done), (Verdict::Failed, 0));
    assert_eq!(wrong.detail.parts[0].errors.get("HTTP 401 AUTH_INVALID_CREDENTIALS"), Some(&20));
}

#[test]
fn watchers_hear_who_comes_and_nothing_of_a_short_absence() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let who = "presence-storm --connections 12 --flapping 50 --watchers 3 --warmup 0s";
    let report = run(&server, &format!("{who} --stay 2s --away 2s --duration 7s"));
    assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    let [presence, reopen] = &report.detail.parts[..] else { panic!("{report}") };
    // They come, leave, and come again before their absence is confirmed: told of once.
    assert_eq!((presence.name, presence.sent, presence.done), ("presence", 18, 18));
    assert_eq!((presence.errors.len(), presence.latency_us["online"].count), (0, 18), "{report}");
    assert!(reopen.done > 6, "they came again: {report}");
    assert_eq!((report.connections.target, report.connections.established), (6, 6));
}

#[test]
fn gochat_takes_back_who_was_cut_and_churns() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tokens = dir.path().join("users.csv");
    let tokens = tokens.to_str().unwrap();
    let _ = run(&server, &format!("single --pairs 5 --rate 10 --warmup 0s --duration 1s --tokens-out {tokens}"));
    let who = format!("--protocol gochat --connections 10 --warmup 0s --tokens {tokens}");
    let churn = run(&server, &format!("churn {who} --rate 20 --duration 1s"));
    let storm = run(&server, &format!("reconnect-storm {who} --after 100ms --duration 2s --backoff 200ms"));
    assert_eq!(storm.detail.parts[0].done, 10, "{storm}");
    for report in [churn, storm] {
        assert_ne!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
        assert_eq!((report.connections.established, report.connections.dropped), (10, 0));
        assert!(report.detail.parts[0].errors.is_empty() && report.detail.parts[0].done > 0, "{report}");
    }
}
