//! Sizes: what a message may have, what a connection may hold, and that neither follows an announcement.

mod support;

use gochat_ws::{Decoder, Event, Input, Limits, Opcode, ProtocolError, Role, Scratch, message};
use support::{Endpoint, Owned, client_frame};

#[test]
fn the_decoder_stays_small() {
    assert!(size_of::<Decoder>() <= 16);
    assert_eq!(size_of::<Option<Decoder>>(), size_of::<Decoder>());
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_byte_more_fails() {
    for limit in [0, 1, 125, 126, 70_000] {
        let mut endpoint = Endpoint::new(Role::Server, limit);
        endpoint.receive(&client_frame(true, Opcode::Binary, &vec![1; limit]));
        endpoint.receive(&client_frame(false, Opcode::Binary, &vec![2; limit]));
        endpoint.receive(&client_frame(true, Opcode::Continuation, b""));
        assert_eq!(endpoint.events, [Owned::Binary(vec![1; limit]), Owned::Binary(vec![2; limit])]);
        endpoint.receive(&client_frame(true, Opcode::Binary, &vec![3; limit + 1]));
        assert_eq!(endpoint.events[2], Owned::Failed(ProtocolError::MessageTooLarge));
    }
}

#[test]
fn a_message_over_the_limit_fails_at_the_header_that_announces_it() {
    let mut endpoint = Endpoint::new(Role::Server, 1000);
    endpoint.receive(&client_frame(false, Opcode::Binary, &[0; 600]));
    let next = client_frame(false, Opcode::Continuation, &[0; 401]);
    endpoint.receive(&next[..7]);
    assert_eq!(endpoint.events, []);
    endpoint.receive(&next[7..8]);
    assert_eq!(endpoint.events, [Owned::Failed(ProtocolError::MessageTooLarge)]);
    assert_eq!(ProtocolError::MessageTooLarge.close_code(), 1009);
}

#[test]
fn control_frames_are_not_bound_by_the_message_limit() {
    let mut endpoint = Endpoint::new(Role::Server, 10);
    endpoint.receive(&client_frame(true, Opcode::Ping, &[1; 125]));
    assert_eq!(endpoint.events, [Owned::Ping(vec![1; 125])]);
}

#[test]
fn memory_follows_what_was_received_not_what_was_announced() {
    let mut endpoint = Endpoint::new(Role::Server, 16 << 20);
    let frame = client_frame(true, Opcode::Binary, &vec![7; 16 << 20]);
    endpoint.receive(&frame[..14]);
    assert!(endpoint.decoder.held_bytes() < 1024, "a header alone holds {}", endpoint.decoder.held_bytes());
    let mut received = 14;
    for piece in frame[14..].chunks(16 * 1024) {
        endpoint.receive(piece);
        received += piece.len();
        let held = endpoint.decoder.held_bytes();
        assert!(held <= 2 * received + 1024, "{held} bytes held after {received}");
    }
    assert_eq!(endpoint.events, [Owned::Binary(vec![7; 16 << 20])]);
    assert_eq!(endpoint.decoder.held_bytes(), 0);
}

#[test]
fn nothing_is_held_between_messages() {
    let mut endpoint = Endpoint::new(Role::Server, 1 << 20);
    for payload in [&b"short"[..], &[b'x'; 100_000]] {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping] {
            let payload = if opcode == Opcode::Ping { &payload[..5] } else { payload };
            let frame = client_frame(true, opcode, payload);
            for cut in [1, 5, 8, frame.len() - 1] {
                endpoint.receive(&frame[..cut]);
                assert!(endpoint.decoder.is_mid_message());
                endpoint.receive(&frame[cut..]);
                assert_eq!(endpoint.decoder.held_bytes(), 0, "{opcode:?} cut at {cut}");
                assert!(!endpoint.decoder.is_mid_message());
            }
        }
    }
    assert_eq!(endpoint.events.len(), 24);
}

#[test]
fn a_dropped_connection_can_give_its_memory_back() {
    let (limits, mut scratch) = (Limits::default(), Scratch::new());
    let mut decoder = Decoder::new(Role::Server);
    let mut half = client_frame(true, Opcode::Text, b"hello");
    half.truncate(8);
    assert_eq!(decoder.next(&limits, &mut scratch, &mut Input::new(&mut half)), Ok(None));
    decoder.release(&mut scratch);
    assert_eq!(decoder.held_bytes(), 0);
    let mut more = client_frame(true, Opcode::Text, b"hello");
    assert_eq!(decoder.next(&limits, &mut scratch, &mut Input::new(&mut more)), Ok(None));
}

#[test]
fn a_message_of_65536_fragments() {
    for (opcode, unit) in [(Opcode::Text, "é".as_bytes()), (Opcode::Binary, &[0xff, 0x00][..])] {
        let mut stream = Vec::new();
        for i in 0..65_536usize {
            // One byte a fragment, so that every other one is cut inside a code point.
            let opcode = if i == 0 { opcode } else { Opcode::Continuation };
            message::encode_fragment(i == 65_535, opcode, &unit[i % 2..][..1], Some([1, 2, 3, 4]), &mut stream);
        }
        for piece in [stream.len(), 4096, 1] {
            let mut endpoint = Endpoint::new(Role::Server, 65_536);
            stream.chunks(piece).for_each(|piece| endpoint.receive(piece));
            let expected = unit.repeat(32_768);
            match &endpoint.events[..] {
                [Owned::Text(text)] => assert_eq!(text.as_bytes(), expected),
                [Owned::Binary(bytes)] => assert_eq!(bytes, &expected),
                other => panic!("{} events", other.len()),
            }
        }
    }
}

#[test]
fn a_whole_message_is_handed_out_inside_the_receive_buffer() {
    let (limits, mut scratch) = (Limits::default(), Scratch::new());
    let mut decoder = Decoder::new(Role::Server);
    for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong] {
        let mut buffer = client_frame(true, opcode, b"in place");
        let range = buffer.as_ptr_range();
        let mut input = Input::new(&mut buffer);
        let event = decoder.next(&limits, &mut scratch, &mut input);
        let data = match event {
            Ok(Some(Event::Text(text))) => text.as_bytes(),
            Ok(Some(Event::Binary(bytes) | Event::Ping(bytes) | Event::Pong(bytes))) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(data, b"in place");
        assert!(range.contains(&data.as_ptr()), "{opcode:?} was copied");
        assert_eq!(decoder.held_bytes(), 0);
    }
}

#[test]
fn a_large_message_does_not_stay_in_the_scratch() {
    // The buffer of a message above what is kept is freed by the next call, whichever connection makes it; seen from
    // outside as the next message of the same kind living elsewhere with room for itself only.
    let mut endpoint = Endpoint::new(Role::Server, 16 << 20);
    let large = client_frame(true, Opcode::Binary, &vec![1; 8 << 20]);
    endpoint.receive(&large[..1000]);
    endpoint.receive(&large[1000..]);
    let small = client_frame(true, Opcode::Binary, &[2; 500]);
    endpoint.receive(&small[..100]);
    assert!(endpoint.decoder.held_bytes() < 200 * 1024, "{} held", endpoint.decoder.held_bytes());
    endpoint.receive(&small[100..]);
    assert_eq!(endpoint.events[1], Owned::Binary(vec![2; 500]));
}
