//! What one user may ask for: a token bucket for each kind of request, in tables that are bounded. A request is counted once, when
//! a thread takes it from its queue; the threads share the tables, since a user's requests go to many partitions.

use crate::{
    api::UserId,
    config::{Limit, UserLimits},
    limits::{JOINING_A_TOKEN, THROTTLE_PARTS, THROTTLE_PRUNE_MS, THROTTLE_USERS_MAX},
    partition::joining,
};
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use roost_proto::v1::client_frame::Body;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::{
    hash::BuildHasher,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The kinds of requests that are limited, as operators and Errors name them.
pub const LIMITED: [&str; 6] =
    ["sends", "group_operations", "key_fetches", "history_fetches", "signals", "reads"];

/// What a request counts as: its place in [`LIMITED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Send,
    GroupOperation,
    KeyFetch,
    HistoryFetch,
    Signal,
    Read,
}

impl Kind {
    /// And how many tokens it takes. None: it is as frequent as what others say to the user, and only its connection limits it.
    pub(super) fn of(body: &Body) -> Option<(Self, usize)> {
        let kind = match body {
            Body::Send(_) | Body::KeysPublish(_) => Self::Send,
            Body::Group(command) => {
                return Some((Self::GroupOperation, 1 + joining(command).len() / JOINING_A_TOKEN));
            }
            Body::KeysFetch(_) => Self::KeyFetch,
            Body::History(_) => Self::HistoryFetch,
            Body::Typing(_) | Body::Watch(_) => Self::Signal,
            Body::Read(read) => return Some((Self::Read, read.message.len())),
            Body::Ack(_) => return None,
        };
        Some((kind, 1))
    }

    pub(super) fn name(self) -> &'static str {
        LIMITED[self as usize]
    }
}

type Limiter = RateLimiter<UserId, Table, Ticks, NoOpMiddleware<Nanos>>;

/// The limits of all users.
pub(crate) struct Throttle {
    start: Instant,
    ticks: Ticks,
    /// Each with its burst.
    limiters: [Option<(Limiter, NonZeroU32)>; LIMITED.len()],
    refused: [AtomicU64; LIMITED.len()],
    uncounted: Arc<AtomicU64>,
}

impl Throttle {
    pub(crate) fn new(limits: &UserLimits) -> Self {
        let (ticks, uncounted) = (Ticks::default(), Arc::<AtomicU64>::default());
        let limiter = |limit: Limit| {
            let period = limit.period.max(Duration::from_nanos(1));
            let quota = Quota::with_period(period).expect("not zero").allow_burst(limit.burst);
            let table = Table::new(THROTTLE_USERS_MAX, ticks.clone(), uncounted.clone());
            RateLimiter::new(quota, table, ticks.clone())
        };
        let UserLimits { sends, group_operations, key_fetches, history_fetches, signals, reads } = *limits;
        let limits = [sends, group_operations, key_fetches, history_fetches, signals, reads];
        let limiters = limits.map(|limit| limit.map(|limit| (limiter(limit), limit.burst)));
        Self { start: Instant::now(), ticks, limiters, refused: Default::default(), uncounted }
    }

    /// Reads the clock, once for all requests of a batch.
    pub(crate) fn look_at_clock(&self) {
        self.ticks.move_to(self.start.elapsed());
    }

    /// Counts one request that takes so many tokens; as many as there can be, where it takes more.
    ///
    /// # Errors
    /// It is one too many; milliseconds after which it is not.
    pub(super) fn check(&self, kind: Kind, user: UserId, tokens: usize) -> Result<(), u32> {
        let Some((limiter, burst)) = &self.limiters[kind as usize] else { return Ok(()) };
        let tokens = u32::try_from(tokens).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let Ok(outcome) = limiter.check_key_n(&user, tokens.min(*burst)) else { return Ok(()) };
        outcome.map_err(|until| {
            self.refused[kind as usize].fetch_add(1, Relaxed);
            let wait = until.wait_time_from(self.ticks.now());
            wait.as_nanos().div_ceil(1_000_000).clamp(1, u32::MAX.into()) as u32
        })
    }

    /// Requests refused by kind, and requests let through because a table was full.
    pub(crate) fn counts(&self) -> ([u64; LIMITED.len()], u64) {
        (self.refused.each_ref().map(|count| count.load(Relaxed)), self.uncounted.load(Relaxed))
    }
}

/// Nanoseconds since the start of the router, as far as a thread has looked.
#[derive(Clone, Debug, Default)]
struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// Never back: threads come here in any order.
    fn move_to(&self, since_start: Duration) {
        self.0.fetch_max(since_start.as_nanos() as u64, Relaxed);
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Relaxed).into()
    }
}

/// By user, the time at which all tokens are back.
struct Table {
    parts: [Mutex<Part>; THROTTLE_PARTS],
    part_users_max: usize,
    ticks: Ticks,
    uncounted: Arc<AtomicU64>,
}

#[derive(Default)]
struct Part {
    users: FxHashMap<UserId, Nanos>,
    /// Nanoseconds; it is not looked through again before.
    next_prune: u64,
}

impl Table {
    fn new(users_max: usize, ticks: Ticks, uncounted: Arc<AtomicU64>) -> Self {
        Self {
            parts: Default::default(),
            part_users_max: users_max.div_ceil(THROTTLE_PARTS),
            ticks,
            uncounted,
        }
    }

    /// Makes room where there is none for one more.
    fn has_room(&self, part: &mut Part) -> bool {
        let now = self.ticks.now().as_u64();
        if part.users.len() >= self.part_users_max && now >= part.next_prune {
            part.users.retain(|_, all_back| all_back.as_u64() > now);
            part.next_prune = now + THROTTLE_PRUNE_MS * 1_000_000;
        }
        part.users.len() < self.part_users_max
    }
}

impl StateStore for Table {
    type Key = UserId;

    fn measure_and_replace<T, F, E>(&self, user: &UserId, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // The high bits: the map within uses the low ones of the same hash.
        let part = (FxBuildHasher.hash_one(user) >> 32) as usize % THROTTLE_PARTS;
        let mut part = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        let known = part.users.get(user).copied();
        let (outcome, all_back) = measure(known)?;
        if known.is_some() || self.has_room(&mut part) {
            part.users.insert(*user, all_back);
        } else {
            self.uncounted.fetch_add(1, Relaxed);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::v1::{GroupCommand, Read, group_command::Create};

    fn limit(per_s: u32, burst: u32) -> Limit {
        Limit { period: Duration::from_secs(1) / per_s, burst: NonZeroU32::new(burst).unwrap() }
    }

    fn at(throttle: &Throttle, ms: u64) {
        throttle.ticks.move_to(Duration::from_millis(ms));
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let throttle = Throttle::new(&UserLimits { sends: Some(limit(10, 3)), ..UserLimits::default() });
        for _ in 0..3 {
            assert_eq!(throttle.check(Kind::Send, 1, 1), Ok(()));
        }
        assert_eq!(throttle.check(Kind::Send, 1, 1), Err(100));
        at(&throttle, 60);
        assert_eq!(throttle.check(Kind::Send, 1, 1), Err(40));
        at(&throttle, 100);
        assert_eq!(throttle.check(Kind::Send, 1, 1), Ok(()));
        assert_eq!(throttle.check(Kind::Send, 1, 1), Err(100));
        // Others, and other kinds, are others; what is refused is counted by kind.
        assert_eq!(throttle.check(Kind::Send, 2, 1), Ok(()));
        assert_eq!(throttle.check(Kind::KeyFetch, 1, 1), Ok(()));
        assert_eq!(throttle.counts(), ([3, 0, 0, 0, 0, 0], 0));
        // After a pause there is a burst again, and no more than that.
        at(&throttle, 100_000);
        assert_eq!((0..5).filter(|_| throttle.check(Kind::Send, 1, 1).is_ok()).count(), 3);
    }

    #[test]
    fn the_clock_of_a_slower_thread_turns_nothing_back() {
        let throttle = Throttle::new(&UserLimits { sends: Some(limit(1, 1)), ..UserLimits::default() });
        at(&throttle, 5_000);
        assert_eq!(throttle.check(Kind::Send, 1, 1), Ok(()));
        at(&throttle, 1);
        assert_eq!(throttle.check(Kind::Send, 1, 1), Err(1_000));
    }

    #[test]
    fn each_kind_has_its_own_limit() {
        let limits = UserLimits {
            sends: Some(limit(1, 1)),
            group_operations: Some(limit(1, 2)),
            key_fetches: Some(limit(1, 3)),
            history_fetches: Some(limit(1, 4)),
            signals: Some(limit(1, 5)),
            reads: Some(limit(1, 6)),
        };
        let throttle = Throttle::new(&limits);
        let kinds =
            [Kind::Send, Kind::GroupOperation, Kind::KeyFetch, Kind::HistoryFetch, Kind::Signal, Kind::Read];
        let passed = kinds.map(|kind| (0..9).filter(|_| throttle.check(kind, 1, 1).is_ok()).count());
        assert_eq!(passed, [1, 2, 3, 4, 5, 6]);
        assert_eq!(throttle.counts().0, [8, 7, 6, 5, 4, 3]);
        assert_eq!(kinds.map(Kind::name), LIMITED);
    }

    #[test]
    fn what_is_dear_takes_more_tokens() {
        let of = |body: Body| Kind::of(&body);
        let read = |ids: u64| of(Read { message: (0..ids).collect() }.into());
        assert_eq!((read(0), read(1024)), (Some((Kind::Read, 0)), Some((Kind::Read, 1024))));
        let create = |members: u64| {
            let create = Create { name: "x".into(), member: (0..members).collect() };
            of(GroupCommand { group: 0, command: Some(create.into()) }.into())
        };
        assert_eq!(create(1), Some((Kind::GroupOperation, 1)));
        assert_eq!(create(1024), Some((Kind::GroupOperation, 17)));
        let throttle = Throttle::new(&UserLimits { reads: Some(limit(10, 100)), ..UserLimits::default() });
        assert_eq!(throttle.check(Kind::Read, 1, 60), Ok(()));
        assert_eq!(throttle.check(Kind::Read, 1, 60), Err(2_000));
        // None takes nothing less than one, and none more than there can be.
        assert_eq!((0..50).filter(|_| throttle.check(Kind::Read, 1, 0).is_ok()).count(), 40);
        assert_eq!(throttle.check(Kind::Read, 2, 1024), Ok(()));
        assert_eq!(throttle.check(Kind::Read, 2, 1), Err(100));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_has_all_tokens_again() {
        let (ticks, uncounted) = (Ticks::default(), Arc::<AtomicU64>::default());
        let table = Table::new(4 * THROTTLE_PARTS, ticks.clone(), uncounted.clone());
        let quota = Quota::per_second(NonZeroU32::MIN);
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(quota, table, ticks.clone());
        // Nobody's token is back: whoever finds no place passes, each time.
        let pass = || (10_000..20_000_u64).filter(|user| limiter.check_key(user).is_ok()).count();
        let places = 4 * THROTTLE_PARTS;
        assert_eq!((pass(), pass()), (10_000, 10_000 - places));
        assert_eq!(uncounted.load(Relaxed) as usize, 2 * (10_000 - places));
        // All of them are back: there is room for new users, who are counted.
        ticks.move_to(Duration::from_secs(2));
        assert!(limiter.check_key(&1).is_ok());
        assert!(limiter.check_key(&1).is_err());
    }

    #[test]
    fn nobody_is_limited_where_nothing_is_configured() {
        let throttle = Throttle::new(&UserLimits::default());
        assert!((0..100_000).all(|_| throttle.check(Kind::Send, 1, 1).is_ok()));
    }
}
