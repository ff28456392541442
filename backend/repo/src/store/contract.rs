//! What every [`Store`] must do, whatever database is behind it. Panics where an implementation breaks the contract.
//!
//! Never tests the rules above the seam: only that its verbs do what they say.

#![allow(clippy::unwrap_used, reason = "a test suite: a failure is a panic")]

mod groups;
mod people;

use super::conversation::{ListQuery, NewConversation, RaisePointer, RaisedPointer, Select};
use super::message::MessageQuery;
use super::pipeline::{Advance, ClaimRow, LogState, MessageRow, OutboxRow, Parked, PrepareLookup};
use super::token::{ConsumeToken, Consumed, NewRefreshToken, family_key};
use super::user::{NewUser, Status, UserChange};
use super::{Noun, Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// A time all of the suite happens around, Unix milliseconds.
const NOW: i64 = 1_800_000_000_000;
const MONTH: i64 = 31 * 24 * 3600 * 1000;

/// Runs the whole suite; `make` gives an empty store each time.
pub async fn check<F, S>(make: F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn Store>>,
{
    accounts(make().await.as_ref()).await;
    conversations(make().await.as_ref()).await;
    epochs_and_bounds(make().await.as_ref()).await;
    claims(make().await.as_ref()).await;
    claims_over_periods(make().await.as_ref()).await;
    messages(make().await.as_ref()).await;
    transactions_leave_no_trace(make().await.as_ref()).await;
    heads(make().await.as_ref()).await;
    history(make().await.as_ref()).await;
    lists_and_pointers(make().await.as_ref()).await;
    groups::members_come_and_go(make().await.as_ref()).await;
    groups::roles_change(make().await.as_ref()).await;
    groups::info_changes_by_version(make().await.as_ref()).await;
    groups::a_group_ends(make().await.as_ref()).await;
    groups::closed_history_begins_at_the_joining(make().await.as_ref()).await;
    groups::a_hidden_chat_comes_back(make().await.as_ref()).await;
    groups::recalls_empty_their_rows(make().await.as_ref()).await;
    groups::deltas_walk_changes(make().await.as_ref()).await;
    groups::the_world_room_counts_only(make().await.as_ref()).await;
    groups::rosters_know_blocks(make().await.as_ref()).await;
    groups::the_limit_holds_in_a_race(make().await).await;
    people::requests_are_answered_once(make().await.as_ref()).await;
    people::friendships_end_on_both_sides(make().await.as_ref()).await;
    people::blocks_stand_alone(make().await.as_ref()).await;
    people::two_at_once_become_friends(make().await).await;
    people::rooms_have_versions(make().await.as_ref()).await;
    people::accounts_are_found_and_end(make().await.as_ref()).await;
    refresh_tokens(make().await.as_ref()).await;
    revocations(make().await.as_ref()).await;
    upkeep(make().await.as_ref()).await;
}

fn new_user(id: i64, name: &str) -> NewUser {
    NewUser {
        id,
        username: name.into(),
        password_hash: format!("hash-{id}"),
        avatar_url: String::new(),
        is_guest: false,
        created_at_ms: NOW,
    }
}

async fn single(store: &dyn Store, low: i64, high: i64) -> i64 {
    for id in [low, high] {
        match store.create_user(new_user(id, &format!("user{id}"))).await {
            Ok(_) | Err(StoreError::Exists(Noun::Username)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    store.create_conversation(new_single(low, high)).await.unwrap().0.head.key
}

fn new_single(low: i64, high: i64) -> NewConversation {
    NewConversation {
        id: format!("single_{low}_{high}"),
        kind: 1,
        name: String::new(),
        avatar_url: String::new(),
        description: String::new(),
        owner_id: 0,
        settings: String::new(),
        members: vec![(low, 1), (high, 1)],
        operator: 0,
        created_at_ms: NOW,
    }
}

fn row(id: i64, conversation: i64, seq: i64, sender_id: i64) -> MessageRow<'static> {
    MessageRow {
        id,
        conversation,
        seq,
        sender_id,
        kind: 1,
        content: "hello",
        extra: "",
        client_msg_id: b"c",
        content_hash: u128::MAX - 7,
        created_at_ms: NOW + seq,
    }
}

async fn put(store: &dyn Store, rows: &[MessageRow<'_>]) {
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    assert_eq!(tx.insert_messages(rows).await.unwrap().new, rows.len() as u64);
    let last = rows.last().unwrap();
    let advance = Advance {
        conversation: last.conversation,
        last_seq: last.seq,
        last_message_seq: last.seq,
        last_message_id: last.id,
        active: true,
        stored_through_seq: last.seq,
        parked: false,
    };
    tx.advance(&[advance]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn accounts(store: &dyn Store) {
    let anna = store.create_user(new_user(1, "Anna")).await.unwrap();
    assert_eq!((anna.status, anna.token_version), (Status::Normal, 0));
    let taken = store.create_user(new_user(2, "aNNA")).await;
    assert_eq!(taken, Err(StoreError::Exists(Noun::Username)), "names are unique without regard to case");
    let many: Vec<_> = (10..700).map(|id| new_user(id, &format!("u{id}"))).collect();
    store.create_users(many).await.unwrap();
    let half = store.create_users(vec![new_user(800, "fresh"), new_user(801, "anna")]).await;
    assert_eq!(half, Err(StoreError::Exists(Noun::Username)));
    assert_eq!(store.user_by_name("fresh").await.unwrap(), None, "all or none");
    assert_eq!(store.user_by_name("ANNA").await.unwrap(), Some(anna));
    let asked: Vec<i64> = (1..700).collect();
    let mut found: Vec<i64> = store.users(&asked).await.unwrap().iter().map(|u| u.id).collect();
    found.sort_unstable();
    assert_eq!(found, [1].into_iter().chain(10..700).collect::<Vec<_>>());
    assert_eq!(store.password_hash(1).await.unwrap().as_deref(), Some("hash-1"));
    assert_eq!(store.password_hash(2).await.unwrap(), None);
    let change = UserChange { status: Some(Status::Disabled), ..UserChange::default() };
    let changed = store.update_user(1, change.clone(), NOW + 5).await.unwrap();
    assert_eq!((changed.status, changed.username.as_str(), changed.updated_at_ms), (Status::Disabled, "Anna", NOW + 5));
    assert_eq!(store.update_user(2, change, NOW).await, Err(StoreError::Missing(Noun::User)));
}

async fn conversations(store: &dyn Store) {
    store.create_users(vec![new_user(1, "a"), new_user(2, "b"), new_user(3, "c")]).await.unwrap();
    let (made, existed) = store.create_conversation(new_single(1, 2)).await.unwrap();
    assert!(!existed);
    assert_eq!((made.member_count, made.head.stored_through_seq, made.head.parked), (2, 0, false));
    let again = store.create_conversation(NewConversation { name: "other".into(), ..new_single(1, 2) }).await.unwrap();
    assert_eq!(again, (made.clone(), true), "the first one stands");
    let stranger = store.create_conversation(new_single(1, 99)).await;
    assert_eq!(stranger.unwrap_err(), StoreError::Missing(Noun::User));
    let asked = ["single_1_2".to_owned(), "single_1_99".to_owned()];
    assert_eq!(
        store.conversations(&asked).await.unwrap(),
        std::slice::from_ref(&made),
        "nothing is left of the refused one"
    );
    let rosters = store.rosters(&asked).await.unwrap();
    assert_eq!(rosters.len(), 1);
    assert_eq!((rosters[0].key, rosters[0].members.as_slice()), (made.head.key, [1, 2].as_slice()));
    let (other, _) = store.create_conversation(new_single(2, 3)).await.unwrap();
    for (asked, there) in
        [(vec![1], vec![1]), (vec![3], vec![]), (vec![3, 2], vec![2]), (vec![2, 3, 1, 99], vec![1, 2])]
    {
        let mut members = store.members("single_1_2", &asked).await.unwrap();
        members.sort_unstable_by_key(|m| m.user.id);
        assert_eq!(members.iter().map(|m| m.user.id).collect::<Vec<_>>(), there, "among {asked:?}");
        assert!(members.iter().all(|m| (m.role, m.muted, m.joined_at_ms) == (1, false, NOW)));
    }
    let members = store.members(&other.id, &[3]).await.unwrap();
    assert_eq!(members[0].user.username, "c");
    assert_eq!(store.members("single_1_99", &[1]).await.unwrap(), []);
}

async fn epochs_and_bounds(store: &dyn Store) {
    assert_eq!(store.epoch(3).await.unwrap(), 0);
    assert_eq!(store.draw_epoch(3).await.unwrap(), 1);
    assert_eq!(store.draw_epoch(3).await.unwrap(), 2);
    assert_eq!(store.draw_epoch(4).await.unwrap(), 1);
    assert_eq!(store.epoch(3).await.unwrap(), 2);
    let many: Vec<(i64, i64)> = (1..=300).map(|key| (key, key)).collect();
    assert_eq!(store.reserve_sequences(&many).await.unwrap(), vec![0; 300]);
    assert_eq!(store.reserve_sequences(&[(7, 1000), (2, 5)]).await.unwrap(), [7, 2]);
    assert_eq!(store.reserve_sequences(&[(2, 5)]).await.unwrap(), [7]);
}

async fn claims(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let claim = |place, message_id| ClaimRow { place, message_id };
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    let all: Vec<ClaimRow> = (0..300).map(|i| claim(i, 1000 + i)).collect();
    assert_eq!(tx.insert_claims(&all).await.unwrap(), []);
    let mixed = [claim(5, 1005), claim(-9, 1), claim(7, 2), claim(-9, 3)];
    assert_eq!(
        tx.insert_claims(&mixed).await.unwrap(),
        [(2, 1007), (3, 1)],
        "held by others, also by one of this call"
    );
    tx.insert_messages(&[row(1007, key, 4, 1)]).await.unwrap();
    tx.commit().await.unwrap();
    store.draw_epoch(6).await.unwrap();
    let lookup = PrepareLookup { partition: 6, claims: vec![7, 8, 999], conversations: vec![key, 4711, key] };
    let answer = store.prepare_lookup(lookup).await.unwrap();
    assert_eq!((answer.epoch, answer.top_seqs), (1, vec![0, 0, 0]));
    let mut taken = answer.claims;
    taken.sort_unstable_by_key(|(place, _)| *place);
    assert_eq!(
        taken.iter().map(|(place, row)| (*place, row.as_ref().map(|r| r.id))).collect::<Vec<_>>(),
        [(7, Some(1007)), (8, None)]
    );
    let stored = taken[0].1.as_ref().unwrap();
    assert_eq!((stored.seq, stored.sender_id, stored.content_hash), (4, 1, u128::MAX - 7));
    assert_eq!(stored.client_msg_id, b"c");
}

async fn claims_over_periods(store: &dyn Store) {
    let put_claim = async |now, place, message_id| {
        let mut tx = store.begin_persist(0, now).await.unwrap();
        let held = tx.insert_claims(&[ClaimRow { place, message_id }]).await.unwrap();
        tx.commit().await.unwrap();
        held
    };
    let is_taken = async |place| {
        let lookup = PrepareLookup { claims: vec![place], ..PrepareLookup::default() };
        !store.prepare_lookup(lookup).await.unwrap().claims.is_empty()
    };
    assert_eq!(put_claim(NOW, 1, 10).await, []);
    assert_eq!(put_claim(NOW + MONTH, 2, 20).await, []);
    assert_eq!(put_claim(NOW + MONTH, 1, 11).await, [(0, 10)], "the period before is still asked");
    assert_eq!(put_claim(NOW + MONTH, 1, 10).await, [], "its own claim of the period before");
    assert_eq!(put_claim(NOW, 3, 30).await, [], "a clock that steps back stays in the newest period");
    assert!(is_taken(1).await && is_taken(2).await && is_taken(3).await);
    assert_eq!(put_claim(NOW + 2 * MONTH, 4, 40).await, []);
    assert!(!is_taken(1).await, "two periods are kept");
    assert!(is_taken(2).await && is_taken(3).await && is_taken(4).await);
}

async fn messages(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let rows: Vec<_> = (1..=400).map(|i| row(i, key, i, 1)).collect();
    put(store, &rows).await;
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    let mixed =
        [row(7, key, 7, 1), row(401, key, 401, 1), row(8, key, 500, 1), row(402, key, 9, 1), row(10, key, 10, 2)];
    let inserted = tx.insert_messages(&mixed).await.unwrap();
    assert_eq!((inserted.new, inserted.conflicts), (1, vec![2, 3, 4]), "id, place and sender of another");
    assert_eq!(tx.insert_messages(&[]).await.unwrap().new, 0);
    let mut found: Vec<i64> = tx.rows_by_id(&[8, 401, 402]).await.unwrap().iter().map(|r| r.id).collect();
    found.sort_unstable();
    assert_eq!(found, [8, 401]);
    let at: Vec<i64> = tx.rows_at(&[(key, 9), (key, 4711), (key + 1, 9)]).await.unwrap().iter().map(|r| r.id).collect();
    assert_eq!(at, [9]);
    tx.commit().await.unwrap();
    assert_eq!(store.highest_id().await.unwrap(), 401);
    store.create_user(new_user(500, "late")).await.unwrap();
    assert_eq!(store.highest_id().await.unwrap(), 500, "of a user");
}

async fn transactions_leave_no_trace(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let before: Vec<i64> = store.outbox(100).await.unwrap().iter().map(|(id, _)| *id).collect();
    store.delete_outbox(&before).await.unwrap();
    let mut tx = store.begin_persist(2, NOW).await.unwrap();
    assert_eq!(tx.log_state().await.unwrap(), LogState::default());
    tx.insert_claims(&[ClaimRow { place: 1, message_id: 1 }]).await.unwrap();
    tx.insert_messages(&[row(1, key, 1, 1)]).await.unwrap();
    tx.add_outbox(&[Bytes::from_static(b"ack")], &[]).await.unwrap();
    tx.set_log_state(LogState { next_offset: 9, epoch_seen: 2 }).await.unwrap();
    drop(tx);
    assert_eq!(store.highest_id().await.unwrap(), 2, "of a user");
    assert_eq!(store.positions().await.unwrap(), []);
    let lookup = PrepareLookup { claims: vec![1], ..PrepareLookup::default() };
    assert_eq!(store.prepare_lookup(lookup).await.unwrap().claims, []);

    let mut tx = store.begin_persist(2, NOW).await.unwrap();
    let parked = Parked {
        partition: 2,
        log_offset: 8,
        conversation: "single_1_2".into(),
        message_id: 77,
        reason: "why".into(),
        message: Bytes::from_static(b"bytes"),
        parked_at_ms: NOW,
    };
    tx.park(std::slice::from_ref(&parked)).await.unwrap();
    tx.add_outbox(&[Bytes::from_static(b"one"), Bytes::from_static(b"two")], &[]).await.unwrap();
    tx.set_log_state(LogState { next_offset: 9, epoch_seen: 2 }).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.positions().await.unwrap(), [(2, 9)]);
    let mut tx = store.begin_persist(2, NOW).await.unwrap();
    assert_eq!(tx.log_state().await.unwrap(), LogState { next_offset: 9, epoch_seen: 2 });
    drop(tx);
    assert_eq!(store.parked(10).await.unwrap(), [parked]);
    assert_eq!(store.highest_id().await.unwrap(), 77, "of a parked message");
    let ack = |bytes: &'static [u8]| OutboxRow::Ack(Bytes::from_static(bytes));
    let outbox = store.outbox(10).await.unwrap();
    assert_eq!(outbox.iter().map(|(_, row)| row.clone()).collect::<Vec<_>>(), [ack(b"one"), ack(b"two")]);
    assert_eq!(store.outbox(1).await.unwrap().len(), 1);
    store.delete_outbox(&[outbox[0].0, 4711]).await.unwrap();
    assert_eq!(store.outbox(10).await.unwrap(), outbox[1..]);
}

async fn heads(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let other = single(store, 1, 3).await;
    let step = async |advance: Advance| {
        let mut tx = store.begin_persist(0, NOW).await.unwrap();
        tx.advance(&[advance, Advance { conversation: other, ..Advance::default() }]).await.unwrap();
        tx.commit().await.unwrap();
        store.conversations(&["single_1_2".into()]).await.unwrap().remove(0)
    };
    let moved = Advance { conversation: key, last_seq: 5, stored_through_seq: 6, ..Advance::default() };
    let began = store.change_time().await.unwrap();
    let head = step(moved).await;
    assert_eq!((head.head.last_seq, head.head.stored_through_seq), (5, 6));
    assert!(head.updated_at_ms >= began, "a change that was not visible yet has a later time");
    let lower = step(Advance { last_seq: 4, stored_through_seq: 5, ..moved }).await;
    assert_eq!(lower.head, head.head, "lower values change nothing");
    assert!(lower.updated_at_ms >= head.updated_at_ms, "change times never step back");
    let passed = step(Advance { last_seq: 0, ..moved }).await;
    assert_eq!(passed.updated_at_ms, lower.updated_at_ms, "nothing was stored in it");
    let head = step(Advance { last_seq: 8, stored_through_seq: 7, parked: true, ..moved }).await;
    assert_eq!((head.head.last_seq, head.head.stored_through_seq, head.head.parked), (8, 7, true));
    let head = step(Advance { last_seq: 9, stored_through_seq: 9, ..moved }).await;
    assert_eq!((head.head.last_seq, head.head.stored_through_seq, head.head.parked), (9, 7, true), "stopped (D1)");
    let lookup = PrepareLookup { conversations: vec![key, other], ..PrepareLookup::default() };
    assert_eq!(store.prepare_lookup(lookup).await.unwrap().top_seqs, [9, 0]);
}

async fn history(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let rows: Vec<_> = (1..=9).map(|i| MessageRow { kind: 1 + (i % 2) as i32, ..row(i * 10, key, i, 1) }).collect();
    put(store, &rows).await;
    let page = async |low, high, ascending, kinds: &[i32]| {
        let (conversation, kinds) = ("single_1_2".to_owned(), kinds.to_vec());
        let query = MessageQuery { conversation, low, high, ascending, kinds, limit: 3 };
        let page = store.messages(query).await.unwrap().unwrap();
        assert_eq!(page.head.stored_through_seq, 9);
        assert!(page.messages.iter().all(|(m, from)| from.as_ref().is_some_and(|p| p.id == m.sender_id)));
        page.messages.iter().map(|(m, _)| m.seq).collect::<Vec<_>>()
    };
    assert_eq!(page(0, i64::MAX, true, &[]).await, [1, 2, 3]);
    assert_eq!(page(0, i64::MAX, false, &[]).await, [9, 8, 7]);
    assert_eq!(page(4, 5, true, &[]).await, [4, 5]);
    assert_eq!(page(4, 5, false, &[]).await, [5, 4]);
    assert_eq!(page(0, i64::MAX, true, &[2]).await, [1, 3, 5]);
    let nowhere = MessageQuery { conversation: "x".into(), low: 0, high: 9, ascending: true, kinds: vec![], limit: 3 };
    assert!(store.messages(nowhere).await.unwrap().is_none());
    let message = store.message(30).await.unwrap().unwrap();
    assert_eq!((message.seq, message.conversation.as_str(), message.client_msg_id.as_str()), (3, "single_1_2", "c"));
    assert_eq!(store.message(31).await.unwrap(), None);
}

async fn lists_and_pointers(store: &dyn Store) {
    let first = single(store, 1, 2).await;
    let second = single(store, 1, 3).await;
    single(store, 2, 3).await;
    put(store, &[row(10, first, 1, 2), row(11, first, 2, 1), row(12, first, 3, 2)]).await;
    put(store, &(1..=150).map(|i| row(1000 + i, second, i, 3)).collect::<Vec<_>>()).await;
    let list = async |limit, offset, kind| {
        let query = ListQuery { user: 1, kind, select: Select::Page { offset }, limit };
        store.conversation_list(query).await.unwrap()
    };
    let rows = list(10, 0, 0).await;
    assert_eq!(rows.iter().map(|r| r.conversation.id.as_str()).collect::<Vec<_>>(), ["single_1_3", "single_1_2"]);
    assert_eq!(rows.iter().map(|r| r.unread).collect::<Vec<_>>(), [100, 2], "other senders only, shown up to 99+");
    let (last, from) = rows[1].last_message.as_ref().unwrap();
    assert_eq!((last.id, from.as_ref().unwrap().username.as_str()), (12, "user2"));
    assert_eq!(rows[1].peer.as_ref().unwrap().id, 2);
    assert_eq!((rows[0].total, list(1, 1, 0).await[0].conversation.id.as_str()), (2, "single_1_2"));
    assert!(list(10, 0, 2).await.is_empty());

    let raise = async |seq, assigned| {
        let conversation = "single_1_2".into();
        let raise = RaisePointer { user: 1, conversation, seq, assigned };
        store.raise_read_pointer(raise).await.unwrap().unwrap()
    };
    assert_eq!(raise(1, None).await, RaisedPointer { previous: 0, current: 1, unread: 1 });
    assert_eq!(raise(0, None).await, RaisedPointer { previous: 1, current: 1, unread: 1 }, "the greatest wins");
    store.reserve_sequences(&[(first, 1000)]).await.unwrap();
    assert_eq!(raise(-1, None).await, RaisedPointer { previous: 1, current: 3, unread: 0 });
    assert_eq!(raise(1 << 40, None).await.current, 3, "counters unknown: the highest stored");
    assert_eq!(raise(1 << 40, Some(4)).await.current, 4, "nobody has read what was not handed out");
    assert_eq!(raise(-1, Some(5)).await.current, 5, "all that was handed out");
    let pointer = store.read_pointer(1, "single_1_2").await.unwrap().unwrap();
    assert_eq!(pointer.last_read_seq, 5);
    assert!(pointer.updated_at_ms <= store.change_time().await.unwrap(), "a change time");
    assert_eq!(store.read_pointer(3, "single_1_2").await.unwrap(), None, "no member");
    let stranger = RaisePointer { user: 3, conversation: "single_1_2".into(), seq: 1, assigned: None };
    assert_eq!(store.raise_read_pointer(stranger).await.unwrap(), None);
    let mut counts = store.unread_counts(1, &[]).await.unwrap();
    counts.sort_unstable();
    assert_eq!(counts, [("single_1_2".to_owned(), 0), ("single_1_3".to_owned(), 100)]);
    assert_eq!(store.unread_counts(2, &["single_1_2".into()]).await.unwrap(), [("single_1_2".to_owned(), 1)]);
    assert!(store.conversation_ids(1, 1, 10).await.unwrap().contains(&"single_1_2".to_owned()));
    assert_eq!(store.conversation_ids(2, 1, 1).await.unwrap().len(), 1, "of two, at most one");
    assert!(store.conversation_ids(2, 2, 10).await.unwrap().is_empty(), "of another kind");
}

async fn refresh_tokens(store: &dyn Store) {
    store.create_user(new_user(1, "a")).await.unwrap();
    let token = |hash: &str, family: &str| NewRefreshToken {
        token_hash: hash.into(),
        user: 1,
        family: family.into(),
        expires_at: 1000,
        client_info: "phone".into(),
        now: 100,
    };
    store.store_refresh_token(token("t1", "f1")).await.unwrap();
    store.store_refresh_token(token("t9", "f2")).await.unwrap();
    let twice = store.store_refresh_token(token("t1", "f1")).await;
    assert_eq!(twice, Err(StoreError::Exists(Noun::RefreshToken)));
    let consume = async |hash: &str, client: &str, successor: &str, now| {
        let consume = ConsumeToken {
            token_hash: hash.into(),
            client_info: client.into(),
            now,
            grace_seconds: 10,
            successor_hash: successor.into(),
            successor_expires_at: 2000,
            replay: Bytes::from(format!("sealed {successor}")),
        };
        store.consume_refresh_token(consume).await.unwrap()
    };
    assert!(matches!(consume("t1", "phone", "t2", 200).await, Consumed::First(o) if o.user == 1 && o.family == "f1"));
    let Consumed::Grace(_, replay) = consume("t1", "phone", "tx", 205).await else { panic!("within the grace") };
    assert_eq!(replay, "sealed t2".as_bytes(), "the first use's pair");
    assert_eq!(consume("tx", "phone", "ty", 205).await, Consumed::Unknown, "the second try's successor is not stored");
    assert!(matches!(consume("t2", "phone", "t3", 210).await, Consumed::First(_)));
    assert!(matches!(consume("t1", "phone", "tx", 300).await, Consumed::Reused(_)), "past the grace");
    assert_eq!(consume("t3", "phone", "t4", 301).await, Consumed::Unknown, "its family is revoked");
    assert_eq!(consume("t9", "phone", "t10", 1000).await, Consumed::Expired);
    assert!(matches!(consume("t9", "phone", "t10", 999).await, Consumed::First(_)), "the other family lives");
    assert!(matches!(consume("t9", "laptop", "t11", 999).await, Consumed::Reused(_)), "another client");
    assert_eq!(store.revoke_family("f2", 0, 999).await.unwrap(), None, "revoked already");
    store.store_refresh_token(token("t20", "f3")).await.unwrap();
    assert_eq!(store.families(1, 999, 9).await.unwrap().iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["f3"]);
    assert_eq!(store.revoke_family("f3", 2, 400).await.unwrap(), None, "another user's");
    assert_eq!(store.revoke_family("f3", 1, 400).await.unwrap(), Some((1, 1)));
    assert_eq!(store.blacklisted(&[family_key("f3"), family_key("f4")], 400).await.unwrap(), [true, false]);
    assert_eq!(store.families(1, 400, 9).await.unwrap(), []);
    assert_eq!(consume("t20", "phone", "t21", 400).await, Consumed::Unknown);
}

async fn revocations(store: &dyn Store) {
    store.create_user(new_user(1, "a")).await.unwrap();
    store.blacklist("h1", 500, 100).await.unwrap();
    store.blacklist("h1", 600, 100).await.unwrap();
    store.blacklist("h2", 150, 100).await.unwrap();
    let asked = ["h0".to_owned(), "h1".to_owned(), "h2".to_owned()];
    assert_eq!(store.blacklisted(&asked, 140).await.unwrap(), [false, true, true]);
    assert_eq!(store.blacklisted(&asked, 550).await.unwrap(), [false, true, false]);
    assert_eq!(store.revoke_user(1, 100).await.unwrap(), (0, 1));
    assert_eq!(store.revoke_user(1, 100).await.unwrap(), (0, 2));
    assert_eq!(store.revoke_user(2, 100).await, Err(StoreError::Missing(Noun::User)));
    assert_eq!(store.users(&[1]).await.unwrap()[0].token_version, 2);
    let listed = store.revocations(0, 10, 200).await.unwrap();
    assert!(listed.is_sorted_by_key(|r| r.id));
    let seen: Vec<_> = listed.iter().map(|r| (r.token_hash.as_str(), r.user, r.min_version)).collect();
    assert_eq!(seen, [("h1", 0, 0), ("", 1, 1), ("", 1, 2)]);
    assert_eq!(store.revocations(listed[1].id, 10, 200).await.unwrap(), listed[2..]);
}

async fn upkeep(store: &dyn Store) {
    let key = single(store, 1, 2).await;
    let before = store.backlog().await.unwrap();
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    let parked = Parked {
        partition: 0,
        log_offset: 7,
        conversation: "single_1_2".into(),
        message_id: 0,
        reason: "why".into(),
        message: Bytes::new(),
        parked_at_ms: NOW,
    };
    tx.park(&[parked]).await.unwrap();
    tx.add_outbox(&[Bytes::from_static(b"ack")], &[]).await.unwrap();
    tx.commit().await.unwrap();
    let after = store.backlog().await.unwrap();
    assert_eq!((after.parked, after.outbox - before.outbox), (1, 1));
    // Numbers are left out above what was reserved, and above what was stored without having been.
    assert_eq!(store.reserve_sequences(&[(key, 10)]).await.unwrap(), [0]);
    store.leap(1_000).await.unwrap();
    assert_eq!(store.reserve_sequences(&[(key, 10)]).await.unwrap(), [1_010]);
    let other = single(store, 3, 4).await;
    let mut tx = store.begin_persist(0, NOW).await.unwrap();
    let advance = Advance { conversation: other, last_seq: 50, stored_through_seq: 60, ..Advance::default() };
    tx.advance(&[advance]).await.unwrap();
    tx.commit().await.unwrap();
    store.leap(1_000).await.unwrap();
    assert_eq!(store.reserve_sequences(&[(other, 1)]).await.unwrap(), [1_060]);
    // One moment for a copy at a time; given up, the store goes on.
    drop(store.freeze().await.unwrap());
    store.leap(1).await.unwrap();
}
