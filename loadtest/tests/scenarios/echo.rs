//! `run echo` and `run connect` end to end against tungstenite: a good server passes, each planted fault is reported as
//! what it is, and what a user gets wrong is one clear line.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::echo::{Fault, serve};
use crate::support::load;
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Connections, Report, Verdict};

/// Two connections, three in flight, on both reactors where there are two.
fn echo(fault: Fault) -> Vec<Report> {
    let addr = serve(fault);
    let run = |reactor: &str| {
        load(&format!(
            "run echo --url ws://{addr}/ --connections 2 --in-flight 3 --size 40 --duration 300ms --warmup 100ms \
             --drain 500ms --reactor {reactor}"
        ))
    };
    let uring = run("uring");
    if let Err(error) = &uring {
        eprintln!("SKIPPED: {error}");
    }
    uring.into_iter().chain([run("epoll").unwrap()]).collect()
}

/// Checks the counts that say what went wrong; the rest follows from the run's speed.
fn check_faults(fault: Fault, wanted: Messages) {
    for report in echo(fault) {
        let seen = report.messages.unwrap();
        let counts = Messages { sent: 0, delivered: 0, ..seen };
        assert_eq!(counts, wanted, "{fault:?}\n{report}");
        assert_eq!(report.verdict, Verdict::Failed, "{fault:?}\n{report}");
    }
}

#[test]
fn a_good_server_loses_nothing() {
    for report in echo(Fault::None) {
        let seen = report.messages.unwrap();
        assert_eq!(seen, Messages { sent: seen.sent, delivered: seen.sent, ..Messages::default() }, "{report}");
        assert_ne!(report.verdict, Verdict::Failed, "{report}");
        assert_eq!(report.connections, Connections { target: 2, established: 2, refused: 0, dropped: 0 });
        assert!(report.latency_us.rtt.as_ref().unwrap().count > 0 && report.latency_us.connect.is_some());
        assert!(report.lag_us.is_none(), "a closed loop has no schedule");
    }
}

#[test]
fn a_dropped_message_is_lost() {
    check_faults(Fault::Drop, Messages { lost: 2, ..Messages::default() });
}

#[test]
fn a_second_echo_is_a_duplicate() {
    check_faults(Fault::Duplicate, Messages { duplicated: 2, ..Messages::default() });
}

#[test]
fn an_overtaken_message_is_reordered() {
    check_faults(Fault::Reorder, Messages { reordered: 2, ..Messages::default() });
}

#[test]
fn a_changed_message_is_corrupted_and_not_lost() {
    check_faults(Fault::Corrupt, Messages { corrupted: 2, ..Messages::default() });
    check_faults(Fault::Garble, Messages { corrupted: 2, ..Messages::default() });
}

#[test]
fn a_closed_connection_is_dropped() {
    for report in echo(Fault::Close) {
        assert_eq!((report.connections.dropped, report.verdict), (2, Verdict::Failed), "{report}");
        assert!(report.reasons.iter().any(|reason| reason.contains("2 × the server closed")), "{report}");
    }
}

#[test]
fn an_open_loop_sends_at_its_rate_and_what_both_sides_used_is_known() {
    let addr = serve(Fault::None);
    let report = load(&format!(
        "run echo --url ws://{addr}/ --connections 3 --rate 300 --size 16 --payload binary --duration 500ms --warmup 0s \
         --server-pid {}",
        std::process::id()
    ))
    .unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["messages"]["sent"], &json["loop"]), (&150.into(), &"open".into()));
    // What the server's process did is what all its threads did, the generator's among them.
    for (field, of_both) in [("switches/voluntary", true), ("switches_per_message", true), ("tcp_bytes", false)] {
        let has = |side: &str| json.pointer(&format!("/{side}/{field}")).is_some_and(serde_json::Value::is_number);
        assert_eq!((has("server"), has("generator")), (true, of_both), "{field}");
    }
}

#[test]
fn connections_are_held_and_counted() {
    let addr = serve(Fault::None);
    let report = load(&format!("run connect --url ws://{addr}/ --connections 20 --hold 200ms --ramp 200")).unwrap();
    assert_eq!(report.verdict, Verdict::Ok, "{report}");
    assert_eq!(report.connections, Connections { target: 20, established: 20, refused: 0, dropped: 0 });
    assert!(report.messages.is_none() && report.latency_us.connect.as_ref().unwrap().count == 20);
}

/// Upgrades, and never answers a ping.
fn deaf() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let held: Vec<_> = listener.incoming().map(|stream| tungstenite::accept(stream.unwrap()).unwrap()).collect();
        drop(held);
    });
    addr
}

#[test]
fn a_heartbeat_finds_who_does_not_answer() {
    let run = |addr| {
        let line = "--connections 5 --hold 500ms --heartbeat 100ms --drain 300ms";
        load(&format!("run connect --url ws://{addr}/ {line}")).unwrap()
    };
    let (good, bad) = (run(serve(Fault::None)), run(deaf()));
    let (answered, missing) = (good.messages.unwrap(), bad.messages.unwrap());
    assert_eq!(
        answered,
        Messages { sent: answered.sent, acked: answered.sent, delivered: answered.sent, ..Messages::default() }
    );
    assert!(answered.sent >= 5 && good.verdict != Verdict::Failed, "{good}");
    assert!(good.latency_us.rtt.unwrap().count > 0);
    assert_eq!(missing, Messages { sent: missing.sent, lost: missing.sent, ..Messages::default() });
    assert!(missing.sent >= 5 && bad.verdict == Verdict::Failed, "{bad}");
}

#[test]
fn what_a_user_gets_wrong_is_one_clear_line() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing_addr = refusing.local_addr().unwrap();
    thread::spawn(move || {
        for stream in refusing.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for (line, wanted) in [
        ("run echo --url 127.0.0.1:9".to_owned(), "must begin with ws://"),
        (format!("run echo --url ws://{closed}/"), "is the server running"),
        (format!("run connect --url ws://{refusing_addr}/"), "HTTP 401: the access token"),
        (format!("run echo --url ws://{closed}/ --size 15"), "--size must be 16"),
        (format!("run connect --url ws://{closed}/ --connections 3000000 --reactor epoll"), "ulimit -n 3000064"),
        (format!("run connect --url ws://{closed}/ --protocol gochat"), "needs --tokens"),
        (format!("run single --url http://{closed} --tokens /nonexistent.csv"), "/nonexistent.csv"),
        (format!("run single --url http://{closed} --pairs 5000"), "gochat user mint --count 10000"),
    ] {
        let error = load(&line).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{line}: {error}");
    }
}
