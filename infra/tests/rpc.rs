//! The rpc layer through a generated client and server: routing, deadline, panic, trace, authentication, bound.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

use gochat_infra::rpc::{self, Channel, RpcOptions, TraceId};
use gochat_proto::im::repo::v1::sequence_service_client::SequenceServiceClient;
use gochat_proto::im::repo::v1::sequence_service_server::{SequenceService, SequenceServiceServer};
use gochat_proto::im::repo::v1::user_service_client::UserServiceClient;
use gochat_proto::im::repo::v1::{GetNextSeqRequest, GetNextSeqResponse};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;
use tonic::{Code, Request, Response, Status, async_trait};

const SECOND: Duration = Duration::from_secs(1);

/// Does what the conversation id says.
#[derive(Default)]
struct Sequences {
    at_work: AtomicI64,
    peak: AtomicI64,
    dropped: Arc<AtomicI64>,
    next: Option<Channel>,
}

struct CountDrop(Arc<AtomicI64>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[async_trait]
impl SequenceService for Sequences {
    async fn get_next_seq(&self, request: Request<GetNextSeqRequest>) -> Result<Response<GetNextSeqResponse>, Status> {
        let now = self.at_work.fetch_add(1, SeqCst) + 1;
        self.peak.fetch_max(now, SeqCst);
        let request = request.into_inner();
        let answer = match request.conversation_id.as_str() {
            "panic" => panic!("as asked"),
            "hang" => {
                let _dropped = CountDrop(self.dropped.clone());
                std::future::pending().await
            }
            "slow" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(1)
            }
            "trace" => {
                i64::from_str_radix(&rpc::trace_id().as_str()[..4], 16).map_err(|e| Status::internal(e.to_string()))
            }
            "nested" => {
                let mut client = SequenceServiceClient::new(self.next.clone().unwrap());
                let conversation_id = if request.count == 1 { "trace" } else { "hang" }.to_owned();
                let nested = rpc::request(GetNextSeqRequest { conversation_id, count: 1 }, Duration::from_secs(60));
                Ok(client.get_next_seq(nested).await?.into_inner().first_seq)
            }
            "fail" => Err(Status::failed_precondition("STALE_WRITER")),
            _ => Ok(42),
        };
        self.at_work.fetch_sub(1, SeqCst);
        Ok(Response::new(GetNextSeqResponse { first_seq: answer?, count: request.count }))
    }
}

fn channel(options: RpcOptions) -> Channel {
    Channel::in_process().add(SequenceServiceServer::new(Sequences::default())).build(options)
}

async fn ask(channel: &Channel, what: &str, deadline: Duration) -> Result<i64, Status> {
    let request = rpc::request(GetNextSeqRequest { conversation_id: what.to_owned(), count: 1 }, deadline);
    let answer = SequenceServiceClient::new(channel.clone()).get_next_seq(request).await?;
    Ok(answer.into_inner().first_seq)
}

async fn code(channel: &Channel, what: &str, deadline: Duration) -> Code {
    ask(channel, what, deadline).await.unwrap_err().code()
}

#[tokio::test]
async fn calls_reach_their_server_and_errors_come_back() {
    let channel = channel(RpcOptions::default());
    assert_eq!(ask(&channel, "x", SECOND).await.unwrap(), 42);
    let status = ask(&channel, "fail", SECOND).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "STALE_WRITER"));
    let mut users = UserServiceClient::new(channel);
    assert_eq!(users.get_user(Request::new(Default::default())).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_and_ends_the_handler() {
    let dropped = Arc::new(AtomicI64::new(0));
    let server = Sequences { dropped: dropped.clone(), ..Default::default() };
    let channel = Channel::in_process()
        .add(SequenceServiceServer::new(server))
        .build(RpcOptions { default_deadline: 3 * SECOND, ..Default::default() });
    let start = tokio::time::Instant::now();
    assert_eq!(code(&channel, "hang", SECOND).await, Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 1);
    let bare = Request::new(GetNextSeqRequest { conversation_id: "hang".to_owned(), count: 1 });
    let answer = SequenceServiceClient::new(channel.clone()).get_next_seq(bare).await;
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 4, "the default applies to a call without one");
    tokio::task::yield_now().await;
    assert_eq!(dropped.load(SeqCst), 2, "both handlers were ended");
    assert_eq!(ask(&channel, "slow", SECOND).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_ends_the_handler() {
    let dropped = Arc::new(AtomicI64::new(0));
    let server = Sequences { dropped: dropped.clone(), ..Default::default() };
    let channel = Channel::in_process().add(SequenceServiceServer::new(server)).build(RpcOptions::default());
    let call = tokio::time::timeout(Duration::from_millis(5), ask(&channel, "hang", 5 * SECOND));
    assert!(call.await.is_err());
    tokio::task::yield_now().await;
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test]
async fn a_panic_stays_inside_its_call() {
    let channel = channel(RpcOptions::default());
    assert_eq!(code(&channel, "panic", SECOND).await, Code::Internal);
    assert_eq!(ask(&channel, "x", SECOND).await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn trace_id_and_deadline_pass_on_to_nested_calls() {
    let inner = channel(RpcOptions::default());
    let outer = Sequences { next: Some(inner), ..Default::default() };
    let outer = Channel::in_process().add(SequenceServiceServer::new(outer)).build(RpcOptions::default());
    let trace_id = TraceId::from_bytes("beef-and-more").unwrap();
    assert_eq!(rpc::with_trace(trace_id, ask(&outer, "nested", SECOND)).await.unwrap(), 0xbeef);
    let start = tokio::time::Instant::now();
    let request = rpc::request(GetNextSeqRequest { conversation_id: "nested".to_owned(), count: 2 }, SECOND);
    let answer = SequenceServiceClient::new(outer).get_next_seq(request).await;
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 1, "the nested call asked for 60 s and got what was left");
}

#[tokio::test]
async fn a_wrong_or_missing_service_token_is_refused() {
    let channel = channel(RpcOptions { service_token: Some("secret".to_owned()), ..Default::default() });
    assert_eq!(ask(&channel, "x", SECOND).await.unwrap(), 42);
    for wrong in ["", "secreT", "secret2"] {
        let stranger = channel.clone().with_service_token(wrong);
        assert_eq!(code(&stranger, "x", SECOND).await, Code::Unauthenticated, "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded_and_waiting_counts_against_the_deadline() {
    let channel = channel(RpcOptions { concurrency_max: Some(2), ..Default::default() });
    let calls = (0..6).map(|_| ask(&channel, "slow", SECOND));
    let start = tokio::time::Instant::now();
    assert!(futures::future::join_all(calls).await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(start.elapsed().as_millis(), 300, "6 calls of 100 ms, two at a time");
    let hang = futures::future::join(ask(&channel, "hang", SECOND), ask(&channel, "hang", SECOND));
    let (_, waiting) = futures::future::join(hang, code(&channel, "x", Duration::from_millis(50))).await;
    assert_eq!(waiting, Code::DeadlineExceeded);
    assert_eq!(ask(&channel, "x", SECOND).await.unwrap(), 42, "ended handlers give their permits back");
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let channel = channel(RpcOptions::default());
    ask(&channel, "x", SECOND).await.unwrap();
    assert_eq!(code(&channel, "panic", SECOND).await, Code::Internal);
    let text = gochat_infra::telemetry::metrics::render();
    for (code, line) in [("Ok", "code=\"Ok\""), ("Internal", "code=\"Internal\"")] {
        let prefix =
            format!("grpc_server_handled_total{{service=\"im.repo.v1.SequenceService\",method=\"GetNextSeq\",{line}}}");
        assert!(text.lines().any(|l| l.starts_with(&prefix)), "{code} in {text}");
    }
}
