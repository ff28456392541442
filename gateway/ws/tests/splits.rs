//! Wherever a stream is cut, the events are the same.

mod support;

use gochat_ws::{Opcode, Role, message};
use proptest::prelude::*;
use support::{Endpoint, Random, client_frame, decode_cut, mutate, random_stream};

/// Streams that between them visit every state of the decoder, valid and not.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
    let frame = client_frame;
    let invalid_byte = |mut bytes: Vec<u8>, at: usize, value: u8| {
        bytes[at] = value;
        bytes
    };
    vec![
        ("text", frame(true, Text, "héllo 🦀".as_bytes())),
        ("empty", [frame(true, Text, b""), frame(true, Binary, b""), frame(true, Ping, b"")].concat()),
        ("16-bit length", frame(true, Binary, &[7; 300])),
        ("several", [frame(true, Text, b"a"), frame(true, Binary, b"bc"), frame(true, Pong, b"d")].concat()),
        (
            "fragments cut inside code points",
            [
                frame(false, Text, &"é漢🦀".as_bytes()[..1]),
                frame(false, Continuation, &"é漢🦀".as_bytes()[1..4]),
                frame(false, Continuation, b""),
                frame(true, Continuation, &"é漢🦀".as_bytes()[4..]),
            ]
            .concat(),
        ),
        (
            "controls between fragments",
            [
                frame(false, Binary, &[1; 50]),
                frame(true, Ping, &[2; 125]),
                frame(false, Continuation, &[3; 20]),
                frame(true, Pong, b""),
                frame(true, Continuation, &[4; 9]),
                frame(true, Text, b"next"),
            ]
            .concat(),
        ),
        (
            "close with more behind it",
            [frame(true, Close, b"\x03\xe8bye \xf0\x9f\xa6\x80"), frame(true, Text, b"late")].concat(),
        ),
        ("close inside a message", [frame(false, Text, b"half"), frame(true, Close, b"")].concat()),
        ("bad close code", frame(true, Close, b"\x03\xed")),
        ("bad utf-8", [frame(true, Ping, b"x"), frame(true, Text, b"ab\xc3\x28cd")].concat()),
        ("utf-8 cut at the end", [frame(false, Text, b"ab\xe6\xbc"), frame(true, Continuation, b"")].concat()),
        ("surrogate", frame(true, Text, b"\xed\xa0\x80")),
        ("reserved bit", [frame(true, Text, b"ok"), invalid_byte(frame(true, Text, b"no"), 0, 0xc1)].concat()),
        ("reserved opcode", invalid_byte(frame(true, Text, b"no"), 0, 0x83)),
        ("unmasked", invalid_byte(frame(true, Text, b"no"), 1, 2)),
        ("continuation first", frame(true, Continuation, b"no")),
        ("two messages mixed", [frame(false, Text, b"a"), frame(true, Binary, b"b")].concat()),
        ("too large", [frame(true, Text, b"ok"), frame(true, Binary, &[0; 2001])].concat()),
        ("too large in sum", [frame(false, Binary, &[0; 1999]), frame(true, Continuation, &[0; 2])].concat()),
        ("not minimal", vec![0x82, 0xfe, 0, 125, 1, 2, 3, 4]),
        ("63-bit overflow", vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
    ]
}

const LIMIT: usize = 2000;

#[test]
fn every_single_cut() {
    for (name, stream) in samples() {
        let whole = decode_cut(Role::Server, LIMIT, &stream, &[]);
        assert!(!whole.is_empty(), "{name} decides nothing");
        for cut in 0..=stream.len() {
            assert_eq!(decode_cut(Role::Server, LIMIT, &stream, &[cut]), whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn every_pair_of_cuts() {
    for (name, stream) in samples().into_iter().filter(|(_, stream)| stream.len() <= 120) {
        let whole = decode_cut(Role::Server, LIMIT, &stream, &[]);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let events = decode_cut(Role::Server, LIMIT, &stream, &[first, second]);
                assert_eq!(events, whole, "{name} cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn byte_by_byte() {
    for (name, stream) in samples() {
        let mut endpoint = Endpoint::new(Role::Server, LIMIT);
        stream.iter().for_each(|byte| endpoint.receive(&[*byte]));
        assert_eq!(endpoint.events, decode_cut(Role::Server, LIMIT, &stream, &[]), "{name}");
    }
}

#[test]
fn a_scratch_serves_many_connections_at_once() {
    // The bytes of all streams are interleaved over one scratch; each connection still sees its own events.
    let streams: Vec<_> = (0..40).map(|seed| random_stream(&mut Random(seed), Role::Server, 5)).collect();
    let mut decoders: Vec<_> = streams.iter().map(|_| gochat_ws::Decoder::new(Role::Server)).collect();
    let mut events: Vec<Vec<support::Owned>> = vec![Vec::new(); streams.len()];
    let (limits, mut scratch) = (gochat_ws::Limits::default(), gochat_ws::Scratch::new());
    let longest = streams.iter().map(Vec::len).max().unwrap_or(0);
    for start in (0..longest).step_by(13) {
        for (i, stream) in streams.iter().enumerate() {
            let end = stream.len().min(start + 13);
            let mut piece = stream[start.min(end)..end].to_vec();
            let mut input = gochat_ws::Input::new(&mut piece);
            while let Ok(Some(event)) = decoders[i].next(&limits, &mut scratch, &mut input) {
                events[i].push(event.into());
            }
        }
    }
    for (stream, events) in streams.iter().zip(events) {
        assert_eq!(events, support::decode(Role::Server, stream));
    }
}

proptest! {
    #[test]
    fn random_cuts_of_random_streams(seed: u64, damaged: bool, client: bool, mut cuts in prop::collection::vec(0usize..4000, 0..20)) {
        let role = if client { Role::Client } else { Role::Server };
        let mut random = Random(seed);
        let mut stream = random_stream(&mut random, role, 5);
        if damaged {
            mutate(&mut random, &mut stream);
        }
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
        cuts.sort_unstable();
        prop_assert_eq!(decode_cut(role, LIMIT, &stream, &cuts), decode_cut(role, LIMIT, &stream, &[]));
    }

    #[test]
    fn what_is_encoded_is_decoded(payload: Vec<u8>, mask: Option<[u8; 4]>) {
        let mut wire = Vec::new();
        message::encode_frame(Opcode::Binary, &payload, mask, &mut wire);
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        prop_assert_eq!(support::decode(role, &wire), vec![support::Owned::Binary(payload)]);
    }
}
