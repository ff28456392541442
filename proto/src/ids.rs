//! Identifiers: users, messages, conversations, gateways and the addresses of connections.
//!
//! Owns their forms in memory and as text. Never makes new ones: snowflakes are drawn elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not the canonical form of the id asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct InvalidId(&'static str);

macro_rules! decimal_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Above 0. As text, in JSON too, a decimal string without sign or leading zeros; a JSON number is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<$name, InvalidId> {
                decimal(text).and_then(|n| i64::try_from(n).ok()).map($name).ok_or(InvalidId($what))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                deserializer.deserialize_str(TextVisitor { parse: str::parse, what: $what })
            }
        }
    };
}

decimal_id!(
    /// A user's id: a snowflake.
    UserId,
    "user id"
);
decimal_id!(
    /// A message's id: a snowflake.
    MessageId,
    "message id"
);

/// A conversation's id, taken apart. Its text is the key on topics and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConversationId {
    /// The one public room: `world`.
    World,
    /// Two users: `single_{low}_{high}`, so that both of them make the same id.
    Single {
        /// The numerically lower user.
        low: UserId,
        /// The numerically higher user.
        high: UserId,
    },
    /// `group_{snowflake}`.
    Group(i64),
}

impl ConversationId {
    /// Longest text in bytes.
    pub const TEXT_BYTES_MAX: usize = "single_".len() + 19 + 1 + 19;

    /// The single chat of two users, in either order; `None` when both are the same.
    pub fn single(a: UserId, b: UserId) -> Option<ConversationId> {
        (a != b).then(|| ConversationId::Single { low: a.min(b), high: a.max(b) })
    }

    /// The other member of a single chat; `None` for other conversations and for a user who is not a member.
    pub fn peer_of(self, user: UserId) -> Option<UserId> {
        match self {
            ConversationId::Single { low, high } if user == low => Some(high),
            ConversationId::Single { low, high } if user == high => Some(low),
            ConversationId::Single { .. } | ConversationId::World | ConversationId::Group(_) => None,
        }
    }
}

/// The text of the world room's id.
pub const WORLD: &str = "world";

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConversationId::World => f.write_str(WORLD),
            ConversationId::Single { low, high } => write!(f, "single_{low}_{high}"),
            ConversationId::Group(id) => write!(f, "group_{id}"),
        }
    }
}

impl FromStr for ConversationId {
    type Err = InvalidId;

    /// Accepts the canonical text only, so that equal ids have equal texts.
    fn from_str(text: &str) -> Result<ConversationId, InvalidId> {
        const INVALID: InvalidId = InvalidId("conversation id");
        if text == WORLD {
            return Ok(ConversationId::World);
        }
        if let Some(id) = text.strip_prefix("group_") {
            let id = decimal(id).and_then(|n| i64::try_from(n).ok()).ok_or(INVALID)?;
            return Ok(ConversationId::Group(id));
        }
        let (low, high) = text.strip_prefix("single_").and_then(|t| t.split_once('_')).ok_or(INVALID)?;
        let (low, high) = (low.parse::<UserId>()?, high.parse::<UserId>()?);
        if low < high { Ok(ConversationId::Single { low, high }) } else { Err(INVALID) }
    }
}

impl Serialize for ConversationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConversationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ConversationId, D::Error> {
        deserializer.deserialize_str(TextVisitor { parse: str::parse, what: "conversation id" })
    }
}

/// A gateway's instance id, 1..=1023, leased; its text is `gateway-{n}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(u16);

impl GatewayId {
    /// Highest id.
    pub const MAX: u32 = 1023;

    /// `None` outside 1..=1023.
    pub fn new(number: u32) -> Option<GatewayId> {
        let number = u16::try_from(number).ok()?;
        (1..=Self::MAX).contains(&u32::from(number)).then_some(GatewayId(number))
    }

    /// The number alone.
    pub fn number(self) -> u32 {
        u32::from(self.0)
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gateway-{}", self.0)
    }
}

impl FromStr for GatewayId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<GatewayId, InvalidId> {
        text.strip_prefix("gateway-")
            .and_then(decimal)
            .and_then(|n| u32::try_from(n).ok())
            .and_then(GatewayId::new)
            .ok_or(InvalidId("gateway id"))
    }
}

/// Where a connection is inside its gateway: {shard 8, slot 24, generation 32 bits}, shard highest (pipeline rule F3).
/// Together with the gateway's incarnation it names one connection for ever. 0 is nobody, so generations start at 1.
/// As text, in JSON too, a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// Nobody; in an origin: an HTTP request.
    pub const NONE: Address = Address(0);
    /// A shard's table holds at most this many slots.
    pub const SLOTS_MAX: u32 = 1 << 24;

    /// `slot` is below [`Address::SLOTS_MAX`], which a shard asserts of its table; higher bits are dropped.
    pub const fn new(shard: u8, slot: u32, generation: u32) -> Address {
        let slot = slot & (Self::SLOTS_MAX - 1);
        Address((shard as u64) << 56 | (slot as u64) << 32 | generation as u64)
    }

    /// Index of the shard.
    pub const fn shard(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Index in the shard's table.
    pub const fn slot(self) -> u32 {
        (self.0 >> 32) as u32 & (Self::SLOTS_MAX - 1)
    }

    /// How often the slot had been used.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// True for [`Address::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Address {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Address, InvalidId> {
        decimal(text).map(Address).ok_or(InvalidId("connection address"))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        deserializer.deserialize_str(TextVisitor { parse: str::parse, what: "connection address" })
    }
}

/// A number above 0 in canonical decimal form.
fn decimal(text: &str) -> Option<u64> {
    let canonical = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if canonical { text.parse().ok() } else { None }
}

struct TextVisitor<T> {
    parse: fn(&str) -> Result<T, InvalidId>,
    what: &'static str,
}

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} as a string", self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn decimal_ids_accept_the_canonical_form_only() {
        assert_eq!("1".parse(), Ok(UserId(1)));
        assert_eq!("9223372036854775807".parse(), Ok(UserId(i64::MAX)));
        for bad in
            ["", "0", "01", "-1", "+1", " 1", "1 ", "1.0", "9223372036854775808", "٣", "a", "99999999999999999999"]
        {
            assert!(bad.parse::<UserId>().is_err(), "{bad:?}");
        }
        assert_eq!(serde_json::to_string(&MessageId(42)).unwrap(), "\"42\"");
        assert_eq!(serde_json::from_str::<MessageId>("\"42\"").unwrap(), MessageId(42));
        assert!(serde_json::from_str::<MessageId>("42").is_err(), "a JSON number");
    }

    #[test]
    fn conversation_ids_round_trip() {
        let single = ConversationId::single(UserId(20), UserId(3)).unwrap();
        assert_eq!(single, ConversationId::single(UserId(3), UserId(20)).unwrap());
        for (id, text) in [
            (ConversationId::World, "world"),
            (single, "single_3_20"),
            (ConversationId::Group(77), "group_77"),
            (
                ConversationId::Single { low: UserId(i64::MAX - 1), high: UserId(i64::MAX) },
                "single_9223372036854775806_9223372036854775807",
            ),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
            assert!(text.len() <= ConversationId::TEXT_BYTES_MAX);
            assert_eq!(serde_json::from_str::<ConversationId>(&format!("{text:?}")).unwrap(), id);
        }
        assert_eq!(ConversationId::single(UserId(3), UserId(3)), None);
    }

    #[test]
    fn conversation_ids_have_one_text() {
        for bad in [
            "",
            "World",
            "world_",
            "single_",
            "single_3",
            "single_3_",
            "single__3",
            "single_20_3",
            "single_3_3",
            "single_03_20",
            "single_3_20_1",
            "single_-3_20",
            "group_",
            "group_0",
            "group_x",
            "group_-1",
            "dm_1",
        ] {
            assert!(bad.parse::<ConversationId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_peer_is_the_other_one() {
        let single = ConversationId::single(UserId(3), UserId(20)).unwrap();
        assert_eq!(single.peer_of(UserId(3)), Some(UserId(20)));
        assert_eq!(single.peer_of(UserId(20)), Some(UserId(3)));
        assert_eq!(single.peer_of(UserId(4)), None);
        assert_eq!(ConversationId::World.peer_of(UserId(3)), None);
    }

    #[test]
    fn addresses_keep_their_parts() {
        for (shard, slot, generation) in [(0, 0, 1), (255, Address::SLOTS_MAX - 1, u32::MAX), (3, 70_000, 9)] {
            let address = Address::new(shard, slot, generation);
            assert_eq!((address.shard(), address.slot(), address.generation()), (shard, slot, generation));
            assert!(!address.is_none());
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        assert_eq!(Address::new(1, 2, 3).0, 0x0100_0002_0000_0003);
        assert!(Address::NONE.is_none());
    }

    #[test]
    fn gateway_ids_stay_in_range() {
        for bad in ["gateway-0", "gateway-1024", "gateway-01", "gateway-", "gateway-66536", "7"] {
            assert!(bad.parse::<GatewayId>().is_err(), "{bad:?}");
        }
        let top = GatewayId::new(1023).unwrap();
        assert_eq!((top.number(), top.to_string().as_str()), (1023, "gateway-1023"));
        assert_eq!(top.to_string().parse(), Ok(top));
    }
}
