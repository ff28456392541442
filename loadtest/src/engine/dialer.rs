//! When and from which address connections are opened. Counts those in progress; opens none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::driver::Place;

/// Handshakes in progress at once: below the listen queues of common servers.
const IN_PROGRESS_MAX: u32 = 256;
/// Connections from one loopback address; the usual range of ephemeral ports holds 28,232.
const PER_SOURCE: u32 = 20_000;

/// Hands out clients to connect, at a rate or as fast as handshakes end.
#[derive(Debug)]
pub(super) struct Dialer {
    target: SocketAddr,
    clients: u32,
    ramp: Option<f64>,
    next: u32,
    pub(super) in_progress: u32,
    first_ns: Option<u64>,
    place: Place,
}

impl Dialer {
    pub(super) fn new(target: SocketAddr, clients: u32, ramp: Option<f64>, place: Place) -> Dialer {
        Dialer { target, clients, ramp, next: 0, in_progress: 0, first_ns: None, place }
    }

    /// A client to connect now, and the time it was meant to begin.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let intended_ns = self.next_ns(now_ns)?;
        // At a rate the load is open: a slow server does not slow it down.
        if intended_ns > now_ns || (self.ramp.is_none() && self.in_progress >= IN_PROGRESS_MAX) {
            return None;
        }
        self.first_ns.get_or_insert(now_ns);
        self.next += 1;
        self.in_progress += 1;
        Some((self.next - 1, intended_ns))
    }

    /// When the next client is meant to begin; `None` when all have.
    pub(super) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        if self.next == self.clients {
            return None;
        }
        Some(match (self.ramp, self.first_ns) {
            (Some(rate), Some(first_ns)) => first_ns + (f64::from(self.next) * 1e9 / rate) as u64,
            _ => now_ns,
        })
    }

    /// Whether only the end of a handshake lets the next begin.
    pub(super) fn is_full(&self) -> bool {
        self.ramp.is_none() && self.in_progress >= IN_PROGRESS_MAX
    }

    pub(super) fn all_begun(&self) -> bool {
        self.next == self.clients
    }

    /// 127.0.0.1, 127.0.0.2, … when the target is on loopback and one address has too few ports.
    pub(super) fn source(&self, client: u32) -> Option<SocketAddr> {
        let IpAddr::V4(target) = self.target.ip() else { return None };
        if !target.is_loopback() || self.place.clients <= PER_SOURCE {
            return None;
        }
        let source = u32::from(Ipv4Addr::LOCALHOST) + (self.place.first_client + client) / PER_SOURCE;
        Some(SocketAddr::from((Ipv4Addr::from(source), 0)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn alone(clients: u32) -> Place {
        Place { first_client: 0, clients, shared_run: None }
    }

    #[test]
    fn a_ramp_keeps_its_times_and_a_rush_its_bound() {
        let target = "127.0.0.1:80".parse().unwrap();
        let mut ramp = Dialer::new(target, 3, Some(10.0), alone(3));
        assert_eq!(ramp.take(1000), Some((0, 1000)));
        assert_eq!((ramp.take(1001), ramp.next_ns(1001)), (None, Some(100_001_000)));
        assert_eq!(
            [ramp.take(1 << 40), ramp.take(1 << 40), ramp.take(1 << 40)].map(|t| t.is_some()),
            [true, true, false]
        );
        let mut rush = Dialer::new(target, 1000, None, alone(1000));
        assert_eq!(std::iter::from_fn(|| rush.take(5)).count(), IN_PROGRESS_MAX as usize);
        assert!(rush.is_full() && !rush.all_begun());
    }

    #[test]
    fn sources_rotate_only_when_needed_and_only_on_loopback() {
        let source = |target: &str, clients, client| {
            Dialer::new(target.parse().unwrap(), clients, None, alone(clients))
                .source(client)
                .map(|source| source.to_string())
        };
        assert_eq!(source("127.0.0.1:80", 20_000, 19_999), None);
        assert_eq!(source("127.0.0.1:80", 40_001, 40_000).as_deref(), Some("127.0.0.3:0"));
        assert_eq!(source("10.0.0.1:80", 40_001, 40_000), None);
    }
}
