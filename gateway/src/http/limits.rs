//! Rate limits of the API (spec 01 §1.3): which rule counts whom. Never counts when limits are off.

use std::net::IpAddr;
use std::sync::Arc;

use gochat_infra::clock::Clock;
use gochat_infra::ratelimit::{Decision, DelayRule, FailureDelays, KeyedLimiter, RateRule};
use gochat_infra::telemetry::metrics::{Counter, counter};

use super::envelope::ApiError;

/// New guests, per address: a class room at once, then one every ten seconds (pipeline.md H6).
pub(crate) const GUEST_CREATION: RateRule = RateRule::new(0.1, 30);
/// Tickets for connections, per user: what may connect, and some to spare.
pub(crate) const TICKET: RateRule = RateRule::new(2.0, 10);

/// Counts requests.
pub(crate) struct Limits {
    buckets: Option<Buckets>,
    clock: Arc<dyn Clock>,
}

struct Buckets {
    by_key: KeyedLimiter,
    failed_logins: FailureDelays,
    refused: Counter,
}

impl Limits {
    pub(crate) fn new(is_on: bool, clock: Arc<dyn Clock>) -> Limits {
        let buckets = is_on.then(|| Buckets {
            by_key: KeyedLimiter::new(),
            failed_logins: FailureDelays::new(DelayRule::LOGIN),
            refused: counter("gochat_ratelimit_total", "Requests refused by a rate limit.", &[("result", "limited")]),
        });
        Limits { buckets, clock }
    }

    /// Any request to the API.
    pub(crate) fn machine(&self) -> Result<(), ApiError> {
        self.take("machine", "", &RateRule::LOCAL_MACHINE_QPS)
    }

    /// A look at the health endpoint.
    pub(crate) fn health(&self) -> Result<(), ApiError> {
        self.take("health", "", &RateRule::HEALTH_CHECK)
    }

    /// A request of an account endpoint, which needs no token.
    pub(crate) fn account(&self, peer: IpAddr) -> Result<(), ApiError> {
        self.take("account", &network(peer), &RateRule::USER_LOGIN_ATTEMPT)
    }

    /// A request of a user to an endpoint without a rule of its own.
    pub(crate) fn user(&self, user_id: &str) -> Result<(), ApiError> {
        self.take("user", user_id, &RateRule::API_DEFAULT)
    }

    /// A message sent.
    pub(crate) fn send(&self, user_id: &str) -> Result<(), ApiError> {
        self.take("send", user_id, &RateRule::USER_SEND_MESSAGE)
    }

    /// A message to the world room; of a guest also by address, since a new guest costs nothing.
    pub(crate) fn send_to_world(&self, user_id: &str, guest_at: Option<IpAddr>) -> Result<(), ApiError> {
        self.take("world", user_id, &RateRule::WORLD_SEND_MESSAGE)?;
        match guest_at {
            Some(peer) => self.take("world guests", &network(peer), &RateRule::WORLD_SEND_MESSAGE),
            None => Ok(()),
        }
    }

    /// A search.
    pub(crate) fn search(&self, user_id: &str) -> Result<(), ApiError> {
        self.take("search", user_id, &RateRule::USER_SEARCH)
    }

    /// A guest to be made.
    pub(crate) fn guest(&self, peer: IpAddr) -> Result<(), ApiError> {
        self.take("guest", &network(peer), &GUEST_CREATION)
    }

    /// A ticket to be made.
    pub(crate) fn ticket(&self, user_id: &str) -> Result<(), ApiError> {
        self.take("ticket", user_id, &TICKET)
    }

    /// A password given by somebody who is logged in: guessed no faster than at a login.
    pub(crate) fn password(&self, user_id: &str) -> Result<(), ApiError> {
        self.take("password", user_id, &RateRule::USER_LOGIN_ATTEMPT)
    }

    /// An attempt to log in: per name, and with growing delays per name and address after failures, so that guessing is
    /// slow and the owner, who comes from elsewhere, is not kept out (pipeline.md H6).
    pub(crate) fn login(&self, username: &str, peer: IpAddr) -> Result<(), ApiError> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        let delay = buckets.failed_logins.delay(&login_key(username, peer), self.clock.monotonic_ms());
        if !delay.is_zero() {
            buckets.refused.inc();
            return Err(ApiError::limited(whole_seconds(delay)));
        }
        self.take("login", &username.to_lowercase(), &RateRule::USER_LOGIN_ATTEMPT)
    }

    /// How an attempt to log in ended.
    pub(crate) fn logged_in(&self, username: &str, peer: IpAddr, succeeded: bool) {
        let Some(buckets) = &self.buckets else { return };
        let (key, now_ms) = (login_key(username, peer), self.clock.monotonic_ms());
        if succeeded {
            buckets.failed_logins.succeeded(&key, now_ms);
        } else {
            buckets.failed_logins.failed(&key, now_ms);
        }
    }

    fn take(&self, rule_name: &str, key: &str, rule: &RateRule) -> Result<(), ApiError> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        match buckets.by_key.allow(&(rule_name, key), rule, self.clock.monotonic_ms()) {
            Decision::Allowed => Ok(()),
            Decision::Limited { retry_after } => {
                buckets.refused.inc();
                Err(ApiError::limited(whole_seconds(retry_after)))
            }
        }
    }
}

fn login_key(username: &str, peer: IpAddr) -> (String, String) {
    (username.to_lowercase(), network(peer))
}

/// An IPv6 host has a whole /64 of addresses.
fn network(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

fn whole_seconds(wait: std::time::Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use std::time::Duration;

    use gochat_infra::clock::ManualClock;
    use gochat_proto::codes::ErrorCode;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_rule_counts_its_own_key_only() {
        let clock = ManualClock::at(0);
        let limits = Limits::new(true, clock.clone());
        let allowed = (0..100).take_while(|_| limits.send("7").is_ok()).count();
        assert_eq!(allowed, 60);
        assert_eq!(limits.send("7").unwrap_err().code, ErrorCode::RateLimited);
        assert!(limits.send("8").is_ok() && limits.user("7").is_ok());
        clock.advance(Duration::from_secs(1));
        assert!(limits.send("7").is_ok());
        let off = Limits::new(false, clock);
        assert!((0..10_000).all(|_| off.send("7").is_ok() && off.machine().is_ok()));
    }

    #[test]
    fn guests_count_by_address_too() {
        let clock = ManualClock::at(0);
        let limits = Limits::new(true, clock.clone());
        assert_eq!((0..100).take_while(|_| limits.guest(AWAY).is_ok()).count(), 30);
        assert!(limits.guest(HOME).is_ok());
        let sent = (0..100).take_while(|n| limits.send_to_world(&n.to_string(), Some(AWAY)).is_ok()).count();
        assert_eq!(sent, 10, "however many guests there are");
        assert!(limits.send_to_world("registered", None).is_ok());
    }

    #[test]
    fn guessing_is_slowed_without_locking_the_owner_out() {
        let clock = ManualClock::at(0);
        let limits = Limits::new(true, clock.clone());
        let guesses = (0..20).take_while(|_| {
            let may = limits.login("Ann", AWAY).is_ok();
            limits.logged_in("Ann", AWAY, false);
            may
        });
        assert!(guesses.count() < 10);
        clock.advance(Duration::from_millis(500));
        assert!(limits.login("ANN", AWAY).is_err(), "names are compared without case");
        assert!(limits.login("ann", HOME).is_ok());
        limits.logged_in("ann", AWAY, true);
        assert!(limits.login("ann", AWAY).is_ok());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_count_as_one() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2:3::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
