//! What the tests and the fuzz targets share: a seeded generator, streams, runs of the decoder with every cut, the
//! reference implementation and the fuzz bodies. Never asserts anything about one particular RFC case.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub(crate) mod fuzz_bodies;
pub(crate) mod reference;

use gochat_ws::{Decoder, Event, Input, Limits, Opcode, ProtocolError, Role, Scratch, message};

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn text(&mut self, chars: usize) -> String {
        let alphabet = ['a', 'Z', ' ', 'é', 'ß', '漢', '字', '\u{ffff}', '🦀', '\u{10ffff}', '\0'];
        (0..chars).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

/// An event that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(ProtocolError),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into()),
            Event::Binary(bytes) => Self::Binary(bytes.into()),
            Event::Ping(bytes) => Self::Ping(bytes.into()),
            Event::Pong(bytes) => Self::Pong(bytes.into()),
            Event::Close { code, reason } => Self::Close(code, reason.into()),
        }
    }
}

/// A decoder with what it needs.
pub(crate) struct Endpoint {
    pub(crate) decoder: Decoder,
    pub(crate) scratch: Scratch,
    pub(crate) limits: Limits,
    pub(crate) events: Vec<Owned>,
}

impl Endpoint {
    pub(crate) fn new(role: Role, message_bytes_max: usize) -> Self {
        Self {
            decoder: Decoder::new(role),
            scratch: Scratch::new(),
            limits: Limits { message_bytes_max },
            events: Vec::new(),
        }
    }

    /// Delivers `bytes` as one receive and collects what comes of it.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let mut buffer = bytes.to_vec();
        let mut input = Input::new(&mut buffer);
        loop {
            match self.decoder.next(&self.limits, &mut self.scratch, &mut input) {
                Ok(Some(event)) => self.events.push(event.into()),
                Ok(None) => break,
                Err(error) => self.events.push(Owned::Failed(error)),
            }
        }
        assert_eq!(input.remaining(), 0, "input left over");
    }
}

/// Decodes `stream` delivered in the pieces that end at `cuts` (ascending).
pub(crate) fn decode_cut(role: Role, message_bytes_max: usize, stream: &[u8], cuts: &[usize]) -> Vec<Owned> {
    let mut endpoint = Endpoint::new(role, message_bytes_max);
    let mut start = 0;
    for &cut in cuts {
        endpoint.receive(&stream[start..cut]);
        start = cut;
    }
    endpoint.receive(&stream[start..]);
    endpoint.events
}

pub(crate) fn decode(role: Role, stream: &[u8]) -> Vec<Owned> {
    decode_cut(role, 1 << 20, stream, &[])
}

/// One frame as a client sends it, with a fixed mask.
pub(crate) fn client_frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message::encode_fragment(fin, opcode, payload, Some([0x37, 0xfa, 0x21, 0x3d]), &mut out);
    out
}

/// A valid stream of about `messages` messages for an endpoint of `role`: fragmented at random, control frames between
/// fragments, sometimes closed.
pub(crate) fn random_stream(random: &mut Random, role: Role, messages: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mask = |random: &mut Random| (role == Role::Server).then(|| (random.next() as u32).to_le_bytes());
    for _ in 0..messages {
        let is_text = random.below(2) == 0;
        let size = [0, 1, 60, 130, 400][random.below(5)];
        let payload = if is_text { random.text(size / 2).into_bytes() } else { random.bytes(size) };
        let mut opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        let mut rest = &payload[..];
        while random.below(3) == 0 {
            let (fragment, after) = rest.split_at(random.below(rest.len() + 1));
            let key = mask(random);
            message::encode_fragment(false, opcode, fragment, key, &mut out);
            (opcode, rest) = (Opcode::Continuation, after);
            if random.below(3) == 0 {
                let control = if random.below(2) == 0 { Opcode::Ping } else { Opcode::Pong };
                let len = random.below(126);
                let payload = random.bytes(len);
                let key = mask(random);
                message::encode_frame(control, &payload, key, &mut out);
            }
        }
        let key = mask(random);
        message::encode_fragment(true, opcode, rest, key, &mut out);
    }
    if random.below(3) == 0 {
        let code = [None, Some(1000), Some(1001), Some(3000), Some(4999)][random.below(5)];
        let reason = random.text(10);
        let key = mask(random);
        message::encode_close(code, &reason, key, &mut out);
        let key = mask(random);
        message::encode_frame(Opcode::Text, b"after the close", key, &mut out);
    }
    out
}

/// Damages a stream: flips, inserts, deletes, repeats or truncates.
pub(crate) fn mutate(random: &mut Random, stream: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        if stream.is_empty() {
            return;
        }
        let at = random.below(stream.len());
        match random.below(6) {
            0 | 1 => stream[at] ^= 1 << random.below(8),
            2 => stream[at] = random.next() as u8,
            3 => stream.insert(at, random.next() as u8),
            4 => drop(stream.remove(at)),
            _ => stream.truncate(at),
        }
    }
}
