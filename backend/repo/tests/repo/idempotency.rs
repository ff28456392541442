//! Replay protection of HTTP creations (pipeline.md H4).

use crate::bench::{Bench, ask};
use crate::people::code;
use futures::future::join_all;
use gochat_infra::rpc::Channel;
use gochat_proto::im::repo::v1::idempotency_service_client::IdempotencyServiceClient;
use gochat_proto::im::repo::v1::*;
use std::time::Duration;

fn check(key: &str, value: &str) -> CheckOrSetRequest {
    CheckOrSetRequest { key: key.into(), value: value.into(), ttl_seconds: 60 }
}

async fn first(client: &IdempotencyServiceClient<Channel>, key: &str, value: &str) -> (bool, String) {
    let answer = client.clone().check_or_set(ask(check(key, value))).await.unwrap().into_inner();
    (answer.first, answer.existing_value)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_many_wins_and_its_result_is_kept_for_its_time() {
    let bench = Bench::new().await;
    let client = IdempotencyServiceClient::new(bench.channel.clone());
    let tries = (0..30).map(|i| {
        let client = client.clone();
        tokio::spawn(async move { first(&client, "k", &format!("mark {i}")).await })
    });
    let answers: Vec<_> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|(first, _)| *first).count(), 1);
    let seen: Vec<_> = answers.iter().filter(|(first, _)| !first).map(|(_, value)| value).collect();
    assert!(seen.iter().all(|value| *value == seen[0] && value.starts_with("mark ")), "all see the same mark");
    let result = "r".repeat(64 * 1024);
    let set = SetRequest { key: "k".into(), value: result.clone(), ttl_seconds: 60 };
    client.clone().set(ask(set)).await.unwrap();
    assert_eq!(first(&client, "k", "x").await, (false, result));
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(first(&client, "k", "y").await, (true, String::new()), "its time is over");
    client.clone().clear(ask(ClearRequest { key: "k".into() })).await.unwrap();
    assert_eq!(first(&client, "k", "z").await, (true, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_set_nothing() {
    let bench = Bench::new().await;
    let client = IdempotencyServiceClient::new(bench.channel.clone());
    let long = "v".repeat(64 * 1024 + 1);
    for bad in [
        check("", "v"),
        check(&"k".repeat(401), "v"),
        check("k", &long),
        CheckOrSetRequest { ttl_seconds: 0, ..check("k", "v") },
        CheckOrSetRequest { ttl_seconds: -1, ..check("k", "v") },
    ] {
        assert_eq!(code(client.clone().check_or_set(ask(bad)).await), "INVALID_PARAMS");
    }
    let set = SetRequest { key: "k".into(), value: long, ttl_seconds: 60 };
    assert_eq!(code(client.clone().set(ask(set)).await), "INVALID_PARAMS");
    assert!(first(&client, "k", "v").await.0);
}
