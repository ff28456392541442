//! Groups, the world room and what lists show of them: changes, versions, tombstones, closed history, recalls.

use super::{NOW, new_single, new_user, put, row, single};
use crate::store::conversation::{Access, ListQuery, MemberQuery, NewConversation, RaisePointer, Select};
use crate::store::group::{AddMembers, AddedMembers, RemoveMember, UpdateInfo, UpdateMember};
use crate::store::pipeline::{Advance, MessageRow, OutboxRow};
use crate::store::{Noun, Store, StoreError};
use gochat_proto::bus::v1::OutboxEvent;
use gochat_proto::events::{Event, EventBody};
use prost::Message as _;

const GROUP: &str = "group_9";
const CLOSED: &str = r#"{"group_settings":{"allow_member_view_history":false}}"#;

/// Users 1 to 30 and a group owned by 1, with 2 and 3.
async fn group(store: &dyn Store, settings: &str) -> i64 {
    store.create_users((1..=30).map(|id| new_user(id, &format!("user{id}"))).collect()).await.unwrap();
    let new = NewConversation {
        id: GROUP.into(),
        kind: 2,
        name: "Die Ärzte".into(),
        owner_id: 1,
        settings: settings.into(),
        members: vec![(1, 3), (2, 1), (3, 1)],
        operator: 1,
        created_at_ms: NOW,
        ..NewConversation::default()
    };
    let key = store.create_conversation(new).await.unwrap().0.head.key;
    events(store).await;
    key
}

fn add(users: &[i64], max_members: i32) -> AddMembers {
    AddMembers {
        conversation: GROUP.into(),
        users: users.to_vec(),
        role: 1,
        max_members,
        operator: 1,
        assigned: None,
        now_ms: NOW,
    }
}

fn remove(user: i64, operator: i64) -> RemoveMember {
    RemoveMember { conversation: GROUP.into(), user, operator, reason: String::new(), now_ms: NOW }
}

fn update(user: i64, role: Option<i32>, mute: Option<(bool, i64)>) -> UpdateMember {
    UpdateMember { conversation: GROUP.into(), user, role, mute, operator: 1, now_ms: NOW }
}

/// Events in the outbox, which are taken out of it.
async fn events(store: &dyn Store) -> Vec<EventBody> {
    let rows = store.outbox(1000).await.unwrap();
    store.delete_outbox(&rows.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await.unwrap();
    let event = |row| match row {
        OutboxRow::Event(bytes) => Event::from_json(&OutboxEvent::decode(bytes).unwrap().value).unwrap().body,
        OutboxRow::Ack(_) => panic!("no message was stored"),
    };
    rows.into_iter().map(|(_, row)| event(row)).collect()
}

async fn version(store: &dyn Store) -> (i64, i32) {
    let roster = store.rosters(&[GROUP.into()]).await.unwrap().remove(0);
    assert_eq!(roster.member_count as usize, if roster.dissolved { 0 } else { roster.members.len() });
    (roster.membership_version, roster.member_count)
}

async fn listed(store: &dyn Store, user: i64) -> Vec<(String, i64, Option<i64>)> {
    let query = ListQuery { user, kind: 0, select: Select::Page { offset: 0 }, limit: 100 };
    let rows = store.conversation_list(query).await.unwrap();
    rows.into_iter().map(|r| (r.conversation.id, r.unread, r.last_message.map(|(m, _)| m.id))).collect()
}

/// Everybody comes in as far as there is room; versions move by one; who was in it stays as they were.
pub(super) async fn members_come_and_go(store: &dyn Store) {
    group(store, "").await;
    assert_eq!(version(store).await, (1, 3));
    let added = store.add_members(add(&[4, 2, 5, 4, 6], 5)).await.unwrap();
    let expected = AddedMembers { added: vec![4, 5], existing: vec![2], rejected: vec![6], member_count: 5 };
    assert_eq!(added, expected);
    assert_eq!(version(store).await, (2, 5), "one change");
    assert!(store.add_members(add(&[4, 2, 6], 5)).await.unwrap().added.is_empty());
    assert_eq!(version(store).await, (2, 5), "nothing changed");
    assert_eq!(store.add_members(add(&[6, 99], 50)).await.unwrap_err(), StoreError::Missing(Noun::User));
    assert_eq!(version(store).await, (2, 5), "all or none");
    let told = events(store).await;
    let [EventBody::MembersAdded { added_user_ids, version: moved, member_count, .. }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((added_user_ids.as_slice(), *moved, *member_count), (["4".to_owned(), "5".into()].as_slice(), 2, 5));

    assert_eq!(store.remove_member(remove(4, 1)).await.unwrap(), 4);
    assert_eq!(version(store).await, (3, 4));
    assert_eq!(store.remove_member(remove(4, 4)).await, Err(StoreError::Missing(Noun::Member)));
    assert_eq!(store.remove_member(remove(1, 1)).await, Err(StoreError::CannotLeave), "the owner");
    assert!(
        matches!(&events(store).await[..], [EventBody::MemberRemoved { removed_user_id, version: 3, member_count: 4, .. }]
        if removed_user_id == "4")
    );
    assert_eq!(store.access(4, GROUP).await.unwrap(), Access::Stranger);
    assert_eq!(store.removed_conversations(4, 0).await.unwrap(), [GROUP]);
    store.add_members(add(&[4], 0)).await.unwrap();
    assert_eq!(store.removed_conversations(4, 0).await.unwrap(), [""; 0], "in it again");
    assert_eq!(store.hide(GROUP, 4).await, Err(StoreError::WrongKind));
    let nowhere = AddMembers { conversation: "group_1".into(), ..add(&[4], 0) };
    assert_eq!(store.add_members(nowhere).await.unwrap_err(), StoreError::Missing(Noun::Conversation));
    store.create_conversation(new_single(1, 2)).await.unwrap();
    let pair = AddMembers { conversation: "single_1_2".into(), ..add(&[3], 0) };
    assert_eq!(store.add_members(pair).await.unwrap_err(), StoreError::WrongKind);
    let apart = RemoveMember { conversation: "single_1_2".into(), ..remove(1, 1) };
    assert_eq!(store.remove_member(apart).await, Err(StoreError::CannotLeave));
}

/// Adders at the limit: exactly as many come in as there is room, each change moves the version by one.
pub(super) async fn the_limit_holds_in_a_race(store: std::sync::Arc<dyn Store>) {
    group(&*store, "").await;
    let adders = (4..=23).map(|user| {
        let store = store.clone();
        tokio::spawn(async move { store.add_members(add(&[user], 10)).await.unwrap() })
    });
    let mut all = AddedMembers::default();
    for adder in adders.collect::<Vec<_>>() {
        let answer = adder.await.unwrap();
        all.added.extend(answer.added);
        all.rejected.extend(answer.rejected);
    }
    assert_eq!((all.added.len(), all.rejected.len()), (7, 13));
    assert_eq!(version(&*store).await, (8, 10), "seven changes");
    let versions: Vec<i64> = events(&*store)
        .await
        .into_iter()
        .map(|event| match event {
            EventBody::MembersAdded { version, .. } => version,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(versions, (2..=8).collect::<Vec<_>>(), "told in the order of the commits");
}

/// Roles, mutes, ownership.
pub(super) async fn roles_change(store: &dyn Store) {
    group(store, "").await;
    store.update_member(update(2, Some(2), None)).await.unwrap();
    store.update_member(update(3, None, Some((true, 77)))).await.unwrap();
    store.update_member(update(3, None, Some((true, 77)))).await.unwrap();
    assert_eq!(events(store).await.len(), 2, "no change, no event");
    let roster = store.rosters(&[GROUP.into()]).await.unwrap().remove(0);
    let special: Vec<_> = roster.special.iter().map(|(id, s)| (*id, s.role, s.muted, s.muted_until)).collect();
    assert_eq!(special, [(1, 3, false, 0), (2, 2, false, 0), (3, 1, true, 77)]);
    assert_eq!(roster.membership_version, 1, "nobody came or went");
    assert_eq!(store.update_member(update(1, Some(1), None)).await, Err(StoreError::NotOwner));
    assert_eq!(store.update_member(update(2, Some(3), None)).await, Err(StoreError::NotOwner));
    assert_eq!(store.update_member(update(9, Some(2), None)).await, Err(StoreError::Missing(Noun::Member)));
    assert_eq!(store.transfer_ownership(GROUP, 2, 3, NOW).await, Err(StoreError::NotOwner));
    assert_eq!(store.transfer_ownership(GROUP, 1, 9, NOW).await, Err(StoreError::Missing(Noun::Member)));
    assert!(events(store).await.is_empty());
    store.transfer_ownership(GROUP, 1, 3, NOW).await.unwrap();
    let query = |role, by_role| MemberQuery { conversation: GROUP.into(), role, by_role, offset: 0, limit: 9 };
    let page = async |role, by_role| {
        let members = store.member_page(query(role, by_role)).await.unwrap();
        members.into_iter().map(|m| (m.user.id, m.role)).collect::<Vec<_>>()
    };
    assert_eq!(page(0, true).await, [(3, 3), (1, 2), (2, 2)]);
    assert_eq!(page(0, false).await, [(1, 2), (2, 2), (3, 3)]);
    assert_eq!((page(2, true).await, page(1, true).await), (vec![(1, 2), (2, 2)], vec![]));
    let mut totals = Vec::new();
    for role in 0..4 {
        totals.push(store.member_total(GROUP, role).await.unwrap());
    }
    assert_eq!(totals, [3, 0, 2, 1]);
    assert_eq!(store.member_ids(GROUP, 1, 1).await.unwrap(), [2]);
    let there = store.conversations(&[GROUP.into()]).await.unwrap().remove(0);
    assert_eq!((there.owner_id, there.info.version), (3, 2));
    assert!(matches!(&events(store).await[..], [EventBody::OwnerTransferred { info_version: 2, .. }]));
}

/// Names and settings, by version.
pub(super) async fn info_changes_by_version(store: &dyn Store) {
    group(store, "").await;
    let rename = |name: &str, expected_version| UpdateInfo {
        conversation: GROUP.into(),
        name: Some(name.into()),
        expected_version,
        operator: 1,
        now_ms: NOW,
        ..UpdateInfo::default()
    };
    let before = store.change_time().await.unwrap();
    let renamed = store.update_info(rename("Örtlich", 1)).await.unwrap();
    assert_eq!((renamed.info.name.as_str(), renamed.info.version), ("Örtlich", 2));
    assert!(renamed.updated_at_ms >= before);
    assert_eq!(store.update_info(rename("late", 1)).await.unwrap_err(), StoreError::Conflict);
    assert_eq!(store.update_info(rename("Örtlich", 0)).await.unwrap().info.version, 2, "as it is");
    let told = events(store).await;
    let [EventBody::InfoUpdated { updated_fields, updates, info_version: 2 }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((updated_fields.as_slice(), &updates["name"]), (["name".to_owned()].as_slice(), &"Örtlich".into()));
    let search = async |user, text: &str| {
        let query = ListQuery { user, kind: 0, select: Select::Named(text.into()), limit: 10 };
        store.conversation_list(query).await.unwrap().into_iter().map(|r| r.conversation.id).collect::<Vec<_>>()
    };
    store.create_conversation(new_single(1, 25)).await.unwrap();
    assert_eq!(search(2, "örtl").await, [GROUP]);
    assert_eq!(search(2, "ärzte").await, [""; 0], "its name of before");
    assert_eq!(search(1, "ser25").await, ["single_1_25"], "by the peer's name");
    assert_eq!(search(1, "ser1").await, [""; 0], "not by one's own");
    assert_eq!(search(1, "%").await, [""; 0]);
    assert_eq!(search(9, "örtl").await, [""; 0], "no stranger finds it");
}

/// An end: nobody is in it, and only those who were are told so.
pub(super) async fn a_group_ends(store: &dyn Store) {
    let key = group(store, "").await;
    put(store, &[row(10, key, 1, 2)]).await;
    store.remove_member(remove(3, 3)).await.unwrap();
    events(store).await;
    store.dissolve(GROUP, 1, "over", NOW).await.unwrap();
    assert!(matches!(&events(store).await[..], [EventBody::Dissolved { reason, member_ids, version: 3 }]
        if reason == "over" && member_ids == &["1", "2"]));
    let mut access = Vec::new();
    for user in 1..=4 {
        access.push(store.access(user, GROUP).await.unwrap());
    }
    assert_eq!(access, [Access::Former, Access::Former, Access::Stranger, Access::Stranger]);
    assert_eq!(store.access(1, "group_1").await.unwrap(), Access::Absent);
    let roster = store.rosters(&[GROUP.into()]).await.unwrap().remove(0);
    assert!(roster.dissolved && roster.members == [1, 2] && roster.member_count == 0);
    assert_eq!(store.members(GROUP, &[1, 2]).await.unwrap(), []);
    assert!(listed(store, 1).await.is_empty() && store.unread_counts(1, &[]).await.unwrap().is_empty());
    assert_eq!(store.removed_conversations(2, 0).await.unwrap(), [GROUP]);
    assert_eq!(store.dissolve(GROUP, 1, "", NOW).await, Err(StoreError::Dissolved));
    assert_eq!(store.add_members(add(&[5], 0)).await.unwrap_err(), StoreError::Dissolved);
    assert_eq!(store.remove_member(remove(2, 2)).await, Err(StoreError::Dissolved));
    assert_eq!(store.update_member(update(2, Some(2), None)).await, Err(StoreError::Dissolved));
    assert!(events(store).await.is_empty());
}

/// Where history is closed, nothing up to the joining is shown or counted, whatever somebody did before.
pub(super) async fn closed_history_begins_at_the_joining(store: &dyn Store) {
    let key = group(store, CLOSED).await;
    let raise = |seq| RaisePointer { user: 3, conversation: GROUP.into(), seq, assigned: Some(2) };
    put(store, &[row(10, key, 1, 1), row(11, key, 2, 1)]).await;
    store.raise_read_pointer(raise(1)).await.unwrap();
    store.remove_member(remove(3, 3)).await.unwrap();
    put(store, &[row(12, key, 3, 1), row(13, key, 4, 1)]).await;
    store.add_members(AddMembers { assigned: Some(6), ..add(&[3, 4], 0) }).await.unwrap();
    for user in [3, 4] {
        assert_eq!(listed(store, user).await, [(GROUP.to_owned(), 0, None)], "nothing of before");
        assert_eq!(store.access(user, GROUP).await.unwrap(), Access::Member { history_after: 6 });
        assert_eq!(store.read_pointer(user, GROUP).await.unwrap().unwrap().last_read_seq, 6);
    }
    put(store, &[row(15, key, 6, 1), row(16, key, 7, 1)]).await;
    assert_eq!(listed(store, 4).await, [(GROUP.to_owned(), 1, Some(16))]);
    assert_eq!(listed(store, 2).await, [(GROUP.to_owned(), 6, Some(16))]);
    let open = UpdateInfo {
        conversation: GROUP.into(),
        settings: Some(r#"{"group_settings":{"mute_all":true}}"#.into()),
        now_ms: NOW,
        ..UpdateInfo::default()
    };
    store.update_info(open).await.unwrap();
    assert_eq!(store.access(4, GROUP).await.unwrap(), Access::Member { history_after: 0 });
    assert_eq!(listed(store, 4).await, [(GROUP.to_owned(), 1, Some(16))], "still only what is newer is unread");
}

/// A hidden chat comes back with the next message of a person, or when it is opened again.
pub(super) async fn a_hidden_chat_comes_back(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    put(store, &[row(10, key, 1, 2)]).await;
    let began = store.change_time().await.unwrap();
    store.hide("single_1_2", 1).await.unwrap();
    assert_eq!((listed(store, 1).await.len(), listed(store, 2).await.len()), (0, 1));
    assert!(store.unread_counts(1, &[]).await.unwrap().is_empty(), "no badge for what is not shown");
    assert_eq!(store.removed_conversations(1, began).await.unwrap(), ["single_1_2"]);
    let one = ListQuery { user: 1, kind: 0, select: Select::One("single_1_2".into()), limit: 1 };
    assert_eq!(store.conversation_list(one).await.unwrap().len(), 1, "asked for by name");
    assert_eq!(store.hide("single_1_2", 3).await, Err(StoreError::Missing(Noun::Member)));
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    tx.insert_messages(&[MessageRow { kind: 4, ..row(11, key, 2, 2) }]).await.unwrap();
    tx.advance(&[Advance { conversation: key, last_seq: 2, stored_through_seq: 2, ..Advance::default() }])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(listed(store, 1).await.is_empty(), "a recall or a system message is no news");
    put(store, &[row(12, key, 3, 2)]).await;
    assert_eq!(listed(store, 1).await, [("single_1_2".to_owned(), 2, Some(12))]);
    assert_eq!(store.removed_conversations(1, 0).await.unwrap(), [""; 0]);
    store.hide("single_1_2", 1).await.unwrap();
    let opened = NewConversation { operator: 1, ..new_single(1, 2) };
    assert!(store.create_conversation(opened).await.unwrap().1);
    assert_eq!(listed(store, 1).await.len(), 1);
}

/// Recalled rows stay, empty; they are not unread; type 4 is neither unread nor the last message.
pub(super) async fn recalls_empty_their_rows(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let other = single(store, 1, 3).await;
    put(store, &[MessageRow { extra: "{}", ..row(10, key, 1, 1) }, row(11, key, 2, 1)]).await;
    put(store, &[row(20, other, 1, 1)]).await;
    assert_eq!(listed(store, 2).await, [("single_1_2".to_owned(), 2, Some(11))]);
    let order = listed(store, 1).await;
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    tx.insert_messages(&[MessageRow { kind: 4, content: "", ..row(12, key, 3, 1) }]).await.unwrap();
    tx.recall_messages(&[(key, 11), (key, 20), (key, 4711)]).await.unwrap();
    tx.advance(&[Advance { conversation: key, last_seq: 3, stored_through_seq: 3, ..Advance::default() }])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let target = |id| async move { store.recall_targets(&[id, 4711]).await.unwrap().remove(0) };
    let (first, second) = (target(10).await, target(11).await);
    assert!(!first.deleted && second.deleted && !target(20).await.deleted, "only what belongs to the conversation");
    assert_eq!((second.conversation, second.seq, second.sender_id, second.kind), (key, 2, 1, 1));
    let gone = store.message(11).await.unwrap().unwrap();
    assert!(gone.deleted && gone.content.is_empty() && gone.extra.is_empty());
    assert!(!store.message(10).await.unwrap().unwrap().content.is_empty());
    assert_eq!(listed(store, 2).await, [("single_1_2".to_owned(), 1, Some(11))], "shown as recalled");
    assert_eq!(
        listed(store, 1).await.iter().map(|r| &r.0).collect::<Vec<_>>(),
        order.iter().map(|r| &r.0).collect::<Vec<_>>(),
        "a recall is no activity"
    );
}

/// Deltas: oldest change first, in pages that lose nothing while things go on.
pub(super) async fn deltas_walk_changes(store: &dyn Store) {
    let mut keys = Vec::new();
    for high in 2..=8 {
        keys.push(single(store, 1, high).await);
    }
    let changed = async |since_ms, after| {
        let query = ListQuery { user: 1, kind: 0, select: Select::Changed { since_ms, after }, limit: 3 };
        let rows = store.conversation_list(query).await.unwrap();
        let last = rows.last().map(|r| (r.changed_at_ms, r.conversation.head.key));
        assert!(rows.is_sorted_by_key(|r| (r.changed_at_ms, r.conversation.head.key)));
        (rows.into_iter().map(|r| r.conversation.head.key).collect::<Vec<_>>(), last)
    };
    let (mut seen, mut after, mut pages) = (Vec::new(), (0, 0), 0);
    loop {
        let (rows, last) = changed(0, after).await;
        pages += 1;
        if pages == 1 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            put(store, &[row(10, rows[0], 1, 2)]).await;
        }
        seen.extend(rows);
        let Some(last) = last else { break };
        after = last;
    }
    assert!(keys.iter().all(|key| seen.contains(key)), "{seen:?}");
    assert_eq!(seen.iter().filter(|key| **key == seen[0]).count(), 2, "what changed meanwhile comes again");
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let now = store.change_time().await.unwrap();
    assert!(changed(now, (now, 0)).await.0.is_empty());
    let raise = RaisePointer { user: 1, conversation: "single_1_3".into(), seq: 5, assigned: Some(5) };
    store.raise_read_pointer(raise).await.unwrap();
    assert_eq!(changed(now, (now, 0)).await.0, [keys[1]], "read on another device");
    let raise = RaisePointer { user: 4, conversation: "single_1_4".into(), seq: 5, assigned: Some(5) };
    store.raise_read_pointer(raise).await.unwrap();
    assert_eq!(changed(now, (now, 0)).await.0, [keys[1]], "what the other one read is not one's own change");
}

/// The world room: any number, no versions, its members looked up one by one.
pub(super) async fn the_world_room_counts_only(store: &dyn Store) {
    group(store, "").await;
    let new = NewConversation { id: "world".into(), kind: 3, created_at_ms: NOW, ..NewConversation::default() };
    store.create_conversation(new).await.unwrap();
    assert!(events(store).await.is_empty());
    let join = |users: &[i64]| AddMembers { conversation: "world".into(), operator: 0, ..add(users, 0) };
    let before = store.conversations(&["world".into()]).await.unwrap().remove(0);
    assert_eq!(store.add_members(join(&[1, 2, 3])).await.unwrap().member_count, 3);
    assert_eq!(store.add_members(join(&[3])).await.unwrap().existing, [3]);
    let leave = RemoveMember { conversation: "world".into(), ..remove(2, 2) };
    assert_eq!(store.remove_member(leave).await.unwrap(), 2);
    let after = store.conversations(&["world".into()]).await.unwrap().remove(0);
    assert_eq!((after.updated_at_ms, after.member_count), (before.updated_at_ms, 2), "no change for all of them");
    let roster = store.rosters(&["world".into()]).await.unwrap().remove(0);
    assert!(roster.is_world() && roster.members.is_empty() && roster.member_count == 2);
    let told = events(store).await;
    assert!(
        matches!(
            &told[..],
            [EventBody::MembersAdded { version: 0, kind: 3, .. }, EventBody::MemberRemoved { version: 0, .. }]
        ),
        "{told:?}"
    );
    let moderator = UpdateMember { conversation: "world".into(), ..update(1, Some(3), None) };
    store.update_member(moderator).await.unwrap();
    assert_eq!(store.members("world", &[1, 2]).await.unwrap().iter().map(|m| m.role).collect::<Vec<_>>(), [3]);
    assert_eq!(store.dissolve("world", 1, "", NOW).await, Err(StoreError::WrongKind));
}

/// A block is seen from both sides of a single chat.
pub(super) async fn rosters_know_blocks(store: &dyn Store) {
    single(store, 1, 2).await;
    single(store, 1, 3).await;
    let blocked = async || {
        let rosters = store.rosters(&["single_1_2".into(), "single_1_3".into()]).await.unwrap();
        rosters.iter().map(|r| r.blocked).collect::<Vec<_>>()
    };
    assert_eq!(blocked().await, [false, false]);
    store.set_block(2, 1, true, NOW).await.unwrap();
    assert_eq!(blocked().await, [true, false]);
    store.set_block(2, 1, false, NOW).await.unwrap();
    store.set_block(1, 2, true, NOW).await.unwrap();
    assert_eq!(blocked().await, [true, false]);
}
