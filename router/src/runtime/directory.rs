//! Which users exist: those with a committed record, and those whose record is just being committed.

use crate::{api::UserId, error::StoreError, partition::home, record, store::Store};
use rustc_hash::FxHashMap;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// Asked by every thread for every message to a user whose record it has not at hand.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// How many commits are about to make this user known. At most the users of a batch a thread, and besides the registrations
    /// that wait for a commit: while the store fails, up to `REGISTRATIONS_MAX` a partition.
    fresh: Mutex<FxHashMap<UserId, usize>>,
    fresh_count: AtomicUsize,
}

impl Directory {
    /// The user has an account or has been attached.
    pub(crate) fn knows(&self, user: UserId, partitions: u16, store: &dyn Store) -> Result<bool, StoreError> {
        let any_fresh = self.fresh_count.load(Ordering::Acquire) > 0;
        let is_stored = || Ok(store.get(&record::user(home(user, partitions), user))?.is_some());
        // Some user is nearly always fresh, and most who are asked for are stored: those need no lock. The second look finds a
        // user who was stored, and then no longer fresh, since the first.
        Ok(is_stored()? || any_fresh && (self.lock().contains_key(&user) || is_stored()?))
    }

    /// A commit that is still to come makes this user known.
    pub(crate) fn begin(&self, user: UserId) {
        let mut fresh = self.lock();
        *fresh.entry(user).or_default() += 1;
        self.fresh_count.store(fresh.len(), Ordering::Release);
    }

    /// It is done, or its batch was rolled back.
    pub(crate) fn end(&self, user: UserId) {
        let mut fresh = self.lock();
        if let Some(count) = fresh.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                fresh.remove(&user);
            }
        }
        self.fresh_count.store(fresh.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<UserId, usize>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
