//! Who of a partition's users is in which group, and since when: what a group's home tells it, in the order of its changes.

use super::{
    Partition, Tx,
    cache::{Cache, Weigh},
};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, RosterEntry, RosterRecord},
    record,
    store::{Batch, Store},
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::event;

/// The members of a group that are at home in a partition, and those who were until lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roster {
    /// In the order of joining: by rising `after`.
    pub(super) entries: Vec<Entry>,
}

/// A time that somebody is in a group: he sees what is past `after`, up to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) user: UserId,
    pub(super) after: u64,
    /// `STAYS` while he is in it.
    pub(super) until: u64,
}

/// No end is known.
pub(super) const STAYS: u64 = u64::MAX;

impl Entry {
    pub(super) fn sees(&self, seq: u64) -> bool {
        self.after < seq && seq <= self.until
    }
}

impl Roster {
    /// Reads a record.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn decode(value: Bytes) -> Result<Self, StoreError> {
        let record: RosterRecord = record::decode(value)?;
        let entry = |e: &RosterEntry| {
            let until = if e.until == 0 { STAYS } else { e.until };
            Entry { user: e.user, after: e.after, until }
        };
        Ok(Self { entries: record.entry.iter().map(entry).collect() })
    }

    /// The record of it.
    pub(super) fn encode(&self) -> Bytes {
        let entry = |e: &Entry| {
            let until = if e.until == STAYS { 0 } else { e.until };
            RosterEntry { user: e.user, after: e.after, until }
        };
        RosterRecord { entry: self.entries.iter().map(entry).collect() }.encode_to_bytes()
    }

    /// Those who come see what has this seq, and what follows; those who go see nothing after it.
    pub(super) fn change(&mut self, seq: u64, added: &[UserId], removed: &[UserId]) {
        for entry in self.entries.iter_mut().filter(|entry| entry.until == STAYS) {
            if removed.contains(&entry.user) {
                entry.until = seq;
            }
        }
        self.entries.extend(added.iter().map(|user| Entry { user: *user, after: seq - 1, until: STAYS }));
    }
}

impl Weigh for Roster {
    /// In entries.
    fn weight(&self) -> usize {
        self.entries.len() + 8
    }
}

/// The rosters at hand.
#[derive(Debug, Default)]
pub(super) struct Rosters {
    cache: Cache<Roster>,
    /// Those that this batch changed.
    changed: Vec<u64>,
}

impl Rosters {
    /// What is cached is stored.
    pub(super) fn committed(&mut self) {
        self.changed.clear();
        self.cache.age(limits::ROSTER_ENTRIES_CACHED_MAX);
    }

    /// Nothing is changed.
    pub(super) fn settled(&mut self) {
        self.cache.age(limits::ROSTER_ENTRIES_CACHED_MAX);
    }

    pub(super) fn rollback(&mut self) {
        self.changed.drain(..).for_each(|group| self.cache.remove(group));
    }

    /// Brings a roster into the cache; an empty one where there is none.
    pub(super) fn load(
        &mut self,
        partition: u16,
        group: u64,
        batch: &Batch,
        store: &dyn Store,
    ) -> Result<&mut Roster, StoreError> {
        if self.cache.get(group).is_none() {
            let value = batch.get(store, &record::roster(partition, group))?;
            let roster = value.map(Roster::decode).transpose()?.unwrap_or_default();
            self.cache.put(group, roster);
        }
        Ok(self.cache.get(group).expect("it was put there"))
    }

    /// Stores one that was loaded and changed. `added`: entries.
    pub(super) fn store(&mut self, partition: u16, group: u64, added: usize, batch: &mut Batch) {
        self.cache.grew(added);
        let Some(roster) = self.cache.get(group) else { return };
        self.changed.push(group);
        let key = record::roster(partition, group);
        if roster.entries.is_empty() {
            batch.delete(key);
        } else {
            batch.put(key, roster.encode());
        }
    }
}

impl Partition {
    /// What members see, told by the group's home: here it gets its place in their streams.
    pub(super) fn group_event(&mut self, event: &log::GroupEvent, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.next_id(tx.now_ms);
        let seq = self.clock;
        let roster = self.rosters.load(self.number, event.group, tx.batch, tx.store)?;
        if !event.added.is_empty() || !event.removed.is_empty() {
            roster.change(seq, &event.added, &event.removed);
        }
        let members: Vec<_> =
            roster.entries.iter().filter(|entry| entry.sees(seq)).map(|entry| entry.user).collect();
        self.rosters.store(self.number, event.group, event.added.len(), tx.batch);
        for user in members {
            let (body, own, mark) = match &event.body {
                Some(log::group_event::Body::Message(message)) => {
                    let mark = super::window::Mark { message: message.id, from: message.from };
                    let own = (message.from == user).then_some(message.from_device);
                    (event::Body::Message(message.clone()), own, (message.from != user).then_some(mark))
                }
                Some(log::group_event::Body::Info(info)) => (event::Body::Group(info.clone()), None, None),
                None => return Ok(()),
            };
            self.append(user, body, own, mark, tx)?;
        }
        Ok(())
    }
}
