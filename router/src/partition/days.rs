//! Which day a device was last here. An Attach notes it, and an Ack; for a session that lasts, a walk over the table does, so that
//! a device that was connected for a month is not taken for one that was away for it.

use super::{Partition, Tx, stream::day_of};
use crate::{error::StoreError, limits};

/// The walk.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// Where it looks next.
    next: usize,
    /// The day of the last Tick; 0 where sessions may be noted that are not stored.
    day: u32,
}

impl Days {
    /// What sessions are noted as may have been taken back.
    pub(super) fn forget(&mut self) {
        self.day = 0;
    }
}

impl Partition {
    /// A slice of the walk.
    pub(super) fn note_days(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let today = day_of(tx.now_ms);
        // A machine that stood still for so long may wake on a day that a session cannot tell from its own.
        if std::mem::replace(&mut self.days.day, today).abs_diff(today) >= limits::DAYS_TOLD_APART {
            self.sessions.forget_day(today);
        }
        let mut noted = 0;
        for _ in 0..limits::DAYS_LOOKED_AT_MAX.min(self.sessions.len()) {
            if noted == limits::DAYS_NOTED_MAX || self.registrations() >= limits::REGISTRATIONS_COMMIT {
                break;
            }
            self.days.next = if self.days.next + 1 < self.sessions.len() { self.days.next + 1 } else { 0 };
            let Some(session) = self.sessions.at(self.days.next) else { continue };
            if session.place.is_noted(today) {
                continue;
            }
            noted += 1;
            let (user, device) = session.key();
            self.load(user, tx.store)?;
            let record = self.users.get(user).and_then(|user| user.device(device));
            if record.is_some_and(|device| device.seen_day != today) {
                self.seen(user, None, device, today);
            }
            if let Some(session) = self.sessions.get_mut((user, device)) {
                session.place.note_day(today);
            }
        }
        Ok(())
    }
}
