//! `run single` and `audit` end to end against a server that speaks enough of GoChat: a good one passes, and each planted
//! fault is reported as what it is.

use std::path::Path;

use crate::support::chat::{Fault, serve};
use crate::support::load;
use gochat_loadtest::audit::{self, Findings};
use gochat_loadtest::cli::AuditArgs;
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Report, Verdict};

/// Two pairs write to each other; the audit follows.
fn single(fault: Fault, load_flag: &str) -> (Report, Findings) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let show = |path: &Path| path.display().to_string();
    let (acked, tokens, addr) = (path("acked.jsonl"), path("tokens.csv"), serve(fault));
    let report = load(&format!(
        "run single --protocol gochat --url http://{addr} --pairs 2 {load_flag} --size 30 --duration 300ms --warmup 100ms \
         --drain 500ms --acked {} --tokens-out {}",
        show(&acked),
        show(&tokens)
    ))
    .unwrap();
    let findings = audit::run(&AuditArgs { url: format!("http://{addr}"), acked, tokens }).unwrap();
    (report, findings)
}

#[test]
fn a_good_server_passes_in_both_loops() {
    for (flag, label) in [("--in-flight 3", "closed"), ("--rate 400", "open"), ("--in-flight 2 --one-way", "closed")] {
        let (report, findings) = single(Fault::None, flag);
        let seen = report.messages.unwrap();
        let wanted = Messages { sent: seen.sent, acked: seen.sent, delivered: seen.sent, ..Messages::default() };
        assert_eq!(seen, wanted, "{report}");
        assert_ne!(report.verdict, Verdict::Failed, "{report}");
        assert_eq!(report.label.load, Some(label));
        assert!(
            report.latency_us.ack.is_some() && report.latency_us.deliver.is_some() && report.latency_us.rtt.is_none()
        );
        assert!(findings.is_clean(), "{findings}");
        assert_eq!((findings.acked, findings.stored, findings.conversations), (seen.sent, seen.sent, 2));
    }
}

#[test]
fn every_fault_is_reported_as_what_it_is() {
    let none = Messages::default();
    for (fault, wanted) in [
        (Fault::NotDelivered, Messages { lost: 2, ..none }),
        (Fault::NotAcked, Messages { unacked: 2, ..none }),
        (Fault::DeliveredTwice, Messages { duplicated: 2, ..none }),
        (Fault::Reordered, Messages { reordered: 2, ..none }),
        (Fault::Corrupted, Messages { corrupted: 2, ..none }),
        (Fault::ToStranger, Messages { foreign: 2, ..none }),
        (Fault::Renumbered, Messages { corrupted: 2, ..none }),
        (Fault::RateLimited, Messages { refused: 2, ..none }),
    ] {
        let (report, _) = single(fault, "--in-flight 3");
        let seen = report.messages.unwrap();
        assert_eq!(Messages { sent: 0, acked: 0, delivered: 0, ..seen }, wanted, "{fault:?}\n{report}");
        assert_eq!(report.verdict, Verdict::Failed, "{fault:?}\n{report}");
    }
}

#[test]
fn the_audit_finds_what_the_run_could_not_see() {
    let (report, findings) = single(Fault::NotStored, "--in-flight 3");
    assert_ne!(report.verdict, Verdict::Failed, "{report}");
    assert_eq!((findings.missing, findings.is_clean()), (2, false), "{findings}");
    let (_, findings) = single(Fault::Renumbered, "--in-flight 3");
    assert_eq!(findings.renumbered, 2, "{findings}");
}
