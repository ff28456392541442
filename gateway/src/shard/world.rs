//! How often guests may write to the world room from one address (pipeline.md H6): an IPv4 address, or a /64 of IPv6,
//! which one subscriber has all of. Keeps the address of guests only.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gochat_infra::ratelimit::{Decision, KeyedLimiter, RateRule};
use gochat_ring::ConnId;

/// Guests of one shard and the buckets of their addresses. Holds at most a million buckets.
pub(super) struct Guests {
    origins: HashMap<ConnId, Origin>,
    buckets: KeyedLimiter,
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4(Ipv4Addr),
    V6Net(u64),
}

impl Origin {
    fn of(address: IpAddr) -> Origin {
        match address.to_canonical() {
            IpAddr::V4(address) => Origin::V4(address),
            IpAddr::V6(address) => Origin::V6Net((Ipv6Addr::to_bits(address) >> 64) as u64),
        }
    }
}

impl Guests {
    pub(super) fn new() -> Guests {
        Guests { origins: HashMap::new(), buckets: KeyedLimiter::new() }
    }

    /// A guest's connection is open.
    pub(super) fn add(&mut self, id: ConnId, address: IpAddr) {
        self.origins.insert(id, Origin::of(address));
    }

    /// A connection has ended.
    pub(super) fn remove(&mut self, id: ConnId) {
        self.origins.remove(&id);
    }

    /// Takes a token of the guest's address; of who is no guest none is taken.
    ///
    /// # Errors
    /// There is a token after this many seconds.
    pub(super) fn take(&self, id: ConnId, rule: &RateRule, now_ms: u64) -> Result<(), u32> {
        let Some(origin) = self.origins.get(&id) else { return Ok(()) };
        match self.buckets.allow(origin, rule, now_ms) {
            Decision::Allowed => Ok(()),
            Decision::Limited { retry_after } => Err(retry_after.as_millis().div_ceil(1000) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn guests_of_one_address_share_a_bucket() {
        let rule = RateRule::new(1.0, 2);
        let mut guests = Guests::new();
        let id = |slot| ConnId { slot, generation: 1 };
        for (slot, address) in
            [(1, "10.0.0.1"), (2, "::ffff:10.0.0.1"), (3, "10.0.0.2"), (4, "2001:db8::1"), (5, "2001:db8::2:3")]
        {
            guests.add(id(slot), address.parse().unwrap());
        }
        assert_eq!(guests.take(id(1), &rule, 0), Ok(()));
        assert_eq!(guests.take(id(2), &rule, 0), Ok(()));
        assert_eq!(guests.take(id(1), &rule, 0), Err(1));
        assert_eq!(guests.take(id(3), &rule, 0), Ok(()), "another address");
        assert!(guests.take(id(4), &rule, 0).is_ok() && guests.take(id(5), &rule, 0).is_ok());
        assert_eq!(guests.take(id(5), &rule, 0), Err(1), "one /64");
        assert_eq!(guests.take(id(9), &rule, 0), Ok(()), "no guest");
        guests.remove(id(1));
        assert_eq!(guests.take(id(1), &rule, 0), Ok(()));
    }
}
