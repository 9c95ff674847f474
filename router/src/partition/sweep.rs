//! Retention: what is too old goes, a few keys at a time, so that nobody waits for it.

use super::{
    Partition, Tx,
    send::time_of_id,
    stream::{seq_at, time_of},
};
use crate::{
    config::Rules,
    error::StoreError,
    limits,
    record::{self, Key, Space},
};

/// Where the pass over the store stands.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    /// Index in `EXPIRING`.
    space: usize,
    /// The key to go on with; None at the start of a space.
    next: Option<Key>,
    /// No pass begins before, Unix milliseconds.
    rests_until: u64,
}

/// Tells when a pair was stored, Unix milliseconds.
type TimeOf = fn(&[u8], &[u8]) -> u64;

/// For how long a pair is kept, milliseconds.
type Lasts = fn(&Rules) -> u64;

/// What goes after a time.
const EXPIRING: [(Space, Lasts, TimeOf); 4] = [
    (Space::Events, |rules| rules.retention_ms, |key, _| time_of(record::last_u64(key))),
    (Space::Sent, |rules| rules.retention_ms, |_, id| time_of_id(record::last_u64(id))),
    (Space::Marks, |rules| rules.retention_ms, |key, _| time_of_id(record::last_u64(key))),
    (Space::History, |rules| rules.history_ms, |key, _| time_of_id(record::last_u64(key))),
];

impl Partition {
    /// One slice of a pass.
    pub(super) fn sweep(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.sweep_statuses(tx)?;
        if tx.now_ms < self.sweeper.rests_until {
            return Ok(());
        }
        let Some((space, lasts, time_of)) = EXPIRING.get(self.sweeper.space) else {
            self.sweeper = Sweeper { rests_until: tx.now_ms + limits::SWEEP_REST_MS, ..Sweeper::default() };
            return Ok(());
        };
        let (first, last) = record::bounds(*space, self.number);
        let expired = tx.now_ms.saturating_sub(lasts(&self.rules));
        let (mut looked_at, mut next, mut gone) = (0, None, Vec::new());
        tx.store.scan(&self.sweeper.next.unwrap_or(first), &last, &mut |key, value| {
            if looked_at == limits::SWEEP_KEYS_MAX {
                next = Some(Key::from_bytes(*space, key));
                return false;
            }
            looked_at += 1;
            if time_of(key, &value) <= expired {
                gone.push(Key::from_bytes(*space, key));
            }
            true
        })?;
        for key in gone {
            tx.batch.delete(key);
        }
        if next.is_none() {
            self.sweeper.space += 1;
        }
        self.sweeper.next = next;
        Ok(())
    }

    /// Statuses end by the hour: an index has them in the order of their time.
    fn sweep_statuses(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let ended = seq_at((tx.now_ms + 1).saturating_sub(limits::STATUS_MS));
        let mut gone = Vec::new();
        let range = (record::status(self.number, 0, 0), record::status(self.number, ended, 0));
        tx.store.scan(&range.0, &range.1, &mut |key, _| {
            gone.push(Key::from_bytes(Space::Statuses, key));
            gone.len() < limits::SWEEP_KEYS_MAX
        })?;
        for key in gone {
            let (user, seq) = (record::last_u64(key.bytes()), record::last_u64(&key.bytes()[..10]));
            tx.batch.delete(record::event(self.number, user, seq));
            tx.batch.delete(key);
        }
        Ok(())
    }
}
