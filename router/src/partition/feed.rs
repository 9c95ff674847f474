//! Feeds: what is said in a group is stored once a partition, and all members at home there read it from there, each within
//! his time in the group. A user's stream is his own events and those of his groups' feeds, in the order of their seqs: one
//! clock gives them all.

use super::{Partition, Tx, roster, stream::Stored, stream::time_of};
use crate::{
    api::UserId,
    error::StoreError,
    log::{self, Membership, group_event, stored_event},
    record::{self, GROUP, Key, User},
    store::Store,
};
use buffa::Message as _;
use bytes::Bytes;
use std::{cmp::Reverse, collections::BinaryHeap};

/// A part of a stream that lies together in the store.
#[derive(Clone, Copy, Debug)]
struct Source {
    /// None: the user's own events.
    group: Option<u64>,
    last: Key,
}

/// The first seq of each source that has any, by its index; the least on top.
type Heads = BinaryHeap<Reverse<(u64, usize)>>;

impl Partition {
    /// What members see, told by the group's home: here it gets its place in their streams. No write is for one member.
    pub(super) fn group_event(&mut self, event: &log::GroupEvent, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (group, seq) = (event.group, self.next_seq(tx.now_ms));
        let body = match &event.body {
            Some(group_event::Body::Message(message)) => stored_event::Body::Message(message.clone()),
            Some(group_event::Body::Info(info)) => {
                tx.batch.put(record::roster_info(self.number, group), info.encode_to_bytes());
                stored_event::Body::Group(info.clone())
            }
            None => return Ok(()),
        };
        self.change_roster(event, seq, tx)?;
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        let roster = self.roster(group, tx)?;
        members.extend(roster.entries.iter().filter(|entry| entry.sees(seq)).map(|entry| entry.user));
        if members.is_empty() {
            return Ok(());
        }
        let event = Stored::new(seq, Some(group), body, event.sealed.clone());
        tx.batch.put(record::feed(self.number, group, seq), event.bytes());
        if event.is_status {
            tx.batch.put(record::status(self.number, seq, group | GROUP), Bytes::new());
        }
        tx.out.events += 1;
        for user in &members {
            self.offer(*user, &event, tx);
        }
        self.members = members;
        self.rosters.touch(group);
        self.rosters.fresh.push((group, seq));
        let watch = &mut self.roster(group, tx)?.watch;
        watch.push(seq, event.is_status);
        if watch.witness.is_none() {
            self.advance(group, tx)?;
        }
        event.said_by.map_or(Ok(()), |key| self.pass_own(key, seq, tx))
    }

    /// The newest event that a user sees, among those past his tail; some of this batch are not stored yet.
    pub(super) fn newest(&self, user: UserId, record: &User, tx: &Tx<'_>) -> Result<u64, StoreError> {
        let mut newest = self.newest_own(user, record.tail, tx.store)?;
        if record.memberships > 0 {
            for membership in self.memberships(user, tx)? {
                newest = newest.max(self.newest_of(&membership, record.tail, tx)?);
            }
        }
        Ok(newest)
    }

    fn newest_of(&self, membership: &Membership, tail: u64, tx: &Tx<'_>) -> Result<u64, StoreError> {
        let (group, until) =
            (membership.group, if membership.until == 0 { u64::MAX } else { membership.until });
        let known = self.rosters.at_hand(group).map_or(0, |roster| roster.watch.newest);
        if known != 0 {
            let newest = known.min(until);
            let is_there = time_of(newest) + self.rules.retention_ms > tx.now_ms;
            return Ok(if newest > membership.after && is_there { newest } else { 0 });
        }
        let first = record::feed(self.number, group, membership.after.max(tail) + 1);
        let last = tx.store.last(&first, &record::feed(self.number, group, until))?;
        Ok(last.map_or(0, |key| record::last_u64(key.bytes())))
    }

    /// Visits the committed events that a user sees after one place and up to another, in order, until `visit` says false.
    pub(super) fn read_stream(
        &self,
        user: UserId,
        place: (u64, u64),
        store: &dyn Store,
        visit: &mut dyn FnMut(Stored) -> bool,
    ) -> Result<(), StoreError> {
        if place.0 >= place.1 {
            return Ok(());
        }
        let memberships = if self.users.get(user).is_none_or(|user| user.memberships > 0) {
            roster::memberships(store.get(&record::memberships(self.number, user))?)?
        } else {
            Vec::new()
        };
        if memberships.is_empty() {
            let last = record::event(self.number, user, place.1);
            let own = Source { group: None, last };
            return self.read_source(user, own, place.0 + 1, u64::MAX, store, visit).map(|_| ());
        }
        let (sources, mut heads) = self.sources(user, &memberships, place, store)?;
        while let Some(Reverse((first, index))) = heads.pop() {
            let before = heads.peek().map_or(u64::MAX, |Reverse((head, _))| *head);
            match self.read_source(user, sources[index], first, before, store, visit)? {
                Next::At(head) => heads.push(Reverse((head, index))),
                Next::None => {}
                Next::Enough => break,
            }
        }
        Ok(())
    }

    /// The parts of a stream that have something, and the first seq of each.
    fn sources(
        &self,
        user: UserId,
        memberships: &[Membership],
        (after, up_to): (u64, u64),
        store: &dyn Store,
    ) -> Result<(Vec<Source>, Heads), StoreError> {
        let (mut sources, mut heads) = (Vec::new(), BinaryHeap::new());
        let mut add = |group: Option<u64>, after: u64, up_to: u64| -> Result<(), StoreError> {
            let key = |seq| self.source_key(user, group, seq);
            let source = Source { group, last: key(up_to) };
            let mut head = None;
            if after < up_to {
                store.keys(&key(after + 1), &source.last, &mut |found| {
                    head = Some(record::last_u64(found));
                    false
                })?;
            }
            if let Some(head) = head {
                heads.push(Reverse((head, sources.len())));
                sources.push(source);
            }
            Ok(())
        };
        add(None, after, up_to)?;
        for membership in memberships {
            let until = if membership.until == 0 { u64::MAX } else { membership.until };
            let newest = self.rosters.at_hand(membership.group).map_or(0, |roster| roster.watch.newest);
            if newest == 0 || newest > after {
                add(Some(membership.group), after.max(membership.after), up_to.min(until))?;
            }
        }
        Ok((sources, heads))
    }

    fn source_key(&self, user: UserId, group: Option<u64>, seq: u64) -> Key {
        match group {
            Some(group) => record::feed(self.number, group, seq),
            None => record::event(self.number, user, seq),
        }
    }

    /// Visits what one part has before a seq.
    fn read_source(
        &self,
        user: UserId,
        source: Source,
        first: u64,
        before: u64,
        store: &dyn Store,
        visit: &mut dyn FnMut(Stored) -> bool,
    ) -> Result<Next, StoreError> {
        let (mut next, mut failed) = (Next::None, None);
        store.scan(&self.source_key(user, source.group, first), &source.last, &mut |key, value| {
            let seq = record::last_u64(key);
            if seq > before {
                next = Next::At(seq);
                return false;
            }
            match Stored::read(value, source.group) {
                Ok(event) => {
                    let wants_more = visit(event);
                    if !wants_more {
                        next = Next::Enough;
                    }
                    wants_more
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(next), Err)
    }
}

/// How a part of a stream goes on.
enum Next {
    At(u64),
    None,
    /// Nobody wants more.
    Enough,
}
