//! A run split among agents in processes of their own: counts add up, an agent that dies is named, and who may not come in is
//! told why.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{chat, echo, publish};
use clap::Parser;
use gochat_loadtest::LoadError;
use gochat_loadtest::cli::{Cli, Command};
use gochat_loadtest::distributed::coordinator;
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Connections, Report, Verdict};

/// An agent; it dies with the test.
struct Agent {
    process: Child,
    addr: String,
}

impl Agent {
    fn start(flags: &[&str]) -> Agent {
        let mut process = Process::new(env!("CARGO_BIN_EXE_gochat-loadtest"))
            .args(["agent", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Agent { process, addr: line.trim().strip_prefix("listening on ").unwrap().to_owned() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn coordinate(agents: &[&str], line: &str) -> Result<Report, LoadError> {
    let line = format!("gochat-loadtest coordinator --agents {} {line}", agents.join(","));
    match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Coordinator(args) => coordinator::run(&args).map(|(report, _)| report),
        _ => panic!("{line} is for no coordinator"),
    }
}

#[test]
fn the_counts_of_two_agents_add_up() {
    let agents = [Agent::start(&[]), Agent::start(&[])];
    let agents = [agents[0].addr.as_str(), agents[1].addr.as_str()];
    let addr = echo::serve(echo::Fault::None);
    for client in ["engine", "tungstenite"] {
        let report = coordinate(
            &agents,
            &format!(
                "run echo --url ws://{addr}/ --connections 9 --rate 360 --warmup 500ms --duration 2s --client {client} \
                 --ramp 1000/s"
            ),
        )
        .unwrap();
        // 200 a second on five connections, 160 on four, each for 2.5 s, of which 2 are measured.
        assert_eq!(report.messages, Some(Messages { sent: 900, delivered: 900, ..Messages::default() }), "{report}");
        assert_eq!(report.connections, Connections { target: 9, established: 9, refused: 0, dropped: 0 });
        assert_eq!(report.latency_us.rtt.as_ref().map(|rtt| rtt.count), Some(720), "{report}");
        assert_eq!(report.lag_us.as_ref().map(|lag| lag.count), Some(720));
        assert_eq!(report.latency_us.connect.as_ref().map(|connect| connect.count), Some(9));
        assert_ne!(report.verdict, Verdict::Failed, "{report}");
        let timeline = &report.detail.timeline;
        assert_eq!(timeline[0].connections, 9, "both agents are in each second");
        let arrived = timeline.iter().filter_map(|point| Some(point.deliver.as_ref()?.count)).sum::<u64>();
        assert!(arrived > 500, "more than either has: {arrived}");
    }
    let report = coordinate(&agents, &format!("run connect --url ws://{addr}/ --connections 3 --hold 100ms")).unwrap();
    assert_eq!((report.verdict, report.connections.established, report.messages), (Verdict::Ok, 3, None), "{report}");
}

#[test]
fn pairs_and_their_users_are_shared_out() {
    let agents = [Agent::start(&[]), Agent::start(&[])];
    let addr = chat::serve(chat::Fault::None);
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.csv");
    std::fs::write(&tokens, (0..6).map(|n| format!("id-{n},u{n},id-{n}\n")).collect::<String>()).unwrap();
    let report = coordinate(
        &[&agents[0].addr, &agents[1].addr],
        &format!(
            "run single --url http://{addr} --pairs 3 --rate 60 --warmup 0s --duration 1s --tokens {}",
            tokens.display()
        ),
    )
    .unwrap();
    let wanted = Messages { sent: 60, acked: 60, delivered: 60, ..Messages::default() };
    assert_eq!((report.messages, report.connections.established), (Some(wanted), 6), "{report}");
}

#[test]
fn a_room_may_span_agents() {
    let agents = [Agent::start(&[]), Agent::start(&[]), Agent::start(&[])];
    let names = [&*agents[0].addr, &*agents[1].addr, &*agents[2].addr];
    // The fault is planted for one receiver; all agents' messages count.
    for (fault, wanted) in [
        (publish::Fault::None, Messages::default()),
        (publish::Fault::Drop, Messages { lost: 1, ..Messages::default() }),
        (publish::Fault::Duplicate, Messages { duplicated: 1, ..Messages::default() }),
        (publish::Fault::Corrupt, Messages { corrupted: 1, ..Messages::default() }),
    ] {
        let addr = publish::serve(fault);
        let line = "--connections 7 --publishers 2 --rate 100 --warmup 0s --duration 1s --drain 2s";
        let report = coordinate(&names, &format!("run publish --url ws://{addr}/ {line}")).unwrap();
        let seen = report.messages.unwrap();
        assert_eq!(Messages { sent: 0, delivered: 0, ..seen }, wanted, "{fault:?}\n{report}");
        let delivered = 700 - wanted.lost - wanted.corrupted;
        assert_eq!((seen.sent, seen.delivered, report.connections.established), (100, delivered, 7), "{report}");
        assert_eq!(report.verdict == Verdict::Failed, wanted != Messages::default(), "{report}");
    }
}

#[test]
fn a_planted_fault_behind_one_agent_fails_the_whole() {
    let agents = [Agent::start(&[]), Agent::start(&[])];
    let addr = echo::serve(echo::Fault::Duplicate);
    let line = format!("run echo --url ws://{addr}/ --connections 2 --rate 60 --warmup 0s --duration 1s");
    let report = coordinate(&[&agents[0].addr, &agents[1].addr], &line).unwrap();
    assert_eq!((report.messages.unwrap().duplicated, report.verdict), (2, Verdict::Failed), "{report}");
}

#[test]
fn an_agent_killed_in_a_run_makes_it_invalid_and_is_named() {
    let agents = [Agent::start(&[]), Agent::start(&[])];
    let (addr, echoed) = counting_echo();
    let line = format!("run echo --url ws://{addr}/ --connections 4 --rate 100 --warmup 0s --duration 3s");
    let [mut first, second] = agents;
    let name = first.addr.clone();
    let report = thread::scope(|scope| {
        let run = scope.spawn(|| coordinate(&[&name, &second.addr], &line));
        while echoed.load(Ordering::Acquire) == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        // While they run, they serve nobody else.
        let refused = coordinate(&[&second.addr], &line).unwrap_err().to_string();
        assert!(refused.contains("in a run already") && !refused.contains('\n'), "{refused}");
        first.process.kill().unwrap();
        run.join().unwrap()
    })
    .unwrap();
    assert_eq!(report.verdict, Verdict::Invalid, "{report}");
    assert!(report.reasons[0].contains(&format!("agent {name} was lost")), "{report}");
    let seen = report.messages.unwrap();
    assert_eq!(
        seen,
        Messages { sent: 150, delivered: 150, ..Messages::default() },
        "of the one that is left\n{report}"
    );
    let again = coordinate(&[&second.addr], &line.replace("3s", "500ms")).unwrap();
    assert_eq!(again.messages.unwrap().delivered, 50, "it is free again\n{again}");
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let agent = Agent::start(&["--token", "secret"]);
    let addr = echo::serve(echo::Fault::None);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = format!("run echo --url ws://{addr}/ --connections 2 --rate 50 --warmup 0s --duration 200ms");
    for (line, wanted) in [
        (run.clone(), "the token is missing or wrong"),
        (format!("--token wrong {run}"), "the token is missing or wrong"),
        (format!("--token secret run echo --url ws://{nobody}/ --connections 2"), "is the server running"),
        (format!("--token secret run echo --url ws://{addr}/ --connections 0"), "use fewer agents"),
        ("--token secret doctor".to_owned(), "only `run`"),
    ] {
        let error = coordinate(&[&agent.addr], &line).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{line}: {error}");
    }
    assert_eq!(coordinate(&[&agent.addr], &format!("--token secret {run}")).unwrap().messages.unwrap().sent, 10);
    let error = coordinate(&[&nobody.to_string()], &run).unwrap_err().to_string();
    assert!(error.contains("gochat-loadtest agent --listen"), "{error}");
}

/// An echo server and how much it has echoed.
fn counting_echo() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let echoed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&echoed);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
                while let Ok(message) = socket.read() {
                    if message.is_text() && socket.send(message).is_ok() {
                        count.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
    });
    (addr, echoed)
}
