//! RFC 6455 on the echo server, in the categories of the Autobahn test-suite, over every reactor of this machine: each
//! case in one piece and, when it is short, byte by byte.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../examples/common/echo.rs"]
mod echo;
mod engine_support;

use std::net::SocketAddr;

use echo::Echo;
use engine_support::{Got, Wire, client_frame, close, config, reactors, serve, text};
use gochat_gateway::limits::Limits;

const MIB: usize = 1 << 20;
/// Cases up to this many bytes are also sent byte by byte.
const BYTEWISE_MAX: usize = 600;

fn echo_server(reactor: gochat_ring::ReactorChoice) -> SocketAddr {
    let mut config = config(reactor);
    config.limits =
        Limits { message_bytes_max: 16 * MIB, queue_bytes_max: 64 * MIB, queue_frames_max: 16_384, ..config.limits };
    serve(&config, || Echo).addr
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    want: Vec<Got>,
}

fn case(name: impl Into<String>, frames: &[Vec<u8>], want: &[Got]) -> Case {
    Case { name: name.into(), bytes: frames.concat(), want: want.to_vec() }
}

fn echoed(payload: &str) -> Got {
    Got::Frame(0x81, payload.as_bytes().to_vec())
}

fn pong(payload: &[u8]) -> Got {
    Got::Frame(0x8a, payload.to_vec())
}

/// A close frame of the server; the reason is its own affair.
fn closed(code: u16) -> Got {
    Got::Frame(0x88, code.to_be_bytes().to_vec())
}

fn run(cases: Vec<Case>) {
    for reactor in reactors() {
        let addr = echo_server(reactor);
        for case in &cases {
            run_one(addr, case, case.bytes.len(), &format!("{reactor:?}, {}", case.name));
            if case.bytes.len() <= BYTEWISE_MAX {
                run_one(addr, case, 1, &format!("{reactor:?}, {}, byte by byte", case.name));
            }
        }
    }
}

fn run_one(addr: SocketAddr, case: &Case, chop: usize, name: &str) {
    let mut wire = Wire::open(addr);
    let mut sender = wire.stream.try_clone().unwrap();
    let bytes = case.bytes.clone();
    // Beside the reading, or both sides would wait with full buffers.
    let writing = std::thread::spawn(move || {
        for piece in bytes.chunks(chop.max(1)) {
            // The server may have closed already, as it should on a violation.
            if std::io::Write::write_all(&mut sender, piece).is_err() {
                return;
            }
        }
    });
    for want in &case.want {
        let mut got = wire.read();
        if let (Got::Frame(0x88, want), Got::Frame(0x88, got)) = (want, &mut got) {
            got.truncate(want.len().max(2).min(got.len()));
        }
        assert_eq!(&got, want, "{name}");
    }
    writing.join().unwrap();
    if !matches!(case.want.last(), Some(Got::Frame(0x88, _) | Got::Eof)) {
        wire.send(&close(1000, ""));
        assert_eq!(wire.read(), closed(1000), "{name}: the close handshake behind it");
    }
    assert_eq!(wire.read(), Got::Eof, "{name}: the server shuts down first");
}

fn pattern(bytes: usize) -> String {
    "*+-abcdefghij".chars().cycle().take(bytes).collect()
}

#[test]
fn category_1_framing() {
    let mut cases = Vec::new();
    for bytes in [0, 1, 125, 126, 127, 128, 4096, 65_535, 65_536, 100_000] {
        let payload = pattern(bytes);
        cases.push(case(format!("1.1 text of {bytes}"), &[text(&payload)], &[echoed(&payload)]));
        let binary = vec![0xfe; bytes];
        cases.push(case(
            format!("1.2 binary of {bytes}"),
            &[client_frame(0x82, &binary)],
            &[Got::Frame(0x82, binary.clone())],
        ));
    }
    run(cases);
}

#[test]
fn category_2_pings() {
    let long = client_frame(0x89, &[0xfe; 126]);
    run(vec![
        case("2.1 empty", &[client_frame(0x89, b"")], &[pong(b"")]),
        case("2.2 text", &[client_frame(0x89, b"Hello")], &[pong(b"Hello")]),
        case("2.3 binary", &[client_frame(0x89, &[0, 0xff, 0xfe])], &[pong(&[0, 0xff, 0xfe])]),
        case("2.4 of 125", &[client_frame(0x89, &[0xfe; 125])], &[pong(&[0xfe; 125])]),
        case("2.5 of 126", &[long], &[closed(1002)]),
        case("2.7 pong", &[client_frame(0x8a, b"")], &[]),
        case("2.8 pong with payload", &[client_frame(0x8a, b"unasked")], &[]),
        case("2.9 pong, then ping", &[client_frame(0x8a, b"u"), client_frame(0x89, b"p")], &[pong(b"p")]),
        Case {
            name: "2.10 ten pings".to_owned(),
            bytes: (0..10).flat_map(|n| client_frame(0x89, &[n])).collect(),
            want: (0..10).map(|n| pong(&[n])).collect(),
        },
    ]);
}

#[test]
fn category_3_reserved_bits() {
    let mut cases = Vec::new();
    for bits in 1..8u8 {
        let rsv = bits << 4;
        for opcode in [0x81, 0x82, 0x88, 0x89, 0x8a] {
            cases.push(case(
                format!("3 bits {bits} on {opcode:#x}"),
                &[text("before"), client_frame(opcode | rsv, b""), text("after")],
                &[echoed("before"), closed(1002)],
            ));
        }
    }
    run(cases);
}

#[test]
fn category_4_opcodes() {
    let mut cases = Vec::new();
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        for payload in [&b""[..], b"payload"] {
            cases.push(case(
                format!("4 opcode {opcode}"),
                &[text("before"), client_frame(0x80 | opcode, payload), client_frame(0x89, b"")],
                &[echoed("before"), closed(1002)],
            ));
        }
    }
    run(cases);
}

#[test]
fn category_5_fragmentation() {
    let start = |payload: &[u8]| client_frame(0x01, payload);
    let more = |payload: &[u8]| client_frame(0x00, payload);
    let last = |payload: &[u8]| client_frame(0x80, payload);
    let ping = client_frame(0x89, b"ping");
    run(vec![
        case("5.1 fragmented ping", &[client_frame(0x09, b"a"), last(b"b")], &[closed(1002)]),
        case("5.2 fragmented pong", &[client_frame(0x0a, b"a"), last(b"b")], &[closed(1002)]),
        case("5.3 text in two", &[start(b"frag"), last(b"ment")], &[echoed("fragment")]),
        case("5.4 empty fragments", &[start(b""), more(b""), last(b"")], &[echoed("")]),
        case("5.6 ping between", &[start(b"a"), ping.clone(), last(b"b")], &[pong(b"ping"), echoed("ab")]),
        case("5.9 continuation of nothing", &[last(b"x"), text("y")], &[closed(1002)]),
        case("5.10 continuation of nothing, open", &[more(b"x"), text("y")], &[closed(1002)]),
        case("5.11 continuation after a message", &[text("whole"), last(b"x")], &[echoed("whole"), closed(1002)]),
        case("5.15 text inside a message", &[start(b"a"), text("b")], &[closed(1002)]),
        case("5.16 a fragment inside a message", &[start(b"a"), start(b"b")], &[closed(1002)]),
        case("5.18 binary inside a message", &[start(b"a"), client_frame(0x82, b"b")], &[closed(1002)]),
        case(
            "5.19 pings between five fragments",
            &[start(b"f1"), more(b"f2"), ping.clone(), more(b"f3"), more(b"f4"), ping, last(b"f5")],
            &[pong(b"ping"), pong(b"ping"), echoed("f1f2f3f4f5")],
        ),
        case("close inside a message", &[start(b"a"), close(1000, "")], &[closed(1000)]),
        Case {
            name: "65,536 fragments".to_owned(),
            bytes: [start(b"")]
                .into_iter()
                .chain((0..65_534).map(|_| more(b"x")))
                .chain([last(b"!")])
                .flatten()
                .collect(),
            want: vec![echoed(&("x".repeat(65_534) + "!"))],
        },
    ]);
}

#[test]
fn category_6_utf8() {
    let mut cases = vec![
        case("6.1 empty fragments", &[client_frame(0x01, b""), client_frame(0x80, b"")], &[echoed("")]),
        case("6.2 valid", &[text("Hello-µ@ßöäüàá-UTF-8!!")], &[echoed("Hello-µ@ßöäüàá-UTF-8!!")]),
    ];
    let valid = "κόσμε\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\u{fffd}\u{fdd0}";
    let bytes = valid.as_bytes();
    for at in 0..=bytes.len() {
        let frames = [client_frame(0x01, &bytes[..at]), client_frame(0x80, &bytes[at..])];
        cases.push(case(format!("6.2 cut at {at}"), &frames, &[echoed(valid)]));
    }
    for invalid in [
        &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"[..],
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xfe",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"ok\xe2\x82",
        b"\xf0\x9f\x98",
    ] {
        let name = format!("6.3 {invalid:x?}");
        cases.push(case(
            name.clone(),
            &[text("before"), client_frame(0x81, invalid)],
            &[echoed("before"), closed(1007)],
        ));
        let (first, second) = invalid.split_at(invalid.len() / 2);
        cases.push(case(name + " in two", &[client_frame(0x01, first), client_frame(0x80, second)], &[closed(1007)]));
    }
    // The rest of the message never comes: the violation is told as soon as it is seen.
    cases.push(case("6.4 fail fast", &[client_frame(0x01, b"\xf4\x90")], &[closed(1007)]));
    run(cases);
}

#[test]
fn category_7_close() {
    let after_close = [close(1000, ""), text("late"), client_frame(0x89, b"late"), close(1000, "")];
    let mut cases = vec![
        case("7.1.1 message, then close", &[text("Hello"), close(1000, "")], &[echoed("Hello"), closed(1000)]),
        case("7.1.3 nothing is answered after the close", &after_close, &[closed(1000)]),
        case("7.3.1 empty", &[client_frame(0x88, b"")], &[Got::Frame(0x88, Vec::new())]),
        case("7.3.2 one byte", &[client_frame(0x88, b"a")], &[closed(1002)]),
        case("7.3.4 with reason", &[close(1000, "Hello World!")], &[closed(1000)]),
        case("7.3.5 reason of 123", &[close(1000, &"*".repeat(123))], &[closed(1000)]),
        case("7.3.6 reason of 124", &[close(1000, &"*".repeat(124))], &[closed(1002)]),
        case("7.5.1 reason is no UTF-8", &[client_frame(0x88, b"\x03\xe8\xce\xba\xed\xa0\x80")], &[closed(1007)]),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(case(format!("7.7 code {code}"), &[close(code, "")], &[closed(code)]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case(format!("7.9 code {code}"), &[close(code, "")], &[closed(1002)]));
    }
    run(cases);
}

#[test]
fn masks_and_lengths() {
    let unmasked = vec![0x81, 0x02, b'h', b'i'];
    let long_form = vec![0x81, 0x80 | 126, 0, 5, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    let longest_form = vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    let top_bit = vec![0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let too_large = vec![0x82, 0x80 | 127, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0];
    run(vec![
        case("5.1 unmasked", &[unmasked], &[closed(1002)]),
        case("5.2 length not minimal, 16 bits", &[long_form], &[closed(1002)]),
        case("5.2 length not minimal, 64 bits", &[longest_form], &[closed(1002)]),
        case("5.2 highest bit of the length", &[top_bit], &[closed(1002)]),
        case("7.4.1 one byte over 16 MiB", &[too_large], &[closed(1009)]),
    ]);
}

#[test]
fn category_9_sizes_up_to_16_mib() {
    let mut cases = Vec::new();
    for bytes in [MIB / 4, MIB, 4 * MIB, 16 * MIB] {
        let payload = pattern(bytes);
        cases.push(case(format!("9.1 text of {bytes}"), &[text(&payload)], &[echoed(&payload)]));
        let binary = payload.into_bytes();
        cases.push(case(
            format!("9.2 binary of {bytes}"),
            &[client_frame(0x82, &binary)],
            &[Got::Frame(0x82, binary.clone())],
        ));
    }
    let payload = pattern(4 * MIB);
    for fragment in [1300, 65_536, MIB] {
        let pieces: Vec<_> = payload.as_bytes().chunks(fragment).collect();
        let frames = pieces.iter().enumerate().map(|(i, piece)| {
            let fin = if i + 1 == pieces.len() { 0x80 } else { 0 };
            client_frame(fin | u8::from(i == 0), piece)
        });
        let (name, bytes) = (format!("9.3 text of 4 MiB in fragments of {fragment}"), frames.flatten().collect());
        cases.push(Case { name, bytes, want: vec![echoed(&payload)] });
    }
    for (count, bytes) in [(3000, 0), (3000, 16), (1000, 1024), (200, 16_384)] {
        let payload = pattern(bytes);
        cases.push(Case {
            name: format!("9.7 {count} messages of {bytes}"),
            bytes: text(&payload).repeat(count),
            want: vec![echoed(&payload); count],
        });
    }
    run(cases);
}
