//! Places in the claims index, and the key of a claim in the cache (pipeline.md B1).
//!
//! These are stored: their form never changes.

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

/// A chain of taken places longer than this is an attack or a bug: such a message is refused or parked.
pub(crate) const PROBES_MAX: u32 = 1000;

/// The idempotency key of a message; compared as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageKey<'a> {
    pub(crate) conversation: &'a str,
    pub(crate) sender_id: i64,
    pub(crate) client_msg_id: &'a [u8],
}

impl MessageKey<'_> {
    /// The key inside its conversation, as the cache has it.
    pub(crate) fn in_conversation(&self) -> Bytes {
        let mut key = BytesMut::with_capacity(8 + self.client_msg_id.len());
        key.put_i64(self.sender_id);
        key.put_slice(self.client_msg_id);
        key.freeze()
    }
}

/// Hashes keys to places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceHasher {
    mask: u64,
}

impl PlaceHasher {
    /// Keeps so many low bits of the hash, 1..=64; fewer than 64 are for tests of collisions.
    pub(crate) fn with_bits(bits: u32) -> PlaceHasher {
        PlaceHasher { mask: u64::MAX >> (64 - bits.clamp(1, 64)) }
    }

    /// The place to look at after `probe` others were someone else's.
    pub(crate) fn place(&self, key: &MessageKey<'_>, probe: u32) -> i64 {
        let mut bytes = Vec::with_capacity(20 + key.conversation.len() + key.client_msg_id.len());
        bytes.extend_from_slice(&probe.to_be_bytes());
        bytes.extend_from_slice(&key.sender_id.to_be_bytes());
        bytes.extend_from_slice(&(key.conversation.len() as u64).to_be_bytes());
        bytes.extend_from_slice(key.conversation.as_bytes());
        bytes.extend_from_slice(key.client_msg_id);
        (xxh3_64(&bytes) & self.mask).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_stored_indexes_hold() {
        let hasher = PlaceHasher::with_bits(64);
        let key = MessageKey { conversation: "single_1_2", sender_id: 1, client_msg_id: b"abc" };
        let place = hasher.place(&key, 0);
        assert_eq!(place, 7_333_998_601_282_815_628);
        assert_ne!(place, hasher.place(&key, 1));
        assert_ne!(place, hasher.place(&MessageKey { client_msg_id: b"abc ", ..key }, 0));
        assert_ne!(place, hasher.place(&MessageKey { conversation: "single_1_2a", client_msg_id: b"bc", ..key }, 0));
        assert!((0..4).contains(&PlaceHasher::with_bits(2).place(&key, 0)));
    }
}
