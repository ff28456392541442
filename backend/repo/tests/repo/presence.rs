//! Presence: registrations, policies, races between lives of connections and gateways (pipeline.md F3, H2).

use crate::bench::{Bench, ask};
use gochat_proto::common::v1::UserStatus;
use gochat_proto::im::repo::v1::*;

fn entry(user: &str, address: u64) -> PresenceEntry {
    PresenceEntry {
        user_id: user.into(),
        address,
        device_id: format!("d{address}"),
        at: address as i64,
        ..Default::default()
    }
}

fn update(gateway: &str, incarnation: u64) -> BatchUpdateRequest {
    BatchUpdateRequest {
        gateway_id: gateway.into(),
        gateway_incarnation: incarnation,
        policy: SessionPolicy::Single.into(),
        ..BatchUpdateRequest::default()
    }
}

async fn send(bench: &Bench, request: BatchUpdateRequest) -> BatchUpdateResponse {
    bench.presence().batch_update(ask(request)).await.unwrap().into_inner()
}

async fn addresses(bench: &Bench, user: &str) -> Vec<(String, u64, u64)> {
    let request = GetUsersOnlineStatusRequest { user_ids: vec!["3".into(), user.into()] };
    let statuses = bench.presence().get_users_online_status(ask(request)).await.unwrap().into_inner().statuses;
    let status = &statuses[1];
    assert_eq!((status.user_id.as_str(), status.is_online), (user, !status.sessions.is_empty()));
    status.sessions.iter().map(|s| (s.gateway_id.clone(), s.gateway_incarnation, s.address)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_offline_never_erases_a_newer_session() {
    let bench = Bench::new().await;
    let online = send(&bench, BatchUpdateRequest { online: vec![entry("1", 10)], ..update("gateway-1", 5) }).await;
    assert_eq!((online.became_online, online.replaced.len()), (vec!["1".to_owned()], 0));
    let moved = send(&bench, BatchUpdateRequest { online: vec![entry("1", 20)], ..update("gateway-2", 6) }).await;
    assert!(moved.became_online.is_empty());
    let replaced = &moved.replaced[0];
    assert_eq!((replaced.gateway_id.as_str(), replaced.gateway_incarnation, replaced.address), ("gateway-1", 5, 10));
    for late in [
        BatchUpdateRequest { offline: vec![entry("1", 10)], ..update("gateway-1", 5) },
        BatchUpdateRequest { offline: vec![entry("1", 20)], ..update("gateway-2", 5) },
        BatchUpdateRequest { offline: vec![entry("1", 20)], ..update("gateway-1", 6) },
    ] {
        assert!(send(&bench, late).await.pending_offline.is_empty());
        assert_eq!(addresses(&bench, "1").await, [("gateway-2".to_owned(), 6, 20)]);
    }
    let gone = send(&bench, BatchUpdateRequest { offline: vec![entry("1", 20)], ..update("gateway-2", 6) }).await;
    assert_eq!((gone.pending_offline, gone.logged_out), (vec!["1".to_owned()], vec![]));
    assert!(addresses(&bench, "1").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_removal_touches_its_own_life_only() {
    let bench = Bench::new().await;
    let multi = |gateway, incarnation, online: Vec<PresenceEntry>| BatchUpdateRequest {
        online,
        policy: SessionPolicy::Multi.into(),
        ..update(gateway, incarnation)
    };
    send(&bench, multi("gateway-1", 5, vec![entry("1", 10), entry("2", 11)])).await;
    send(&bench, multi("gateway-1", 6, vec![entry("1", 10)])).await;
    send(&bench, multi("gateway-2", 5, vec![entry("1", 10)])).await;
    let remove = RemoveGatewayRequest { gateway_id: "gateway-1".into(), gateway_incarnation: 5 };
    let mut removed = bench.presence().remove_gateway(ask(remove)).await.unwrap().into_inner().removed_user_ids;
    removed.sort();
    assert_eq!(removed, ["1", "2"]);
    let mut left = addresses(&bench, "1").await;
    left.sort();
    assert_eq!(left, [("gateway-1".to_owned(), 6, 10), ("gateway-2".to_owned(), 5, 10)]);
    assert!(addresses(&bench, "2").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_what_is_replaced() {
    let bench = Bench::new().await;
    let add = async |policy: SessionPolicy, address: u64, device: &str| {
        let online = vec![PresenceEntry { device_id: device.into(), ..entry("1", address) }];
        let request = BatchUpdateRequest { online, policy: policy.into(), max_devices: 3, ..update("gateway-1", 5) };
        send(&bench, request).await.replaced.iter().map(|r| r.address).collect::<Vec<u64>>()
    };
    assert_eq!(add(SessionPolicy::PerDevice, 1, "a").await, [0u64; 0]);
    assert_eq!(add(SessionPolicy::PerDevice, 2, "b").await, [0u64; 0]);
    assert_eq!(add(SessionPolicy::PerDevice, 3, "a").await, [1]);
    assert_eq!(add(SessionPolicy::Multi, 4, "a").await, [0u64; 0]);
    assert_eq!(add(SessionPolicy::Multi, 5, "a").await, [2], "the oldest of four");
    assert_eq!(add(SessionPolicy::Single, 6, "z").await, [3, 4, 5]);
    assert_eq!(add(SessionPolicy::Single, 6, "z").await, [0u64; 0], "the same connection again");
    let twice = BatchUpdateRequest { online: vec![entry("2", 7), entry("2", 8)], ..update("gateway-1", 5) };
    assert_eq!(send(&bench, twice).await.replaced[0].address, 7, "both in one flush");
    assert_eq!(addresses(&bench, "2").await, [("gateway-1".to_owned(), 5, 8)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_sessions_must_go() {
    let bench = Bench::new().await;
    let hash = "ab".repeat(32);
    let with_token = |user: &str, address| PresenceEntry { token_hash: hash.clone(), ..entry(user, address) };
    send(&bench, BatchUpdateRequest { online: vec![entry("1", 1)], ..update("gateway-1", 5) }).await;
    bench.tokens().blacklist(ask(BlacklistRequest { token_hash: hash.clone(), ttl_seconds: 100 })).await.unwrap();
    let answer = send(&bench, BatchUpdateRequest { online: vec![with_token("2", 2)], ..update("gateway-1", 5) }).await;
    assert_eq!(answer.revoked.iter().map(|r| (r.address, r.close_code)).collect::<Vec<_>>(), [(2, 4001)]);
    assert!(addresses(&bench, "2").await.is_empty() && answer.became_online.is_empty());
    bench.tokens().revoke_user(ask(RevokeUserRequest { user_id: "1".into() })).await.unwrap();
    let alive = BatchUpdateRequest { alive: vec!["1".into(), "2".into()], ..update("gateway-1", 5) };
    let answer = send(&bench, alive).await;
    assert_eq!(answer.revoked.iter().map(|r| (r.user_id.as_str(), r.address)).collect::<Vec<_>>(), [("1", 1)]);
    let new_token = PresenceEntry { token_version: 1, ..entry("1", 3) };
    let answer = send(&bench, BatchUpdateRequest { online: vec![new_token], ..update("gateway-1", 5) }).await;
    assert!(answer.revoked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_accounts_sessions_are_told_not_to_come_back() {
    let bench = Bench::new().await;
    send(&bench, BatchUpdateRequest { online: vec![entry("1", 1)], ..update("gateway-1", 5) }).await;
    let disable = UpdateUserRequest {
        user_id: "1".into(),
        update_mask: vec!["status".into()],
        status: UserStatus::Disabled.into(),
        ..UpdateUserRequest::default()
    };
    bench.users().update_user(ask(disable)).await.unwrap();
    let codes = |answer: &BatchUpdateResponse| -> Vec<(u64, i32)> {
        answer.revoked.iter().map(|r| (r.address, r.close_code)).collect()
    };
    let alive = BatchUpdateRequest { alive: vec!["1".into()], ..update("gateway-1", 5) };
    assert_eq!(codes(&send(&bench, alive).await), [(1, 4003)], "an open one");
    let again = BatchUpdateRequest { online: vec![entry("1", 2)], ..update("gateway-1", 5) };
    assert_eq!(codes(&send(&bench, again).await), [(2, 4003)], "a new one");
}
