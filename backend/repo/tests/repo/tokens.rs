//! Refresh tokens and revocations through the service. Their rules stand in the store's contract suite.

use crate::bench::{Bench, NOW, ask};
use gochat_proto::codes::ErrorCode;
use gochat_proto::failure::Failure;
use gochat_proto::im::repo::v1::consume_refresh_token_response::Outcome;
use gochat_proto::im::repo::v1::*;

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
