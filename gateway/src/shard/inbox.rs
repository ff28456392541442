//! What a client's frame becomes: an uplink record, a read mark, an answer, or an error. One frame at a time; nothing is
//! kept of it but the record.

use std::ops::Range;

use bytes::BytesMut;
use gochat_infra::ratelimit::RateRule;
use gochat_infra::token::{TokenKind, token_hash};
use gochat_proto::close_codes::CloseCode;
use gochat_proto::codes::ErrorCode;
use gochat_proto::frames::{ClientFrame, ErrorDetails, MarkRead, RecallMessage, SendMessage, parse, write_pong};
use gochat_proto::ids::{UserId, WORLD};
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
                message_id: error.message_id(),
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
    if let Some(retry_after_s) = limited {
        let details = ErrorDetails { retry_after_s: Some(retry_after_s), ..details_of(&frame) };
        return chat.error(io, id, ErrorCode::RateLimited, "", details);
    }
    match frame {
        ClientFrame::SendMessage(message) => send_message(chat, io, id, &message),
        ClientFrame::RecallMessage(recall) => recall_message(chat, io, id, &recall),
        ClientFrame::MarkRead(mark) => mark_read(chat, io, id, &mark),
        ClientFrame::Ping => chat.reply(io, id, write_pong),
        ClientFrame::AuthRefresh { token } => auth_refresh(chat, io, id, &token),
        ClientFrame::Typing { conversation_id } => typing(chat, io, id, &conversation_id, true),
        ClientFrame::StopTyping { conversation_id } => typing(chat, io, id, &conversation_id, false),
    }
}

/// What a refusal of the frame says of it.
fn details_of<'f>(frame: &'f ClientFrame<'_>) -> ErrorDetails<'f> {
    match frame {
        ClientFrame::SendMessage(message) => details_of_message(message),
        ClientFrame::RecallMessage(recall) => details_of_recall(recall),
        ClientFrame::MarkRead(MarkRead { conversation_id, .. })
        | ClientFrame::Typing { conversation_id }
        | ClientFrame::StopTyping { conversation_id } => ErrorDetails { conversation_id, ..ErrorDetails::default() },
        ClientFrame::Ping | ClientFrame::AuthRefresh { .. } => ErrorDetails::default(),
    }
}

fn details_of_message<'f>(message: &'f SendMessage<'_>) -> ErrorDetails<'f> {
    ErrorDetails {
        client_msg_id: &message.client_msg_id,
        temp_message_id: message.temp_message_id.as_deref().unwrap_or_default(),
        conversation_id: &message.conversation_id,
        ..ErrorDetails::default()
    }
}

fn details_of_recall<'f>(recall: &'f RecallMessage<'_>) -> ErrorDetails<'f> {
    let (conversation_id, message_id) = (&*recall.conversation_id, Some(recall.message_id));
    ErrorDetails { conversation_id, message_id, ..ErrorDetails::default() }
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
    let is_world = message.conversation_id == WORLD;
    let sent = may_send(chat, io, id).and_then(|()| if is_world { may_send_to_world(chat, io, id) } else { Ok(()) });
    let sent = sent.and_then(|()| {
        let bytes_max = record::bytes_max(message);
        append(chat, io, id, &message.conversation_id, bytes_max, |source, out| record::encode(message, source, out))
    });
    if let Err(refused) = sent {
        refused.tell(chat, io, id, details_of_message(message));
    }
}

/// A recall takes a place in the stream as a message does (pipeline.md D3).
fn recall_message(chat: &mut Chat, io: &mut Io<Session>, id: ConnId, recall: &RecallMessage<'_>) {
    let sent = may_send(chat, io, id).and_then(|()| {
        let bytes_max = record::recall_bytes_max(recall);
        append(chat, io, id, &recall.conversation_id, bytes_max, |source, out| {
            record::encode_recall(recall, source, out)
        })
    });
    if let Err(refused) = sent {
        refused.tell(chat, io, id, details_of_recall(recall));
    }
}

/// Something was not taken.
struct Refused {
    code: ErrorCode,
    retry_after_s: u32,
}

impl Refused {
    fn tell(self, chat: &mut Chat, io: &mut Io<Session>, id: ConnId, details: ErrorDetails<'_>) {
        let details = ErrorDetails { retry_after_s: Some(self.retry_after_s), ..details };
        chat.error(io, id, self.code, "", details);
    }

    fn limited(retry_after_s: u32) -> Refused {
        Refused { code: ErrorCode::RateLimited, retry_after_s }
    }
}

/// Admission and the connection's rate.
fn may_send(chat: &Chat, io: &mut Io<Session>, id: ConnId) -> Result<(), Refused> {
    if chat.gate.slow_down_s > 0 {
        return Err(Refused::limited(chat.gate.slow_down_s));
    }
    let now_us = chat.clock.us(io.now());
    match io.session(id) {
        Some(session) if chat.config.rate_limits => {
            session.sends.take(&RateRule::USER_SEND_MESSAGE, now_us).map_err(Refused::limited)
        }
        Some(_) | None => Ok(()),
    }
}

/// The rate of the world room, of the connection and of a guest's address (pipeline.md H6).
fn may_send_to_world(chat: &Chat, io: &mut Io<Session>, id: ConnId) -> Result<(), Refused> {
    if !chat.config.rate_limits {
        return Ok(());
    }
    let per_minute = chat.config.world_messages_per_minute;
    let rule = RateRule::new(f64::from(per_minute) / 60.0, per_minute);
    let now_us = chat.clock.us(io.now());
    chat.rates.guests.take(id, &rule, now_us / 1000).map_err(Refused::limited)?;
    match io.session(id) {
        Some(session) => session.world.take(&rule, now_us).map_err(Refused::limited),
        None => Ok(()),
    }
}

/// Puts one record into the uplink.
fn append(
    chat: &mut Chat,
    io: &mut Io<Session>,
    id: ConnId,
    conversation_id: &str,
    bytes_max: usize,
    encode: impl FnOnce(&Source, &mut BytesMut) -> Range<usize>,
) -> Result<(), Refused> {
    let now = io.now();
    let Some(session) = io.session(id) else { return Ok(()) };
    let source = Source {
        user_id: session.user_id,
        received_at_ms: chat.clock.unix_ms(now),
        gateway: chat.config.gateway.number(),
        incarnation: chat.config.incarnation,
        address: chat.address(id),
    };
    let partition = gochat_infra::bus::partition_of(conversation_id.as_bytes(), chat.config.upstream_partitions);
    let taken = chat.bridge.uplink.record(partition, bytes_max, |out| encode(&source, out));
    taken.map_err(|_| Refused { code: ErrorCode::ServiceUnavailable, retry_after_s: FULL_RETRY_AFTER_S })
}

/// Passed on at most every 3 s, dropped without a word when control does not keep up; never to the world room.
fn typing(chat: &mut Chat, io: &mut Io<Session>, id: ConnId, conversation_id: &str, is_typing: bool) {
    let now_ms = chat.clock.us(io.now()) / 1000;
    let Some(user_id) = io.session(id).map(|session| session.user_id) else { return };
    if conversation_id == WORLD
        || chat.bridge.uplink.is_congested()
        || !chat.rates.typing.passes(id, conversation_id, is_typing, now_ms)
    {
        return;
    }
    let (address, conversation) = (chat.address(id), conversation_id.into());
    chat.bridge.uplink.event(UplinkEvent::Typing { address, user_id, conversation, is_typing });
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
    let verified = admission::verify(token, TokenKind::Access, &chat.config, &chat.revocations, now_s);
    let Some(session) = io.session(id) else { return };
    let claims = match verified {
        Ok((user_id, claims)) if user_id == session.user_id => claims,
        Err(ErrorCode::UserDisabled) => return chat.bye(io, id, CloseCode::AccountDisabled, None),
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
        family_id: claims.fam.into(),
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
