//! The life of a room, one rule a test.

use super::*;

const V: i64 = 7;
const A: Address = Address::new(0, 1, 1);
const B: Address = Address::new(1, 2, 1);
const C: Address = Address::new(0, 3, 1);
const GROUP: &str = "group_9";

/// Rooms with what they said, in words.
#[derive(Default)]
struct Desk {
    rooms: Rooms,
    said: Vec<String>,
}

fn frame(name: &str) -> OutFrame {
    OutFrame { wire: name.as_bytes().to_vec().into(), class: FrameClass::Chat }
}

impl Desk {
    fn say(&mut self, act: impl FnOnce(&mut Rooms, &mut Vec<Out>)) {
        let mut outs = Vec::new();
        act(&mut self.rooms, &mut outs);
        let name = |frame: OutFrame| String::from_utf8_lossy(&frame.wire).into_owned();
        let slots =
            |addresses: Vec<Address>| addresses.iter().map(|a| a.slot().to_string()).collect::<Vec<_>>().join(",");
        self.said.extend(outs.into_iter().map(|out| match out {
            Out::Join(_, address) => format!("join {}", address.slot()),
            Out::Leave(_, user_id, _) => format!("leave {user_id}"),
            Out::Reset(_, addresses) => format!("reset {}", slots(addresses)),
            Out::Drop(..) => "drop".to_owned(),
            Out::Frame(_, _, frame, _) => name(frame),
            Out::Direct(_, frame) => format!("direct {}", name(frame)),
            Out::Hint(..) => "hint".to_owned(),
        }));
    }

    fn push(&mut self, version: i64, name: &str) {
        let entry = Entry::Frame { version, exclude: Address::NONE, frame: frame(name) };
        self.say(|rooms, outs| rooms.take(GROUP, entry, outs));
    }

    fn direct(&mut self, name: &str) {
        let entry = Entry::Direct { addresses: vec![A.0], frame: frame(name) };
        self.say(|rooms, outs| rooms.take(GROUP, entry, outs));
    }

    fn change(&mut self, version: i64, member_count: i32, joined: &[Address], left: &[i64]) {
        let change = RoomChange {
            conversation_id: GROUP.into(),
            version,
            member_count,
            joined: joined.iter().map(|address| address.0).collect(),
            left: left.to_vec(),
            dissolved: false,
        };
        self.say(|rooms, outs| rooms.take(GROUP, Entry::Change(change), outs));
    }

    fn dissolve(&mut self) {
        let change = RoomChange { dissolved: true, version: V + 1, ..RoomChange::default() };
        self.say(|rooms, outs| rooms.take(GROUP, Entry::Change(change), outs));
    }

    fn registered(&mut self, version: i64, address: Address) {
        self.say(|rooms, outs| rooms.registered(GROUP, version, address, outs));
    }

    fn fetched(&mut self, version: i64, member_count: i32, addresses: &[Address]) {
        let fetched = Fetched { version, member_count, addresses: addresses.to_vec(), exists: true };
        self.say(|rooms, outs| rooms.fetched(GROUP, fetched, outs));
    }

    fn wants(&mut self) -> bool {
        self.rooms.next_wanted().is_some()
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// With a room of A and B, complete as of `V`.
    fn complete() -> Desk {
        let mut desk = Desk::default();
        desk.push(V, "first");
        assert!(desk.wants() && desk.said().is_empty());
        desk.fetched(V, 30, &[A, B]);
        assert_eq!(desk.said(), ["reset 1,2", "first"]);
        desk
    }
}

#[test]
fn a_push_waits_until_an_unknown_room_is_fetched_and_nothing_overtakes_it() {
    let mut desk = Desk::default();
    desk.push(V, "1");
    desk.push(V, "2");
    desk.direct("3");
    desk.push(0, "4");
    assert!(desk.wants() && !desk.wants(), "fetched once");
    assert!(desk.said().is_empty());
    desk.fetched(V, 30, &[A, B]);
    assert_eq!(desk.said(), ["reset 1,2", "1", "2", "direct 3", "4"]);
    desk.push(V, "5");
    desk.direct("6");
    assert_eq!(desk.said(), ["5", "direct 6"]);
    assert_eq!(desk.rooms.waiting_bytes, 0);
}

#[test]
fn a_push_under_a_newer_membership_waits_for_it() {
    let mut desk = Desk::complete();
    desk.push(V + 2, "ahead");
    desk.push(V, "behind it");
    assert!(desk.said().is_empty() && desk.wants());
    desk.fetched(V + 2, 31, &[A, C]);
    assert_eq!(desk.said(), ["reset 1,3", "ahead", "behind it"]);
    desk.push(V + 1, "of before");
    assert_eq!(desk.said(), ["of before"]);
}

#[test]
fn changes_are_applied_in_order_and_once() {
    let mut desk = Desk::complete();
    desk.change(V + 1, 31, &[C], &[]);
    desk.change(V + 1, 31, &[C], &[]);
    desk.change(V + 2, 30, &[], &[5]);
    desk.change(V, 30, &[B], &[]);
    assert_eq!(desk.said(), ["join 3", "leave 5"]);
    desk.push(V + 2, "now");
    assert_eq!(desk.said(), ["now"]);
}

#[test]
fn a_gap_in_changes_means_a_fetch_before_the_next_push() {
    let mut desk = Desk::complete();
    desk.change(V + 2, 30, &[C], &[]);
    assert!(desk.said().is_empty() && !desk.wants());
    desk.push(V, "next");
    assert!(desk.wants() && desk.said().is_empty());
    desk.fetched(V + 2, 30, &[A, C]);
    assert_eq!(desk.said(), ["reset 1,3", "next"]);
}

#[test]
fn who_was_registered_during_a_fetch_is_in_unless_the_fetch_knows_better() {
    let mut desk = Desk::default();
    desk.push(V, "1");
    assert!(desk.wants());
    desk.registered(V, C);
    desk.registered(V - 1, B);
    desk.fetched(V, 30, &[A]);
    assert_eq!(desk.said(), ["reset 1,3", "1"], "B was a member before, and is none as of the fetch");
    // Somebody came under a later version: what was fetched is used once and then looked at again.
    desk.push(V + 1, "2");
    assert!(desk.wants());
    desk.registered(V + 2, C);
    desk.fetched(V + 1, 31, &[A]);
    assert_eq!(desk.said(), ["reset 1,3", "2"]);
    desk.push(V + 1, "3");
    assert!(desk.said().is_empty() && desk.wants());
}

#[test]
fn a_registration_under_another_version_means_a_fetch() {
    for version in [V - 1, V + 1] {
        let mut desk = Desk::complete();
        desk.registered(V, C);
        assert_eq!(desk.said(), ["join 3"]);
        desk.registered(version, C);
        assert!(desk.said().is_empty());
        desk.push(V, "next");
        assert!(desk.said().is_empty() && desk.wants(), "{version}");
    }
}

#[test]
fn a_room_that_was_only_registered_for_is_not_complete() {
    let mut desk = Desk::default();
    desk.registered(V, A);
    desk.change(V + 1, 30, &[C], &[]);
    assert!(desk.said().is_empty());
    desk.push(V + 1, "1");
    assert!(desk.said().is_empty() && desk.wants());
}

#[test]
fn who_left_during_a_fetch_gets_nothing_behind_it() {
    let mut desk = Desk::default();
    desk.push(V, "1");
    assert!(desk.wants());
    desk.change(V + 1, 29, &[], &[5]);
    desk.push(V + 1, "2");
    desk.change(V + 2, 30, &[C], &[]);
    desk.push(V + 2, "3");
    // The answer may be of before or of after the first change.
    desk.fetched(V + 1, 29, &[A]);
    assert_eq!(desk.said(), ["reset 1", "1", "2", "join 3", "3"]);
    let mut desk = Desk::default();
    desk.push(V, "1");
    assert!(desk.wants());
    desk.change(V + 1, 29, &[], &[5]);
    desk.push(V + 1, "2");
    desk.fetched(V, 30, &[A, B]);
    assert_eq!(desk.said(), ["reset 1,2", "1", "leave 5", "2"]);
}

#[test]
fn too_old_an_answer_is_asked_again_and_at_last_given_up_with_a_hint() {
    let mut desk = Desk::complete();
    desk.push(V + 1, "lost");
    desk.push(V, "kept");
    for round in 1..ROUNDS_MAX {
        assert_eq!(desk.rooms.next_wanted().map(|(_, rounds)| rounds), Some(round));
        desk.fetched(V, 30, &[A, B]);
        assert_eq!(desk.said(), ["reset 1,2"]);
    }
    assert!(desk.wants());
    desk.fetched(V, 30, &[A, B]);
    assert_eq!(desk.said(), ["reset 1,2", "kept", "hint"]);
    assert_eq!((desk.rooms.take_lost(), desk.rooms.waiting_bytes), (1, 0));
    desk.push(V + 1, "again");
    assert!(desk.wants(), "it starts anew");
}

#[test]
fn what_waits_is_bounded_and_its_loss_is_told() {
    let mut desk = Desk::default();
    for number in 0..WAITING_MAX + 3 {
        desk.push(V, &number.to_string());
    }
    assert!(desk.wants());
    desk.fetched(V, 30, &[A]);
    let said = desk.said();
    assert_eq!((said.len(), said.last().map(String::as_str)), (WAITING_MAX + 2, Some("hint")));
    assert!(said[1..=WAITING_MAX].iter().enumerate().all(|(number, said)| *said == number.to_string()));
    assert_eq!((desk.rooms.take_lost(), desk.rooms.take_lost()), (3, 0));
}

#[test]
fn typing_is_not_worth_waiting_for() {
    let mut desk = Desk::default();
    let typing = OutFrame { class: FrameClass::Ephemeral, ..frame("typing") };
    let entry = Entry::Frame { version: V, exclude: Address::NONE, frame: typing };
    desk.say(|rooms, outs| rooms.take(GROUP, entry, outs));
    assert!(!desk.wants() && desk.said().is_empty() && desk.rooms.take_lost() == 0);
}

#[test]
fn a_group_that_shrinks_loses_its_room_and_gets_one_again_when_it_grows() {
    let mut desk = Desk::complete();
    desk.change(V + 1, MEMBERS_WITHOUT_ROOM, &[], &[5]);
    assert_eq!(desk.said(), ["leave 5", "drop"]);
    desk.direct("small");
    assert_eq!(desk.said(), ["direct small"]);
    // Made while it was large, and read late.
    desk.push(V, "late");
    assert!(desk.wants());
    desk.fetched(V + 1, MEMBERS_WITHOUT_ROOM, &[A]);
    assert_eq!(desk.said(), ["reset 1", "late", "drop"]);
    desk.change(V + 2, MEMBERS_WITHOUT_ROOM + 1, &[C], &[]);
    assert!(desk.said().is_empty());
    desk.push(V + 2, "large");
    assert!(desk.wants());
    desk.fetched(V + 2, MEMBERS_WITHOUT_ROOM + 1, &[A, C]);
    assert_eq!(desk.said(), ["reset 1,3", "large"]);
}

#[test]
fn a_dissolved_group_has_no_room() {
    let mut desk = Desk::complete();
    desk.dissolve();
    assert_eq!(desk.said(), ["drop"]);
    desk.push(V, "1");
    desk.direct("2");
    assert!(desk.wants());
    desk.say(|rooms, outs| rooms.fetched(GROUP, Fetched::default(), outs));
    assert_eq!(desk.said(), ["drop", "direct 2"]);
    assert_eq!((desk.rooms.take_lost(), desk.rooms.waiting_bytes, desk.rooms.len()), (1, 0, 0));
    desk.fetched(V, 30, &[A]);
    assert!(desk.said().is_empty(), "an answer that nobody waits for");
}

#[test]
fn everybody_who_is_registered_is_in_the_world_room() {
    let mut desk = Desk::default();
    desk.say(|rooms, outs| {
        for (address, version) in [(A, 0), (B, 5)] {
            rooms.registered(WORLD, version, address, outs);
        }
        let entry = |name| Entry::Frame { version: 99, exclude: A, frame: frame(name) };
        rooms.take(WORLD, entry("hello"), outs);
        let change = RoomChange { left: vec![4], joined: vec![C.0], ..RoomChange::default() };
        rooms.take(WORLD, Entry::Change(change), outs);
    });
    assert_eq!(desk.said(), ["join 1", "join 2", "hello", "leave 4", "join 3"]);
    assert!(!desk.wants());
}

#[test]
fn what_reconciling_finds_is_fetched_unless_it_changed_meanwhile() {
    let mut desk = Desk::complete();
    assert_eq!(desk.rooms.versions(), [(GROUP.into(), V)]);
    desk.rooms.outdated(GROUP, V - 1);
    assert!(!desk.wants());
    desk.rooms.outdated(GROUP, V);
    assert!(desk.wants());
    desk.fetched(V + 3, 30, &[C]);
    assert_eq!(desk.said(), ["reset 3"]);
}

#[test]
fn shards_without_members_are_not_told() {
    let mut desk = Desk::complete();
    let mut outs = Vec::new();
    let entry = |name| Entry::Frame { version: V, exclude: Address::NONE, frame: frame(name) };
    desk.rooms.take(GROUP, entry("1"), &mut outs);
    desk.rooms.registered(GROUP, V, Address::new(200, 1, 1), &mut outs);
    desk.rooms.take(GROUP, entry("2"), &mut outs);
    let told: Vec<Vec<usize>> = outs
        .iter()
        .filter_map(|out| match out {
            Out::Frame(_, _, _, shards) => Some((0..256).filter(|shard| shards.contains(*shard)).collect()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [vec![0, 1], vec![0, 1, 200]]);
}
