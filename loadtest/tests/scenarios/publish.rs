//! `run publish` end to end: a good server passes, and each planted fault is reported as what it is.

use crate::support::load;
use crate::support::publish::{Fault, serve};
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Report, Verdict};

fn publish(fault: Fault, flags: &str) -> Report {
    let addr = serve(fault);
    load(&format!(
        "run publish --protocol raw-publish --url ws://{addr}/ --connections 5 --size 40 --duration 300ms --warmup 200ms \
         --drain 1s {flags}"
    ))
    .unwrap()
}

#[test]
fn everybody_gets_everything_from_a_good_server() {
    for flags in ["--rate 200", "--publishers 3 --in-flight 2", "--publishers 2 --rate 300 --reactor epoll"] {
        let report = publish(Fault::None, flags);
        let seen = report.messages.unwrap();
        let wanted = Messages { sent: seen.sent, delivered: 5 * seen.sent, ..Messages::default() };
        assert_eq!(seen, wanted, "{flags}\n{report}");
        assert_ne!(report.verdict, Verdict::Failed, "{flags}\n{report}");
        assert!(seen.sent > 10 && report.latency_us.fanout_last.is_some());
        assert!(report.detail.timeline.iter().map(|point| point.sent_per_s).sum::<f64>() > 0.0);
    }
}

#[test]
fn every_fault_of_a_room_is_reported_as_what_it_is() {
    let none = Messages::default();
    for (fault, wanted) in [
        (Fault::Drop, Messages { lost: 1, ..none }),
        (Fault::Duplicate, Messages { duplicated: 1, ..none }),
        (Fault::Reorder, Messages { reordered: 1, ..none }),
        (Fault::Corrupt, Messages { corrupted: 1, ..none }),
    ] {
        let report = publish(fault, "--rate 200");
        let seen = report.messages.unwrap();
        assert_eq!(Messages { sent: 0, acked: 0, delivered: 0, ..seen }, wanted, "{fault:?}\n{report}");
        assert_eq!(report.verdict, Verdict::Failed, "{fault:?}\n{report}");
    }
}
