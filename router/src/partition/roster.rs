//! Who of a partition's users is in which group, and since when: by group for whoever is told something, by user for whoever
//! reads his stream. A group's home says who comes and goes, in the order of its changes.

use super::{
    Partition, Tx,
    cache::{Cache, Weigh},
    groups::group_home,
    stream::time_of,
    witness::Watch,
};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    log::{self, Membership, MembershipsRecord, RosterEntry, RosterRecord, forward},
    record,
    store::{Batch, Store},
};
use buffa::Message as _;
use bytes::Bytes;
use roost_proto::v1::GroupInfo;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// The members of a group that are at home in a partition, and those who were and do not have all that they are to see.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// In the order of coming: by rising `after`.
    pub(super) entries: Vec<Entry>,
    pub(super) watch: Watch,
}

/// A time that somebody is in a group: he sees what is past `after`, up to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) user: UserId,
    pub(super) after: u64,
    /// 0 while he is in it.
    pub(super) until: u64,
}

impl Entry {
    pub(super) fn sees(&self, seq: u64) -> bool {
        self.after < seq && (self.until == 0 || seq <= self.until)
    }
}

impl Roster {
    fn decode(value: Bytes) -> Result<Self, StoreError> {
        let record: RosterRecord = record::decode(value)?;
        let entry = |e: &RosterEntry| Entry { user: e.user, after: e.after, until: e.until };
        Ok(Self { entries: record.entry.iter().map(entry).collect(), watch: Watch::default() })
    }

    fn encode(&self) -> Bytes {
        let entry = |e: &Entry| RosterEntry { user: e.user, after: e.after, until: e.until };
        RosterRecord { entry: self.entries.iter().map(entry).collect() }.encode_to_bytes()
    }
}

impl Weigh for Roster {
    /// In entries.
    fn weight(&self) -> usize {
        self.entries.len() + 8
    }
}

/// The rosters at hand, and what is to be done about them.
#[derive(Debug, Default)]
pub(super) struct Rosters {
    cache: Cache<Roster>,
    /// Those that this batch changed or looked at in another way than to read.
    touched: Vec<u64>,
    /// By witness: groups.
    pub(super) witnesses: FxHashMap<UserId, Vec<u64>>,
    /// Groups with a feed whose witness is to be found.
    pub(super) unwatched: VecDeque<u64>,
    /// Entries of feeds of this batch: group, seq.
    pub(super) fresh: Vec<(u64, u64)>,
}

impl Rosters {
    /// What is cached is stored.
    pub(super) fn committed(&mut self) {
        self.touched.clear();
        self.fresh.clear();
        self.age();
    }

    /// Nothing that must be stored was changed; what was looked at is as it is.
    pub(super) fn settled(&mut self) {
        self.touched.clear();
        self.age();
    }

    fn age(&mut self) {
        for (group, roster) in self.cache.age(limits::ROSTER_ENTRIES_CACHED_MAX) {
            self.forget_witness(group, roster.watch.witness);
        }
    }

    /// What this batch touched is read again, and looked at once more.
    pub(super) fn rollback(&mut self) {
        self.fresh.clear();
        for group in std::mem::take(&mut self.touched) {
            if let Some(roster) = self.cache.remove(group) {
                self.forget_witness(group, roster.watch.witness);
                self.look_at(group);
            }
        }
    }

    /// Nothing at hand is sure.
    pub(super) fn forget(&mut self) {
        let rosters = std::mem::take(self);
        rosters
            .unwatched
            .iter()
            .copied()
            .chain(rosters.cache.numbers())
            .for_each(|group| self.look_at(group));
    }

    /// A witness is to be found for its feed. Where too many wait for that, the sweep comes by.
    pub(super) fn look_at(&mut self, group: u64) {
        if self.unwatched.len() < limits::FEEDS_UNWATCHED_MAX && self.unwatched.back() != Some(&group) {
            self.unwatched.push_back(group);
        }
    }

    pub(super) fn forget_witness(&mut self, group: u64, witness: Option<UserId>) {
        if let Some(user) = witness
            && let Some(groups) = self.witnesses.get_mut(&user)
        {
            groups.retain(|other| *other != group);
            if groups.is_empty() {
                self.witnesses.remove(&user);
            }
        }
    }

    /// One that is at hand.
    pub(super) fn at_hand(&self, group: u64) -> Option<&Roster> {
        self.cache.peek(group)
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
            self.cache.put(group, value.map(Roster::decode).transpose()?.unwrap_or_default());
        }
        Ok(self.cache.get(group).expect("it was put there"))
    }

    /// To be called for whatever a batch that fails must take back.
    pub(super) fn touch(&mut self, group: u64) {
        if self.touched.last() != Some(&group) {
            self.touched.push(group);
        }
    }

    fn store(&mut self, partition: u16, group: u64, batch: &mut Batch) {
        self.touch(group);
        let Some(roster) = self.cache.get(group) else { return };
        let key = record::roster(partition, group);
        if roster.entries.is_empty() {
            batch.delete(key);
            batch.delete(record::roster_info(partition, group));
        } else {
            batch.put(key, roster.encode());
        }
    }
}

impl Partition {
    pub(super) fn roster(&mut self, group: u64, tx: &Tx<'_>) -> Result<&mut Roster, StoreError> {
        self.rosters.load(self.number, group, tx.batch, tx.store)
    }

    /// The groups a user is in, and those he has left without having had all that he saw.
    pub(super) fn memberships(&self, user: UserId, tx: &Tx<'_>) -> Result<Vec<Membership>, StoreError> {
        memberships(tx.batch.get(tx.store, &record::memberships(self.number, user))?)
    }

    /// The groups past `after` that a user is in, by number, as their members were told of them last, without what this batch
    /// changes: one at least, and no more than `bytes_max` of them are read. And whether there are more.
    pub(super) fn groups_of(
        &self,
        user: UserId,
        after: u64,
        bytes_max: usize,
        store: &dyn Store,
    ) -> Result<(Vec<GroupInfo>, bool), StoreError> {
        let mut memberships = memberships(store.get(&record::memberships(self.number, user))?)?;
        memberships.retain(|membership| membership.until == 0 && membership.group > after);
        memberships.sort_unstable_by_key(|membership| membership.group);
        let (mut groups, mut bytes) = (Vec::new(), 0);
        for membership in memberships {
            let Some(value) = store.get(&record::roster_info(self.number, membership.group))? else {
                continue;
            };
            bytes += value.len();
            if bytes > bytes_max && !groups.is_empty() {
                return Ok((groups, true));
            }
            groups.push(record::decode(value)?);
        }
        Ok((groups, false))
    }

    /// Who comes with an event of this seq sees it and what follows, who goes sees nothing after it.
    pub(super) fn change_roster(
        &mut self,
        event: &log::GroupEvent,
        seq: u64,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let group = event.group;
        if event.added.is_empty() && event.removed.is_empty() {
            return Ok(());
        }
        let removed: FxHashSet<_> = event.removed.iter().copied().collect();
        let mut gone = Vec::new();
        for entry in &mut self.roster(group, tx)?.entries {
            if entry.until == 0 && removed.contains(&entry.user) {
                entry.until = seq;
                gone.push(entry.user);
            }
        }
        for user in gone {
            let mut memberships = self.memberships(user, tx)?;
            let open = memberships.iter_mut().filter(|m| m.group == group && m.until == 0);
            open.for_each(|membership| membership.until = seq);
            self.store_memberships(user, memberships, tx)?;
        }
        for user in &event.added {
            let mut memberships = self.memberships(*user, tx)?;
            if memberships.iter().any(|m| m.group == group && m.until == 0) {
                continue;
            }
            if !self.has_room(group, &memberships, tx)? {
                self.ask_to_leave(group, *user, tx);
                continue;
            }
            memberships.push(Membership { group, after: seq - 1, until: 0 });
            self.store_memberships(*user, memberships, tx)?;
            self.roster(group, tx)?.entries.push(Entry { user: *user, after: seq - 1, until: 0 });
            self.rosters.cache.grew(1);
        }
        self.rosters.store(self.number, group, tx.batch);
        Ok(())
    }

    fn has_room(&mut self, group: u64, memberships: &[Membership], tx: &Tx<'_>) -> Result<bool, StoreError> {
        let times = memberships.iter().filter(|membership| membership.group == group).count();
        Ok(memberships.len() < limits::MEMBERSHIPS_MAX
            && times < limits::MEMBERSHIPS_IN_GROUP_MAX
            && self.roster(group, tx)?.entries.len() < limits::ROSTER_ENTRIES_MAX)
    }

    /// The group's home takes him out again.
    fn ask_to_leave(&self, group: u64, user: UserId, tx: &mut Tx<'_>) {
        if let Some(home) = group_home(group, self.outgoing.len() as u16) {
            let body = forward::Body::Leave(log::GroupLeave { group, user }.into());
            tx.out.forwards.push((self.number, home, log::Forward { body: Some(body) }));
        }
    }

    fn store_memberships(
        &mut self,
        user: UserId,
        memberships: Vec<Membership>,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let key = record::memberships(self.number, user);
        let record = self.change(user, tx)?;
        record.memberships = memberships.len() as u32;
        record.leaves = memberships.iter().map(|m| m.until).filter(|until| *until != 0).min().unwrap_or(0);
        if memberships.is_empty() {
            tx.batch.delete(key);
        } else {
            tx.batch.put(key, MembershipsRecord { membership: memberships }.encode_to_bytes());
        }
        Ok(())
    }

    /// A user has all that he saw in groups that he left, or it is too old: they are no more of his.
    pub(super) fn forget_memberships(&mut self, user: UserId, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let tail = self.users.get(user).map_or(0, |user| user.tail);
        let mut memberships = self.memberships(user, tx)?;
        let expired = tx.now_ms.saturating_sub(self.rules.retention_ms);
        let is_over = |m: &mut Membership| m.until != 0 && (m.until <= tail || time_of(m.until) <= expired);
        let over: Vec<_> = memberships.extract_if(.., is_over).collect();
        if over.is_empty() {
            return Ok(());
        }
        self.store_memberships(user, memberships, tx)?;
        for membership in over {
            let roster = self.roster(membership.group, tx)?;
            roster.entries.retain(|entry| (entry.user, entry.until) != (user, membership.until));
            roster.watch.start_over();
            self.rosters.store(self.number, membership.group, tx.batch);
            self.advance(membership.group, tx)?;
        }
        Ok(())
    }
}

/// Reads a stored record of memberships.
pub(super) fn memberships(value: Option<Bytes>) -> Result<Vec<Membership>, StoreError> {
    let record = value.map(record::decode::<MembershipsRecord>).transpose()?;
    Ok(record.map_or(Vec::new(), |record| record.membership))
}
