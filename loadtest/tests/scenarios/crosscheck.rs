//! The two generators against one server: where the server is good both count the same and lose nothing, and each finds a
//! planted fault. Counts only; speed is no matter of tests.

use crate::support::{echo, load, publish};
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Report, Verdict};

const CLIENTS: [&str; 2] = ["engine", "tungstenite"];

fn both(line: &str) -> [Report; 2] {
    CLIENTS.map(|client| load(&format!("{line} --client {client}")).unwrap())
}

#[test]
fn both_generators_count_the_same_echoes() {
    let addr = echo::serve(echo::Fault::None);
    for flags in ["--payload text --size 64", "--payload binary --size 5000", "--size 16 --ramp 500"] {
        let reports = both(&format!(
            "run echo --url ws://{addr}/ --connections 20 --rate 500 --warmup 100ms --duration 400ms {flags}"
        ));
        for report in &reports {
            // 500 a second for half a second, whatever the generator.
            let wanted = Messages { sent: 250, delivered: 250, ..Messages::default() };
            assert_eq!(report.messages, Some(wanted), "{flags}\n{report}");
            assert_ne!(report.verdict, Verdict::Failed, "{flags}\n{report}");
            assert_eq!(report.latency_us.rtt.as_ref().map(|rtt| rtt.count), Some(200), "of the measured phase");
        }
        assert_eq!(reports[0].connections, reports[1].connections);
        assert_eq!(reports[1].environment.reactor, "tungstenite");
    }
}

#[test]
fn both_generators_count_the_same_deliveries() {
    let reports = CLIENTS.map(|client| {
        let addr = publish::serve(publish::Fault::None);
        let line = "--connections 7 --publishers 3 --rate 100 --warmup 100ms --duration 400ms --size 40";
        load(&format!("run publish --url ws://{addr}/ {line} --client {client}")).unwrap()
    });
    for report in &reports {
        let wanted = Messages { sent: 50, delivered: 350, ..Messages::default() };
        assert_eq!(report.messages, Some(wanted), "{report}");
        assert_ne!(report.verdict, Verdict::Failed, "{report}");
        assert_eq!(report.latency_us.fanout_last.as_ref().map(|last| last.count), Some(40));
    }
}

#[test]
fn a_closed_loop_goes_on_with_each_answer() {
    let addr = echo::serve(echo::Fault::None);
    let line = "--connections 3 --in-flight 4 --warmup 0s --duration 300ms --client tungstenite";
    let report = load(&format!("run echo --url ws://{addr}/ {line}")).unwrap();
    let seen = report.messages.unwrap();
    assert_eq!(seen, Messages { sent: seen.sent, delivered: seen.sent, ..Messages::default() }, "{report}");
    assert!(seen.sent > 12 && report.lag_us.is_none(), "more than the first of each\n{report}");
}

#[test]
fn the_second_generator_finds_planted_faults_too() {
    let none = Messages::default();
    for (fault, wanted) in [
        (echo::Fault::Drop, Messages { lost: 2, ..none }),
        (echo::Fault::Duplicate, Messages { duplicated: 2, ..none }),
        (echo::Fault::Reorder, Messages { reordered: 2, ..none }),
        (echo::Fault::Corrupt, Messages { corrupted: 2, ..none }),
    ] {
        let addr = echo::serve(fault);
        let line = "--connections 2 --rate 200 --warmup 100ms --duration 300ms --drain 500ms --client tungstenite";
        let report = load(&format!("run echo --url ws://{addr}/ {line}")).unwrap();
        let seen = report.messages.unwrap();
        assert_eq!(Messages { sent: 0, delivered: 0, ..seen }, wanted, "{fault:?}\n{report}");
        assert_eq!(report.verdict, Verdict::Failed, "{fault:?}");
    }
    let addr = echo::serve(echo::Fault::Close);
    let line = "--connections 2 --rate 200 --duration 300ms --client tungstenite";
    let report = load(&format!("run echo --url ws://{addr}/ {line}")).unwrap();
    assert_eq!((report.connections.dropped, report.verdict), (2, Verdict::Failed), "{report}");
}

#[test]
fn what_the_second_generator_cannot_do_is_one_clear_line() {
    let addr = echo::serve(echo::Fault::None);
    for (flags, wanted) in [
        ("echo --connections 2001", "at most 2000 connections"),
        ("echo --reactor epoll", "leave --reactor out"),
        ("publish --protocol gochat --tokens x", "raw-publish only"),
        ("echo --url ws://127.0.0.1:1/", "is the server running"),
    ] {
        let url = if flags.contains("--url") { String::new() } else { format!("--url ws://{addr}/") };
        let error = load(&format!("run {flags} {url} --client tungstenite")).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{flags}: {error}");
    }
}
