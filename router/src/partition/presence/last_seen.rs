//! When users were last connected, to the millisecond, for those of whom that is at hand.

use crate::{api::UserId, limits::LAST_SEEN_MAX};
use rustc_hash::FxHashMap;

/// Two generations: the older half is forgotten when the younger is full.
#[derive(Debug, Default)]
pub(super) struct LastSeen {
    young: FxHashMap<UserId, u64>,
    old: FxHashMap<UserId, u64>,
}

impl LastSeen {
    /// Unix milliseconds.
    pub(super) fn get(&self, user: UserId) -> Option<u64> {
        self.young.get(&user).or_else(|| self.old.get(&user)).copied()
    }

    pub(super) fn put(&mut self, user: UserId, at_ms: u64) {
        if self.young.len() >= LAST_SEEN_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, at_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_are_remembered_and_no_more_than_the_limit() {
        let mut seen = LastSeen::default();
        let users = 3 * LAST_SEEN_MAX as u64;
        for user in 0..users {
            seen.put(user, user + 7);
            assert!(seen.young.len() + seen.old.len() <= LAST_SEEN_MAX);
        }
        for user in users - LAST_SEEN_MAX as u64 / 2..users {
            assert_eq!(seen.get(user), Some(user + 7));
        }
        assert_eq!(seen.get(0), None);
        seen.put(users - 1, 1);
        assert_eq!(seen.get(users - 1), Some(1), "the newer time counts");
    }
}
