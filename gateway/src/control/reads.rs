//! Read marks from sessions: a bounded number of calls to logic at once. A success reaches all of the user's sessions as
//! logic's `conversation-updated`; a failure is told to the asking connection. Never merges: the shard has done that.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use gochat_infra::clock::Clock;
use gochat_infra::rpc::{self, Channel};
use gochat_proto::failure::Failure;
use gochat_proto::ids::Address;
use gochat_proto::im::logic::v1::MarkAsReadRequest;
use gochat_proto::im::logic::v1::conversation_service_client::ConversationServiceClient;
use tokio::sync::mpsc;

use super::frames::FrameWriter;
use super::shards::Shards;

/// Calls in flight.
const CALLS_MAX: usize = 64;
/// Marks that wait for a call.
pub(crate) const WAITING_MAX: usize = 16_384;
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A user has read a conversation up to a number.
#[derive(Debug)]
pub(crate) struct ReadMark {
    pub(crate) address: Address,
    pub(crate) user_id: i64,
    pub(crate) conversation: Box<str>,
    pub(crate) seq_id: i64,
}

/// Runs until the sender of marks is gone.
pub(crate) async fn run(mut marks: mpsc::Receiver<ReadMark>, logic: Channel, shards: Shards, clock: Arc<dyn Clock>) {
    let conversations = ConversationServiceClient::new(logic);
    let mut calls = FuturesUnordered::new();
    loop {
        let (mark, answer) = tokio::select! {
            mark = marks.recv(), if calls.len() < CALLS_MAX => match mark {
                Some(mark) => {
                    calls.push(call(conversations.clone(), mark));
                    continue;
                }
                None => return,
            },
            Some(answered) = calls.next() => answered,
        };
        let Err(failure) = answer else { continue };
        let mut frames = FrameWriter::at(clock.unix_ms());
        let mut batches = shards.batches();
        batches.frame(mark.address, frames.failure(&mark.conversation, &failure));
        batches.send().await;
    }
}

async fn call(
    mut conversations: ConversationServiceClient<Channel>,
    mark: ReadMark,
) -> (ReadMark, Result<(), Failure>) {
    let request = MarkAsReadRequest {
        user_id: mark.user_id.to_string(),
        conversation_id: mark.conversation.to_string(),
        seq_id: mark.seq_id,
    };
    let answer = conversations.mark_as_read(rpc::request(request, CALL_DEADLINE)).await;
    (mark, answer.map(drop).map_err(Failure::from))
}
