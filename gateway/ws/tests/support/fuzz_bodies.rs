//! What each fuzz target checks for one input. Called by the fuzzers and, over the checked-in corpus, by the tests.

use gochat_ws::Role;
use gochat_ws::handshake::{HeadLimits, Upgrade, is_websocket_upgrade, parse_request, parse_response, write_accept};

use super::{Endpoint, Owned, Random, decode_cut, reference};

/// Role, limit and cuts from the first two bytes, the stream from the rest.
fn split_input(data: &[u8]) -> Option<(Role, usize, Vec<usize>, &[u8])> {
    let (&[setup, seed], stream) = data.split_first_chunk::<2>()?;
    let role = if setup & 1 == 0 { Role::Server } else { Role::Client };
    let limit = if setup & 2 == 0 { 1 << 16 } else { 200 };
    let mut random = Random(u64::from(seed));
    let mut cuts: Vec<usize> = (0..usize::from(setup >> 2)).map(|_| random.below(stream.len() + 1)).collect();
    cuts.sort_unstable();
    Some((role, limit, cuts, stream))
}

/// The answer does not depend on the cuts, limits hold, nothing follows the end, memory follows what was received.
pub(crate) fn decoder(data: &[u8]) {
    let Some((role, limit, cuts, stream)) = split_input(data) else { return };
    let whole = decode_cut(role, limit, stream, &[]);
    assert_eq!(whole, decode_cut(role, limit, stream, &cuts), "cuts {cuts:?}");
    let mut byte_wise = Endpoint::new(role, limit);
    for (i, byte) in stream.iter().enumerate() {
        byte_wise.receive(&[*byte]);
        let held = byte_wise.decoder.held_bytes();
        // Twice what was received, and a few hundred bytes for headers and control frames; twice because a text and a
        // binary buffer may both come back from the scratch.
        assert!(held <= 4 * (i + 1) + 1024, "{held} bytes held after {} received", i + 1);
    }
    assert_eq!(whole, byte_wise.events);
    for (i, event) in whole.iter().enumerate() {
        match event {
            Owned::Text(text) => assert!(text.len() <= limit),
            Owned::Binary(bytes) => assert!(bytes.len() <= limit),
            Owned::Ping(bytes) | Owned::Pong(bytes) => assert!(bytes.len() <= 125),
            Owned::Close(..) | Owned::Failed(_) => assert_eq!(i + 1, whole.len(), "event after the end"),
        }
    }
}

/// tungstenite agrees.
pub(crate) fn differential(data: &[u8]) {
    let Some((role, limit, cuts, stream)) = split_input(data) else { return };
    reference::assert_agreement(role, limit, stream, &cuts);
}

/// A head's judgement stands as soon as it is made, whatever arrives behind it; an accepted upgrade can be answered.
pub(crate) fn handshake(data: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 1024, fields_max: 16 };
    let whole = parse_request(data, &limits);
    for end in 0..=data.len().min(1100) {
        match parse_request(&data[..end], &limits) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "after {end} bytes"),
        }
    }
    if let Ok(Some(request)) = whole {
        assert!(request.head_len <= limits.head_bytes_max);
        assert!(request.fields.iter().count() <= limits.fields_max);
        if let Ok(upgrade) = Upgrade::from_request(&request) {
            assert!(is_websocket_upgrade(&request));
            let mut response = Vec::new();
            write_accept(upgrade.key, upgrade.protocols().next(), &mut response);
            let response = parse_response(&response, &limits);
            assert!(matches!(response, Ok(Some(response)) if response.status == 101));
        }
    }
    let whole = parse_response(data, &limits);
    for end in 0..=data.len().min(1100) {
        match parse_response(&data[..end], &limits) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "after {end} bytes"),
        }
    }
}
