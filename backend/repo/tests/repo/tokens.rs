//! Refresh tokens and revocations through the service. Their rules stand in the store's contract suite.

use crate::bench::{Bench, NOW, ask};
use crate::people::code;
use gochat_proto::codes::ErrorCode;
use gochat_proto::events::EventBody;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::consume_refresh_token_response::Outcome;
use gochat_proto::im::repo::v1::*;
use std::time::Duration;

fn hash(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

fn consume(token: u8, successor: u8) -> ConsumeRefreshTokenRequest {
    ConsumeRefreshTokenRequest {
        token_hash: hash(token),
        client_info: "phone".into(),
        now: NOW / 1000 + 10,
        grace_seconds: 60,
        successor_hash: hash(successor),
        successor_ttl_seconds: 1000,
        replay: format!("sealed {successor}").into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_replayed_and_a_thief_ends_the_family() {
    let bench = Bench::new().await;
    let mut tokens = bench.tokens();
    let store = StoreRefreshTokenRequest {
        token_hash: hash(1),
        user_id: "1".into(),
        family_id: "family".into(),
        ttl_seconds: 1000,
        client_info: "phone".into(),
    };
    tokens.store_refresh_token(ask(store)).await.unwrap();
    let mut show = async |request| {
        let answer = tokens.consume_refresh_token(ask(request)).await.unwrap().into_inner();
        (answer.outcome(), answer.replay)
    };
    assert_eq!(show(consume(1, 2)).await.0, Outcome::First);
    assert_eq!(show(consume(1, 3)).await, (Outcome::Grace, "sealed 2".into()));
    let thief = ConsumeRefreshTokenRequest { client_info: "laptop".into(), ..consume(1, 4) };
    assert_eq!(show(thief).await.0, Outcome::Reused);
    assert_eq!(show(consume(2, 5)).await.0, Outcome::Unknown, "the family is revoked");
    assert_eq!(show(consume(9, 5)).await.0, Outcome::Unknown);
    let bad = ConsumeRefreshTokenRequest { token_hash: "short".into(), ..consume(1, 2) };
    let refused = bench.tokens().consume_refresh_token(ask(bad)).await.unwrap_err();
    assert_eq!(Failure::from(refused).code, ErrorCode::InvalidParams);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_are_listed_in_order() {
    let bench = Bench::new().await;
    let mut tokens = bench.tokens();
    let blacklist = BlacklistRequest { token_hash: hash(7), ttl_seconds: 100 };
    tokens.blacklist(ask(blacklist)).await.unwrap();
    let revoked = tokens.revoke_user(ask(RevokeUserRequest { user_id: "1".into() })).await.unwrap().into_inner();
    let version = tokens.get_token_version(ask(GetTokenVersionRequest { user_id: "1".into() })).await.unwrap();
    assert_eq!((revoked.min_version, version.into_inner().version), (1, 1));
    let asked = IsBlacklistedRequest { token_hashes: vec![hash(8), hash(7)] };
    assert_eq!(tokens.is_blacklisted(ask(asked)).await.unwrap().into_inner().blacklisted, [false, true]);
    let listed = tokens.list_revocations(ask(ListRevocationsRequest { after_id: 0, limit: 10 })).await.unwrap();
    let entries = listed.into_inner().entries;
    let seen: Vec<_> = entries.iter().map(|e| (e.token_hash.clone(), e.user_id.as_str(), e.min_version)).collect();
    assert_eq!(seen, [(hash(7), "", 0), (String::new(), "1", 1)]);
}

fn stored(token: u8, user: i64, family: &str, client: &str) -> StoreRefreshTokenRequest {
    StoreRefreshTokenRequest {
        token_hash: hash(token),
        user_id: user.to_string(),
        family_id: family.into(),
        ttl_seconds: 1000,
        client_info: client.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_listed_and_one_ends_for_its_owner_only() {
    let bench = Bench::new().await;
    let mut tokens = bench.tokens();
    tokens.store_refresh_token(ask(stored(1, 1, "old", "phone"))).await.unwrap();
    bench.clock.advance(Duration::from_secs(5));
    tokens.store_refresh_token(ask(stored(2, 1, "new", "laptop"))).await.unwrap();
    tokens.store_refresh_token(ask(stored(3, 2, "other", "phone"))).await.unwrap();
    tokens.consume_refresh_token(ask(consume(1, 4))).await.unwrap();
    let list = async |user: i64| {
        let request = ListFamiliesRequest { user_id: user.to_string() };
        let families = bench.tokens().list_families(ask(request)).await.unwrap().into_inner().families;
        let row = |f: Family| (f.family_id, f.client_info, f.created_at, f.refreshed_at, f.expires_at);
        families.into_iter().map(row).collect::<Vec<_>>()
    };
    let start = NOW / 1000;
    let new = ("new".to_owned(), "laptop".to_owned(), start + 5, start + 5, start + 1005);
    let old = ("old".to_owned(), "phone".to_owned(), start, start + 10, start + 1010);
    assert_eq!(list(1).await, [new.clone(), old], "newest first");
    let revoke = async |family: &str, user: &str| {
        let request = RevokeFamilyRequest { family_id: family.into(), user_id: user.into() };
        bench.tokens().revoke_family(ask(request)).await.unwrap().into_inner().revoked_count
    };
    assert_eq!((revoke("old", "2").await, revoke("none", "1").await), (0, 0), "another user's, and nobody's");
    assert_eq!((revoke("old", "1").await, revoke("old", "1").await), (1, 0));
    assert_eq!(list(1).await, [new]);
    let asked = IsBlacklistedRequest { token_hashes: vec!["fam:old".into(), "fam:new".into(), hash(2)] };
    assert_eq!(tokens.is_blacklisted(ask(asked)).await.unwrap().into_inner().blacklisted, [true, false, false]);
    assert_eq!(revoke("new", "").await, 1, "whose ever");
    assert_eq!(list(2).await.len(), 1);
    bench.clock.advance(Duration::from_secs(1000));
    assert!(list(2).await.is_empty(), "what can no longer be refreshed is no login");
    let nameless = RevokeFamilyRequest::default();
    assert_eq!(code(tokens.revoke_family(ask(nameless)).await), "INVALID_PARAMS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ended_has_no_sessions() {
    let bench = Bench::new().await;
    let mut tokens = bench.tokens();
    for (token, family) in [(1, "ends"), (2, "stays"), (3, "stolen")] {
        tokens.store_refresh_token(ask(stored(token, 1, family, "phone"))).await.unwrap();
    }
    let entry = |address, family: &str| PresenceEntry {
        user_id: "1".into(),
        address,
        family_id: family.into(),
        ..PresenceEntry::default()
    };
    let update = |online, alive| BatchUpdateRequest {
        gateway_id: "gateway-1".into(),
        gateway_incarnation: 5,
        policy: SessionPolicy::Multi.into(),
        online,
        alive,
        ..BatchUpdateRequest::default()
    };
    let revoked = async |request| {
        let answer = bench.presence().batch_update(ask(request)).await.unwrap().into_inner();
        let mut revoked: Vec<_> = answer.revoked.iter().map(|r| (r.address, r.close_code)).collect();
        revoked.sort_unstable();
        revoked
    };
    assert_eq!(revoked(update(vec![entry(1, "ends"), entry(2, "stays"), entry(3, "stolen")], vec![])).await, []);
    assert_eq!(revoked(update(vec![], vec!["1".into()])).await, []);
    let end = RevokeFamilyRequest { family_id: "ends".into(), user_id: "1".into() };
    tokens.revoke_family(ask(end)).await.unwrap();
    assert_eq!(revoked(update(vec![entry(4, "ends")], vec![])).await, [(4, 4001)], "a new one");
    assert_eq!(revoked(update(vec![], vec!["1".into()])).await, [(1, 4001)], "an open one");
    tokens.consume_refresh_token(ask(consume(3, 5))).await.unwrap();
    let thief = ConsumeRefreshTokenRequest { client_info: "laptop".into(), ..consume(3, 6) };
    tokens.consume_refresh_token(ask(thief)).await.unwrap();
    assert_eq!(revoked(update(vec![], vec!["1".into()])).await, [(1, 4001), (3, 4001)], "a stolen one");
    let status = GetUserOnlineStatusRequest { user_id: "1".into() };
    let status = bench.presence().get_user_online_status(ask(status)).await.unwrap().into_inner().status.unwrap();
    let families: Vec<_> = status.sessions.iter().map(|s| (s.address, s.family_id.as_str())).collect();
    assert_eq!(families, [(1, "ends"), (2, "stays"), (3, "stolen")], "a session says which login it is of");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_brings_one_connection() {
    let bench = Bench::new().await;
    let register = async |user: &str, address, ticket: &str| {
        let online =
            vec![PresenceEntry { user_id: user.into(), address, ticket_id: ticket.into(), ..PresenceEntry::default() }];
        let update = BatchUpdateRequest {
            gateway_id: "gateway-1".into(),
            gateway_incarnation: 5,
            online,
            ..BatchUpdateRequest::default()
        };
        let answer = bench.presence().batch_update(ask(update)).await.unwrap().into_inner();
        answer.revoked.first().map(|r| (r.address, r.close_code))
    };
    assert_eq!(register("1", 1, "t1").await, None);
    assert_eq!(register("1", 1, "t1").await, None, "an answer that was lost");
    assert_eq!(register("1", 2, "t1").await, Some((2, 4001)));
    let status = GetUserOnlineStatusRequest { user_id: "1".into() };
    let status = bench.presence().get_user_online_status(ask(status)).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.sessions.iter().map(|s| s.address).collect::<Vec<_>>(), [1], "and replaces nothing");
    let (first, second) = tokio::join!(register("2", 3, "t2"), register("2", 4, "t2"));
    assert_ne!(first.is_some(), second.is_some(), "one of two");
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_all_logins_is_told() {
    let bench = Bench::new().await;
    bench.take_events().await;
    bench.tokens().revoke_user(ask(RevokeUserRequest { user_id: "1".into() })).await.unwrap();
    let revoked = EventBody::UserRevoked { close_code: 4001, reason: "all logins ended".into() };
    assert_eq!(bench.told_about_users().await, [("1".into(), String::new(), revoked)]);
}
