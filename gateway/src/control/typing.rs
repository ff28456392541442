//! Typing from sessions: a bounded number of calls to logic at once, which passes it on to other members. At most once:
//! what finds no room is dropped and counted, and a failure is nobody's concern.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use gochat_infra::rpc::{self, Channel};
use gochat_infra::telemetry::metrics::{Counter, counter};
use gochat_proto::ids::{Address, GatewayId};
use gochat_proto::im::logic::v1::SendSignalRequest;
use gochat_proto::im::logic::v1::message_service_client::MessageServiceClient;
use tokio::sync::mpsc;

/// Calls in flight.
const CALLS_MAX: usize = 32;
/// Signals that wait for a call.
const WAITING_MAX: usize = 1_024;
/// Receivers forget typing after 6 s.
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// A user types, or has stopped.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) address: Address,
    pub(crate) user_id: i64,
    pub(crate) conversation: Box<str>,
    pub(crate) is_typing: bool,
}

/// Where typing is handed over.
#[derive(Clone)]
pub(crate) struct TypingOutlet {
    queue: mpsc::Sender<Typed>,
    dropped: Counter,
}

impl TypingOutlet {
    /// The outlet, and where it leads.
    pub(crate) fn new() -> (TypingOutlet, mpsc::Receiver<Typed>) {
        let (queue, inbox) = mpsc::channel(WAITING_MAX);
        let dropped = counter("gochat_typing_dropped_total", "Typing signals dropped, as logic did not keep up.", &[]);
        (TypingOutlet { queue, dropped }, inbox)
    }

    /// Hands it over, or drops it.
    pub(crate) fn offer(&self, typed: Typed) {
        if self.queue.try_send(typed).is_err() {
            self.dropped.inc();
        }
    }
}

/// Runs until the outlet is gone.
pub(crate) async fn run(mut inbox: mpsc::Receiver<Typed>, logic: Channel, gateway: GatewayId, incarnation: u64) {
    let messages = MessageServiceClient::new(logic);
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            typed = inbox.recv(), if calls.len() < CALLS_MAX => match typed {
                Some(typed) => calls.push(call(messages.clone(), typed, gateway, incarnation)),
                None => return,
            },
            Some(()) = calls.next() => {}
        }
    }
}

async fn call(mut messages: MessageServiceClient<Channel>, typed: Typed, gateway: GatewayId, gateway_incarnation: u64) {
    let request = SendSignalRequest {
        user_id: typed.user_id.to_string(),
        conversation_id: typed.conversation.to_string(),
        signal_type: if typed.is_typing { "typing.start" } else { "typing.stop" }.to_owned(),
        gateway: gateway.number(),
        gateway_incarnation,
        address: typed.address.0,
        ..SendSignalRequest::default()
    };
    if let Err(status) = messages.send_signal(rpc::request(request, CALL_DEADLINE)).await {
        tracing::debug!(%status, "typing was not passed on");
    }
}
