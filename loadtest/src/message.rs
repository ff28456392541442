//! The identity and the content of one test message: a 64-bit key that names sender and number, and bytes that follow
//! from the key, so that a receiver can check them without remembering them. Counts nothing.

pub(crate) use crate::mix::mix;
use crate::spread::Sizes;

/// Senders a key can name.
pub(crate) const CLIENTS_MAX: u32 = 1 << CLIENT_BITS;
/// Hex digits of a key.
pub(crate) const KEY_DIGITS: usize = 16;
/// Bytes of a chat message's client_msg_id: `lt`, the run in 8 digits, the key.
pub(crate) const ID_BYTES: usize = 2 + 8 + KEY_DIGITS;

/// Messages of one run that keys can name.
pub(crate) const NUMBERS_MAX: u64 = 1 << NUMBER_BITS;

const CLIENT_BITS: u32 = 24;
const NUMBER_BITS: u32 = 64 - CLIENT_BITS;
/// Distinct starting points in the pattern; a prime, so that consecutive numbers do not repeat soon.
const OFFSETS: u64 = 1021;

/// Which message: the sending client (24 bits) and its number in the run (40 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The message `number` of the run, sent by `client`.
    pub fn new(client: u32, number: u64) -> Key {
        debug_assert!(client < CLIENTS_MAX && number >> NUMBER_BITS == 0);
        Key(u64::from(client) << NUMBER_BITS | number)
    }

    /// The sender.
    pub fn client(self) -> u32 {
        (self.0 >> NUMBER_BITS) as u32
    }

    /// Its number in the run, from 0.
    pub fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// 16 lower-case hex digits.
    pub(crate) fn digits(self) -> [u8; KEY_DIGITS] {
        hex(self.0)
    }

    /// The key at the start of `text`.
    pub(crate) fn parse(text: &[u8]) -> Option<Key> {
        parse_hex(text.get(..KEY_DIGITS)?).map(Key)
    }
}

/// The client_msg_id of a message in the run `run`.
pub(crate) fn write_id(run: u32, key: Key, out: &mut Vec<u8>) {
    out.extend_from_slice(b"lt");
    out.extend_from_slice(&hex::<8>(u64::from(run)));
    out.extend_from_slice(&key.digits());
}

/// The key in a client_msg_id, when it is one of the run `run`.
pub(crate) fn parse_id(run: u32, id: &str) -> Option<Key> {
    let id = id.as_bytes().strip_prefix(b"lt").filter(|rest| rest.len() == ID_BYTES - 2)?;
    let (of_run, key) = id.split_at_checked(8)?;
    (parse_hex(of_run)? == u64::from(run)).then(|| Key::parse(key))?
}

/// The content of messages. Its size follows from the key too.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Vec<u8>,
    sizes: Sizes,
}

impl Pattern {
    /// For contents of these sizes, in bytes.
    pub(crate) fn new(sizes: impl Into<Sizes>) -> Pattern {
        let sizes = sizes.into();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let letters = (0..sizes.max() + OFFSETS as usize).map(|_| {
            state = mix(state);
            b"abcdefghijklmnopqrstuvwxyz012345"[(state >> 59) as usize]
        });
        Pattern { bytes: letters.collect(), sizes }
    }

    /// What the message `key` says.
    pub(crate) fn content(&self, key: Key) -> &[u8] {
        let bits = mix(key.0);
        let offset = (bits % OFFSETS) as usize;
        &self.bytes[offset..offset + self.sizes.pick(bits >> 10)]
    }
}

fn hex<const N: usize>(value: u64) -> [u8; N] {
    std::array::from_fn(|at| b"0123456789abcdef"[(value >> (4 * (N - 1 - at)) & 0xf) as usize])
}

fn parse_hex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_key_survives_its_texts() {
        for (client, number) in [(0, 0), (1, 1), (CLIENTS_MAX - 1, (1 << NUMBER_BITS) - 1), (77, 123_456_789)] {
            let key = Key::new(client, number);
            assert_eq!((key.client(), key.number()), (client, number));
            assert_eq!(Key::parse(&key.digits()), Some(key));
            let mut id = Vec::new();
            write_id(0xbeef, key, &mut id);
            let id = String::from_utf8(id).unwrap();
            assert_eq!((id.len(), parse_id(0xbeef, &id)), (ID_BYTES, Some(key)));
            assert_eq!(parse_id(0xbeee, &id), None, "another run");
        }
        for bad in ["", "lt", "xx00000000000000000000000000", "lt0000beef000000000000000G", "lté00beef0000000000000000"]
        {
            assert_eq!(parse_id(0xbeef, bad), None, "{bad}");
        }
    }

    #[test]
    fn contents_follow_from_the_key() {
        let pattern = Pattern::new(150);
        let [a, b] = [pattern.content(Key::new(0, 1)), pattern.content(Key::new(0, 2))];
        assert_eq!(a.len(), 150);
        assert_ne!(a, b);
        assert_eq!(a, Pattern::new(150).content(Key::new(0, 1)));
        let mixed = Pattern::new("50%:10,50%:20..30".parse::<Sizes>().unwrap());
        let sizes: Vec<usize> = (0..1000).map(|n| mixed.content(Key::new(0, n)).len()).collect();
        assert!(sizes.contains(&10) && sizes.contains(&20) && sizes.contains(&30) && !sizes.contains(&15));
    }
}
