//! What every device has goes from the store: with the Ack that says so, a bounded number at once, and the rest with Ticks.

use super::{Partition, Tx, stream::Stored, stream::day_of, window::InFlight};
use crate::{
    api::UserId,
    error::StoreError,
    limits,
    record::{self, Device, User},
};
use std::collections::VecDeque;

/// Users with events that every device has, and that are still there.
#[derive(Debug, Default)]
pub(super) struct Untrimmed(VecDeque<UserId>);

impl Untrimmed {
    /// Where too many wait, the user's next Attach or Ack finds it.
    pub(super) fn push(&mut self, user: UserId) {
        if self.0.len() < limits::UNTRIMMED_MAX && self.0.back() != Some(&user) {
            self.0.push_back(user);
        }
    }
}

impl Partition {
    /// Up to where all devices have everything that were here within the time of retention, if that is past what is deleted.
    pub(super) fn trims_to(&self, id: UserId, user: &User, now_ms: u64) -> Option<u64> {
        let today = day_of(now_ms);
        let is_here = |device: &&Device| {
            device.registering.is_some()
                || !device.is_gone(today, &self.rules)
                || self.sessions.get((id, device.device)).is_some()
        };
        let cursor = user.devices.iter().filter(is_here).map(|device| device.cursor).min();
        cursor.filter(|cursor| *cursor > user.tail)
    }

    /// Deletes the events that every device has which was here within the time of retention. `known`: those there are, where
    /// it is sure that there are no others. Statuses stay until their time is over. The user's record is being changed.
    pub(super) fn trim(
        &mut self,
        user_id: UserId,
        known: Option<&[InFlight]>,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let Some(user) = self.users.get(user_id) else { return Ok(()) };
        let (tail, trims_to) = (user.tail, self.trims_to(user_id, user, tx.now_ms));
        let Some(mut cursor) = trims_to else { return Ok(()) };
        if let Some(known) = known {
            for event in known.iter().filter(|event| !event.is_status && !event.is_shared) {
                tx.batch.delete(record::event(self.number, user_id, event.seq));
            }
        } else {
            cursor = self.delete_events(user_id, (tail, cursor), tx)?;
            if Some(cursor) != trims_to {
                self.untrimmed.push(user_id);
            }
        }
        if let Some(user) = self.users.get_mut(user_id) {
            user.tail = cursor;
        }
        self.tail_moved(user_id, tx)
    }

    /// Deletes a user's own events of this range, but for statuses, as many as may go at once. Returns up to where none is left.
    fn delete_events(
        &self,
        user: UserId,
        (tail, mut cursor): (u64, u64),
        tx: &mut Tx<'_>,
    ) -> Result<u64, StoreError> {
        let (most, mut count, mut last) = (self.rules.trim_events_max, 0, tail);
        let (mut goes, mut failed) = (Vec::new(), None);
        let range = (record::event(self.number, user, tail + 1), record::event(self.number, user, cursor));
        tx.store.scan(&range.0, &range.1, &mut |_, value| {
            count += 1;
            match Stored::read(value, None) {
                Ok(event) if count > most => cursor = event.seq - 1,
                Ok(event) => {
                    last = event.seq;
                    goes.extend((!event.is_status).then_some(event.seq));
                }
                Err(error) => failed = Some(error),
            }
            count <= most && failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)?;
        if self.appended.contains_key(&user) {
            // What this batch appends is not found yet: it goes another time. All before was found.
            cursor = cursor.min(last.max(self.stored_clock));
        }
        for seq in goes {
            tx.batch.delete(record::event(self.number, user, seq));
        }
        Ok(cursor)
    }

    /// Goes on where an Ack stopped.
    pub(super) fn trim_rest(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for _ in 0..limits::UNTRIMMED_AT_ONCE.min(self.untrimmed.0.len()) {
            let Some(user) = self.untrimmed.0.front().copied() else { break };
            self.load(user, tx.store)?;
            self.untrimmed.0.pop_front();
            let record = self.users.get(user);
            if record.is_some_and(|record| self.trims_to(user, record, tx.now_ms).is_some()) {
                self.change(user, tx)?;
                self.trim(user, None, tx)?;
            }
        }
        Ok(())
    }
}
