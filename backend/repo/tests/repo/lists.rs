//! What clients read: history pages, the conversation list, unread counts, accounts.

use crate::bench::{Bench, CHAT, NOW, ask, message, record};
use gochat_proto::codes::ErrorCode;
use gochat_proto::common::v1::Pagination;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::*;
use gochat_repo::store::pipeline::Advance;
use std::time::Duration;

async fn filled(count: i64) -> Bench {
    let bench = Bench::new().await;
    let messages = (1..=count).map(|i| message(i * 10, i, &format!("m{i}"), &format!("text {i}"))).collect();
    bench.save(vec![(0, record(1, messages))]).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn history_pages_meet_without_gap_or_overlap() {
    let bench = filled(25).await;
    for ascending in [true, false] {
        let (mut seen, mut start) = (Vec::new(), 0);
        loop {
            let page = bench.history(start, 0, 10, ascending).await;
            assert!(page.messages.iter().all(|m| m.sender.as_ref().is_some_and(|s| s.username == "user1")));
            seen.extend(page.messages.iter().map(|m| m.seq_id));
            assert_eq!(page.complete, !page.has_more && ascending, "a page that begins below the newest is no answer");
            if !page.has_more {
                break;
            }
            start = page.next_seq_id;
        }
        if !ascending {
            seen.reverse();
        }
        assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    }
    let newest = bench.history(0, 20, 10, false).await;
    assert_eq!((newest.messages.len(), newest.complete), (6, true), "all of 20 and above");
    let page = bench.history(26, 0, 10, true).await;
    assert_eq!((page.messages.len(), page.complete, page.stored_through_seq), (0, true, 25));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_page_is_never_complete() {
    let bench = filled(2).await;
    let request = GetConversationMessagesRequest {
        conversation_id: CHAT.into(),
        ascending: true,
        type_filter: vec![1],
        ..GetConversationMessagesRequest::default()
    };
    let page = bench.messages().get_conversation_messages(ask(request)).await.unwrap().into_inner();
    assert_eq!((page.messages.len(), page.has_more, page.complete), (2, false, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_the_other_side() {
    let bench = filled(3).await;
    bench.chat(2, 3).await;
    let request = |page| GetUserConversationsWithDetailsRequest {
        user_id: "2".into(),
        pagination: Some(Pagination { page, page_size: 1, ..Pagination::default() }),
        ..GetUserConversationsWithDetailsRequest::default()
    };
    let mut client = bench.conversations();
    let first = client.get_user_conversations_with_details(ask(request(1))).await.unwrap().into_inner();
    let row = &first.conversations[0];
    assert_eq!((row.id.as_str(), row.unread_count, row.last_seq_id, row.stored_through_seq), (CHAT, 3, 3, 3));
    assert_eq!(row.peer.as_ref().unwrap().username, "user1");
    let last = row.last_message.as_ref().unwrap();
    assert_eq!((last.content.as_str(), last.sender.as_ref().unwrap().username.as_str()), ("text 3", "user1"));
    let pagination = first.pagination.unwrap();
    assert_eq!((pagination.total, pagination.has_more, first.complete), (2, true, false));
    let second = client.get_user_conversations_with_details(ask(request(2))).await.unwrap().into_inner();
    assert_eq!(second.conversations[0].id, "single_2_3");
    assert!(second.conversations[0].last_message.is_none() && second.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_lowers_the_unread_count_and_never_goes_back() {
    let bench = filled(5).await;
    let mut client = bench.conversations();
    let mut read = async |user: &str, seq_id| {
        let request = UpdateReadPointerRequest { user_id: user.into(), conversation_id: CHAT.into(), seq_id };
        client.update_read_pointer(ask(request)).await.map(|r| {
            let r = r.into_inner();
            (r.previous_seq_id, r.unread_count)
        })
    };
    assert_eq!(read("2", 2).await.unwrap(), (0, 3));
    assert_eq!(read("2", 1).await.unwrap(), (2, 3));
    assert_eq!(read("2", -1).await.unwrap(), (2, 0));
    assert_eq!(read("1", 1).await.unwrap(), (0, 0), "one's own messages are not unread");
    let stranger = read("3", 1).await.unwrap_err();
    assert_eq!(Failure::from(stranger).code, ErrorCode::NotConversationMember);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_chat_exists_once_for_both() {
    let bench = Bench::new().await;
    let again = bench.chat(2, 1).await;
    assert!(again.already_existed);
    assert_eq!(again.conversation.unwrap().id, CHAT);
    let create = |members: &[&str]| CreateConversationRequest {
        r#type: 1,
        member_ids: members.iter().map(|m| (*m).to_owned()).collect(),
        ..CreateConversationRequest::default()
    };
    for (members, code) in [
        (vec!["1", "99"], ErrorCode::UserNotFound),
        (vec!["1"], ErrorCode::InvalidParams),
        (vec!["1", "1"], ErrorCode::InvalidParams),
        (vec!["1", "x"], ErrorCode::InvalidParams),
    ] {
        let refused = bench.conversations().create_conversation(ask(create(&members))).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, code, "{members:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_found_by_name_and_passwords_compared() {
    let bench = Bench::new().await;
    let mut users = bench.users();
    let create = CreateUserRequest {
        username: "Berta".into(),
        password_hash: bcrypt::hash("secret", 4).unwrap(),
        ..CreateUserRequest::default()
    };
    let berta = users.create_user(ask(create.clone())).await.unwrap().into_inner().user.unwrap();
    let taken = CreateUserRequest { username: "bERTA".into(), ..create };
    let taken = users.create_user(ask(taken)).await.unwrap_err();
    assert_eq!(Failure::from(taken).code, ErrorCode::UserAlreadyExists);
    let found = users.get_user_by_username(ask(GetUserByUsernameRequest { username: "berta".into() })).await;
    assert_eq!(found.unwrap().into_inner().user.unwrap().id, berta.id);
    for (user_id, password, valid) in [(&*berta.id, "secret", true), (&*berta.id, "Secret", false), ("1", "", false)] {
        let verify = VerifyPasswordRequest { user_id: user_id.into(), password: password.into() };
        assert_eq!(users.verify_password(ask(verify)).await.unwrap().into_inner().valid, valid, "{user_id} {password}");
    }
    let asked = GetUsersRequest { user_ids: vec!["1".into(), "99".into(), berta.id.clone()] };
    let answer = users.get_users(ask(asked)).await.unwrap().into_inner();
    assert_eq!((answer.users.len(), answer.missing_ids), (2, vec!["99".to_owned()]));
}

async fn list(bench: &Bench, user: &str, last_sync_time: i64) -> GetUserConversationsWithDetailsResponse {
    let request = GetUserConversationsWithDetailsRequest {
        user_id: user.into(),
        last_sync_time,
        ..GetUserConversationsWithDetailsRequest::default()
    };
    bench.conversations().get_user_conversations_with_details(ask(request)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_delta_brings_what_was_stored_long_after_it_was_sent() {
    let bench = Bench::new().await;
    bench.clock.advance(Duration::from_secs(600));
    let first = list(&bench, "2", 0).await;
    assert_eq!(first.server_time, NOW / 1000 + 600 - 5);
    assert_eq!(list(&bench, "2", first.server_time).await.conversations.len(), 0);
    // Stamped ten minutes before it is stored.
    bench.save(vec![(0, record(1, vec![message(10, 1, "a", "late")]))]).await;
    let delta = list(&bench, "2", first.server_time).await;
    assert_eq!(delta.conversations.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), [CHAT]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_change_being_written_holds_the_server_time_down() {
    let bench = Bench::new().await;
    let key = bench.store.conversations(&[CHAT.into()]).await.unwrap()[0].head.key;
    let mut slow = bench.store.begin_persist(0, NOW).await.unwrap();
    let advance = Advance { conversation: key, last_seq: 1, last_message_id: 1, ..Advance::default() };
    slow.advance(&[advance]).await.unwrap();
    bench.clock.advance(Duration::from_secs(60));
    let before = list(&bench, "2", 0).await;
    assert_eq!(before.server_time, NOW / 1000 - 5, "not past the change that it does not show");
    slow.commit().await.unwrap();
    assert_eq!(list(&bench, "2", before.server_time).await.conversations[0].last_seq_id, 1);
    assert_eq!(list(&bench, "2", 0).await.server_time, NOW / 1000 + 60 - 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_parked_conversation_leaves_the_list_complete() {
    let bench = filled(1).await;
    bench.save(vec![(1, record(1, vec![message(20, 1, "taken", "other")]))]).await;
    assert!(!bench.history(0, 0, 10, true).await.complete, "its own history");
    let list = list(&bench, "1", 0).await;
    assert_eq!((list.conversations.len(), list.complete), (1, true));
}

/// What a client knows of its conversations, by id.
type Known = std::collections::BTreeMap<String, (String, i64, String, i64)>;

fn row(c: gochat_proto::common::v1::Conversation) -> (String, (String, i64, String, i64)) {
    let last = c.last_message.map_or_else(String::new, |m| format!("{}{}", m.id, m.deleted));
    (c.id, (c.name, c.unread_count, last, c.last_seq_id))
}

async fn full(bench: &Bench, user: &str) -> (Known, i64) {
    let request = GetUserConversationsWithDetailsRequest {
        user_id: user.into(),
        pagination: Some(Pagination { page_size: 200, ..Pagination::default() }),
        ..GetUserConversationsWithDetailsRequest::default()
    };
    let answer = bench.conversations().get_user_conversations_with_details(ask(request)).await.unwrap().into_inner();
    assert!(answer.complete && answer.removed_ids.is_empty());
    (answer.conversations.into_iter().map(row).collect(), answer.server_time)
}

/// Walks a delta in small pages into what a client knew; `between` runs after the first page.
async fn catch_up(bench: &Bench, user: &str, known: &mut Known, since: i64, between: impl AsyncFnOnce()) -> i64 {
    let (mut cursor, mut between) = (String::new(), Some(between));
    loop {
        let request = GetUserConversationsWithDetailsRequest {
            user_id: user.into(),
            last_sync_time: since,
            cursor,
            pagination: Some(Pagination { page_size: 3, ..Pagination::default() }),
            ..GetUserConversationsWithDetailsRequest::default()
        };
        let mut conversations = bench.conversations();
        let answer = conversations.get_user_conversations_with_details(ask(request)).await.unwrap().into_inner();
        assert_eq!(answer.complete, answer.next_cursor.is_empty());
        known.extend(answer.conversations.into_iter().map(row));
        known.retain(|id, _| !answer.removed_ids.contains(id));
        if answer.next_cursor.is_empty() {
            return answer.server_time;
        }
        cursor = answer.next_cursor;
        if let Some(between) = between.take() {
            between().await;
        }
    }
}

async fn make_group(bench: &Bench, number: i64, members: &[&str]) {
    let create = CreateConversationRequest {
        r#type: 2,
        id: format!("group_{number}"),
        name: format!("group {number}"),
        owner_id: "1".into(),
        member_ids: members.iter().map(|m| (*m).to_owned()).collect(),
        ..CreateConversationRequest::default()
    };
    bench.conversations().create_conversation(ask(create)).await.unwrap();
}

async fn kick(bench: &Bench, number: i64, user: &str) {
    let remove = RemoveConversationMemberRequest {
        conversation_id: format!("group_{number}"),
        user_id: user.into(),
        ..RemoveConversationMemberRequest::default()
    };
    bench.conversations().remove_conversation_member(ask(remove)).await.unwrap();
}

async fn rename(bench: &Bench, number: i64) {
    let update = UpdateConversationRequest {
        conversation_id: format!("group_{number}"),
        name: format!("renamed {number}"),
        update_mask: vec!["name".into()],
        ..UpdateConversationRequest::default()
    };
    bench.conversations().update_conversation(ask(update)).await.unwrap();
}

async fn finish(bench: &Bench, conversation: &str, mode: i32, operator: &str) {
    let delete = DeleteConversationRequest {
        conversation_id: conversation.into(),
        operator_id: operator.into(),
        mode,
        ..DeleteConversationRequest::default()
    };
    bench.conversations().delete_conversation(ask(delete)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_deltas_in_pages_reach_exactly_what_a_full_list_shows() {
    let bench = Bench::new().await;
    for number in 1..=9 {
        make_group(&bench, number, &["2"]).await;
    }
    let stored = |id, seq, number: i64| {
        let conversation_id = format!("group_{number}");
        gochat_proto::bus::v1::PersistMessage { conversation_id, ..message(id, seq, &format!("m{id}"), "x") }
    };
    bench.save(vec![(0, record(1, (1..=9).map(|n| stored(n, 1, n)).collect()))]).await;
    let (mut known, since) = full(&bench, "2").await;
    assert_eq!(known.len(), 10);
    bench.clock.advance(Duration::from_secs(60));
    bench.save(vec![(1, record(1, vec![stored(21, 2, 1), stored(23, 2, 3)]))]).await;
    rename(&bench, 2).await;
    kick(&bench, 4, "2").await;
    finish(&bench, "group_5", 1, "1").await;
    finish(&bench, CHAT, 2, "2").await;
    let read = UpdateReadPointerRequest { user_id: "2".into(), conversation_id: "group_6".into(), seq_id: -1 };
    bench.conversations().update_read_pointer(ask(read)).await.unwrap();
    make_group(&bench, 10, &["2"]).await;
    let between = async || {
        bench.clock.advance(Duration::from_secs(1));
        kick(&bench, 10, "2").await;
        rename(&bench, 1).await;
        bench.save(vec![(2, record(1, vec![stored(31, 2, 7)]))]).await;
    };
    let next = catch_up(&bench, "2", &mut known, since, between).await;
    assert_eq!(known, full(&bench, "2").await.0);
    assert!(!known.contains_key("group_10") && !known.contains_key(CHAT) && known["group_1"].0 == "renamed 1");
    // Back again, both of them.
    bench.clock.advance(Duration::from_secs(60));
    let add = AddConversationMemberRequest {
        conversation_id: "group_4".into(),
        user_ids: vec!["2".into()],
        ..AddConversationMemberRequest::default()
    };
    bench.conversations().add_conversation_member(ask(add)).await.unwrap();
    bench.save(vec![(3, record(1, vec![message(41, 1, "back", "hello")]))]).await;
    catch_up(&bench, "2", &mut known, next, async || {}).await;
    assert_eq!(known, full(&bench, "2").await.0);
    assert!(known.contains_key("group_4") && known[CHAT].1 == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_from_too_long_ago_is_refused_as_such() {
    let bench = Bench::new().await;
    let ask_since = async |last_sync_time, cursor: &str| {
        let request = GetUserConversationsWithDetailsRequest {
            user_id: "2".into(),
            last_sync_time,
            cursor: cursor.into(),
            ..GetUserConversationsWithDetailsRequest::default()
        };
        bench.conversations().get_user_conversations_with_details(ask(request)).await.map_err(Failure::from)
    };
    let month = 30 * 24 * 3600;
    assert!(ask_since(NOW / 1000 - month, "").await.is_ok());
    let old = ask_since(NOW / 1000 - month - 10, "").await.unwrap_err();
    assert_eq!((old.code, old.details["fullSync"].as_str()), (ErrorCode::InvalidParams, "true"));
    let strange = ask_since(NOW / 1000, "1.2").await.unwrap_err();
    assert_eq!((strange.code, strange.details.len()), (ErrorCode::InvalidParams, 0));
}
