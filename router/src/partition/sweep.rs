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
    log::{FormerRecord, MembershipsRecord},
    record::{self, GROUP, Key, Space},
};
use buffa::Message as _;

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
const EXPIRING: [(Space, Lasts, TimeOf); 8] = [
    (Space::Events, |rules| rules.retention_ms, |key, _| time_of(record::last_u64(key))),
    (Space::Sent, |rules| rules.retention_ms, |_, id| time_of_id(record::last_u64(id))),
    (Space::Marks, |rules| rules.retention_ms, |key, _| time_of_id(record::last_u64(key))),
    (Space::Feeds, |rules| rules.retention_ms, |key, _| time_of(record::last_u64(key))),
    (Space::GroupMessages, |rules| rules.retention_ms, |key, _| time_of_id(record::number_at(key, 0))),
    (Space::Groups, |rules| rules.retention_ms.max(rules.history_ms), left_at),
    (Space::Memberships, |rules| rules.retention_ms, |_, value| ended_at(value)),
    (Space::History, |rules| rules.history_ms, |key, _| time_of_id(record::last_u64(key))),
];

/// When somebody who was in a group left it for the last time; never for the group's own record.
fn left_at(key: &[u8], value: &[u8]) -> u64 {
    if key.len() == record::group(0, 0).bytes().len() {
        return u64::MAX;
    }
    let left = FormerRecord::decode_from_slice(value).ok().and_then(|record| record.left.last().copied());
    left.map_or(u64::MAX, time_of)
}

/// When the first of a user's memberships ended, of those that have.
fn ended_at(value: &[u8]) -> u64 {
    let memberships = MembershipsRecord::decode_from_slice(value).unwrap_or_default().membership;
    let first = memberships.iter().map(|membership| membership.until).filter(|until| *until != 0).min();
    first.map_or(u64::MAX, time_of)
}

impl Partition {
    /// One slice of a pass.
    pub(super) fn sweep(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.sweep_statuses(tx)?;
        // A clock that went back does not make it rest for longer.
        if self.sweeper.rests_until.saturating_sub(limits::SWEEP_REST_MS) <= tx.now_ms
            && tx.now_ms < self.sweeper.rests_until
        {
            return Ok(());
        }
        let Some((space, lasts, time_of)) = EXPIRING.get(self.sweeper.space) else {
            self.sweeper = Sweeper { rests_until: tx.now_ms + limits::SWEEP_REST_MS, ..Sweeper::default() };
            return Ok(());
        };
        let (first, last) = record::bounds(*space, self.number);
        let expired = tx.now_ms.saturating_sub(lasts(&self.rules));
        let (mut looked_at, mut next, mut gone, mut feeds) = (0, None, Vec::new(), Vec::new());
        tx.store.scan(&self.sweeper.next.unwrap_or(first), &last, &mut |key, value| {
            if looked_at == limits::SWEEP_KEYS_MAX {
                next = Some(Key::from_bytes(*space, key));
                return false;
            }
            looked_at += 1;
            if time_of(key, &value) <= expired {
                gone.push(Key::from_bytes(*space, key));
            } else if *space == Space::Feeds {
                feeds.push(record::number_at(key, 0));
            }
            true
        })?;
        for key in gone {
            match space {
                Space::Memberships => self.forget_memberships(record::number_at(key.bytes(), 0), tx)?,
                _ => tx.batch.delete(key),
            }
        }
        feeds.dedup();
        for group in feeds {
            self.found_feed(group);
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
            let (seq, of) = (record::number_at(key.bytes(), 0), record::number_at(key.bytes(), 1));
            tx.batch.delete(if of & GROUP == 0 {
                record::event(self.number, of, seq)
            } else {
                record::feed(self.number, of & !GROUP, seq)
            });
            tx.batch.delete(key);
        }
        Ok(())
    }
}
