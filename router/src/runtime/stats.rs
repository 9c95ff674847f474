//! Numbers for operators.

use super::throttle::LIMITED;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A snapshot of a router's counters; all count from its start, except where they say "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages accepted (answered by Sent, not as duplicates).
    pub messages: u64,
    /// Events stored in streams.
    pub events: u64,
    /// Batches that were committed.
    pub batches: u64,
    /// Time spent in commits, microseconds, all threads together.
    pub commit_us: u64,
    /// Commits by how long they took: a bucket for each bound of [`COMMIT_US`], and one for what is longer.
    pub commits: [u64; COMMIT_US.len() + 1],
    /// The longest commit, microseconds.
    pub commit_us_max: u64,
    /// Sessions attached now.
    pub sessions: u64,
    /// Memory of the session tables now, bytes; at most 64 a session and two blocks a partition.
    pub sessions_bytes: u64,
    /// Users' records cached now.
    pub users_cached: u64,
    /// Devices whose sessions were welcomed and that wait to be registered, now.
    pub registrations: u64,
    /// Requests waiting now.
    pub queue_depth: u64,
    /// Effects held for full shards now.
    pub effects_held: u64,
    /// Reads and commits that failed.
    pub store_errors: u64,
    /// Requests answered UNAVAILABLE because they could not be stored.
    pub refused: u64,
    /// Pairs of a session and a user whose presence it follows, now.
    pub followers: u64,
    /// Presence notices told because something changed.
    pub presence_notices: u64,
    /// Users that a session wanted to follow and is not told of, because a table was full.
    pub presence_refused: u64,
    /// Whispers between threads that were dropped, because a queue was full.
    pub whispers_dropped: u64,
    /// Requests answered `RATE_LIMITED`, by the kinds of [`LIMITED`].
    pub rate_limited: [u64; LIMITED.len()],
    /// Requests let through uncounted, because a table of users was full.
    pub rate_uncounted: u64,
}

/// What one thread has to do, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadStats {
    /// Partitions it runs.
    pub partitions: u64,
    /// Requests waiting for it, those that need no write included.
    pub queue_depth: u64,
    /// Effects it holds for full shards.
    pub effects_held: u64,
}

/// Upper bounds of a commit's buckets, microseconds.
pub const COMMIT_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) commit_us: AtomicU64,
    pub(crate) commits: [AtomicU64; COMMIT_US.len() + 1],
    pub(crate) commit_us_max: AtomicU64,
    pub(crate) store_errors: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) presence_notices: AtomicU64,
    pub(crate) presence_refused: AtomicU64,
    pub(crate) whispers_dropped: AtomicU64,
    pub(crate) threads: Vec<Gauges>,
    /// Sessions attached now, by partition.
    pub(crate) partitions: Vec<AtomicU64>,
}

/// What one thread holds now.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions: AtomicU64,
    pub(crate) sessions_bytes: AtomicU64,
    pub(crate) users_cached: AtomicU64,
    pub(crate) registrations: AtomicU64,
    pub(crate) followers: AtomicU64,
    pub(crate) effects_held: AtomicU64,
}

impl Counters {
    pub(crate) fn new(threads: usize, partitions: u16) -> Self {
        Self {
            threads: (0..threads).map(|_| Gauges::default()).collect(),
            partitions: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            ..Self::default()
        }
    }

    /// A batch was committed.
    pub(crate) fn committed(&self, us: u64) {
        add(&self.batches, 1);
        add(&self.commit_us, us);
        add(&self.commits[COMMIT_US.partition_point(|bound| *bound < us)], 1);
        self.commit_us_max.fetch_max(us, Relaxed);
    }

    pub(crate) fn snapshot(&self, queue_depth: usize) -> Stats {
        let sum =
            |gauge: fn(&Gauges) -> &AtomicU64| self.threads.iter().map(|t| gauge(t).load(Relaxed)).sum();
        Stats {
            messages: self.messages.load(Relaxed),
            events: self.events.load(Relaxed),
            batches: self.batches.load(Relaxed),
            commit_us: self.commit_us.load(Relaxed),
            commits: std::array::from_fn(|place| self.commits[place].load(Relaxed)),
            commit_us_max: self.commit_us_max.load(Relaxed),
            sessions: sum(|thread| &thread.sessions),
            sessions_bytes: sum(|thread| &thread.sessions_bytes),
            users_cached: sum(|thread| &thread.users_cached),
            registrations: sum(|thread| &thread.registrations),
            queue_depth: queue_depth as u64,
            effects_held: sum(|thread| &thread.effects_held),
            store_errors: self.store_errors.load(Relaxed),
            refused: self.refused.load(Relaxed),
            followers: sum(|thread| &thread.followers),
            presence_notices: self.presence_notices.load(Relaxed),
            presence_refused: self.presence_refused.load(Relaxed),
            whispers_dropped: self.whispers_dropped.load(Relaxed),
            ..Stats::default()
        }
    }
}

/// Counts without ordering anything.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_falls_into_the_first_bucket_that_holds_it() {
        let counters = Counters::new(1, 1);
        for us in [1, 100, 101, 2_500_000, 2_500_001] {
            counters.committed(us);
        }
        let stats = counters.snapshot(0);
        assert_eq!((stats.commits[0], stats.commits[1]), (2, 1));
        assert_eq!(stats.commits[COMMIT_US.len() - 1..], [1, 1]);
        assert_eq!((stats.batches, stats.commit_us_max), (5, 2_500_001));
    }
}
