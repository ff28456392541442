//! `run slow-reader` and `run greedy` end to end: those that behave are told from those that do not, and each way a server may
//! treat the latter is reported as what it is. Counts only.

use crate::support::load;
use crate::support::strict::{Manner, Overflow, Room, echo};
use gochat_loadtest::ledger::Messages;
use gochat_loadtest::report::{Part, Report, Verdict};

/// Eight clients, two of them slow; 800 messages while those do not read, 40 before.
fn slow_reader(room: &Room, flags: &str) -> Report {
    load(&format!(
        "run slow-reader --url ws://{}/ --connections 8 --publishers 2 --slow-percent 25 --size 4096 --rate 400 --warmup 0s \
         --baseline 100ms --duration 2s {flags}",
        room.addr
    ))
    .unwrap()
}

fn part<'a>(report: &'a Report, name: &str) -> &'a Part {
    report.detail.parts.iter().find(|part| part.name == name).unwrap()
}

/// What became of the clients of a part.
fn fates(part: &Part) -> Vec<(&str, u64)> {
    part.treatment.fates.iter().map(|(fate, count)| (*fate, *count)).collect()
}

/// The six that keep reading have everything, whatever becomes of the others.
fn healthy_have_everything(report: &Report) {
    let wanted = Messages { sent: 840, delivered: 6 * 840, ..Messages::default() };
    assert_eq!((report.messages, part(report, "healthy").messages), (Some(wanted), Some(wanted)), "{report}");
    assert_eq!(part(report, "before").sent, 40, "{report}");
    assert!(part(report, "healthy").treatment.p99_times_before.is_some(), "{report}");
}

#[test]
fn slow_readers_catch_up_where_everything_is_kept() {
    for flags in ["", "--stall 500ms", "--reactor epoll"] {
        let report = slow_reader(&Room::serve(Overflow::Keep), flags);
        healthy_have_everything(&report);
        assert_ne!(report.verdict, Verdict::Failed, "{flags}\n{report}");
        let slow = part(&report, "slow");
        assert_eq!(fates(slow), [("caught_up", 2)], "{report}");
        assert_eq!(slow.messages, Some(Messages { sent: 840, delivered: 2 * 840, ..Messages::default() }), "{report}");
        assert_eq!(slow.latency_us["catch_up"].count, 2, "{report}");
    }
}

#[test]
fn slow_readers_that_the_server_closes_are_told_with_its_code() {
    let report = slow_reader(&Room::serve(Overflow::Close), "");
    healthy_have_everything(&report);
    assert_ne!(report.verdict, Verdict::Failed, "it may\n{report}");
    assert_eq!((report.connections.established, report.connections.dropped), (8, 2), "{report}");
    let slow = part(&report, "slow");
    assert_eq!(fates(slow), [("closed", 2)], "{report}");
    assert_eq!(slow.errors.get("the server closed with 4009 too slow"), Some(&2), "{report}");
    assert!(report.reasons.contains(&"slow: 2 × the server closed with 4009 too slow".to_owned()), "{report}");
    assert_eq!(slow.messages.map(|it| (it.lost, it.delivered < 2 * 840)), Some((0, true)), "{report}");
}

#[test]
fn what_is_dropped_for_slow_readers_is_counted() {
    let room = Room::serve(Overflow::Drop);
    let report = slow_reader(&room, "--drain 3s");
    healthy_have_everything(&report);
    let slow = part(&report, "slow");
    assert!(room.dropped() > 0, "the test sends enough");
    let wanted =
        Messages { sent: 840, delivered: 2 * 840 - room.dropped(), lost: room.dropped(), ..Messages::default() };
    assert_eq!(slow.messages, Some(wanted), "{report}");
    assert_eq!(fates(slow), [("behind", 2)], "{report}");
    assert_ne!(report.verdict, Verdict::Failed, "that it drops is its choice\n{report}");
}

#[test]
fn what_reaches_slow_readers_must_be_right() {
    let report = slow_reader(&Room::serve(Overflow::Repeat), "--ramp 100");
    healthy_have_everything(&report);
    // All but the last message of each of two senders.
    assert_eq!(part(&report, "slow").messages.map(|it| (it.delivered, it.duplicated)), Some((1680, 838)), "{report}");
    assert_eq!((report.verdict, &*report.reasons[0]), (Verdict::Failed, "slow: 838 duplicated"), "{report}");
}

/// Four polite clients with 60 messages between them, two greedy ones.
fn greedy(manner: Manner) -> Report {
    rushing(manner, "--greedy-in-flight 8")
}

fn rushing(manner: Manner, flags: &str) -> Report {
    let addr = echo(manner);
    load(&format!(
        "run greedy --url ws://{addr}/ --connections 4 --greedy 2 --size 40 --rate 80 --warmup 0s --baseline 250ms \
         --duration 500ms --drain 1s {flags}"
    ))
    .unwrap()
}

#[test]
fn greedy_clients_are_told_from_polite_ones() {
    let report = greedy(Manner::Good);
    assert_ne!(report.verdict, Verdict::Failed, "{report}");
    let wanted = Messages { sent: 60, delivered: 60, ..Messages::default() };
    assert_eq!(report.messages, Some(wanted), "of the polite\n{report}");
    assert_eq!(report.latency_us.rtt.as_ref().map(|rtt| rtt.count), Some(40), "{report}");
    let [before, polite, greedy] = ["before", "polite", "greedy"].map(|name| part(&report, name));
    assert_eq!((before.sent, before.latency_us["rtt"].count, polite.sent), (20, 20, 60), "{report}");
    assert!(greedy.sent > 16 && greedy.done == greedy.sent, "more than the first of each\n{report}");
    assert_eq!((fates(polite), fates(greedy)), (vec![], vec![("open", 2)]), "{report}");
    let shares = polite.treatment.share.unwrap() + greedy.treatment.share.unwrap();
    assert!((shares - 1.0).abs() < 1e-9 && polite.treatment.fairness.is_some(), "{report}");
}

#[test]
fn greedy_clients_may_have_a_rate_too() {
    let report = rushing(Manner::Good, "--greedy-rate 2000");
    assert_ne!(report.verdict, Verdict::Failed, "{report}");
    assert_eq!(report.messages.map(|it| (it.sent, it.delivered)), Some((60, 60)), "{report}");
    let greedy = part(&report, "greedy");
    assert_eq!((greedy.sent, greedy.done), (1000, 1000), "half a second of it\n{report}");
}

#[test]
fn a_server_may_cut_off_the_greedy_and_no_others() {
    let report = greedy(Manner::CutsOff(50));
    assert_ne!(report.verdict, Verdict::Failed, "{report}");
    assert_eq!(report.messages, Some(Messages { sent: 60, delivered: 60, ..Messages::default() }), "{report}");
    let rushing = part(&report, "greedy");
    assert_eq!((fates(rushing), rushing.done), (vec![("closed", 2)], 2 * 49), "{report}");
    assert_eq!(rushing.errors.get("the server closed with 1008 flood"), Some(&2), "{report}");
    assert_eq!(report.connections.dropped, 2, "{report}");
    // One message less and the polite are cut off too.
    let report = greedy(Manner::CutsOff(15));
    assert_eq!((report.verdict, report.connections.dropped), (Verdict::Failed, 6), "{report}");
}

#[test]
fn unfair_answers_show_in_the_index() {
    let report = greedy(Manner::Ignores);
    assert_eq!((report.verdict, report.messages.unwrap().lost), (Verdict::Failed, 15), "{report}");
    // Three of four get what they ask for.
    let fairness = part(&report, "polite").treatment.fairness.unwrap();
    assert!((0.7..0.8).contains(&fairness), "{report}");
}

#[test]
fn what_makes_no_sense_is_one_clear_line() {
    for (line, wanted) in [
        ("greedy", "open loop only: give --rate"),
        ("slow-reader --in-flight 4", "open loop only: give --rate"),
        ("greedy --rate 5 --connections 0", "--connections must be at least 1"),
        ("greedy --rate 5 --protocol gochat --greedy 3", "must be even"),
        ("greedy --rate 5 --size 3", "--size must be 16"),
        ("slow-reader --rate 5 --connections 10 --publishers 10", "--publishers must be 1 to 9"),
        ("slow-reader --rate 5 --protocol gochat", "needs --tokens"),
    ] {
        let error = load(&format!("run {line} --url ws://127.0.0.1:1/")).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{line}: {error}");
    }
}
