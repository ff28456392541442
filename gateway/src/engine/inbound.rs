//! Bytes of an open connection to messages and control frames (RFC 6455). Answers pings and closes; never reads a
//! message's content.

use gochat_ring::ConnId;
use gochat_ws::{Event, Input, Opcode, Scratch};

use super::app::App;
use super::conn::State;
use super::io::Io;
use super::metrics::Metric;

/// What decoding needs besides the connection: shared by all connections of a shard.
#[derive(Debug)]
pub(super) struct Decoding {
    pub(super) scratch: Scratch,
    pub(super) limits: gochat_ws::Limits,
}

/// Decodes what arrived and hands out whole messages.
pub(super) fn frames<A: App>(
    app: &mut A,
    io: &mut Io<A::Session>,
    decoding: &mut Decoding,
    id: ConnId,
    data: &mut [u8],
) {
    let Some(held_before) = io.slab.get(id).map(|conn| conn.decoder.held_bytes()) else { return };
    let mut input = Input::new(data);
    loop {
        let Some(conn) = io.slab.get(id) else { return };
        let is_open = conn.state == State::Open;
        match conn.decoder.next(&decoding.limits, &mut decoding.scratch, &mut input) {
            Ok(Some(Event::Text(text))) if is_open => {
                io.counters.add(Metric::MessagesIn, 1);
                app.on_text(io, id, text);
            }
            Ok(Some(Event::Binary(data))) if is_open => {
                io.counters.add(Metric::MessagesIn, 1);
                app.on_binary(io, id, data);
            }
            Ok(Some(Event::Ping(payload))) if is_open => io.message(id, Opcode::Pong, payload),
            // After our close frame nothing but the peer's matters (RFC 6455 section 1.4).
            Ok(Some(Event::Text(_) | Event::Binary(_) | Event::Ping(_) | Event::Pong(_))) => {}
            Ok(Some(Event::Close { code, .. })) => io.peer_closed(id, code),
            Ok(None) => break,
            Err(error) => {
                io.counters.add(Metric::ProtocolErrors, 1);
                io.fail(id, error.close_code(), error.reason());
                break;
            }
        }
    }
    let Some(held) = io.slab.get(id).map(|conn| conn.decoder.held_bytes()) else { return };
    io.totals.partial = io.totals.partial + held - held_before;
    if held > held_before && io.totals.partial > io.limits.shard_partial_bytes_max {
        io.fail(id, 1013, "overloaded, try later");
    }
}
