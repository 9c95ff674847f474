//! Rate limits: for what costs a password hash per address and per user, and for the calls of a user.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::answer::Refusal;
use super::limits::{
    ADDRESS_BURST, ADDRESS_REFILL_MS, THROTTLE_KEYS_MAX, THROTTLE_SWEEP_MS_MIN, USER_BURST, USER_REFILL_MS,
};

/// Counts attempts. Times come from the monotonic clock.
pub(super) struct Throttle {
    by_address: Limiter<IpAddr>,
    by_user: Limiter<u64>,
    calls: Option<Limiter<u64>>,
}

impl Throttle {
    /// `call_rate`: see `HttpConfig`.
    pub(super) fn new(call_rate: Option<(Duration, NonZeroU32)>) -> Self {
        let calls = |(period, burst): (Duration, NonZeroU32)| {
            let quota = Quota::with_period(period.max(Duration::from_nanos(1)));
            Limiter::of(quota.expect("a nanosecond at least").allow_burst(burst), THROTTLE_KEYS_MAX)
        };
        Self {
            by_address: Limiter::new(ADDRESS_BURST, ADDRESS_REFILL_MS, THROTTLE_KEYS_MAX),
            by_user: Limiter::new(USER_BURST, USER_REFILL_MS, THROTTLE_KEYS_MAX),
            calls: call_rate.map(calls),
        }
    }

    /// Counts a call of this user.
    ///
    /// # Errors
    /// 429 past the limit.
    pub(super) fn caller(&self, user: u64) -> Result<(), Refusal> {
        let checked = self.calls.as_ref().map_or(Ok(()), |limiter| limiter.check(&user));
        checked.map_err(|wait_s| Refusal::too_many("Too many calls by this user; wait a moment.", wait_s))
    }

    /// Counts a sign-up or log-in from this address.
    ///
    /// # Errors
    /// 429 past the limit.
    pub(super) fn address(&self, address: IpAddr) -> Result<(), Refusal> {
        self.by_address.check(&network(address)).map_err(|wait_s| {
            Refusal::too_many("Too many attempts from your address; wait a moment.", wait_s)
        })
    }

    /// Counts a log-in of this user.
    ///
    /// # Errors
    /// 429 past the limit.
    pub(super) fn user(&self, user: u64) -> Result<(), Refusal> {
        self.by_user
            .check(&user)
            .map_err(|wait_s| Refusal::too_many("Too many attempts for this number; wait a moment.", wait_s))
    }
}

/// Who shares an allowance: an IPv4 address, or the /64 an IPv6 subscriber has to himself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

struct Limiter<K: Hash + Eq + Clone> {
    rates: DefaultKeyedRateLimiter<K>,
    keys_max: usize,
    sweep_every: Duration,
    swept: Mutex<Option<Instant>>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(burst: u32, refill_ms: u64, keys_max: usize) -> Self {
        let quota = Quota::with_period(Duration::from_millis(refill_ms))
            .expect("refill times in limits.rs are not zero")
            .allow_burst(NonZeroU32::new(burst).expect("bursts in limits.rs are not zero"));
        Self::of(quota, keys_max)
    }

    fn of(quota: Quota, keys_max: usize) -> Self {
        let sweep_every = Duration::from_millis(THROTTLE_SWEEP_MS_MIN);
        Self { rates: RateLimiter::keyed(quota), keys_max, sweep_every, swept: Mutex::new(None) }
    }

    /// Counts one attempt; past the limit, the whole seconds until the next is welcome.
    fn check(&self, key: &K) -> Result<(), u64> {
        if self.rates.len() >= self.keys_max {
            self.sweep();
            if self.rates.len() >= self.keys_max {
                return Err(THROTTLE_SWEEP_MS_MIN.div_ceil(1000));
            }
        }
        self.rates.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            wait.as_millis().div_ceil(1000).max(1) as u64
        })
    }

    /// Forgets keys whose allowance is whole again. A look at every key, so not for each request of a flood.
    fn sweep(&self) {
        let mut swept = self.swept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if swept.is_none_or(|at| at.elapsed() >= self.sweep_every) {
            self.rates.retain_recent();
            *swept = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refill so slow that it does not come during a test.
    const NEVER_MS: u64 = 3_600_000;

    #[test]
    fn a_burst_is_let_through_and_no_more() {
        let limiter = Limiter::new(3, NEVER_MS, 10);
        for _ in 0..3 {
            assert_eq!(limiter.check(&1), Ok(()));
        }
        assert!(limiter.check(&1).is_err_and(|wait_s| (3_500..=3_600).contains(&wait_s)));
        assert_eq!(limiter.check(&2), Ok(()), "another key has its own");
    }

    #[test]
    fn the_table_is_bounded() {
        let limiter = Limiter::new(1, NEVER_MS, 100);
        let admitted = (0..1_000).filter(|key| limiter.check(key).is_ok()).count();
        assert_eq!(admitted, 100);
        assert_eq!(limiter.rates.len(), 100);
    }

    #[test]
    fn keys_with_a_whole_allowance_make_room() {
        // A sweep whenever there is no room: the pause between two belongs to floods.
        let limiter = Limiter { sweep_every: Duration::ZERO, ..Limiter::new(1, 1, 100) };
        let mut key = 0;
        for _ in 0..10_000_000 {
            key += u64::from(key < 1_000 && limiter.check(&key).is_ok());
        }
        assert_eq!(key, 1_000, "old keys were not forgotten");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network_of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network_of("2001:db8::1"), network_of("2001:db8::ffff:1:2"));
        assert_ne!(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"));
        assert_eq!(network_of("::ffff:192.0.2.1"), network_of("192.0.2.1"));
        assert_ne!(network_of("192.0.2.1"), network_of("192.0.2.2"));
    }
}
