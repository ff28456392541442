//! Rare and lasting faults of an echo server: each is counted as often as the server committed it, and fails the run with
//! its reason.

use crate::support::faulty::{Faulty, Wrong};
use crate::support::load;
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Report, Verdict};

/// Runs longer and longer until the server has done something wrong `wanted` times.
fn run(wrong: Wrong, period: u64, wanted: u64) -> (Report, u64) {
    for seconds in [1, 2, 4, 8, 16, 32] {
        let server = Faulty::serve(wrong, period);
        let report = load(&format!(
            "run echo --url ws://{}/ --connections 2 --in-flight 32 --size 40 --duration {seconds}s --warmup 0s --drain 2s",
            server.addr
        ))
        .unwrap();
        if server.done() >= wanted {
            return (report, server.done());
        }
    }
    panic!("{wrong:?}: the server never had {period} messages");
}

fn check(wrong: Wrong, period: u64, wanted: impl Fn(u64) -> Messages, reason: &str) {
    let (report, done) = run(wrong, period, 1);
    let seen = report.messages.unwrap();
    let missing = wanted(done).lost + wanted(done).corrupted;
    let wanted = Messages { sent: seen.sent, delivered: seen.sent - missing, ..wanted(done) };
    assert_eq!(seen, wanted, "{wrong:?}\n{report}");
    assert_eq!(report.verdict, Verdict::Failed, "{wrong:?}\n{report}");
    let reason = format!("{done} messages {reason}");
    assert!(report.reasons.contains(&reason), "{reason}\n{report}");
}

#[test]
fn one_in_ten_thousand_dropped_is_lost() {
    check(Wrong::Drop, 10_000, |lost| Messages { lost, ..Messages::default() }, "lost");
}

#[test]
fn rare_duplicates_are_counted() {
    check(Wrong::Duplicate, 997, |duplicated| Messages { duplicated, ..Messages::default() }, "delivered twice");
}

#[test]
fn rare_overtaking_is_counted() {
    check(Wrong::Reorder, 997, |reordered| Messages { reordered, ..Messages::default() }, "delivered out of order");
}

#[test]
fn rare_damage_is_counted() {
    check(Wrong::Corrupt, 997, |corrupted| Messages { corrupted, ..Messages::default() }, "corrupted");
}

#[test]
fn a_message_to_a_stranger_is_foreign_there_and_lost_here() {
    let wanted = |count| Messages { foreign: count, lost: count, ..Messages::default() };
    check(Wrong::Foreign, 997, wanted, "delivered to a stranger");
}

#[test]
fn a_server_that_stops_answering_loses_what_was_in_flight() {
    let (report, done) = run(Wrong::Stall, 50, 64);
    let seen = report.messages.unwrap();
    let wanted = Messages { sent: 2 * (49 + 32), delivered: 2 * 49, lost: 64, ..Messages::default() };
    assert_eq!((seen, done), (wanted, 64), "{report}");
    assert_eq!((report.verdict, report.connections.dropped), (Verdict::Failed, 0), "{report}");
    assert!(report.reasons.contains(&"64 messages lost".to_owned()), "{report}");
}

#[test]
fn a_connection_that_ends_without_a_word_is_dropped() {
    let (report, _) = run(Wrong::Hangup, 50, 2);
    let seen = report.messages.unwrap();
    assert_eq!((report.verdict, report.connections.dropped), (Verdict::Failed, 2), "{report}");
    assert_eq!((seen.delivered + seen.lost, seen.duplicated, seen.corrupted), (seen.sent, 0, 0), "{report}");
    assert!(report.reasons.contains(&"2 connections were dropped".to_owned()), "{report}");
    assert!(report.reasons.contains(&format!("{} messages lost", seen.lost)), "{report}");
}
