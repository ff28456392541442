//! Who is offline, and since when it counts: confirmations, logouts, sessions nobody renews, gateways that are lost
//! (spec 06 §6, §12).

use crate::bench::{Bench, NOW, ask};
use crate::people::code;
use gochat_proto::im::repo::v1::*;
use std::time::Duration;

const GATEWAY: &str = "gateway-1";

fn entry(user: i64, address: u64) -> PresenceEntry {
    PresenceEntry { user_id: user.to_string(), address, ..PresenceEntry::default() }
}

fn update() -> BatchUpdateRequest {
    BatchUpdateRequest {
        gateway_id: GATEWAY.into(),
        gateway_incarnation: 5,
        policy: SessionPolicy::Multi.into(),
        ..BatchUpdateRequest::default()
    }
}

async fn send(bench: &Bench, request: BatchUpdateRequest) -> BatchUpdateResponse {
    bench.presence().batch_update(ask(request)).await.unwrap().into_inner()
}

async fn came(bench: &Bench, online: Vec<PresenceEntry>) -> Vec<String> {
    send(bench, BatchUpdateRequest { online, ..update() }).await.became_online
}

async fn left(bench: &Bench, offline: Vec<PresenceEntry>) -> (Vec<String>, Vec<String>) {
    let answer = send(bench, BatchUpdateRequest { offline, ..update() }).await;
    (answer.pending_offline, answer.logged_out)
}

/// Users whose absence is confirmed now, with when they were last seen.
async fn confirmed(bench: &Bench) -> Vec<(String, i64)> {
    let take = TakeDueOfflineRequest { now: 0, limit: 10 };
    let users = bench.presence().take_due_offline(ask(take)).await.unwrap().into_inner().users;
    assert!(users.iter().all(|u| !u.is_online && u.sessions.is_empty()));
    users.into_iter().map(|u| (u.user_id, u.last_seen)).collect()
}

async fn expired(bench: &Bench) -> Vec<(String, i64)> {
    bench.clock.advance(Duration::ZERO);
    let now = gochat_infra::clock::Clock::unix_ms(&*bench.clock) / 1000;
    let clean = CleanupExpiredStatusRequest { expired_before: now - 300, batch_size: 10 };
    let expired = bench.presence().cleanup_expired_status(ask(clean)).await.unwrap().into_inner().expired;
    expired.into_iter().map(|u| (u.user_id, u.last_seen)).collect()
}

fn ids(users: &[i64]) -> Vec<String> {
    users.iter().map(i64::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_counts_after_thirty_seconds_and_once() {
    let bench = Bench::new().await;
    assert_eq!(came(&bench, vec![entry(1, 1), entry(2, 2), entry(3, 3)]).await, ids(&[1, 2, 3]));
    assert_eq!(left(&bench, vec![entry(1, 1)]).await, (ids(&[1]), vec![]));
    bench.clock.advance(Duration::from_secs(10));
    let handover = PresenceEntry { handover: true, ..entry(2, 2) };
    assert_eq!(left(&bench, vec![handover]).await, (ids(&[2]), vec![]), "confirmed as any other");
    bench.clock.advance(Duration::from_secs(19));
    assert_eq!(confirmed(&bench).await, []);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(confirmed(&bench).await, [("1".to_owned(), NOW / 1000)]);
    assert_eq!(confirmed(&bench).await, [], "taken");
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(confirmed(&bench).await, [("2".to_owned(), NOW / 1000 + 10)]);
    assert_eq!(came(&bench, vec![entry(1, 4)]).await, ids(&[1]), "back after it counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_in_time_was_never_away() {
    let bench = Bench::new().await;
    came(&bench, vec![entry(1, 1), entry(2, 2)]).await;
    left(&bench, vec![entry(1, 1), entry(2, 2)]).await;
    bench.clock.advance(Duration::from_secs(29));
    assert_eq!(came(&bench, vec![entry(1, 3)]).await, ids(&[]));
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(confirmed(&bench).await, [("2".to_owned(), NOW / 1000)]);
    assert_eq!(came(&bench, vec![entry(1, 4)]).await, ids(&[]), "a second connection is no news");
    assert_eq!(left(&bench, vec![entry(1, 3)]).await, (vec![], vec![]), "nor is the end of one of two");
    // Both in one call.
    let both = BatchUpdateRequest { offline: vec![entry(1, 4)], online: vec![entry(1, 5)], ..update() };
    let answer = send(&bench, both).await;
    assert_eq!((answer.became_online, answer.pending_offline), (vec![], vec![]));
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(confirmed(&bench).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_counts_at_once_and_only_of_the_last_session() {
    let bench = Bench::new().await;
    came(&bench, vec![entry(1, 1), entry(1, 2)]).await;
    let logout = |address| PresenceEntry { logout: true, ..entry(1, address) };
    assert_eq!(left(&bench, vec![logout(1)]).await, (vec![], vec![]));
    assert_eq!(left(&bench, vec![logout(2)]).await, (vec![], ids(&[1])));
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(confirmed(&bench).await, [], "told already");
    assert_eq!(came(&bench, vec![entry(1, 3)]).await, ids(&[1]));
    let again = BatchUpdateRequest { offline: vec![logout(3)], online: vec![entry(1, 4)], ..update() };
    let answer = send(&bench, again).await;
    assert_eq!((answer.became_online, answer.logged_out), (vec![], vec![]), "out and in again in one call");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_nobody_renews_end() {
    let bench = Bench::new().await;
    came(&bench, vec![entry(1, 1), entry(2, 2), entry(3, 3)]).await;
    left(&bench, vec![entry(3, 3)]).await;
    let other =
        BatchUpdateRequest { gateway_id: "gateway-2".into(), online: vec![entry(2, 9)], alive: vec![], ..update() };
    send(&bench, other.clone()).await;
    for _ in 0..6 {
        bench.clock.advance(Duration::from_secs(50));
        send(&bench, BatchUpdateRequest { online: vec![], alive: ids(&[2]), ..other.clone() }).await;
    }
    assert_eq!(expired(&bench).await, [("1".to_owned(), NOW / 1000)], "2 is alive elsewhere, 3 went by itself");
    let statuses = GetUsersOnlineStatusRequest { user_ids: ids(&[1, 2]) };
    let statuses = bench.presence().get_users_online_status(ask(statuses)).await.unwrap().into_inner().statuses;
    assert!(!statuses[0].is_online);
    assert_eq!(statuses[1].gateway_ids, ["gateway-2"], "what its lost gateway had is gone");
    bench.clock.advance(Duration::from_secs(301));
    assert_eq!(expired(&bench).await, [("2".to_owned(), NOW / 1000 + 300)]);
    assert_eq!(expired(&bench).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_last_of_two_gateways_has_not_timed_out() {
    let bench = Bench::new().await;
    came(&bench, vec![entry(1, 1)]).await;
    let other = |online, offline| BatchUpdateRequest { gateway_id: "gateway-2".into(), online, offline, ..update() };
    send(&bench, other(vec![entry(1, 9)], vec![])).await;
    left(&bench, vec![entry(1, 1)]).await;
    assert_eq!(send(&bench, other(vec![], vec![entry(1, 9)])).await.pending_offline, ids(&[1]));
    bench.clock.advance(Duration::from_secs(301));
    assert_eq!(confirmed(&bench).await.len(), 1);
    assert_eq!(expired(&bench).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_lost_gateway_are_confirmed_and_listed_in_pages() {
    let bench = Bench::new().await;
    bench.add_users(100..250, false).await;
    came(&bench, (100..250).map(|user| entry(user, user as u64)).collect()).await;
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = GetGatewayUsersRequest { gateway_id: GATEWAY.into(), gateway_incarnation: 5, cursor, limit: 7 };
        let page = bench.presence().get_gateway_users(ask(page)).await.unwrap().into_inner();
        assert!(page.user_ids.len() <= 7);
        seen.extend(page.user_ids.iter().map(|id| id.parse::<i64>().unwrap()));
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (100..250).collect::<Vec<_>>(), "each once");
    let bad =
        GetGatewayUsersRequest { gateway_id: GATEWAY.into(), gateway_incarnation: 5, cursor: "x".into(), limit: 7 };
    assert_eq!(code(bench.presence().get_gateway_users(ask(bad)).await), "INVALID_PARAMS");
    let remove = RemoveGatewayRequest { gateway_id: GATEWAY.into(), gateway_incarnation: 5 };
    let removed = bench.presence().remove_gateway(ask(remove)).await.unwrap().into_inner().removed_user_ids;
    assert_eq!(removed.len(), 150);
    assert_eq!(came(&bench, vec![entry(100, 1)]).await, ids(&[]), "in time on another one");
    bench.clock.advance(Duration::from_secs(31));
    let take = TakeDueOfflineRequest { now: 0, limit: 1000 };
    assert_eq!(bench.presence().take_due_offline(ask(take)).await.unwrap().into_inner().users.len(), 149);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_goes_to_one_of_two_who_take() {
    let bench = Bench::new().await;
    bench.add_users(100..200, false).await;
    let entries = || (100..200).map(|user| entry(user, user as u64)).collect();
    came(&bench, entries()).await;
    left(&bench, entries()).await;
    bench.clock.advance(Duration::from_secs(30));
    let mut taken = Vec::new();
    for _ in 0..5 {
        let (first, second) = tokio::join!(confirmed(&bench), confirmed(&bench));
        taken.extend(first.into_iter().chain(second).map(|(user, _)| user));
    }
    taken.sort();
    assert_eq!(taken, ids(&(100..200).collect::<Vec<_>>()));
}
