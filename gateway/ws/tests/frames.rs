//! RFC 6455, case by case, by section number.

mod support;

use gochat_ws::ProtocolError::{self, *};
use gochat_ws::frame::{FrameHeader, HEADER_BYTES_MAX, build_header, parse_header, unmask};
use gochat_ws::{Opcode, Role, close, message};
use support::{Owned, client_frame, decode};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn fails(role: Role, stream: &[u8], error: ProtocolError, close_code: u16) {
    assert_eq!(decode(role, stream), [Owned::Failed(error)], "{stream:x?}");
    assert_eq!(error.close_code(), close_code);
    assert!(error.reason().len() <= close::REASON_BYTES_MAX);
}

#[test]
fn section_5_1_masking_is_bound_to_the_role() {
    fails(Role::Server, b"\x81\x05Hello", Unmasked, 1002);
    fails(Role::Server, b"\x89\x00", Unmasked, 1002);
    fails(Role::Client, &client_frame(true, Opcode::Text, b"Hello"), Masked, 1002);
    // The mask bit alone decides: nothing of the payload is needed.
    fails(Role::Server, b"\x81\x7f", Unmasked, 1002);
}

#[test]
fn section_5_2_reserved_bits() {
    for bit in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [0, 1, 2, 8, 9, 10] {
            fails(Role::Server, &[0x80 | bit | opcode, 0x80, 0, 0, 0, 0], ReservedBits, 1002);
            fails(Role::Client, &[0x80 | bit | opcode], ReservedBits, 1002);
        }
    }
}

#[test]
fn section_5_2_reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        fails(Role::Client, &[0x80 | opcode, 0], ReservedOpcode, 1002);
        fails(Role::Client, &[opcode], ReservedOpcode, 1002);
    }
}

#[test]
fn section_5_2_lengths_are_minimal() {
    for length in [0u16, 1, 125] {
        let [a, b] = length.to_be_bytes();
        fails(Role::Client, &[0x82, 126, a, b], NonMinimalLength, 1002);
    }
    for length in [0u64, 125, 126, 0xffff] {
        let mut stream = vec![0x82, 127];
        stream.extend(length.to_be_bytes());
        fails(Role::Client, &stream, NonMinimalLength, 1002);
    }
    for length in [1u64 << 63, u64::MAX] {
        let mut stream = vec![0x82, 127];
        stream.extend(length.to_be_bytes());
        fails(Role::Client, &stream, LengthOverflow, 1002);
    }
    let mut stream = vec![0x82, 127];
    stream.extend(((1u64 << 63) - 1).to_be_bytes());
    fails(Role::Client, &stream, MessageTooLarge, 1009);
}

#[test]
fn section_5_2_headers_round_trip_at_every_boundary() {
    for length in [0usize, 1, 125, 126, 127, 0xfffe, 0xffff, 0x1_0000, 16 << 20] {
        for (role, mask) in [(Role::Server, Some(MASK)), (Role::Client, None)] {
            for (fin, opcode) in [(true, Opcode::Text), (false, Opcode::Binary), (true, Opcode::Continuation)] {
                let mut out = [0; HEADER_BYTES_MAX];
                let len = build_header(&mut out, fin, opcode, length, mask);
                let header = FrameHeader { fin, opcode, mask, payload_bytes: length as u64 };
                assert_eq!(parse_header(&out[..len], role), Ok(Some((header, len))));
                for cut in 0..len {
                    assert_eq!(parse_header(&out[..cut], role), Ok(None), "{length} cut at {cut}");
                }
            }
        }
    }
}

#[test]
fn section_5_3_unmask_equals_the_definition() {
    let mut random = support::Random(5);
    for length in (0..140).chain([1000, 4097]) {
        for offset in 0..9 {
            let (plain, key) = (random.bytes(length), (random.next() as u32).to_le_bytes());
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ key[(i + offset) % 4]).collect();
            let mut masked = plain.clone();
            unmask(&mut masked, key, offset);
            assert_eq!(masked, expected, "length {length}, offset {offset}");
        }
    }
}

#[test]
fn section_5_4_order_of_fragments() {
    fails(Role::Server, &client_frame(true, Opcode::Continuation, b"x"), UnexpectedContinuation, 1002);
    fails(Role::Server, &client_frame(false, Opcode::Continuation, b"x"), UnexpectedContinuation, 1002);
    for opcode in [Opcode::Text, Opcode::Binary] {
        for fin in [true, false] {
            let stream = [client_frame(false, Opcode::Text, b"a"), client_frame(fin, opcode, b"b")].concat();
            fails(Role::Server, &stream, ExpectedContinuation, 1002);
        }
    }
    let stream = [
        client_frame(false, Opcode::Text, b"a"),
        client_frame(true, Opcode::Continuation, b"b"),
        client_frame(true, Opcode::Continuation, b"c"),
    ];
    let events = decode(Role::Server, &stream.concat());
    assert_eq!(events, [Owned::Text("ab".into()), Owned::Failed(UnexpectedContinuation)]);
}

#[test]
fn section_5_4_controls_interleave_but_do_not_fragment() {
    let stream = [
        client_frame(false, Opcode::Text, b"Hel"),
        client_frame(true, Opcode::Ping, b"ping"),
        client_frame(true, Opcode::Continuation, b"lo"),
    ];
    let events = decode(Role::Server, &stream.concat());
    assert_eq!(events, [Owned::Ping(b"ping".to_vec()), Owned::Text("Hello".into())]);
    for opcode in [0x8, 0x9, 0xa] {
        fails(Role::Client, &[opcode, 0], FragmentedControl, 1002);
    }
}

#[test]
fn section_5_5_controls_are_short() {
    let longest = client_frame(true, Opcode::Ping, &[b'x'; 125]);
    assert_eq!(decode(Role::Server, &longest), [Owned::Ping(vec![b'x'; 125])]);
    for opcode in [0x88, 0x89, 0x8a] {
        fails(Role::Client, &[opcode, 126], LongControl, 1002);
        fails(Role::Client, &[opcode, 127], LongControl, 1002);
    }
    let mut out = Vec::new();
    message::encode_frame(Opcode::Ping, &[b'x'; 200], None, &mut out);
    assert_eq!(decode(Role::Client, &out), [Owned::Ping(vec![b'x'; 125])]);
}

#[test]
fn section_5_5_1_close_payloads() {
    assert_eq!(decode(Role::Client, b"\x88\x00"), [Owned::Close(None, String::new())]);
    assert_eq!(decode(Role::Client, b"\x88\x02\x03\xe8"), [Owned::Close(Some(1000), String::new())]);
    assert_eq!(decode(Role::Client, b"\x88\x05\x0f\xa9bye"), [Owned::Close(Some(4009), "bye".into())]);
    fails(Role::Client, b"\x88\x01\x03", TruncatedCloseCode, 1002);
    fails(Role::Client, b"\x88\x04\x03\xe8\xc3\x28", InvalidUtf8, 1007);
    // The code is judged before the reason.
    fails(Role::Client, b"\x88\x04\x03\xed\xc3\x28", InvalidCloseCode(1005), 1002);
}

#[test]
fn section_5_5_1_nothing_follows_a_close() {
    let mut endpoint = support::Endpoint::new(Role::Server, 1000);
    let stream = [client_frame(true, Opcode::Close, b""), client_frame(true, Opcode::Text, b"late"), vec![0xff; 9]];
    endpoint.receive(&stream.concat());
    endpoint.receive(&client_frame(true, Opcode::Text, b"later"));
    assert_eq!(endpoint.events, [Owned::Close(None, String::new())]);
    assert!(endpoint.decoder.is_finished());
    assert_eq!(endpoint.decoder.held_bytes(), 0);
}

#[test]
fn an_error_is_reported_once_and_ends_the_stream() {
    let mut endpoint = support::Endpoint::new(Role::Server, 1000);
    endpoint.receive(&[client_frame(false, Opcode::Text, b"half"), vec![0xff, 0xff]].concat());
    endpoint.receive(&client_frame(true, Opcode::Text, b"later"));
    assert_eq!(endpoint.events, [Owned::Failed(ReservedBits)]);
    assert!(endpoint.decoder.is_finished());
}

#[test]
fn section_5_7_examples() {
    let hello = || Owned::Text("Hello".into());
    assert_eq!(decode(Role::Client, b"\x81\x05Hello"), [hello()]);
    assert_eq!(decode(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), [hello()]);
    assert_eq!(decode(Role::Client, b"\x01\x03Hel\x80\x02lo"), [hello()]);
    assert_eq!(decode(Role::Client, b"\x89\x05Hello"), [Owned::Ping(b"Hello".to_vec())]);
    assert_eq!(decode(Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), [Owned::Pong(b"Hello".to_vec())]);
    for length in [256usize, 65_536] {
        let mut wire = Vec::new();
        message::encode_frame(Opcode::Binary, &vec![9; length], None, &mut wire);
        assert_eq!(wire[..4], if length == 256 { [0x82, 0x7e, 1, 0] } else { [0x82, 0x7f, 0, 0] });
        assert_eq!(decode(Role::Client, &wire), [Owned::Binary(vec![9; length])]);
    }
    let mut wire = Vec::new();
    message::encode_frame(Opcode::Text, b"Hello", Some(MASK), &mut wire);
    assert_eq!(wire, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
}

#[test]
fn section_7_4_every_close_code() {
    for code in 0..=u16::MAX {
        let allowed = matches!(code, 1000 | 1001 | 1002 | 1003 | 1007..=1014 | 3000..=4999);
        assert_eq!(close::is_allowed_code(code), allowed, "{code}");
        let mut wire = Vec::new();
        message::encode_close(Some(code), "why", None, &mut wire);
        let expected =
            if allowed { Owned::Close(Some(code), "why".into()) } else { Owned::Failed(InvalidCloseCode(code)) };
        assert_eq!(decode(Role::Client, &wire), [expected]);
    }
}

#[test]
fn a_long_close_reason_is_cut_between_characters() {
    let mut wire = Vec::new();
    message::encode_close(Some(1001), &"é".repeat(100), Some(MASK), &mut wire);
    assert_eq!(decode(Role::Server, &wire), [Owned::Close(Some(1001), "é".repeat(61))]);
    wire.clear();
    message::encode_close(None, "no code, no reason", None, &mut wire);
    assert_eq!(wire, [0x88, 0]);
}

/// Byte sequences that are not UTF-8 and how many bytes of each show it (RFC 3629 section 4).
const INVALID_UTF8: &[(&[u8], usize)] = &[
    (b"\x80", 1),
    (b"\xbf", 1),
    (b"\xc0\x80", 1),
    (b"\xc1\xbf", 1),
    (b"\xc3\x28", 2),
    (b"\xe0\x80\x80", 2),
    (b"\xe0\x9f\xbf", 2),
    (b"\xe6\xbc\x28", 3),
    (b"\xed\xa0\x80", 2),
    (b"\xed\xbf\xbf", 2),
    (b"\xf0\x80\x80\x80", 2),
    (b"\xf0\x8f\xbf\xbf", 2),
    (b"\xf0\x9f\xa6\x28", 4),
    (b"\xf4\x90\x80\x80", 2),
    (b"\xf5\x80\x80\x80", 1),
    (b"\xfe", 1),
    (b"\xff", 1),
];

#[test]
fn section_8_1_invalid_utf8_fails_at_the_byte_that_shows_it() {
    for (bytes, shown) in INVALID_UTF8 {
        for prefix in ["", "plain ", "漢字 and a longer run of valid text to cross vector widths, twice over 🦀"] {
            let payload = [prefix.as_bytes(), bytes, b" more"].concat();
            fails(Role::Server, &client_frame(true, Opcode::Text, &payload), InvalidUtf8, 1007);
            // Delivered byte by byte, within one frame and as fragments of one byte.
            let frame = client_frame(true, Opcode::Text, &payload);
            let mut streamed = support::Endpoint::new(Role::Server, 1 << 20);
            let mut fragmented = support::Endpoint::new(Role::Server, 1 << 20);
            streamed.receive(&frame[..frame.len() - payload.len()]);
            for (i, byte) in payload.iter().enumerate() {
                let failed: &[Owned] = match i + 1 < prefix.len() + shown {
                    true => &[],
                    false => &[Owned::Failed(InvalidUtf8)],
                };
                streamed.receive(&frame[frame.len() - payload.len() + i..][..1]);
                assert_eq!(streamed.events, failed, "{bytes:x?} behind {prefix:?}, byte {i} of the frame");
                let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
                fragmented.receive(&client_frame(false, opcode, &[*byte]));
                assert_eq!(fragmented.events, failed, "{bytes:x?} behind {prefix:?}, fragment {i}");
            }
        }
    }
}

#[test]
fn section_8_1_text_may_not_end_inside_a_code_point() {
    for cut in ["é", "漢", "🦀"] {
        for end in 1..cut.len() {
            let bytes = &cut.as_bytes()[..end];
            fails(Role::Server, &client_frame(true, Opcode::Text, bytes), InvalidUtf8, 1007);
            let stream = [client_frame(false, Opcode::Text, bytes), client_frame(true, Opcode::Continuation, b"")];
            fails(Role::Server, &stream.concat(), InvalidUtf8, 1007);
            // The code point may go on in the next fragment, and binary data may be anything.
            let rest = &cut.as_bytes()[end..];
            let stream = [client_frame(false, Opcode::Text, bytes), client_frame(true, Opcode::Continuation, rest)];
            assert_eq!(decode(Role::Server, &stream.concat()), [Owned::Text(cut.into())]);
            let binary = client_frame(true, Opcode::Binary, bytes);
            assert_eq!(decode(Role::Server, &binary), [Owned::Binary(bytes.to_vec())]);
        }
    }
}
