//! The descriptions that are part of the tool.

use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Report, Verdict};

use crate::load;
use crate::server::{Fault, Protocol, serve};
use crate::speech::{CENTRIFUGO, JSONRPC, SOCKETIO, STOMP};

const CLIENTS: usize = 4;

/// Name, server, further flags, whether senders hear themselves.
const ALL: [(&str, &Protocol, &str, bool); 4] = [
    ("centrifugo", &CENTRIFUGO, "", true),
    ("jsonrpc", &JSONRPC, "", true),
    ("socketio", &SOCKETIO, "", false),
    ("stomp", &STOMP, "--set login=me", true),
];

fn run(scenario: &str, at: usize, fault: Fault, flags: &str) -> Report {
    let (name, protocol, more, _) = ALL[at];
    let (addr, _) = serve(protocol, fault);
    let path = if name == "stomp" { "/ws" } else { "/" };
    load(&format!(
        "run {scenario} --protocol script --script {name} --url ws://{addr}{path} --connections {CLIENTS} --size 40 \
         --duration 300ms --warmup 100ms --drain 1s {more} {flags}"
    ))
    .unwrap()
}

/// Tests all descriptions at once: most of a run's time is waiting.
fn for_all(test: impl Fn(usize, &str) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        let runs: Vec<_> = (0..ALL.len()).map(|at| scope.spawn(move || test(at, ALL[at].0))).collect();
        runs.into_iter().for_each(|run| run.join().unwrap());
    });
}

#[test]
fn good_servers_echo_everything() {
    for_all(|at, name| {
        for flags in ["--rate 200", "--in-flight 3", "--rate 200 --reactor epoll"] {
            let report = run("echo", at, Fault::None, flags);
            let seen = report.messages.unwrap();
            let wanted = Messages { sent: seen.sent, delivered: seen.sent, ..Messages::default() };
            assert_eq!(seen, wanted, "{name} {flags}\n{report}");
            assert_ne!(report.verdict, Verdict::Failed, "{name} {flags}\n{report}");
            assert!(seen.sent > 10 && report.latency_us.rtt.is_some(), "{name} {flags}\n{report}");
        }
    });
}

#[test]
fn good_servers_deliver_and_acknowledge_everything() {
    for_all(|at, name| {
        for flags in ["--publishers 2 --rate 200", "--publishers 3 --in-flight 2"] {
            let report = run("publish", at, Fault::None, flags);
            let seen = report.messages.unwrap();
            let receivers = (CLIENTS - usize::from(!ALL[at].3)) as u64;
            let wanted =
                Messages { sent: seen.sent, acked: seen.sent, delivered: receivers * seen.sent, ..Messages::default() };
            assert_eq!(seen, wanted, "{name} {flags}\n{report}");
            assert_ne!(report.verdict, Verdict::Failed, "{name} {flags}\n{report}");
            assert!(seen.sent > 10 && report.latency_us.fanout_last.is_some() && report.latency_us.ack.is_some());
        }
    });
}

#[test]
fn a_planted_loss_and_a_planted_duplicate_are_found() {
    let none = Messages::default();
    for_all(|at, name| {
        for scenario in ["echo", "publish"] {
            for (fault, wanted) in
                [(Fault::Drop, Messages { lost: 1, ..none }), (Fault::Duplicate, Messages { duplicated: 1, ..none })]
            {
                let report = run(scenario, at, fault, "--rate 200");
                let seen = report.messages.unwrap();
                let told = format!("{name} {scenario} {fault:?}\n{report}");
                assert_eq!(Messages { sent: 0, acked: 0, delivered: 0, ..seen }, wanted, "{told}");
                assert_eq!(report.verdict, Verdict::Failed, "{told}");
            }
        }
    });
}

#[test]
fn refusals_are_counted_with_their_code() {
    let report = run("publish", 0, Fault::Refuse, "--rate 200");
    let seen = report.messages.unwrap();
    assert_eq!((seen.refused, seen.acked, seen.unacked), (1, seen.sent - 1, 0), "{report}");
    assert!(report.reasons.iter().any(|why| why.contains("error 108")), "{report}");
    let (addr, _) = serve(&CENTRIFUGO, Fault::None);
    let line = format!(
        "run connect --protocol script --script centrifugo --url ws://{addr}/ --connections 2 --hold 100ms --set token=bad"
    );
    let said = load(&line).unwrap_err().to_string();
    assert!(said.contains("opened no connection: the server refused the handshake: error 101"), "{said}");
}

#[test]
fn the_servers_own_pings_are_answered() {
    for (at, scenario) in [(0, "publish"), (1, "publish"), (2, "publish")] {
        let (name, protocol, ..) = ALL[at];
        let (addr, room) = serve(protocol, Fault::None);
        let line = format!(
            "run {scenario} --protocol script --script {name} --url ws://{addr}/ --connections {CLIENTS} --rate 100 \
             --duration 200ms --warmup 50ms"
        );
        let report = load(&line).unwrap();
        assert_ne!(report.verdict, Verdict::Failed, "{name}\n{report}");
        assert_eq!(room.lock().unwrap().pongs, CLIENTS, "{name}");
    }
}
