//! What control says, carried out: frames to connections, ends of sessions, and the drain of the shard.

use gochat_proto::close_codes::CloseCode;
use gochat_ring::ConnId;

use super::chat::{Chat, Drain};
use super::rooms::{Hands, Rooms, Step};
use super::session::Session;
use crate::bridge::{Downlink, DownlinkBatch, OutFrame, RoomKey};
use crate::engine::Io;
use crate::limits::{DRAINS_PER_TICK, ROOM_STEPS_MAX};

/// Downlink batches handled in one turn of the loop.
const BATCHES_PER_TICK: usize = 16;
/// Spread of the reconnect hint while draining, milliseconds.
const RECONNECT_MS: std::ops::Range<u32> = 500..15_000;

/// Carries out what control sent.
pub(super) fn downlinks(chat: &mut Chat, io: &mut Io<Session>) {
    for _ in 0..BATCHES_PER_TICK {
        if chat.rooms.waiting() >= ROOM_STEPS_MAX {
            break;
        }
        let Some(mut batch) = chat.bridge.downlink.try_recv() else {
            if chat.bridge.downlink.is_closed() && chat.gate.drain.is_none() {
                // Control is gone: nobody could be served.
                start_drain(chat, io, 100);
            }
            return;
        };
        apply(chat, io, &mut batch);
        chat.bridge.downlink.recycle(batch);
    }
    io.again();
}

fn apply(chat: &mut Chat, io: &mut Io<Session>, batch: &mut DownlinkBatch) {
    let (items, targets) = batch.parts();
    for item in items {
        match item {
            Downlink::Frame { from, to, frame } => {
                for &address in targets.get(from as usize..to as usize).unwrap_or_default() {
                    if let Some(id) = chat.conn(address) {
                        chat.deliver(io, id, &frame);
                    }
                }
            }
            Downlink::Registered { address, degraded } => {
                if let Some(id) = chat.conn(address) {
                    chat.greet(io, id, degraded);
                }
            }
            Downlink::RoomFrame { room, exclude, frame } => {
                let exclude = chat.conn(exclude);
                step(chat, io, room, Step::Frame(exclude, frame));
            }
            Downlink::RoomJoin { room, address } => {
                if let Some(id) = chat.conn(address).filter(|id| io.is_open(*id)) {
                    step(chat, io, room, Step::Join(id));
                }
            }
            Downlink::RoomLeave { room, user_id } => step(chat, io, room, Step::Leave(user_id)),
            Downlink::RoomReset { room, addresses } => step(chat, io, room, Step::Reset(addresses)),
            Downlink::RoomDrop { room } => step(chat, io, room, Step::Drop),
            Downlink::Close { address, code, reconnect_after_ms } => {
                if let Some(id) = chat.conn(address) {
                    chat.bye(io, id, code, reconnect_after_ms);
                }
            }
            Downlink::Revoked(revocation) => {
                let now_s = chat.clock.unix_s(io.now());
                chat.revocations.add(revocation, now_s);
            }
            Downlink::Accepting(accepting) => chat.gate.accepting = accepting && chat.gate.drain.is_none(),
            Downlink::SlowDown { retry_after_s } => chat.gate.slow_down_s = retry_after_s,
            Downlink::Drain { percent_per_s } => start_drain(chat, io, percent_per_s),
        }
    }
}

fn step(chat: &mut Chat, io: &mut Io<Session>, room: RoomKey, step: Step) {
    if chat.rooms.step(room, step, &chat.users) {
        with_rooms(chat, io, |rooms, hands| rooms.finish(room, hands));
    }
}

/// Goes on giving frames to rooms.
pub(super) fn fan_out(chat: &mut Chat, io: &mut Io<Session>) {
    if with_rooms(chat, io, |rooms, hands| rooms.fan_out(hands)) {
        io.again();
    }
}

/// Frames for rooms go the way of all others; nothing on it looks at rooms or at who is connected.
fn with_rooms<T>(
    chat: &mut Chat,
    io: &mut Io<Session>,
    act: impl FnOnce(&mut Rooms, &mut Hands<'_, &mut dyn FnMut(&mut Io<Session>, ConnId, &OutFrame)>) -> T,
) -> T {
    let (mut rooms, users) = (std::mem::take(&mut chat.rooms), std::mem::take(&mut chat.users));
    let mut give = |io: &mut Io<Session>, id: ConnId, frame: &OutFrame| chat.deliver(io, id, frame);
    let done = act(&mut rooms, &mut Hands { io, users: &users, give: &mut give });
    (chat.rooms, chat.users) = (rooms, users);
    done
}

fn start_drain(chat: &mut Chat, io: &mut Io<Session>, percent_per_s: u8) {
    if chat.gate.drain.is_some() {
        return;
    }
    chat.gate.accepting = false;
    io.stop_accepting();
    chat.gate.drain = Some(Drain {
        percent_per_s: u64::from(percent_per_s.max(1)),
        sessions: io.open_count() as u64,
        closed: 0,
        started_us: chat.clock.us(io.now()),
        slot: 0,
    });
}

/// Closes the slice that is due.
pub(super) fn drain(chat: &mut Chat, io: &mut Io<Session>) {
    let now_us = chat.clock.us(io.now());
    let Some(mut drain) = chat.gate.drain.take() else { return };
    let elapsed_ms = (now_us - drain.started_us) / 1000;
    // Whatever is due after the last slice came in meanwhile.
    let due = (drain.sessions * drain.percent_per_s * (elapsed_ms + 250)).div_ceil(100_000);
    let due = if due >= drain.sessions { u64::MAX } else { due };
    let mut ids = Vec::new();
    while drain.closed < due && ids.len() < DRAINS_PER_TICK {
        let Some(id) = io.next_open(drain.slot) else {
            drain.slot = 0;
            break;
        };
        drain.slot = id.slot + 1;
        drain.closed += 1;
        ids.push(id);
    }
    // From here on closing counts as a hand-over.
    chat.gate.drain = Some(drain);
    for id in ids {
        let spread = u64::from(RECONNECT_MS.end - RECONNECT_MS.start);
        let reconnect_after_ms = RECONNECT_MS.start + io.random(spread) as u32;
        chat.bye(io, id, CloseCode::GoingAway, Some(reconnect_after_ms));
    }
}
