//! What goes from feeds: an entry that all members in the partition have who see it. For each feed one member is watched, the
//! witness, who lacks its oldest entry; nobody else is looked at before he has it.

use super::{Partition, Tx, roster::Entry, stream::time_of};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    record::{self, GROUP},
};
use std::collections::VecDeque;

/// What is known of a feed. Statuses are none of its business: they go by the hour.
#[derive(Debug)]
pub(super) struct Watch {
    /// Those entries up to `known` that somebody may lack, oldest first.
    live: VecDeque<u64>,
    known: u64,
    /// There may be others after those, which only the store knows.
    has_more: bool,
    /// The newest entry there ever was; 0 where that is not known.
    pub(super) newest: u64,
    /// The members before this place of the roster have what is up to `least`.
    place: usize,
    least: u64,
    /// Who stands at `place` and lacks the oldest entry.
    pub(super) witness: Option<UserId>,
}

impl Default for Watch {
    fn default() -> Self {
        let (live, known, has_more, newest) = (VecDeque::new(), 0, true, 0);
        Self { live, known, has_more, newest, place: 0, least: u64::MAX, witness: None }
    }
}

impl Watch {
    /// There is a new entry.
    pub(super) fn push(&mut self, seq: u64, is_status: bool) {
        self.newest = seq;
        self.has_more |= self.live.len() == limits::FEED_LIVE_MAX;
        if !self.has_more {
            self.known = seq;
            if !is_status {
                self.live.push_back(seq);
            }
        }
    }

    /// Places have changed.
    pub(super) fn start_over(&mut self) {
        (self.place, self.least) = (0, u64::MAX);
    }
}

impl Partition {
    /// A user has everything up to his tail, which has moved.
    pub(super) fn tail_moved(&mut self, user: UserId, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if self.users.get(user).is_some_and(|user| user.leaves != 0 && user.leaves <= user.tail) {
            self.forget_memberships(user, tx)?;
        }
        for group in self.rosters.witnesses.get(&user).cloned().unwrap_or_default() {
            self.advance(group, tx)?;
        }
        Ok(())
    }

    /// Looks for a member who lacks the oldest entry of a feed, from the place on where the last one was found. After a lap
    /// with none, everybody has what the one has who has least: that goes.
    pub(super) fn advance(&mut self, group: u64, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.rosters.touch(group);
        let witness = self.roster(group, tx)?.watch.witness.take();
        self.rosters.forget_witness(group, witness);
        while let Some(oldest) = self.oldest(group, tx)? {
            loop {
                let roster = self.roster(group, tx)?;
                let Some(entry) = roster.entries.get(roster.watch.place).copied() else { break };
                let has = self.has(&entry, tx)?;
                let watch = &mut self.roster(group, tx)?.watch;
                if has < oldest {
                    watch.witness = Some(entry.user);
                    self.rosters.witnesses.entry(entry.user).or_default().push(group);
                    return Ok(());
                }
                watch.least = watch.least.min(has);
                watch.place += 1;
            }
            let number = self.number;
            let watch = &mut self.roster(group, tx)?.watch;
            let mut goes = Vec::new();
            while let Some(seq) = watch.live.pop_front_if(|seq| *seq <= watch.least) {
                goes.push(seq);
            }
            watch.start_over();
            for seq in goes {
                tx.batch.delete(record::feed(number, group, seq));
            }
        }
        Ok(())
    }

    /// Up to where a member has what he sees, at least.
    fn has(&mut self, entry: &Entry, tx: &Tx<'_>) -> Result<u64, StoreError> {
        self.load(entry.user, tx.store)?;
        let tail = self.users.get(entry.user).map_or(0, |user| user.tail);
        let expired = tx.now_ms.saturating_sub(self.rules.retention_ms);
        let is_over = entry.until != 0 && (entry.until <= tail || time_of(entry.until) <= expired);
        Ok(if is_over { u64::MAX } else { tail.max(entry.after) })
    }

    /// The oldest entry that somebody may lack.
    fn oldest(&mut self, group: u64, tx: &Tx<'_>) -> Result<Option<u64>, StoreError> {
        loop {
            let watch = &self.roster(group, tx)?.watch;
            if !watch.live.is_empty() || !watch.has_more {
                return Ok(watch.live.front().copied());
            }
            self.read_keys(group, tx)?;
        }
    }

    /// Reads which entries there are past those that are known.
    fn read_keys(&mut self, group: u64, tx: &Tx<'_>) -> Result<(), StoreError> {
        let mut last = self.roster(group, tx)?.watch.known;
        let (mut found, mut has_more) = (VecDeque::new(), false);
        let range = (record::feed(self.number, group, last + 1), record::feed(self.number, group, u64::MAX));
        tx.store.keys(&range.0, &range.1, &mut |key| {
            has_more = found.len() == limits::FEED_READ_MAX;
            if !has_more {
                last = record::last_u64(key);
                found.push_back(last);
            }
            !has_more
        })?;
        if !has_more {
            let of_batch = self.rosters.fresh.iter().filter(|(of, seq)| *of == group && *seq > last);
            found.extend(of_batch.map(|(_, seq)| *seq));
            last = found.back().copied().unwrap_or(last);
        }
        let mut failed = None;
        found.retain(|seq| {
            let status = tx.batch.get(tx.store, &record::status(self.number, *seq, group | GROUP));
            status.map_or_else(|error| failed.replace(error).is_some(), |status| status.is_none())
        });
        failed.map_or(Ok(()), Err)?;
        let watch = &mut self.roster(group, tx)?.watch;
        (watch.live, watch.known, watch.has_more) = (found, last, has_more);
        watch.newest = watch.newest.max(last);
        Ok(())
    }

    /// Finds witnesses for feeds that have none, a few at a time.
    pub(super) fn watch_feeds(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for _ in 0..limits::FEEDS_WATCHED_AT_ONCE {
            let Some(group) = self.rosters.unwatched.front().copied() else { break };
            if self.roster(group, tx)?.watch.witness.is_none() {
                self.advance(group, tx)?;
            }
            self.rosters.unwatched.pop_front();
        }
        Ok(())
    }

    /// Somebody read from a feed, or passed its keys.
    pub(super) fn found_feed(&mut self, group: u64) {
        if self.rosters.at_hand(group).is_none_or(|roster| roster.watch.witness.is_none()) {
            self.rosters.look_at(group);
        }
    }
}
