//! Entries of a conversation's stream that HTTP requests make: they go the way of every message, through the upstream
//! topic, and the request waits for what comes back (pipeline.md A1). Never judges an entry: logic does.

use bytes::Bytes;
use gochat_infra::rpc;
use gochat_proto::bus::v1::{Ack, Origin, UpstreamMessage};
use gochat_proto::codes::ErrorCode;
use prost::Message as _;

use super::api::Api;
use super::auth::Caller;
use super::envelope::ApiError;
use super::objects::code_of;
use crate::control::waiting::Outcome;

/// Whether entries are taken now, and from this caller.
pub(crate) fn admit(api: &Api, caller: &Caller) -> Result<(), ApiError> {
    let status = *api.parts.status.borrow();
    if !status.bus_healthy {
        return Err(ErrorCode::ServiceUnavailable.into());
    }
    if status.slow_down_s > 0 {
        return Err(ApiError::limited(status.slow_down_s));
    }
    api.limits.send(&caller.user_id)
}

/// Appends an entry of the caller's; sender, time and origin are filled in here.
pub(crate) async fn append(api: &Api, caller: &Caller, entry: UpstreamMessage) -> Result<Ack, ApiError> {
    let (gateway, incarnation) = api.parts.origin;
    let (request, outcome) = api.parts.waiting.register().await;
    let entry = UpstreamMessage {
        sender_id: caller.user_id.parse().map_err(|_| ErrorCode::InvalidToken)?,
        received_at_ms: api.parts.clock.unix_ms(),
        origin: Some(Origin { gateway: gateway.number(), incarnation, address: 0, request }),
        ..entry
    };
    let value = Bytes::from(entry.encode_to_vec());
    let trace_id = rpc::trace_id().as_bytes().clone();
    let submitted = api.parts.upstream.submit(&entry.conversation_id, value, trace_id).await;
    submitted.map_err(|_| ErrorCode::ServiceUnavailable)?;
    match tokio::time::timeout(api.parts.send_timeout, outcome).await {
        Ok(Ok(Outcome::Acked(ack))) => Ok(ack),
        Ok(Ok(Outcome::Refused(refusal))) => {
            let code = code_of(&refusal.code_name, refusal.code);
            let error = if refusal.message.is_empty() { code.into() } else { ApiError::new(code, refusal.message) };
            Err(match refusal.retry_after_s {
                0 => error,
                seconds => error.with("retryAfter", seconds),
            })
        }
        Ok(Err(_)) => Err(ErrorCode::ServiceUnavailable.into()),
        // It may still be stored: whoever repeats it gets what became of it.
        Err(_) => Err(ErrorCode::Timeout.into()),
    }
}
