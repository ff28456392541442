//! What a client's frame becomes: an uplink record, a read mark, an answer, or an error. One frame at a time; nothing is
//! kept of it but the record.

use gochat_infra::ratelimit::RateRule;
use gochat_infra::token::token_hash;
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::frames::{ClientFrame, ErrorDetails, MarkRead, SendMessage, parse, write_pong};
use gochat_proto::ids::UserId;
use gochat_ring::ConnId;

use super::admission;
use super::chat::Chat;
use super::record::{self, Source};
use super::session::{Phase, Session};
use crate::bridge::UplinkEvent;
use crate::engine::Io;

/// Frames of any kind per connection.
const ANY_FRAME: RateRule = RateRule::new(100.0, 200);
/// Seconds after which a message that found no room should be sent again.
const FULL_RETRY_AFTER_S: u32 = 1;

/// Handles one text frame.
pub(super) fn frame(chat: &mut Chat, io: &mut Io<Session>, id: ConnId, text: &str) {
    let limited = match flood(chat, io, id) {
        Ok(limited) => limited,
        Err(Flooded) => return chat.bye(io, id, CloseCode::PolicyViolation, None),
    };
    let frame = match parse(text.as_bytes()) {
        Ok(frame) => frame,
        Err(error) => {
            let details = ErrorDetails {
                client_msg_id: error.client_msg_id.as_deref().unwrap_or_default(),
                temp_message_id: error.temp_message_id.as_deref().unwrap_or_default(),
                conversation_id: error.conversation_id.as_deref().unwrap_or_default(),
                field: error.field,
                ..ErrorDetails::default()
            };
            chat.error(io, id, error.code, error.reason, details);
            let now_s = chat.clock.s(io.now());
            let is_garbage = error.code == ErrorCode::InvalidMessage;
            if is_garbage && io.session(id).is_some_and(|session| session.is_garbage_too_much(now_s)) {
                chat.bye(io, id, CloseCode::PolicyViolation, None);
            }
            return;
        }
    };
    match (frame, limited) {
        (ClientFrame::SendMessage(message), Some(retry_after_s)) => {
            refuse(chat, io, id, &message, ErrorCode::RateLimited, retry_after_s);
        }
        (_, Some(retry_after_s)) => {
            let details = ErrorDetails { retry_after_s: Some(retry_after_s), ..ErrorDetails::default() };
            chat.error(io, id, ErrorCode::RateLimited, "", details);
        }
        (ClientFrame::SendMessage(message), None) => send_message(chat, io, id, &message),
        (ClientFrame::MarkRead(mark), None) => mark_read(chat, io, id, &mark),
        (ClientFrame::Ping, None) => chat.reply(io, id, write_pong),
        (ClientFrame::AuthRefresh { token }, None) => auth_refresh(chat, io, id, &token),
        // At most once and without answer by their nature: to drop them is within the protocol.
        (ClientFrame::Typing { .. } | ClientFrame::StopTyping { .. }, None) => {}
        (ClientFrame::RecallMessage(recall), None) => {
            let details = ErrorDetails { conversation_id: &recall.conversation_id, ..ErrorDetails::default() };
            chat.error(io, id, ErrorCode::InvalidMessage, "recall-message is not available", details);
        }
    }
}

/// The connection is over its frame limit for too long.
struct Flooded;

/// Counts a frame; when it is over the limit, the seconds until there is room.
fn flood(chat: &Chat, io: &mut Io<Session>, id: ConnId) -> Result<Option<u32>, Flooded> {
    if !chat.config.rate_limits {
        return Ok(None);
    }
    let (now_us, now_s) = (chat.clock.us(io.now()), chat.clock.s(io.now()));
    let Some(session) = io.session(id) else { return Ok(None) };
    if session.frames.is_full(now_us) {
        session.calm();
    }
    match session.frames.take(&ANY_FRAME, now_us) {
        Ok(()) => Ok(None),
        Err(_) if session.is_flood_too_long(now_s) => Err(Flooded),
        Err(retry_after_s) => Ok(Some(retry_after_s)),
    }
}

fn send_message(chat: &mut Chat, io: &mut Io<Session>, id: ConnId, message: &SendMessage<'_>) {
    let now = io.now();
    let Some(session) = io.session(id) else { return };
    if chat.gate.slow_down_s > 0 {
        let retry_after_s = chat.gate.slow_down_s;
        return refuse(chat, io, id, message, ErrorCode::RateLimited, retry_after_s);
    }
    if chat.config.rate_limits
        && let Err(retry_after_s) = session.sends.take(&RateRule::USER_SEND_MESSAGE, chat.clock.us(now))
    {
        return refuse(chat, io, id, message, ErrorCode::RateLimited, retry_after_s);
    }
    let source = Source {
        user_id: session.user_id,
        received_at_ms: chat.clock.unix_ms(now),
        gateway: chat.config.gateway.number(),
        incarnation: chat.config.incarnation,
        address: chat.address(id),
    };
    let key = message.conversation_id.as_bytes();
    let partition = gochat_infra::bus::partition_of(key, chat.config.upstream_partitions);
    let bytes_max = record::bytes_max(message);
    let taken = chat.bridge.uplink.record(partition, bytes_max, |out| record::encode(message, &source, out));
    if taken.is_err() {
        refuse(chat, io, id, message, ErrorCode::ServiceUnavailable, FULL_RETRY_AFTER_S);
    }
}

fn refuse(
    chat: &mut Chat,
    io: &mut Io<Session>,
    id: ConnId,
    message: &SendMessage<'_>,
    code: ErrorCode,
    retry_after_s: u32,
) {
    let details = ErrorDetails {
        client_msg_id: &message.client_msg_id,
        temp_message_id: message.temp_message_id.as_deref().unwrap_or_default(),
        conversation_id: &message.conversation_id,
        retry_after_s: Some(retry_after_s),
        ..ErrorDetails::default()
    };
    chat.error(io, id, code, "", details);
}

fn mark_read(chat: &mut Chat, io: &mut Io<Session>, id: ConnId, mark: &MarkRead<'_>) {
    let Some(user_id) = io.session(id).map(|session| session.user_id) else { return };
    let address = chat.address(id);
    let congested = chat.bridge.uplink.is_congested();
    if congested || !chat.marks.add(address, user_id, &mark.conversation_id, mark.seq_id) {
        let details = ErrorDetails {
            conversation_id: &mark.conversation_id,
            retry_after_s: Some(FULL_RETRY_AFTER_S),
            ..ErrorDetails::default()
        };
        chat.error(io, id, ErrorCode::ServiceUnavailable, "", details);
    }
}

/// Goes on under a new token of the same user, or ends the session (spec 02 section 13).
fn auth_refresh(chat: &mut Chat, io: &mut Io<Session>, id: ConnId, token: &str) {
    let now_s = chat.clock.unix_s(io.now());
    let verified = admission::verify(token, &chat.config, &chat.revocations, now_s);
    let Some(session) = io.session(id) else { return };
    let claims = match verified {
        Ok((user_id, claims)) if user_id == session.user_id => claims,
        Ok(_) | Err(_) => {
            let details = ErrorDetails { reason: ErrorCode::InvalidToken.as_str(), ..ErrorDetails::default() };
            chat.error(io, id, ErrorCode::AuthFailed, "", details);
            return chat.bye(io, id, CloseCode::TokenInvalid, None);
        }
    };
    let user_id = UserId(session.user_id);
    session.expires_at_s = claims.exp.clamp(0, i64::from(u32::MAX)) as u32;
    let address = chat.address(id);
    chat.bridge.uplink.event(UplinkEvent::Reauthorized {
        address,
        user_id: user_id.0,
        token_id: claims.jti.into(),
        token_hash: token_hash(token).into(),
        token_version: claims.ver,
        expires_at_s: claims.exp,
    });
    if session.phase == Phase::Registering {
        // The greeting that is still to come tells the new expiry.
        return;
    }
    session.phase = Phase::Active;
    chat.connected(io, id, user_id, claims.exp, false);
    chat.await_expiry(io, id, claims.exp);
}
