//! What happened in the worlds, to see that the seeds reach every case.

use std::collections::BTreeMap;

use super::world::RINGS_MAX;

/// Every fault, and every other case that a world may or may not come to.
pub const CASES: [&str; 32] = [
    "accept ECONNABORTED",
    "accept ENFILE",
    "accept ENOMEM",
    "accept after it was turned off",
    "no place free",
    "poll ended",
    "poll ENOMEM",
    "poll of nothing",
    "poll of an error that somebody took",
    "read EINTR",
    "read ENOMEM",
    "read ECONNRESET",
    "read short",
    "read full",
    "read refused",
    "receive armed",
    "receive ENOBUFS",
    "receive ENOMEM",
    "receive ECONNRESET",
    "receive refused",
    "send ECONNRESET",
    "send EPIPE",
    "send ENOBUFS",
    "send short",
    "send in pieces",
    "send cancelled",
    "shutdown ENOTCONN",
    "close EIO",
    "cancel finds nothing",
    "cancel without effect",
    "reset at any point",
    "completions held back",
];

/// How often each case was met.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Most rings that held connections at a time.
    pub rings: usize,
    /// By case.
    pub cases: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts a case of [`CASES`].
    pub fn note(&mut self, case: &'static str) {
        debug_assert!(CASES.contains(&case), "{case} is no case");
        *self.cases.entry(case).or_default() += 1;
    }

    /// How often it was met.
    pub fn count(&self, case: &str) -> u64 {
        self.cases.get(case).copied().unwrap_or_default()
    }

    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        self.rings = self.rings.max(other.rings);
        for (case, count) in &other.cases {
            *self.cases.entry(case).or_default() += count;
        }
    }

    /// The cases that were never met.
    pub fn missing(&self) -> Vec<&'static str> {
        let rings = (self.rings < RINGS_MAX).then_some("all rings in use");
        CASES.into_iter().filter(|case| self.count(case) == 0).chain(rings).collect()
    }
}
